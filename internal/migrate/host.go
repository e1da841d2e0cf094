package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// Why a host interrupts a step that it goes on with later.
var (
	// ErrPaused means that an intent asked to wait.
	ErrPaused = errors.New("paused")

	// ErrWindow means that the maintenance window closed.
	ErrWindow = errors.New("the maintenance window is closed")

	errWayBack = errors.New("the way back was asked for")
)

// Host runs one migration: it takes the lease, applies the steps or rolls them back, and meanwhile
// follows the intents of other people, until there is nothing left to do or ctx ends. What was begun
// stays in the journal and can be gone on with. The Outcome is filled as far as it came, also with an
// error: a *HeldError when somebody else hosts it, a *RolledBackError when a gate failed and it was
// rolled back, the cause of ctx when that ended.
//
// Price, beside the steps: that of the session; 1 command, and 4 in its script, for each renewal of the lease,
// which carries the pulse and the intents, and more of the same whenever the bell rings or the pulse changes;
// 1 for each sweep; and what Throttle and Watch cost. See HostOptions.Resting for what that comes to.
func Host(ctx context.Context, opts HostOptions) (Hosted, error) {
	if err := opts.validate(); err != nil {
		return Hosted{}, err
	}
	session, err := OpenSession(ctx, opts.Client, opts.Session)
	if err != nil {
		return Hosted{}, err
	}
	h := &host{opts: opts, target: opts.Session.Target, session: session, pace: &Pace{}, gauge: &gauge{client: opts.Client}}
	h.pace.SetRate(opts.Rate)
	began := time.Now()
	err = session.Run(ctx, h.run)
	out := Hosted{Took: time.Since(began), Phase: h.phase}
	state, stateErr := ReadState(session.Journal.Entries())
	if err == nil {
		err = stateErr
	}
	out.State = state
	return out, err
}

// Hosted is what a host came to.
type Hosted struct {
	State State
	Phase Phase // nil when it could not be made
	Took  time.Duration
}

// host is one Host.
type host struct {
	opts    HostOptions
	target  Target
	session *Session
	phase   Phase
	engine  *Engine
	pace    *Pace
	gauge   *gauge

	mu       sync.Mutex
	wishes   Wishes
	pulse    Pulse
	progress *Progress
	step     string                  // under way; empty while none is applied
	stop     context.CancelCauseFunc // interrupts the step under way; nil while none is
	changed  chan struct{}           // has room for one: intents changed
	approved bool

	reading sync.Mutex // held from asking for the intents until they are known, so that the newest stay
}

func (h *host) run(ctx context.Context) error {
	h.changed = make(chan struct{}, 1)
	state, err := ReadState(h.session.Journal.Entries())
	if err != nil {
		return err
	}
	var sampler *Sampler
	if h.opts.Watch == nil {
		if sampler, err = h.sampler(ctx); err != nil {
			return err
		}
		h.opts.Watch = sampler
	}
	if h.phase, err = h.opts.Open(ctx, state, h.env()); err != nil {
		return err
	}
	h.engine = NewEngine(h.session.Journal, h.phase.Steps()...)
	h.engine.Options, h.engine.OnEvent = h.phase.Options(), h.event
	if l, ok := h.phase.(Laster); ok {
		h.engine.Lasting = l.Lasting()
	}
	if err := h.keepWindows(ctx, state); err != nil {
		return err
	}
	if err := h.read(ctx); err != nil {
		return err
	}
	h.session.Lease.carry(h.attend)
	ctx, cancel := context.WithCancel(ctx)
	var helpers sync.WaitGroup
	helpers.Go(func() { h.follow(ctx) })
	h.opts.Throttle = h.opts.Throttle.remember(allowanceFile(h.session.Readings), time.Now())
	helpers.Go(func() { h.opts.Throttle.run(ctx, h.gauge, h.pace, h.session.Lease.Resting, h.throttled) })
	var sampled error
	if sampler != nil {
		helpers.Go(func() { sampled = sampler.Run(ctx) })
	}
	err = h.loop(ctx)
	cancel()
	helpers.Wait()
	return errors.Join(err, sampled, h.leave(ctx))
}

