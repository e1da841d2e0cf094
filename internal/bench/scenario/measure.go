package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// closeTimeout bounds the clean-up of one scenario, which also happens when the run was interrupted.
const closeTimeout = 30 * time.Second

// Plan says what to measure. Target and Scenarios are required.
type Plan struct {
	Target    Target
	Scenarios []Scenario
	Options   Options

	// Run is how each scenario runs. Its OnBegin, Stop and Class are filled in.
	Run bench.Options

	// MaxCommands is the most commands to spend on the target, those in scripts, of preparing and of
	// cleaning up included; 0 means no limit. A run stops early enough to clean up.
	MaxCommands int64

	// Turns is how often each scenario runs, for Commands alone; 0 means once.
	Turns int

	// Begin and End, when not nil, are called when a scenario begins, counted from 0, and when it has ended.
	Begin func(s Scenario, i, of int)
	End   func()
}

// Commands is the most that the plan spends, as far as it can be known before: a queue's round trip depends
// on what else happens.
func (p Plan) Commands() int64 {
	var n int64
	operations := p.operations() * int64(max(1, p.Turns))
	for _, s := range p.Scenarios {
		n += s.Commands(operations, p.Options)
	}
	return n
}

// operations is how many operations of one scenario start, those of the warm-up included; of a closed loop
// it is a guess at what a fast target takes.
func (p Plan) operations() int64 {
	run := p.Run
	if run.Closed > 0 {
		const each = 2000 // a second: half a millisecond for an operation
		return int64(float64(run.Closed) * each * run.Pace.Duration.Seconds())
	}
	warm := run.WarmUp
	if warm == 0 {
		warm = time.Second
	}
	rate := run.Pace.Rate
	if rate == 0 {
		rate = 50
	}
	return int64(run.Pace.Count()) + int64(max(0, warm.Seconds())*rate) + 1
}

// A BudgetError means that the commands that may be spent are not enough for what was asked.
type BudgetError struct{ Want, Max int64 }

func (e *BudgetError) Error() string {
	return fmt.Sprintf("up to %d commands would be spent, and %d may be", e.Want, e.Max)
}

// errSpent ends a run that has spent what it may.
var errSpent = errors.New("the commands that may be spent are used up")

