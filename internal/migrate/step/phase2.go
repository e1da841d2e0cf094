package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
)

// Phase2Name is the phase that pauses the queues which are not critical.
const Phase2Name = "phase2"

// The names of phase 2's steps around the pauses.
const (
	phase2Baseline = "phase2.preflight-baseline"
	phase2Soak     = "phase2.soak"
)

// CatchUp is what happens to the backlog of a queue when its pause ends.
type CatchUp string

// The ways to catch up. A queue that `redisopt serve` runs catches up as its configuration says.
const (
	Staged CatchUp = "staged" // slowly at first, so that not everything fires at once
	All    CatchUp = "all"    // at full speed
	Newest CatchUp = "newest" // of each schedule only the newest waiting run stays, then at full speed
	None   CatchUp = "none"   // of each schedule only the run that it lives in stays, then at full speed
)

// ParseCatchUp reads a way to catch up.
func ParseCatchUp(text string) (CatchUp, error) {
	switch c := CatchUp(text); c {
	case Staged, All, Newest, None:
		return c, nil
	}
	return "", fmt.Errorf("catch up: got %q, want staged, all, newest or none", text)
}

// A PausedQueue is one queue of phase 2.
type PausedQueue struct {
	// Queue is where it is. Its layout may be tend.Asynq.
	Queue mover.Endpoint `json:"queue"`

	// Ours is true for a queue that `redisopt serve` runs: it is paused in the control document.
	Ours bool `json:"ours,omitempty"`

	// MaxPauseMS bounds the pause, in milliseconds: critical queues depend on this one. 0: until the way
	// back.
	MaxPauseMS int64 `json:"max_pause_ms,omitempty"`

	// Guards are the critical queues that depend on this one.
	Guards []string `json:"guards,omitempty"`

	// BacklogLimit is the number of waiting jobs at which Hold ends the pause; 0: none.
	BacklogLimit int64 `json:"backlog_limit,omitempty"`

	// CatchUp is what happens to the backlog.
	CatchUp CatchUp `json:"catch_up"`
}

// Label is how the queue is shown to people: bull:mail.
func (q PausedQueue) Label() string { return q.Queue.Prefix + ":" + q.Queue.Queue }

func (q PausedQueue) maxPause() time.Duration {
	return time.Duration(q.MaxPauseMS) * time.Millisecond
}

// A Phase2Plan is what a journal keeps of phase 2.
type Phase2Plan struct {
	// Queues are paused in this order, and resumed in the opposite one. At least one.
	Queues []PausedQueue `json:"queues"`

	// HoldMS is how long the phase stays and looks after the paused queues, in milliseconds: it ends a
	// pause that reaches its time or its backlog. 0: only as long as pauses are bounded.
	HoldMS int64 `json:"hold_ms,omitempty"`

	// StageMS is how long a staged resume of one queue takes at most, in milliseconds. Default 5 minutes.
	StageMS int64 `json:"stage_ms,omitempty"`

	// ConnectionLimit is how many connections the plan allows; a resume that would exceed it is refused.
	// Default 0: what the server says.
	ConnectionLimit int64 `json:"connection_limit,omitempty"`

	// ControlKey is the key of the control document in which queues of ours are paused. Default
	// control.DefaultKey.
	ControlKey string `json:"control_key,omitempty"`

	// Soak, when not nil, is waited for after everything is paused.
	Soak *Soaking `json:"soak,omitempty"`
}

func (p Phase2Plan) withDefaults() Phase2Plan {
	if p.StageMS == 0 {
		p.StageMS = (5 * time.Minute).Milliseconds()
	}
	p.Queues = slices.Clone(p.Queues)
	for i := range p.Queues {
		if p.Queues[i].CatchUp == "" {
			p.Queues[i].CatchUp = Staged
		}
	}
	return p
}

