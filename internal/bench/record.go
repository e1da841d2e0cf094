package bench

import (
	"errors"
	"sync"
	"time"
)

// mostSlices bounds the memory of a run, however long it is.
const mostSlices = 600

// A recorder takes what the operations of one run have to tell, from any goroutine.
type recorder struct {
	class func(error) string

	mu    sync.Mutex
	slice time.Duration
	r     Result
}

// An ended is one operation that is over.
type ended struct {
	intended time.Duration // after the beginning of the run
	began    time.Duration
	end      time.Duration
	span     Span
	err      error
}

func newRecorder(o Options) *recorder {
	return &recorder{class: o.Class, slice: o.Slice, r: Result{Errors: map[string]int64{}}}
}

// started counts an operation, and how late this program was for it when nothing else held it up.
func (rec *recorder) started(late time.Duration, waited bool) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.r.Started++
	if waited {
		rec.r.Waited++
	} else {
		rec.r.Lateness.Record(late)
	}
}

func (rec *recorder) ended(e ended) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	s := rec.sliceOf(e.intended)
	rec.r.Queueing.Record(e.began - e.intended)
	switch {
	case errors.Is(e.err, ErrLimited):
		rec.r.Limited++
		return
	case e.err != nil:
		rec.r.Errors[rec.class(e.err)]++
		s.Errors++
		if rec.r.FirstError == "" {
			rec.r.FirstError = e.err.Error()
		}
		return
	}
	rec.r.Done++
	rec.r.Latency.All.Record(e.end - e.intended)
	s.Latency.Record(e.end - e.intended)
	rec.r.Service.Record(e.end - e.began)
	for d, h := range map[*time.Duration]*Histogram{
		&e.span.Connect: &rec.r.Connect, &e.span.TLS: &rec.r.TLS, &e.span.Server: &rec.r.Server,
	} {
		if *d > 0 {
			h.Record(*d)
		}
	}
}

// sliceOf is the slice that t falls into; it makes those up to it, and fewer of them when there are too many.
func (rec *recorder) sliceOf(t time.Duration) *Slice {
	l := &rec.r.Latency
	for t/rec.slice >= mostSlices {
		rec.slice *= 2
		half := l.Slices[:0]
		for i := range l.Slices {
			if i%2 == 0 {
				half = append(half, l.Slices[i])
				continue
			}
			last := &half[len(half)-1]
			last.Latency.Add(&l.Slices[i].Latency)
			last.Errors += l.Slices[i].Errors
		}
		l.Slices = half
	}
	i := int(t / rec.slice)
	for len(l.Slices) <= i {
		l.Slices = append(l.Slices, Slice{At: time.Duration(len(l.Slices)) * rec.slice, Latency: Histogram{coarse: true}})
	}
	return &l.Slices[i]
}

// progress is how far the run is.
func (rec *recorder) progress() Progress {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return Progress{Started: rec.r.Started, Done: rec.r.Done + rec.r.Limited, Errors: rec.r.Failed()}
}

// result is what was recorded; the recorder is not used after it.
func (rec *recorder) result() *Result {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	return &rec.r
}

// interrupted takes a started operation back.
func (rec *recorder) interrupted() {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.r.Started--
}
