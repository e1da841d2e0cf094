package queue

import (
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
)

// checkInterval is how long asynq sleeps when it was told that there is nothing; the governor has waited
// before it says so.
const checkInterval = 5 * time.Millisecond

// compose puts the governor between asynq and Redis, and the witness between the governor and Redis.
func (e *Engine) compose() error {
	o := e.opts.Governor
	o.Client, o.Jobs = e.opts.Client, e.opts.Jobs
	o.Admit, o.InScript, o.Separate = e.admit, e.opts.InScript, e.cluster
	o.Spare, o.Return = e.witness.spare, e.giveBack
	o.Took, o.Empty = e.witness.looked, e.witness.empty
	o.Queues, o.Weights = nil, e.worked()
	o.ClientOnly = len(o.Weights) == 0
	for _, l := range e.order {
		o.Queues = append(o.Queues, l.bands...)
		o.ArchiveMax = max(o.ArchiveMax, l.def.Failed.Count)
		o.ArchiveAge = max(o.ArchiveAge, l.def.Failed.Age)
	}
	g, err := governor.New(o)
	if err != nil {
		return err
	}
	e.governor = g
	e.opts.Jobs.AddHook(e.witness)
	e.opts.Jobs.AddHook(ear{e.watch})
	e.opts.Client.AddHook(ear{e.watch})
	return nil
}

// A Periodic is a command that is sent again and again, whether there is work or not.
type Periodic = governor.Periodic

// Periodic lists every command that is sent without there being work, with how often and at what price. It
// sends nothing.
func (e *Engine) Periodic() []Periodic { return slices.Clone(e.governor.Periodic()) }

// MonthlyCost is what Periodic comes to in 30 days, in billed commands.
func (e *Engine) MonthlyCost() float64 { return e.governor.MonthlyCost() }

// GovernorStats is what the governor has done so far. It sends nothing.
func (e *Engine) GovernorStats() governor.Stats { return e.governor.Stats() }
