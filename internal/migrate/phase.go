package migrate

import (
	"context"
	"encoding/json"

	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// A Phase is one of the named moves for one target: what it would do, and the steps that do it. It is
// made twice over the life of a migration, from an operator's request and, after every interruption,
// from the Options that the journal keeps; both must give the same Steps. It is for one goroutine.
type Phase interface {
	// Target is what the phase is about: a queue, or with neither prefix nor queue the whole database.
	Target() Target

	// Options is what the journal keeps, from which the phase is made again. It is written as JSON in
	// plain text, so it holds no credentials; together with the names of the steps it is the plan, and
	// a migration that was begun with other options refuses to go on. What may differ each time the
	// phase is resumed (rates, timeouts) is no part of it.
	Options() any

	// Steps are the steps in the order in which they are applied. Their names say what they are for;
	// see KindOf.
	Steps() []Step

	// Plan tells what applying the steps would do as things are now. It writes nothing, and what keeps
	// the phase from being applied is among the Outline's problems and no error.
	Plan(ctx context.Context) (Outline, error)
}

// A Finisher is a Phase that still holds what its way back needs (a ledger, a backup, a bridge) when
// every step is in place. Complete gives that up.
type Finisher interface {
	Phase

	// Irreversible says in one sentence each what Complete makes irreversible. It writes nothing.
	Irreversible(ctx context.Context) ([]string, error)

	// Complete lets go of what the way back needs. It is called with the lease held, after an entry in
	// the journal says so, and may run twice.
	Complete(ctx context.Context) error
}

// A Laster is a Phase whose steps find no new work once they are in place: the same command again verifies them,
// and does nothing while they are.
type Laster interface {
	Phase

	// Lasting is whether that is so.
	Lasting() bool
}

// A Reverser is a Phase that can tell what its way back would do, before anybody is asked.
type Reverser interface {
	Phase

	// PlanBack tells what rolling the steps back would do as things are now. It writes nothing.
	PlanBack(ctx context.Context) (Outline, error)
}

// A Keeper is a Phase that has something to do while every step is in place and nobody has completed it:
// a bridge that takes over what a straggling producer still adds.
type Keeper interface {
	Phase

	// Keep does it until ctx ends, and returns nil then. Another error ends it, and the host with it.
	Keep(ctx context.Context) error
}

// An Env is what a phase is given while it runs. The zero value is enough for Plan: nothing is fenced,
// noted, slowed down or watched.
type Env struct {
	// Fence must hold for everything that changes, where its Key is not empty: a script compares the
	// key with the token first, so that whoever lost the lease can change nothing more.
	Fence journal.Fence

	// Checkpoint notes in the journal how far the named step is: one fsync and one command, so every
	// half minute at most. Nil: nothing is noted. A step whose checkpoint fails should stop.
	Checkpoint func(ctx context.Context, step string, detail any) error

	// Last is the named step's last checkpoint in this run, nil when there is none. Nil: there is none.
	Last func(step string) json.RawMessage

	// Pace says how fast a step may go. A step calls its Wait before each portion of work. Nil: as
	// fast as it can.
	Pace *Pace

	// Watch is asked by gates for evidence. Nil: no evidence, so gates are inconclusive.
	Watch Watch

	// Readings is the path of a file for what a phase sees of its jobs, beside the local journal. Empty: none.
	Readings string

	// MetricsToken is the bearer token for the application's metrics page, empty when it needs none.
	MetricsToken string

	// Vouched tells whether somebody has vouched for a KPI in this migration. Nil: nobody has.
	Vouched func(kpi string) bool

	// Track follows every change of keys that begin with one of the prefixes. Nil: there is no such bell.
	Track func(ctx context.Context, prefixes ...string) (Rings, error)

	// OnProgress, when not nil, is told how far the work is, from the goroutine of the step.
	OnProgress func(Progress)
}

// Note writes a checkpoint if e has a journal.
func (e Env) Note(ctx context.Context, step string, detail any) error {
	if e.Checkpoint == nil {
		return nil
	}
	return e.Checkpoint(ctx, step, detail)
}

// Recall reads the named step's last checkpoint of this run into detail, and tells whether there was
// one that fits.
func (e Env) Recall(step string, detail any) bool {
	if e.Last == nil {
		return false
	}
	raw := e.Last(step)
	return len(raw) > 0 && json.Unmarshal(raw, detail) == nil
}

// Tell reports progress if anybody listens.
func (e Env) Tell(p Progress) {
	if e.OnProgress != nil {
		e.OnProgress(p)
	}
}

// Progress is how far one part of a step is.
type Progress struct {
	Step  string `json:"step"`
	Part  string `json:"part"`  // what is being done: "delayed", "ramp to 5%"
	Done  int64  `json:"done"`  // in Unit
	Total int64  `json:"total"` // 0 when it is not known
	Unit  string `json:"unit"`  // a plural: "jobs", "keys", "seconds"
}