func (p Phase2Plan) validate() error {
	var errs []error
	if len(p.Queues) == 0 {
		errs = append(errs, errors.New("queues: got none that may be paused"))
	}
	seen := map[string]bool{}
	for _, q := range p.Queues {
		if q.Queue.Queue == "" || q.Queue.Prefix == "" {
			errs = append(errs, fmt.Errorf("queue: got %q, want prefix and name", q.Label()))
		}
		if seen[q.Label()] {
			errs = append(errs, fmt.Errorf("queue %s: given twice", q.Label()))
		}
		seen[q.Label()] = true
		if _, err := ParseCatchUp(string(q.CatchUp)); err != nil {
			errs = append(errs, fmt.Errorf("queue %s: %w", q.Label(), err))
		}
		if q.MaxPauseMS < 0 || q.BacklogLimit < 0 {
			errs = append(errs, fmt.Errorf("queue %s: max pause and backlog limit: want 0 or more", q.Label()))
		}
	}
	if p.Soak != nil {
		errs = append(errs, p.Soak.validate())
	}
	if p.HoldMS < 0 || p.StageMS < 0 || p.ConnectionLimit < 0 {
		errs = append(errs, errors.New("hold, stage and connection limit: want 0 or more"))
	}
	return errors.Join(errs...)
}

// bounded is true when some pause ends by itself.
func (p Phase2Plan) bounded() bool {
	return slices.ContainsFunc(p.Queues, func(q PausedQueue) bool { return q.MaxPauseMS > 0 })
}

// A Phase2 pauses queues, looks after them, and lets them go on. It is for one goroutine.
type Phase2 struct {
	// Facts are what audits know, for the Outline. Nil: it says that this was not measured.
	Facts *Phase2Facts

	// Left are queues that stay as they are and why, for the Outline.
	Left []migrate.Problem

	// Every is how often Hold looks. Default 1 minute.
	Every time.Duration

	plan   Phase2Plan
	env    migrate.Env
	client redis.UniversalClient
}

// NewPhase2 returns the phase. It touches nothing yet.
func NewPhase2(client redis.UniversalClient, plan Phase2Plan, env migrate.Env) (*Phase2, error) {
	plan = plan.withDefaults()
	if err := plan.validate(); err != nil {
		return nil, err
	}
	return &Phase2{plan: plan, env: env, client: client}, nil
}

// openPhase2 makes the phase again from a journal.
func openPhase2(client redis.UniversalClient, options json.RawMessage, env migrate.Env) (migrate.Phase, error) {
	var plan Phase2Plan
	if err := json.Unmarshal(options, &plan); err != nil {
		return nil, fmt.Errorf("plan in the journal: %w", err)
	}
	return NewPhase2(client, plan, env)
}

// Target is the whole database.
func (p *Phase2) Target() migrate.Target { return migrate.Target{Phase: Phase2Name} }

// Options is the plan.
func (p *Phase2) Options() any { return p.plan }

// Steps pause one queue each, then look after them.
func (p *Phase2) Steps() []migrate.Step {
	var all []migrate.Step
	for i, q := range p.plan.Queues {
		all = append(all, &Pause{name: pauseName(i, q), queue: q, phase: p})
	}
	if p.plan.HoldMS > 0 || p.plan.bounded() {
		all = append(all, &Hold{phase: p})
	}
	if s := p.plan.Soak; s != nil {
		first := &baseline{name: phase2Baseline, soak: *s, env: p.env, client: p.client, queues: s.Watched}
		all = append([]migrate.Step{first}, all...)
		all = append(all, &soakStep{name: phase2Soak, first: first, queues: s.Watched})
	}
	return all
}

// pauseName is the step's key in the journal: the number keeps names apart that differ only in what is
// replaced, and a dot would change what the name says the step is for.
func pauseName(i int, q PausedQueue) string {
	return fmt.Sprintf("phase2.pause-%02d-%s", i+1, strings.ReplaceAll(q.Queue.Queue, ".", "_"))
}

// at is the queue where it is.
func (p *Phase2) at(q PausedQueue) *tend.Queue { return tend.At(p.client, q.Queue) }

// fenced returns migrate.ErrLeaseLost when the lease is not ours any more. Price: 1 command.
func (p *Phase2) fenced(ctx context.Context) error { return holdsLease(ctx, p.client, p.env) }

// holdsLease returns migrate.ErrLeaseLost when the lease of env is not ours any more, for a change that is
// no script of ours and harmless when it comes a moment too late. Price: 1 command, none without a fence.
func holdsLease(ctx context.Context, client redis.UniversalClient, env migrate.Env) error {
	if env.Fence.Key == "" {
		return nil
	}
	token, err := client.Get(ctx, env.Fence.Key).Result()
	switch {
	case errors.Is(err, redis.Nil) || err == nil && token != env.Fence.Token:
		return fmt.Errorf("lease %s: %w", env.Fence.Key, migrate.ErrLeaseLost)
	case err != nil:
		return fmt.Errorf("read lease %s: %w", env.Fence.Key, err)
	}
	return nil
}
