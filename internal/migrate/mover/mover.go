package mover

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// Limits of a Mover.
const (
	defaultChunk   = 50
	maxChunk       = 500
	maxKept        = 1000    // ids and losses kept for a report
	idHeadroom     = 1000000 // how far the target's id counter starts above the source's
	maxPasses      = 1000    // passes that moved something, before Move leaves the rest to a next call
	maxIdle        = 1000    // calls in a row that found everything changed under them
	pollInterval   = 250 * time.Millisecond
	defaultTimeout = 30 * time.Second
)

// A Mover moves one queue from one layout, prefix or name to another. It is for one goroutine.
type Mover struct {
	client  redis.UniversalClient
	opts    Options
	scripts scripts

	scriptCalls atomic.Int64
	idKnown     int64 // the target's id counter is at least this
	started     time.Time
	budgeted    atomic.Int64 // jobs counted against MaxRate since started
	inOrder     bool         // on the way back the first pass takes the oldest jobs first
	swept       bool         // everything was gone over once: on the way back, what comes now is newer
}

type scripts struct {
	move, prepare, repeat, finish, probe *redis.Script
	enter, leave, open, shut             *redis.Script // of asynq
}

// New returns a Mover that talks through client. It touches nothing yet.
//
//	m, err := mover.New(client, mover.Options{From: …, To: …})
//	plan, err := m.Plan(ctx)       // counts, losses, problems; read-only
//	result, err := m.Move(ctx)     // may run again after a crash at any instant
//	report, err := m.Verify(ctx)   // read-only
//
// The way back is New with From and To exchanged and Reverse set, over the same Ledger.
func New(client redis.UniversalClient, opts Options) (*Mover, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	return &Mover{
		client: client,
		opts:   opts,
		scripts: scripts{
			move: redis.NewScript(moveLua), prepare: redis.NewScript(prepareLua),
			repeat: redis.NewScript(repeatLua), finish: redis.NewScript(finishLua), probe: redis.NewScript(probeLua),
			enter: redis.NewScript(enterLua), leave: redis.NewScript(leaveLua), open: redis.NewScript(openLua), shut: redis.NewScript(shutLua),
		},
	}, nil
}

