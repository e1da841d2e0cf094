package step

import (
	"fmt"
	"math"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// Phase3Facts are what audits know about the queues of phase 3, beside what their keys tell.
type Phase3Facts struct {
	// Queues is how many queues there are in all, this one included. Default 1.
	Queues int

	// Connections and Workers are those of this queue now. Nobody knows them unless Measured.
	Connections, Workers int64
	Measured             bool

	// Idle is what this queue's workers send while there is nothing to do, in top-level commands in 30 days, as the
	// settings in the application's code have it; nil where those are not known.
	Idle *float64
}

// What was measured of the libraries, in one Redis: commands with those in scripts included.
const (
	designedPerMonth = 450_000

	burstBull, burstBullMQ5, burstBullMQ6 = 22.1, 33.4, 33.2 // of a job among many, added, run and ended
	aloneBull, aloneBullMQ                = 28, 53           // of a job that comes alone

	// slowestPerSecond is an idle worker whose settings are all 300 s, the least that is of use.
	slowestPerSecond = 2.0/300 + 1.0/300

	// Of redisopt serve with eleven queues: idle for a month, one replica and each further one, and a job that an
	// application of its own runs. That run's jobs cost fullBull with Bull.
	ownIdle, ownFurther       = 9_763, 2_970
	ownPerJob, fullBull       = 24.3, 28.9
	ownConnections      int64 = 2
)

// claims says which goals of the design the engine of this phase can reach, and the numbers of this queue before and
// after.
func (p QueuePhase) claims(plan mover.Plan) ([]migrate.Claim, []migrate.KPI) {
	var f Phase3Facts
	if p.Facts != nil {
		f = *p.Facts
	}
	f.Queues = max(1, f.Queues)
	workers := 1.0
	if f.Measured && f.Workers > 0 {
		workers = float64(f.Workers)
	}
	from := idlePerMonth(plan.From.Layout, workers, put(plan), f.Idle)
	to := idlePerMonth(plan.To.Layout, workers, put(plan), f.Idle)
	claims := []migrate.Claim{connectionsClaim(plan.To.Layout, f), perJobClaim(plan.From, plan.To), monthClaim(plan, f, to)}

	connections := migrate.KPI{Name: migrate.KPIConnections, Unit: "connections", Method: "not measured: no worker of this queue is connected, or the server does not list its clients"}
	if f.Measured && f.Connections > 0 {
		before := float64(f.Connections)
		connections.Before = &before
		connections.Method = "CLIENT LIST now, of this queue alone, and those that carry no name not among them; after: as its new workers are written"
		if plan.To.Layout == mover.Asynq {
			none := 0.0
			connections.After = &none
			connections.Method = fmt.Sprintf("CLIENT LIST now, of this queue alone; after: none of its own, but %d of redisopt serve for all queues, once its old processes are stopped", ownConnections)
		}
	}
	idle := migrate.KPI{
		Name: "idle_commands_per_month", Unit: "commands/month", Before: &from, After: &to,
		Method: fmt.Sprintf("worked out for %s of this queue, without the commands in scripts", workersText(workers)),
	}
	switch {
	case plan.To.Layout == mover.Asynq:
		idle.Method += fmt.Sprintf("; after: what one more queue adds to the %d of redisopt serve", ownIdle)
	case f.Idle != nil:
		idle.Method += ", from the settings in the code"
	default:
		idle.Method += ", with the libraries' defaults: --code DIR reads the settings"
	}
	return claims, []migrate.KPI{connections, idle}
}

// put is true where something of the queue is put off, which keeps a worker of BullMQ asking.
func put(plan mover.Plan) bool { return plan.Counts[mover.Delayed] > 0 || len(plan.Repeats) > 0 }

// idlePerMonth is what workers send with nothing to do, in top-level commands in 30 days. With the same drainDelay,
// stalledInterval and, for Bull, a guardInterval as long as drainDelay both libraries send the same; but a worker of
// BullMQ asks at least every 10 s while something is put off. known is what the code's settings come to, nil for the
// defaults.
func idlePerMonth(layout mover.Layout, workers float64, put bool, known *float64) float64 {
	if layout == mover.Asynq {
		return 60 // a resync of its delayed jobs, twice a day
	}
	pinned := workers * pinnedPerSecond * monthSeconds
	if known != nil {
		if put && layout == mover.BullMQ {
			return math.Round(max(*known, pinned))
		}
		return math.Round(*known)
	}
	if put && layout == mover.BullMQ {
		return math.Round(pinned)
	}
	return math.Round(workers * idlePerSecond * monthSeconds)
}

func connectionsClaim(to mover.Layout, f Phase3Facts) migrate.Claim {
	c := migrate.Claim{Target: "33 to 1-3 connections"}
	now := "; who is connected was not measured, so in how many processes is not known"
	if f.Measured {
		now = fmt.Sprintf("; this queue holds %d now", f.Connections)
	}
	switch to {
	case mover.Asynq:
		if !f.Measured {
			now = ""
		}
		c.Reachable = true
		c.Why = fmt.Sprintf("a replica of redisopt serve holds %d for any number of queues, measured with 11 and with 100, so two of them, or one while it is deployed anew, hold %d; needs the old workers and producers to be stopped%s",
			ownConnections, 2*ownConnections, now)
	case mover.BullMQ:
		c.Reachable = f.Measured && f.Queues+1 <= 3
		c.Why = fmt.Sprintf("each worker of BullMQ blocks a connection of its own: %s %d in one process that shares all others, and %d with plain options (measured with eleven: 12 and 33)%s",
			holding(f.Queues), f.Queues+1, 3*f.Queues, now)
	case mover.Bull:
		c.Reachable = f.Measured && f.Queues+2 <= 3
		c.Why = fmt.Sprintf("each worker of Bull blocks a connection of its own: %s %d in one process that shares all others, and %d with plain options (measured with eleven: 13 and 33)%s",
			holding(f.Queues), f.Queues+2, 3*f.Queues, now)
	}
	return c
}

// burst is what a job among many costs in an engine; 0 for ours, which was measured in another run.
func burst(e mover.Endpoint) float64 {
	switch {
	case e.Layout == mover.Bull:
		return burstBull
	case e.Layout == mover.BullMQ && e.Major == 5:
		return burstBullMQ5
	case e.Layout == mover.BullMQ:
		return burstBullMQ6
	}
	return 0
}

func perJobClaim(from, to mover.Endpoint) migrate.Claim {
	c := migrate.Claim{Target: "fewer commands for each job"}
	was, is := burst(from), burst(to)
	switch {
	case to.Layout == mover.Asynq:
		c.Reachable = true
		c.Why = fmt.Sprintf("measured with those in scripts: 22%% fewer than Bull and 49%% fewer than BullMQ where redisopt runs the job, and %.1f instead of Bull's %.1f where an application fetches it",
			ownPerJob, fullBull)
	case was == 0: // back from ours
		c.Why = "measured with those in scripts: redisopt's queues cost 22% fewer than Bull and 49% fewer than BullMQ, so this takes more"
	case from.Layout == to.Layout:
		c.Why = fmt.Sprintf("measured with those in scripts: %.1f now and %.1f then, which is all but the same", was, is)
	default:
		c.Reachable = is < was
		alone := [2]int{aloneBull, aloneBullMQ}
		if from.Layout == mover.BullMQ {
			alone = [2]int{aloneBullMQ, aloneBull}
		}
		c.Why = fmt.Sprintf("measured with those in scripts: %.1f now and %.1f then, %+.0f%%, and %d and %d for a job that comes alone; without those in scripts both are 2.0 to 2.1 in a burst",
			was, is, 100*(is/was-1), alone[0], alone[1])
	}
	return c
}

// monthClaim judges idling alone: jobs come on top.
func monthClaim(plan mover.Plan, f Phase3Facts, idle float64) migrate.Claim {
	c := migrate.Claim{Target: fmt.Sprintf("under %s commands a month", thousands(designedPerMonth))}
	if plan.To.Layout == mover.Asynq {
		c.Reachable = true
		c.Why = fmt.Sprintf("redisopt serve idles at about %s a month with eleven queues, %s more for each further replica, so %s are left: about %s jobs at %.1f each; where INFO is billed serve.sample_every takes 43,200 of them",
			thousands(ownIdle), thousands(ownFurther), thousands(designedPerMonth-ownIdle), thousands((designedPerMonth-ownIdle)/ownPerJob), ownPerJob)
		return c
	}
	all := idle * float64(f.Queues)
	c.Reachable = all <= designedPerMonth
	settings := "with the libraries' defaults"
	if f.Idle != nil {
		settings = "with the settings in the code"
	}
	why := fmt.Sprintf("idle alone, before any job, this queue takes %s %s, those in scripts not counted", thousands(idle), settings)
	if f.Queues > 1 {
		why += fmt.Sprintf(", so %d queues take %s", f.Queues, thousands(all))
	}
	least := slowestPerSecond * monthSeconds * float64(f.Queues)
	switch {
	case plan.To.Layout == mover.BullMQ && put(plan):
		why += "; while anything is delayed or scheduled a worker asks at least every 10 s, whatever drainDelay says"
	case f.Idle == nil:
		why += fmt.Sprintf("; with drainDelay and all intervals at 300 s it would be %s", thousands(least))
		c.Reachable = least <= designedPerMonth
	}
	if plan.To.Layout == mover.BullMQ {
		why += "; scripts make that 4 to 5 times as many where they are billed"
	} else {
		why += "; scripts make that 2 to 3 times as many where they are billed"
	}
	c.Why = why
	return c
}

func holding(queues int) string {
	if queues == 1 {
		return "one queue holds"
	}
	return fmt.Sprintf("%d queues hold", queues)
}

func workersText(n float64) string {
	if n == 1 {
		return "1 worker"
	}
	return fmt.Sprintf("%.0f workers", n)
}

// thousands writes a whole number for people: 1,123,200.
func thousands(n float64) string {
	text := fmt.Sprintf("%.0f", n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
