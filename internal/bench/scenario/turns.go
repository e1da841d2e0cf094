package scenario

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// Turns is what Alternate measured: the pairs of turns, and each side by itself.
type Turns struct {
	*bench.Alternated

	// Sides are A and B: the turns of the whole pairs together, what they cost, and what was wrong with
	// the answers of all turns. Their Result is nil when no pair is whole.
	Sides [2]bench.Measured
}

// A side is one target while turns are run.
type side struct {
	target   Target
	prepared *Prepared
	last     failure

	before   bench.Measured   // what was spent when the turn began
	metered  meter.Snapshot   // and what was sent
	turns    []bench.Measured // what each turn cost
	recorded *bench.Result    // where the requests' time went, over all turns
}

func (d *side) begin() {
	spent := d.target.Upstream.Spent()
	d.before.Commands, d.before.InScript = spent.Commands+spent.InScript, spent.InScript
	d.metered = d.target.Upstream.Meter().Snapshot()
	d.target.Parts.forget(true)
}

func (d *side) end() {
	spent := d.target.Upstream.Spent()
	d.turns = append(d.turns, bench.Measured{
		Commands: spent.Commands + spent.InScript - d.before.Commands, InScript: spent.InScript - d.before.InScript,
	})
	if !d.target.Parts.into(d.recorded) {
		served(&d.recorded.Server, d.target.Upstream.Meter().Snapshot().Sub(d.metered))
	}
	d.target.Parts.forget(false)
}

// Alternate runs s on two targets in turns. A run that has too few commands left for either ends with the
// pairs that are whole, which are returned beside an error too. The answers of both are checked at the end.
func Alternate(ctx context.Context, s Scenario, a, b Target, o Options, run bench.AlternateOptions) (x *Turns, err error) {
	if err := run.Run.Validate(); err != nil {
		return nil, err
	}
	sides := [2]*side{{target: a, recorded: &bench.Result{}}, {target: b, recorded: &bench.Result{}}}
	for _, d := range sides {
		d.target.Parts.forget(false)
		var prepareErr error
		if d.prepared, prepareErr = s.Prepare(ctx, d.target, o); prepareErr != nil {
			return nil, prepareErr
		}
		defer func() { err = errors.Join(err, s.tidy(ctx, d.prepared)) }()
	}
	run.OnTurn, run.OnTurned = func(i int) { sides[i].begin() }, func(i int) { sides[i].end() }
	var near atomic.Bool
	run.Run.Stop = noted(run.Run.Stop, &near)
	for _, d := range sides {
		run.Run.Stop = d.last.stopAtQuota(run.Run.Stop)
	}
	x = &Turns{}
	x.Alternated, err = bench.Alternate(ctx, run, sides[0].last.remember(sides[0].prepared.Operation), sides[1].last.remember(sides[1].prepared.Operation))
	if x.Alternated == nil {
		return nil, err
	}
	for i, d := range sides {
		x.Sides[i] = d.measured(s.Name, len(x.Pairs), []*bench.Result{x.A, x.B}[i])
	}
	if err == nil && near.Load() {
		err = fmt.Errorf("%s: after %d of %d pairs: %w", s.Name, len(x.Pairs), run.Pairs, ErrNear)
	}
	if err != nil {
		return x, err
	}
	for i, d := range sides {
		r := x.Sides[i].Result
		if used := d.last.usedUp(); used != nil {
			return x, fmt.Errorf("%s on target %c: %w", s.Name, 'A'+rune(i), used)
		}
		if r != nil && r.Done == 0 && r.Limited == 0 && d.last.get() != nil {
			return x, fmt.Errorf("%s on target %c: none of %d operations ended well: %w", s.Name, 'A'+rune(i), r.Started, d.last.get())
		}
		if n, err := d.last.gone(); err != nil {
			return x, fmt.Errorf("%s on target %c: it stopped answering, the last %d operations failed: %w", s.Name, 'A'+rune(i), n, err)
		}
		if x.Sides[i].Broken, err = d.prepared.Check(ctx); err != nil {
			return x, fmt.Errorf("check %s on target %c: %w", s.Name, 'A'+rune(i), err)
		}
	}
	return x, nil
}

// measured is what the first pairs turns of d come to.
func (d *side) measured(name string, pairs int, r *bench.Result) bench.Measured {
	m := bench.Measured{Name: name, Result: r}
	for _, turn := range d.turns[:min(pairs, len(d.turns))] {
		m.Commands, m.InScript = m.Commands+turn.Commands, m.InScript+turn.InScript
	}
	if r != nil {
		r.Connect.Add(&d.recorded.Connect)
		r.TLS.Add(&d.recorded.TLS)
		if r.Server.Count() == 0 { // else the operations told by themselves
			r.Server.Add(&d.recorded.Server)
		}
	}
	return m
}
