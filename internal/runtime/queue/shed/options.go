package shed

import (
	"errors"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// Defaults of Options.
const (
	DefaultBatchEvery = 5 * time.Minute
	DefaultBatchSaves = 0.2
	DefaultHold       = 12 * time.Hour
	DefaultSmooth     = 48 * time.Hour
	DefaultSettle     = 24 * time.Hour

	// longestHold is what a hold grows to.
	longestHold = 72 * time.Hour

	// forgiven is the time after which a milder level was right.
	forgiven = 72 * time.Hour

	// settleShare of the budget ends the settling: a start that spends that much is no start.
	settleShare = 0.1
)

// Options say what is budgeted and what there is to shed.
type Options struct {
	// Commands is the budget. With PerMonth 0 nothing is ever shed. Its shares: a level is left for a
	// stricter one when the period would end above DegradeAt, and for a milder one when that would
	// end below FailAt.
	Commands budget.Commands

	// Queues are the queues.
	Queues []Queue

	// BatchEvery is how often a non-critical queue is drained at Frugal. Default 5m; at least 1s.
	BatchEvery time.Duration

	// BatchSaves is the share of a queue's commands that draining in batches saves, from 0 to 1. Default
	// 0.2: a job alone costs 22 to 24 commands, one of a burst 18 or 19. Negative means none.
	BatchSaves float64

	// Overspend lets critical queues go on when the budget is spent, where the provider bills and does not
	// refuse. Default false.
	Overspend bool

	// Hold is how long a level is kept before a milder one. It doubles, up to 72h, each time a milder one
	// turned out too mild within 72h, and is as it was in the next period. A run without a State sheds nothing
	// in its first Hold unless DegradeAt of the budget is spent. Default 12h; at least 1m.
	Hold time.Duration

	// Smooth is the time over which rates are averaged; day and night must not look like change. Default
	// 48h; at least 1m.
	Smooth time.Duration

	// Settle is how long a period goes on normally at its start, unless a tenth of the budget is spent
	// sooner: work that was put off gets done, and rates are measured anew. Default 24h; negative
	// means not at all.
	Settle time.Duration

	// State is what State returned in an earlier run; nil begins anew. One of another period is only used
	// for its rates.
	State *State
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.BatchEvery, DefaultBatchEvery}, {&o.Hold, DefaultHold}, {&o.Smooth, DefaultSmooth}, {&o.Settle, DefaultSettle}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.BatchSaves == 0 {
		o.BatchSaves = DefaultBatchSaves
	}
	o.BatchSaves = max(0, o.BatchSaves)
	d := budget.Default().Commands
	for _, share := range []struct {
		field *float64
		value float64
	}{{&o.Commands.TargetAt, d.TargetAt}, {&o.Commands.WarnAt, d.WarnAt}, {&o.Commands.FailAt, d.FailAt}, {&o.Commands.DegradeAt, d.DegradeAt}} {
		if *share.field == 0 {
			*share.field = share.value
		}
	}
	return o
}

func (o Options) validate() error {
	errs := []error{budget.Budgets{Commands: o.Commands}.Validate()}
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Commands.PerMonth < 0 {
		bad("commands.per_month: got %d, want 0 or more", o.Commands.PerMonth)
	}
	if o.BatchEvery < time.Second {
		bad("batch_every: got %s, want at least 1s", o.BatchEvery)
	}
	if !(o.BatchSaves <= 1) { // also not a number
		bad("batch_saves: got %v, want 0 to 1", o.BatchSaves)
	}
	if o.Hold < time.Minute {
		bad("hold: got %s, want at least 1m", o.Hold)
	}
	if o.Smooth < time.Minute {
		bad("smooth: got %s, want at least 1m", o.Smooth)
	}
	return errors.Join(append(errs, checkQueues(o.Queues)...)...)
}
