package sidecar

import (
	"time"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
)

// Idle is every command that a sidecar of conf sends in intervals while there is nothing to do, as one that
// sweeps the queues for all, or not. It opens nothing.
func Idle(conf *config.Config, sweeper, embedded bool) []api.IdleCommand {
	var queues []governor.Periodic
	if served := conf.Queues.Served(); len(served) > 0 {
		o := GovernorOptions(conf)
		tcp, _ := conf.TCP()
		o.Separate = len(tcp.Cluster) > 0 && !embedded
		o.ClientOnly = true
		for _, q := range served {
			o.Queues = append(o.Queues, q.Name+":high", q.Name, q.Name+":low")
			o.ClientOnly = o.ClientOnly && q.Mode == config.AddMode
		}
		queues = governor.Idle(o, sweeper)
	}
	_, tcp := conf.TCP()
	return idle(conf, queues, tcp && !embedded)
}

// idle is what this process sends in its present role.
func (w *world) idle() []api.IdleCommand {
	var queues []governor.Periodic
	if w.jobs != nil {
		queues = w.jobs.engine.Periodic()
	}
	return idle(w.sidecar.conf, queues, w.fleet != nil)
}

// idle adds to what the queues send what everything else does.
func idle(conf *config.Config, queues []governor.Periodic, inFleet bool) []api.IdleCommand {
	var all []api.IdleCommand
	add := func(component, name string, every time.Duration, commands float64, why string) {
		all = append(all, api.NewIdleCommand(component, name, every, commands, why))
	}
	for _, p := range queues {
		add("queue", p.Name, p.Interval, float64(p.Price), p.Why)
	}
	if len(conf.Queues.Served()) > 0 {
		add("queue", "schedules", cron.DefaultSweep, 1, "finds changes of schedules that nobody announced")
	}
	add("control", "control document", conf.Serve.ControlSweep, 1, "finds a change that nobody announced")
	add("control", "month", history.DefaultFlushLate, 1, "writes what this replica spent; every 15 minutes while it spends more than 100 commands")
	add("control", "fleet's month", monthLate, 1, "reads what the fleet spent; every hour while this replica spends more than 100 commands")
	if inFleet {
		add("control", "place in the fleet", fleetRenew, 1, "keeps this replica's connections counted")
		add("control", "look at the fleet", 24*time.Hour, 3, "finds out about the others, in a script")
	}
	sample := api.NewIdleCommand("control", "sample", conf.Serve.SampleEvery, 1, "INFO for the history; Upstash does not bill it, and nobody else bills commands")
	sample.Free = true
	return append(all, sample)
}