// sampler is the Watch of a host that was given none. Price: 1 command.
func (h *host) sampler(ctx context.Context) (*Sampler, error) {
	id, err := DatabaseID(ctx, h.opts.Client)
	if err != nil {
		return nil, err
	}
	s, err := NewSampler(SamplerOptions{Client: h.opts.Client, Dir: HistoryDir(h.opts.Session.StateDir, id), Own: h.opts.Own, Counted: h.opts.Counted})
	if err == nil {
		s.gauge = h.gauge
	}
	return s, err
}

// leave takes back what the host said of itself, so that nobody believes it is still there, and once
// nothing is open any more also what was asked of it: the next run is to begin without. After the lease was
// lost it changes nothing.
func (h *host) leave(ctx context.Context) error {
	h.session.Lease.carry(nil) // the next renewal would say again what is taken back
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), noteTimeout)
	defer cancel()
	var err error
	if s, stateErr := h.engine.State(); stateErr == nil && (s.Stage == RolledBack || s.Stage == Finished) {
		err = clearWishes(ctx, h.opts.Client, h.target, h.session.Lease)
	} else {
		err = hush(ctx, h.opts.Client, h.target, h.session.Lease)
	}
	if err != nil {
		return fmt.Errorf("take back the pulse of %s: %w", h.target, err)
	}
	return nil
}

func (h *host) env() Env {
	return Env{
		Fence: journal.Fence{Key: h.session.Lease.Key(), Token: h.session.Lease.Token()},
		Checkpoint: func(ctx context.Context, step string, detail any) error {
			return h.engine.Checkpoint(ctx, step, detail)
		},
		Last: func(step string) json.RawMessage {
			state, err := h.engine.State()
			if err != nil {
				return nil
			}
			if st := state.step(step); st != nil {
				return st.Checkpoint
			}
			return nil
		},
		Readings: h.session.Readings, Vouched: h.vouched, MetricsToken: h.opts.MetricsToken,
		Pace: h.pace, Watch: h.opts.Watch, Track: h.opts.Track, OnProgress: h.tell,
	}
}

// vouched tells whether somebody has vouched for a KPI since the last run began.
func (h *host) vouched(kpi string) bool {
	state, err := h.engine.State()
	return err == nil && state.Vouched(h.target.Phase, kpi)
}

// A move is what the host does next.
type move int

const (
	goForward move = iota
	goBack
	giveUp // complete
	wait
	leave
)

// loop does one thing after another until there is nothing left to do.
func (h *host) loop(ctx context.Context) error {
	begin := h.opts.Begin
	for {
		state, err := h.engine.State()
		if err != nil {
			return err
		}
		next, why, until := h.next(state, begin, time.Now())
		switch next {
		case goForward:
			h.session.Lease.SetResting(false)
			known := len(h.session.Journal.Entries())
			err := h.interruptible(ctx, h.forward(begin))
			begin = begin && err != nil && state.Stage != Forward && !h.begun(known)
			if err != nil && (ctx.Err() != nil || !interruption(err)) {
				return h.failed(ctx, err)
			}
		case goBack:
			h.session.Lease.SetResting(false)
			return h.back(ctx)
		case giveUp:
			h.session.Lease.SetResting(false)
			return h.finish(ctx)
		case wait:
			h.session.Lease.SetResting(true)
			h.say(why.condition, why.text)
			if err := h.keep(ctx, state, begin, until); err != nil {
				return err
			}
		case leave:
			return nil
		}
	}
}

// begun tells whether a run began since the journal had n entries.
func (h *host) begun(n int) bool {
	return slices.ContainsFunc(h.session.Journal.Entries()[n:], func(e journal.Entry) bool { return e.Kind == journal.Begin })
}

// interruption is true for what the host itself interrupts a step with.
func interruption(err error) bool {
	return errors.Is(err, ErrPaused) || errors.Is(err, ErrWindow) || errors.Is(err, errWayBack)
}

// failed rolls back when err is a failed gate and that was asked for, and returns what became of it.
func (h *host) failed(ctx context.Context, err error) error {
	gate, ok := errors.AsType[*GateError](err)
	if !ok || !h.opts.AutoRollback || ctx.Err() != nil {
		return err
	}
	h.say("", "")
	if err := h.engine.Rollback(ctx, gate); err != nil {
		return err
	}
	return &RolledBackError{Target: h.target, Cause: gate}
}

