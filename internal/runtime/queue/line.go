package queue

import (
	"sync"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/time/rate"
)

// How a staged resume goes: it begins with one job a second, doubles twice a minute, and is over after five
// minutes, or when the queue was seen empty.
const (
	stageStart = 1
	stageStep  = 30 * time.Second
	stageEnd   = 5 * time.Minute
)

// A newer schema makes this replica leave the band alone for a while, longer each time nothing else came.
const (
	holdFirst = time.Second
	holdMost  = 5 * time.Minute
)

// A line is one queue at work.
type line struct {
	def    Queue
	schema *jsonschema.Schema // nil for none
	bands  []string           // high, normal, low
	runner Runner             // nil where this process runs nothing

	mu       sync.Mutex
	stats    Stats
	limiter  *rate.Limiter // nil for no rate
	stage    *rate.Limiter // nil when not catching up
	staged   time.Time     // when catching up began
	empty    map[string]bool
	reopened time.Time // when it was last resumed: bands that were asked before were paused
	control  bool      // paused by the control document
	paused   time.Time // paused by Pause of this process until then; zero: not
	draining bool
	held     map[string]hold
	ended    map[string]int // completed in each band since it was trimmed
	goesOn   *time.Timer    // fires when a pause ends by itself
	retry    *time.Timer    // wakes the line when the rate allows a job again
}

// A hold keeps this replica away from a band.
type hold struct {
	until time.Time
	last  time.Duration
}

func newLine(q Queue) (*line, error) {
	l := &line{def: q, bands: Bands(q.Name), held: map[string]hold{}, empty: map[string]bool{}, ended: map[string]int{}}
	l.stats = Stats{Queue: q.Name, Mode: q.Mode, Concurrency: q.Concurrency}
	if q.Rate.Jobs > 0 {
		l.limiter = rate.NewLimiter(rate.Limit(float64(q.Rate.Jobs)/q.Rate.Per.Seconds()), q.Rate.Burst)
	}
	if len(q.Schema) > 0 {
		s, err := compileSchema(q.Schema)
		if err != nil {
			return nil, err
		}
		l.schema = s
	}
	return l, nil
}

// count changes what is counted.
func (l *line) count(f func(*Stats)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f(&l.stats)
}

func (l *line) snapshot() Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := l.stats
	s.Paused = l.control || l.pausedNow(time.Now())
	s.Draining = l.draining
	return s
}

// pausedNow is whether Pause of this process holds. l.mu is held.
func (l *line) pausedNow(now time.Time) bool { return now.Before(l.paused) }

func (l *line) drains() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.draining
}

// backlog is the most that may wait in a band while it is paused, negative for any number, and "1" where
// this process knows that it is.
func (l *line) backlog() (limit int, paused string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(-1, l.def.Backlog.Limit), flag(l.control)
}

// admit is whether a job of the band may be taken now besides ahead others of the queue, the applications'
// wishes aside. When only the rate is against it, wake is called as soon as it is not.
func (l *line) admit(band string, ahead int, now time.Time, wake func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.control || l.stats.Running+ahead >= l.def.Concurrency || now.Before(l.held[band].until) {
		return false
	}
	if l.stage != nil {
		age := now.Sub(l.staged)
		if age >= stageEnd {
			l.stage = nil
		} else {
			l.stage.SetLimitAt(now, rate.Limit(stageStart*float64(int(1)<<int(age/stageStep))))
		}
	}
	for _, limiter := range []*rate.Limiter{l.limiter, l.stage} {
		if limiter == nil {
			continue
		}
		if missing := float64(1+ahead) - limiter.TokensAt(now); missing > 0 {
			if ahead == 0 {
				l.later(time.Duration(missing/float64(limiter.Limit())*float64(time.Second))+time.Millisecond, wake)
			}
			return false
		}
	}
	return true
}

// later calls wake once after a while. l.mu is held.
func (l *line) later(after time.Duration, wake func()) {
	if l.retry == nil {
		l.retry = time.AfterFunc(after, func() {
			l.mu.Lock()
			l.retry = nil
			l.mu.Unlock()
			wake()
		})
	}
}

// began counts a job that was taken; ended counts that it runs no more.
func (l *line) began(now time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Running++
	clear(l.empty)
	if l.limiter != nil {
		l.limiter.AllowN(now, 1)
	}
	if l.stage != nil {
		l.stage.AllowN(now, 1)
	}
}

func (l *line) stopped() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.Running--
}

// reopen forgets which bands were empty: paused ones look so. l.mu is held.
func (l *line) reopen() {
	clear(l.empty)
	l.reopened = time.Now()
}

// seenEmpty notes that a band had no job when it was asked: catching up is over when none has.
func (l *line) seenEmpty(band string, asked time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if asked.Before(l.reopened) {
		return // its answer was under way when the queue was resumed
	}
	l.empty[band] = true
	if len(l.empty) == len(l.bands) {
		l.stage = nil
	}
}

// newer notes that a job of a newer schema came out of the band, and keeps away from it: first for a second,
// twice as long each time when nothing else came in between. known notes that something else came.
func (l *line) newer(band string, now time.Time, wake func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := l.held[band]
	h.last = min(max(holdFirst, 2*h.last), holdMost)
	h.until = now.Add(h.last)
	l.held[band] = h
	l.later(h.last+time.Millisecond, wake)
}

func (l *line) known(band string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.held, band)
}

// trimDue counts a completed job and is whether the band should be looked at.
func (l *line) trimDue(band string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended[band]++
	if l.ended[band] < max(1, l.def.Completed.Count/10) {
		return false
	}
	l.ended[band] = 0
	return true
}

// close stops the timers.
func (l *line) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, timer := range []**time.Timer{&l.retry, &l.goesOn} {
		if *timer != nil {
			(*timer).Stop()
			*timer = nil
		}
	}
}