func (o Options) withDefaults() Options {
	if o.Order == "" {
		o.Order = Keep
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = defaultChunk
	}
	if o.ActiveTimeout == 0 {
		o.ActiveTimeout = defaultTimeout
	}
	if o.now == nil {
		o.now = time.Now
	}
	if o.Ledger == "" {
		source := o.From
		if o.Reverse {
			source = o.To
		}
		o.Ledger = "redisopt:ledger:" + source.Prefix + ":" + source.Queue
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	errs = append(errs, o.From.validate("from"), o.To.validate("to"))
	if o.From.Layout == o.To.Layout {
		switch {
		case o.From.Layout != BullMQ || o.From.Major == o.To.Major:
			errs = append(errs, fmt.Errorf("from and to: both have layout %q, want two different ones, or BullMQ 5 and 6", o.From.Layout))
		case o.From.Key("") == o.To.Key(""):
			errs = append(errs, errors.New("from and to: BullMQ 5 and 6 need no conversion in place but of old repeatables, choose another prefix"))
		}
	}
	if o.Order != Keep && o.Order != ByPriority {
		errs = append(errs, fmt.Errorf("order: got %q, want %q or %q", o.Order, Keep, ByPriority))
	}
	if o.ChunkSize < 1 || o.ChunkSize > maxChunk {
		errs = append(errs, fmt.Errorf("chunk size: got %d, want 1 to %d", o.ChunkSize, maxChunk))
	}
	if o.MaxRate < 0 {
		errs = append(errs, fmt.Errorf("max rate: got %d, want 0 or more", o.MaxRate))
	}
	if o.Fence.Key == "" && o.Fence.Token != "" {
		errs = append(errs, errors.New("fence: a token without a key"))
	}
	if o.Fence.Key != "" && o.Fence.Token == "" {
		errs = append(errs, errors.New("fence: a key without a token"))
	}
	return errors.Join(errs...)
}

func (e Endpoint) validate(which string) error {
	var errs []error
	switch e.Layout {
	case Bull:
		if e.Major != 4 {
			errs = append(errs, fmt.Errorf("%s: bull major %d, want 4", which, e.Major))
		}
	case BullMQ:
		if e.Major != 5 && e.Major != 6 {
			errs = append(errs, fmt.Errorf("%s: bullmq major %d, want 5 or 6", which, e.Major))
		}
	case Asynq:
		errs = append(errs, e.validateAsynq(which)...)
	default:
		errs = append(errs, fmt.Errorf("%s: layout %q, want %q, %q or %q", which, e.Layout, Bull, BullMQ, Asynq))
	}
	if e.Prefix == "" && e.Layout != Asynq {
		errs = append(errs, fmt.Errorf("%s: the key prefix is empty", which))
	}
	if e.Queue == "" {
		errs = append(errs, fmt.Errorf("%s: the queue name is empty", which))
	}
	return errors.Join(errs...)
}

func (e Endpoint) major() int { return e.Major }

// inPlace says that source and target are the same keys.
func (m *Mover) inPlace() bool { return m.opts.From.Key("") == m.opts.To.Key("") }

func (m *Mover) ledgerKey(part string) string { return m.opts.Ledger + ":" + part }

// fenceKey is a key the script can always name; without a fence it is never read.
func (m *Mover) fenceKey() string {
	if m.opts.Fence.Key == "" {
		return m.ledgerKey("counts")
	}
	return m.opts.Fence.Key
}

// counter is the ledger's field for jobs of a state: moved:waiting, or returned:waiting on the way back.
func (m *Mover) counter(state State) string {
	if m.opts.Reverse {
		return "returned:" + string(state)
	}
	return "moved:" + string(state)
}

// prepare carries over the pause and the id counter; see prepare.lua.
func (m *Mover) prepare(ctx context.Context) error {
	paused, err := m.sourcePaused(ctx)
	if err != nil {
		return err
	}
	from, to := m.opts.From, m.opts.To
	if to.Layout == Asynq {
		return m.open(ctx, paused)
	}
	pauseFlag := "meta"
	if to.Layout == Bull {
		pauseFlag = "meta-paused"
	}
	keys := []string{
		from.Key("id"), to.Key("id"), to.Key(pauseFlag), to.Key("meta"), to.Key("wait"), to.Key("paused"),
		to.Key("marker"), m.ledgerKey("counts"), m.fenceKey(),
	}
	reply, err := m.run(ctx, m.scripts.prepare, keys, m.opts.Fence.Token, strconv.Itoa(to.major()), flag(paused),
		strconv.Itoa(idHeadroom), flag(m.opts.Reverse), flag(m.inPlace()))
	if err != nil {
		return fmt.Errorf("prepare %s: %w", to, err)
	}
	if s, ok := reply.(string); ok {
		m.idKnown, _ = strconv.ParseInt(s, 10, 64)
	}
	return nil
}

// sourcePaused says whether the source is paused. In place Bull's own key may be gone already.
func (m *Mover) sourcePaused(ctx context.Context) (bool, error) {
	if m.opts.From.Layout == Asynq {
		return m.asynqPaused(ctx)
	}
	paused, err := isPaused(ctx, m.client, m.opts.From)
	if err != nil || paused || !m.inPlace() {
		return paused, err
	}
	return isPaused(ctx, m.client, m.opts.To)
}

// isPaused says whether e is paused for all workers.
func isPaused(ctx context.Context, client redis.UniversalClient, e Endpoint) (bool, error) {
	if e.Layout != BullMQ {
		name := "meta-paused"
		if e.Layout == Asynq {
			name = "paused"
		}
		n, err := client.Exists(ctx, e.Key(name)).Result()
		if err != nil {
			return false, fmt.Errorf("read %q: %w", e.Key(name), err)
		}
		return n > 0, nil
	}
	paused, err := client.HExists(ctx, e.Key("meta"), "paused").Result()
	if err != nil {
		return false, fmt.Errorf("read %q: %w", e.Key("meta"), err)
	}
	return paused, nil
}

// pace waits until another n jobs are allowed by Pace or MaxRate.
func (m *Mover) pace(ctx context.Context, n int) error {
	if m.opts.Pace != nil {
		return m.opts.Pace(ctx, n)
	}
	if m.opts.MaxRate <= 0 {
		return ctx.Err()
	}
	due := m.started.Add(time.Duration(m.budgeted.Add(int64(n))) * time.Second / time.Duration(m.opts.MaxRate))
	return sleepUntil(ctx, due)
}

func sleepUntil(ctx context.Context, due time.Time) error {
	wait := time.Until(due)
	if wait <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
