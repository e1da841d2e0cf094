package step

import (
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

// DesignedCommandsPerDay is how many commands a day the design allows the whole Redis after a phase: 70,000, then
// 50,000, then a thirtieth of 450,000 a month. 0: it says nothing of that phase.
func DesignedCommandsPerDay(phase string) float64 {
	switch phase {
	case Phase1Name:
		return 70_000
	case Phase2Name:
		return 50_000
	case Phase3Name:
		return 450_000 / 30
	}
	return 0
}

// How long a default must have been watched before a lack of evidence holds a soak up, or anything is said of it: a
// busy hour is no day, and the sampler counts connections every 1 to 5 minutes.
const (
	wholeDay   = 24 * time.Hour
	fewSamples = 10 * time.Minute
)

// commandsGate is that on commands a day over a soak of some length, which is negative where it has none. A default
// is no more than a remark where the Redis was beyond it before, and in a soak that is shorter than a day; what an
// operator asks for is judged on what there is of a soak.
func commandsGate(limit float64, byDefault bool, length time.Duration) migrate.Gate {
	g := migrate.Gate{
		KPI: migrate.KPICommandsPerDay, Unit: "commands/day", Limit: limit,
		MinWindow: max(0, min(length, wholeDay)), Held: byDefault,
	}
	if byDefault {
		g.MinWindow, g.Optional = wholeDay, length < wholeDay
	}
	return g
}

// connectionsGate is that on open connections, ours included. A default is no reason to wait in a soak that is too
// short for a sample.
func connectionsGate(limit float64, byDefault bool, length time.Duration) migrate.Gate {
	return migrate.Gate{
		KPI: migrate.KPIConnections, Unit: "connections", Limit: limit, Optional: byDefault && length < fewSamples,
	}
}

// gatesText is how a plan shows gates.
func gatesText(gates []migrate.Gate) string {
	out := make([]string, len(gates))
	for i, g := range gates {
		out[i] = g.Says()
	}
	return strings.Join(out, "; ")
}