// back rolls back, because the operator of this host or somebody else asked for it.
func (h *host) back(ctx context.Context) error {
	h.say("", "")
	asked := h.asked()
	switch {
	case h.opts.Back && h.opts.Cause == nil && asked != nil:
		// Whoever runs this host asked too, perhaps before it was known that there was no other.
		return h.engine.Rollback(ctx, &askedError{*asked})
	case h.opts.Back || asked == nil:
		return h.engine.Rollback(ctx, h.opts.Cause)
	}
	cause := &askedError{*asked}
	err := h.engine.Rollback(ctx, cause)
	switch {
	case errors.Is(err, ErrNothingToRollBack):
		return nil
	case err != nil:
		return err
	}
	return &RolledBackError{Target: h.target, Cause: cause}
}

// reasons are why the host waits.
type reasons struct {
	condition Condition
	text      string
}

// next decides what comes now. It is pure but for what the intents say.
func (h *host) next(s State, begin bool, now time.Time) (move, reasons, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	back := h.wishes.Wants(now, IntentAbort, IntentRollback)
	pause := h.wishes.Wants(now, IntentPause)
	switch {
	case h.opts.Back || back != nil || s.Stage == Backward:
		return goBack, reasons{}, time.Time{}
	case s.Stage == Finishing:
		return giveUp, reasons{}, time.Time{}
	case pause != nil && (s.Stage == Forward || begin):
		return wait, reasons{Paused, fmt.Sprintf("%s asked to pause%s", pause.By, because(pause.Reason))}, pause.Expires
	case s.Stage == Forward || begin:
		if open, at := InWindow(h.opts.Windows, now); !open && !s.soaks() {
			return wait, reasons{Paused, "the maintenance window is closed until " + at.UTC().Format(time.RFC3339)}, at
		}
		return goForward, reasons{}, time.Time{}
	case s.Stage != Complete:
		return leave, reasons{}, time.Time{}
	}
	switch {
	case h.wishes.Wants(now, IntentComplete) != nil || h.approved || h.opts.Complete && !h.opts.Hold:
		return giveUp, reasons{}, time.Time{}
	case h.told():
		return leave, reasons{}, time.Time{}
	case h.opts.Hold && (h.opts.Complete || h.opts.Stay):
		text := "it waits for redisopt migrate complete"
		if h.opts.Approval != "" {
			text += ", or for the file " + h.opts.Approval
		}
		return wait, reasons{OnHold, text}, time.Time{}
	case h.opts.Stay:
		return wait, reasons{Verified, "it waits for redisopt migrate complete or redisopt rollback"}, time.Time{}
	}
	return leave, reasons{}, time.Time{}
}

// told is true once Leave is closed.
func (h *host) told() bool {
	select {
	case <-h.opts.Leave:
		return true
	default:
		return false
	}
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return ": " + reason
}

// askedError is the cause of a way back that an intent asked for.
type askedError struct{ intent Intent }

func (e *askedError) Error() string {
	return fmt.Sprintf("%s asked for %s%s", e.intent.By, e.intent.Verb, because(e.intent.Reason))
}

// asked is the intent that asks for the way back, nil when none does.
func (h *host) asked() *Intent {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.wishes.Wants(time.Now(), IntentRollback, IntentAbort)
}

// forward starts a run or goes on with one.
func (h *host) forward(begin bool) func(context.Context) error {
	return func(ctx context.Context) error {
		h.say("", "")
		if begin {
			return h.engine.Start(ctx)
		}
		return h.engine.Resume(ctx)
	}
}

// interruptible runs work so that an intent or the end of a window stops it at its next safe point, and
// returns why it was.
func (h *host) interruptible(parent context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(parent)
	defer cancel(nil)
	h.setStop(cancel)
	h.judge(time.Now()) // what was asked for meanwhile
	err := work(ctx)
	h.setStop(nil)
	switch cause := context.Cause(ctx); {
	case err == nil:
		return nil
	case parent.Err() != nil && !errors.Is(err, parent.Err()):
		return fmt.Errorf("%w: %w", parent.Err(), err)
	case parent.Err() == nil && cause != nil:
		return cause
	}
	return err
}

func (h *host) setStop(stop context.CancelCauseFunc) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.stop = stop
}

// finish completes the migration.
func (h *host) finish(ctx context.Context) error {
	give := func(context.Context) error { return nil }
	if f, ok := h.phase.(Finisher); ok {
		give = f.Complete
	}
	return h.engine.Finish(ctx, give)
}
