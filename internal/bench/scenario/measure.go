package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
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

	// Allowed, when not nil, is asked before each operation for a second MaxCommands, which others may
	// lower meanwhile by what they spend of the same budget. It must not block.
	Allowed func() int64

	// Turns is how often each scenario runs, for Commands alone; 0 means once.
	Turns int

	// Rates are those that are tried one after the other, for Commands alone; nil means the one of Run.
	Rates []float64

	// StopAtQuota ends a run, with that error, when the target answers that its plan's commands are used
	// up. Otherwise such answers are errors like any other.
	StopAtQuota bool

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

// Duration is about how long the plan takes, preparing and cleaning up left out.
func (p Plan) Duration() time.Duration {
	run, warm := p.Run, p.Run.WarmUp
	if warm == 0 {
		warm = time.Second
	}
	warm = max(0, warm)
	// Of turns only the first of a side is warmed up; each rate is.
	all := time.Duration(max(1, p.Turns))*run.Pace.Span() + warm
	if n := time.Duration(len(p.Rates)); n > 0 {
		all = n * (run.Pace.Span() + warm)
	}
	return time.Duration(len(p.Scenarios)) * all
}

// operations is how many operations of one scenario start, at all rates.
func (p Plan) operations() int64 {
	if len(p.Rates) == 0 {
		return operations(p.Run)
	}
	var n int64
	for _, rate := range p.Rates {
		run := p.Run
		run.Pace.Rate, run.Pace.RampTo = rate, 0
		n += operations(run)
	}
	return n
}

// operations is how many operations one run starts, those of the warm-up included; of a closed loop it is a
// guess at what a fast target takes.
func operations(run bench.Options) int64 {
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

// ErrNear ends a run of which Plan.Allowed says that it has come near to what is left.
var ErrNear = errors.New("the budget is nearly used up")

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
	p.Target.Parts.forget(false)
	prepared, err := s.Prepare(ctx, p.Target, p.Options)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.tidy(ctx, prepared)) }()
	m = &bench.Measured{Name: s.Name}
	run, last := p.run(s, m), &failure{}
	if p.StopAtQuota {
		run.Stop = last.stopAtQuota(run.Stop)
	}
	var before meter.Snapshot
	begin := run.OnBegin
	run.OnBegin = func() {
		begin()
		before = p.Target.Upstream.Meter().Snapshot()
		p.Target.Parts.forget(true)
	}
	m.Result, err = bench.Run(ctx, run, last.remember(prepared.Operation))
	if m.Result == nil {
		return nil, err
	}
	m.Commands, m.InScript = p.spent(m)
	if spans := m.Result.Server.Count() > 0; !p.Target.Parts.into(m.Result) && !spans {
		served(&m.Result.Server, p.Target.Upstream.Meter().Snapshot().Sub(before))
	}
	if err != nil {
		return m, err
	}
	if used := last.usedUp(); used != nil && p.StopAtQuota {
		return m, fmt.Errorf("%s: after %d of %d operations: %w", s.Name, m.Result.Started, m.Result.Planned, used)
	}
	if m.Result.Stopped == ErrNear.Error() {
		return m, fmt.Errorf("%s: after %d of %d operations: %w", s.Name, m.Result.Started, m.Result.Planned, ErrNear)
	}
	if m.Result.Started == 0 && m.Result.Stopped == errSpent.Error() {
		return m, &BudgetError{Want: p.Commands(), Max: p.MaxCommands}
	}
	if m.Result.Done == 0 && m.Result.Limited == 0 {
		if err := last.get(); err != nil {
			return m, fmt.Errorf("%s: none of %d operations ended well: %w", s.Name, m.Result.Started, err)
		}
	}
	if n, err := last.gone(); err != nil {
		return m, fmt.Errorf("%s: the target stopped answering, the last %d of %d operations failed: %w", s.Name, n, m.Result.Started, err)
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
	if p.MaxCommands > 0 || p.Allowed != nil {
		run.Stop = p.stop(s, run.Stop)
	}
	return run
}

// stop ends run before more than what may be is spent: what is under way, and cleaning up, which is 500 keys
// a command, or one on a Cluster, have to fit too.
func (p Plan) stop(s Scenario, asked func() error) func() error {
	each := int64(500)
	if p.Target.Cluster {
		each = 1
	}
	reserve := 50 + int64(p.Options.withDefaults().Keys)/each
	var begun, base atomic.Int64
	return func() error {
		spent := p.Target.Upstream.Spent()
		all := spent.Commands + spent.InScript
		base.CompareAndSwap(0, all)
		all = max(all, base.Load()+begun.Add(1)*s.most) + reserve // on a slow target much of what was begun is not spent yet
		switch {
		case p.MaxCommands > 0 && all >= p.MaxCommands:
			return errSpent
		case p.Allowed != nil && all >= p.Allowed():
			return ErrNear
		case asked != nil:
			return asked()
		}
		return nil
	}
}

// spent is what the recorded operations cost.
func (p Plan) spent(m *bench.Measured) (commands, inScript int64) {
	spent := p.Target.Upstream.Spent()
	return spent.Commands + spent.InScript - m.Commands, spent.InScript - m.InScript
}
