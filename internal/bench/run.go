package bench

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// Run runs op as o says and returns what was measured, which is also there, as far as it came, when the
// run ended early: because ctx ended (its cause is returned with the result) or because Stop said so (which
// is no error). It returns when the last operation has ended, at most a Timeout later; nothing it started
// is left then.
func Run(ctx context.Context, o Options, op Operation) (*Result, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	r := run{o: o, op: op, ctx: ctx, slots: make(chan struct{}, o.InFlight)}
	rec, warming := newRecorder(o), newRecorder(o)
	if o.WarmUp > 0 {
		warm := o
		warm.Pace = Pace{Rate: o.Pace.Rate, Duration: o.WarmUp}.withDefaults()
		r.loop(warm, warming, true)
	}
	if o.OnBegin != nil {
		o.OnBegin()
	}
	began := time.Now()
	if r.stopped() == "" {
		r.loop(o, rec, false)
	}
	result := rec.result()
	// Nearly every connection is made while warming up, and the recorded operations go over it.
	result.Connect.Add(&warming.r.Connect)
	result.TLS.Add(&warming.r.TLS)
	result.Loop, result.Began, result.Took, result.Stopped = Open, began, time.Since(began), r.stopped()
	if o.Closed > 0 {
		result.Loop, result.Callers, result.Planned = Closed, o.Closed, result.Started
	} else {
		result.RatePerSecond, result.RampToPerSecond = o.Pace.Rate, o.Pace.RampTo
		result.Planned = int64(o.Pace.Count())
	}
	return result, context.Cause(ctx)
}

// A run is one Run.
type run struct {
	o     Options
	op    Operation
	ctx   context.Context
	slots chan struct{}
	why   atomic.Pointer[string] // why it ended early
}

func (r *run) stopped() string {
	if why := r.why.Load(); why != nil {
		return *why
	}
	return ""
}

// over is whether the run has to end before its time.
func (r *run) over() bool {
	if r.why.Load() != nil {
		return true
	}
	err := context.Cause(r.ctx)
	if err == nil && r.o.Stop != nil {
		err = r.o.Stop()
	}
	if err == nil {
		return false
	}
	why := err.Error()
	r.why.CompareAndSwap(nil, &why)
	return true
}

// loop runs o's operations into rec.
func (r *run) loop(o Options, rec *recorder, warmingUp bool) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { r.watch(rec, o.Pace.Duration, warmingUp, done) })
	if o.Closed > 0 {
		r.closed(o, rec)
	} else {
		r.open(o, rec)
	}
	close(done)
	watching.Wait()
}

// watch tells about the progress once a second.
func (r *run) watch(rec *recorder, of time.Duration, warmingUp bool, done <-chan struct{}) {
	if r.o.OnProgress == nil {
		return
	}
	began := time.Now()
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-done:
			p := rec.progress()
			p.WarmingUp, p.Elapsed, p.Of = warmingUp, time.Since(began), of
			r.o.OnProgress(p)
			return
		case <-ticker.C:
			p := rec.progress()
			p.WarmingUp, p.Elapsed, p.Of = warmingUp, time.Since(began), of
			r.o.OnProgress(p)
		}
	}
}

// open starts every operation at its time, whatever became of those before. When InFlight are under way
// it is held up; operations whose time comes meanwhile start late, in their order, until the time of the
// run is over: what has not started by then never does.
func (r *run) open(o Options, rec *recorder) {
	var wg sync.WaitGroup
	defer wg.Wait()
	began := time.Now()
	end := began.Add(o.Pace.Duration)
	var freed time.Time // when a slot that had to be waited for came free
	for i := range o.Pace.Count() {
		intended := o.Pace.At(i)
		at := began.Add(intended)
		o.wait(r.ctx, at)
		if r.over() {
			return
		}
		now := time.Now()
		late, waited := now.Sub(at), at.Before(freed)
		select {
		case r.slots <- struct{}{}:
		default:
			waited = true
			if !r.slot(end) {
				return
			}
			freed = time.Now()
		}
		rec.started(late, waited)
		wg.Go(func() {
			defer func() { <-r.slots }()
			r.once(o, rec, began, intended)
		})
	}
}

// slot waits for one of InFlight, until end.
func (r *run) slot(end time.Time) bool {
	timer := time.NewTimer(time.Until(end))
	defer timer.Stop()
	select {
	case r.slots <- struct{}{}:
		return true
	case <-timer.C:
	case <-r.ctx.Done():
		r.over()
	}
	return false
}

// closed lets o.Closed callers begin again as soon as they have ended.
func (r *run) closed(o Options, rec *recorder) {
	var wg sync.WaitGroup
	defer wg.Wait()
	began := time.Now()
	for range o.Closed {
		wg.Go(func() {
			for {
				intended := time.Since(began)
				if intended >= o.Pace.Duration || r.over() {
					return
				}
				rec.started(0, false)
				r.once(o, rec, began, intended)
			}
		})
	}
}

// once runs one operation.
func (r *run) once(o Options, rec *recorder, began time.Time, intended time.Duration) {
	ctx, cancel := context.WithTimeout(r.ctx, o.Timeout)
	defer cancel()
	e := ended{intended: intended, began: time.Since(began)}
	e.err = r.op(ctx, &e.span)
	e.end = time.Since(began)
	if e.err != nil && r.ctx.Err() != nil {
		// It was interrupted, which says nothing about the target.
		rec.interrupted()
		return
	}
	rec.ended(e)
}