// Measure runs the scenarios one after the other. What was measured is returned also with an error: that
// of ctx, or of a target that does not answer any more, after which nothing further is tried.
func Measure(ctx context.Context, p Plan) ([]bench.Measured, error) {
	var out []bench.Measured
	for i, s := range p.Scenarios {
		if p.Begin != nil {
			p.Begin(s, i, len(p.Scenarios))
		}
		m, err := p.measure(ctx, s)
		if p.End != nil {
			p.End()
		}
		if m != nil {
			out = append(out, *m)
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// measure runs one scenario. The result is nil when it could not begin.
func (p Plan) measure(ctx context.Context, s Scenario) (m *bench.Measured, err error) {
	if err := p.Run.Validate(); err != nil {
		return nil, err
	}
	prepared, err := s.Prepare(ctx, p.Target, p.Options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.tidy(ctx, prepared)) }()
	m = &bench.Measured{Name: s.Name}
	run, last := p.run(s, m), &failure{}
	var before meter.Snapshot
	begin := run.OnBegin
	run.OnBegin = func() {
		begin()
		before = p.Target.Upstream.Meter().Snapshot()
	}
	m.Result, err = bench.Run(ctx, run, last.remember(prepared.Operation))
	if m.Result == nil {
		return nil, err
	}
	m.Commands, m.InScript = p.spent(m)
	if m.Result.Server.Count() == 0 {
		served(&m.Result.Server, p.Target.Upstream.Meter().Snapshot().Sub(before))
	}
	if err != nil {
		return m, err
	}
	if m.Result.Started == 0 && m.Result.Stopped == errSpent.Error() {
		return m, &BudgetError{Want: p.Commands(), Max: p.MaxCommands}
	}
	if m.Result.Done == 0 && m.Result.Limited == 0 {
		if err := last.get(); err != nil {
			return m, fmt.Errorf("%s: none of %d operations ended well: %w", s.Name, m.Result.Started, err)
		}
	}
	broken, err := prepared.Check(ctx)
	if err != nil {
		return m, fmt.Errorf("check %s: %w", s.Name, err)
	}
	m.Broken = broken
	return m, nil
}

// served adds the time that the server took for each command: from its last byte sent to its reply, the way
// there and back included.
func served(h *bench.Histogram, s meter.Snapshot) {
	for _, row := range s.Rows {
		if row.Latency == nil {
			continue
		}
		for _, bar := range row.Latency.Distribution() {
			h.RecordN(time.Duration(bar.To)*time.Microsecond, bar.Count)
		}
	}
}

// tidy closes what was prepared, also when the run was interrupted; then what went wrong with it is of no
// interest any more.
func (s Scenario) tidy(ctx context.Context, prepared *Prepared) error {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := prepared.Close(closing); err != nil && ctx.Err() == nil {
		return fmt.Errorf("clean up %s: %w", s.Name, err)
	}
	return nil
}

// Bounded is how s runs so that it stops before p's target is sent more than MaxCommands.
func (p Plan) Bounded(s Scenario) bench.Options { return p.run(s, &bench.Measured{}) }

// run is how s runs; what was spent before its first recorded operation is kept in m for spent.
func (p Plan) run(s Scenario, m *bench.Measured) bench.Options {
	run := p.Run
	run.OnBegin = func() {
		spent := p.Target.Upstream.Spent()
		m.Commands, m.InScript = spent.Commands+spent.InScript, spent.InScript
	}
	if p.MaxCommands > 0 {
		// What is under way, and to clean up: keys are deleted 500 a command, or one on a Cluster.
		each := int64(500)
		if p.Target.Cluster {
			each = 1
		}
		inFlight := min(int64(max(1, run.InFlight)), p.operations())
		reserve := 50 + int64(p.Options.withDefaults().Keys)/each + s.most*inFlight/8
		asked := run.Stop
		run.Stop = func() error {
			if spent := p.Target.Upstream.Spent(); spent.Commands+spent.InScript+reserve >= p.MaxCommands {
				return errSpent
			}
			if asked != nil {
				return asked()
			}
			return nil
		}
	}
	return run
}

// spent is what the recorded operations cost.
func (p Plan) spent(m *bench.Measured) (commands, inScript int64) {
	spent := p.Target.Upstream.Spent()
	return spent.Commands + spent.InScript - m.Commands, spent.InScript - m.InScript
}

// A failure is the last error of an operation.
type failure struct {
	mu  sync.Mutex
	err error
}

func (f *failure) remember(op bench.Operation) bench.Operation {
	return func(ctx context.Context, span *bench.Span) error {
		err := op(ctx, span)
		if err != nil {
			f.mu.Lock()
			f.err = err
			f.mu.Unlock()
		}
		return err
	}
}

func (f *failure) get() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.err
}

// Alternate runs s on two targets in turns. A run that has too few commands left for either ends with the
// pairs that are whole.
func Alternate(ctx context.Context, s Scenario, a, b Target, o Options, run bench.AlternateOptions) (x *bench.Alternated, err error) {
	if err := run.Run.Validate(); err != nil {
		return nil, err
	}
	var sides [2]*Prepared
	for i, target := range []Target{a, b} {
		p, prepareErr := s.Prepare(ctx, target, o)
		if prepareErr != nil {
			return nil, prepareErr
		}
		defer func() { err = errors.Join(err, s.tidy(ctx, p)) }()
		sides[i] = p
	}
	var last [2]failure
	x, err = bench.Alternate(ctx, run, last[0].remember(sides[0].Operation), last[1].remember(sides[1].Operation))
	if err != nil {
		return x, err
	}
	for i, r := range []*bench.Result{x.A, x.B} {
		if r != nil && r.Done == 0 && r.Limited == 0 && last[i].get() != nil {
			return x, fmt.Errorf("%s on target %c: none of %d operations ended well: %w", s.Name, 'A'+rune(i), r.Started, last[i].get())
		}
	}
	return x, nil
}

// A Found is what Knee found out about one scenario.
type Found struct {
	Steps []bench.Step

	// RatePerSecond is the highest rate at which everything held; 0 when none was.
	RatePerSecond float64
}

// Knee looks for the highest rate at which within holds for s, from p's rate upwards.
func Knee(ctx context.Context, p Plan, s Scenario, within []bench.Assertion) (found *Found, err error) {
	prepared, err := s.Prepare(ctx, p.Target, p.Options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.tidy(ctx, prepared)) }()
	found = &Found{}
	found.Steps, found.RatePerSecond, err = bench.Knee(ctx, bench.KneeOptions{Run: p.Bounded(s), Within: within}, prepared.Operation)
	return found, err
}
