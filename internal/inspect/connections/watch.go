package connections

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// A Sample is one look of a watch, compared with the one before.
type Sample struct {
	At     time.Time `json:"at"`
	Total  int       `json:"total"` // without ours
	Opened int       `json:"opened"`
	Closed int       `json:"closed"`

	// ShortLived is how many connections came and went unseen since the last sample: the server's
	// counter of accepted connections says so, CLIENT LIST cannot. -1 when not known.
	ShortLived int `json:"short_lived"`

	// OpenedPerSecond counts the short-lived ones too.
	OpenedPerSecond float64 `json:"opened_per_s"`

	// Rejected is how many connections the server refused at its limit since the last sample.
	Rejected int64 `json:"rejected"`

	// Restarted says that the server began anew since the last sample; then nothing is compared.
	Restarted bool `json:"restarted,omitempty"`

	// Problem is why this sample has no numbers: the server did not answer, or refused.
	Problem string `json:"problem,omitempty"`

	byProcess map[string]int
	interval  time.Duration
}

// A WatchReport is a watch as a whole: the last full report, every sample, and what they show together.
type WatchReport struct {
	Last     *Report           `json:"-"`
	Samples  []Sample          `json:"samples"`
	Duration time.Duration     `json:"-"`
	Seconds  float64           `json:"duration_s"`
	Findings []inspect.Finding `json:"findings"`
	Measures []inspect.Measure `json:"measures"`
	Commands int               `json:"commands"`
}

// maxSamples bounds the memory of a watch; beyond it the oldest samples are dropped.
const maxSamples = 20_000

// Watch looks at once and then every so often until ctx ends, and gives each sample to emit as it is
// taken; emit may be nil. It returns what all samples show together, without an error when ctx ended:
// that is how a watch is meant to end. The first look must succeed; a later one that fails is a sample
// with a Problem. Price: three commands a sample, four when somebody subscribes; at most one look runs
// at a time, and a late one is skipped rather than repeated.
func (a *Auditor) Watch(ctx context.Context, every time.Duration, emit func(Sample)) (*WatchReport, error) {
	if every < 100*time.Millisecond {
		return nil, fmt.Errorf("watch interval: got %s, want at least 100ms", every)
	}
	started := time.Now()
	w := &watcher{auditor: a, emit: emit}
	if err := w.first(ctx); err != nil {
		return nil, err
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return w.summary(time.Since(started)), nil
		case <-tick.C:
			w.next(ctx)
		}
	}
}

// A watcher is one watch under way.
type watcher struct {
	auditor *Auditor
	emit    func(Sample)

	last    *Report
	views   []*view
	at      time.Time
	samples []Sample
	spent   int
}

func (w *watcher) first(ctx context.Context) error {
	views, err := w.auditor.look(ctx, true)
	if err != nil {
		return err
	}
	for _, v := range views {
		if v.listErr != nil {
			return fmt.Errorf("watch connections: CLIENT LIST refused: %w", v.listErr)
		}
	}
	w.take(views, Sample{At: views[0].at})
	return nil
}

func (w *watcher) next(ctx context.Context) {
	views, err := w.auditor.look(ctx, true)
	if ctx.Err() != nil {
		return
	}
	s := Sample{At: time.Now().UTC(), interval: time.Since(w.at)}
	for _, v := range views {
		err = errors.Join(err, v.listErr)
	}
	if err != nil {
		s.Problem = err.Error()
		s.ShortLived = -1
		w.add(s)
		return
	}
	w.take(views, s)
}

// take compares the new views with the last ones and keeps them.
func (w *watcher) take(views []*view, s Sample) {
	before := w.last
	r := w.auditor.report(views)
	s.Total = r.Total
	s.byProcess = make(map[string]int)
	for _, p := range r.Processes {
		s.byProcess[p.ID] = p.Connections
	}
	if before != nil {
		s.compare(before, r, w.views, views)
	}
	w.spent += r.Commands
	w.last, w.views, w.at = r, views, time.Now()
	w.add(s)
}

func (w *watcher) add(s Sample) {
	if len(w.samples) == maxSamples {
		w.samples = append(w.samples[:0], w.samples[1:]...)
	}
	w.samples = append(w.samples, s)
	if w.emit != nil {
		w.emit(s)
	}
}

// compare fills what changed between two reports of the same server.
func (s *Sample) compare(before, after *Report, old, now []*view) {
	for i, v := range now {
		if i >= len(old) || v.server.RunID != old[i].server.RunID {
			s.Restarted, s.ShortLived = true, -1
			return
		}
	}
	was, is := make(map[key]bool), make(map[key]bool)
	for _, c := range before.Connections {
		was[key{c.Node, c.ID}] = !c.Own
	}
	ownNew := 0
	for _, c := range after.Connections {
		k := key{c.Node, c.ID}
		is[k] = true
		if _, known := was[k]; known {
			continue
		}
		if c.Own {
			ownNew++
		} else {
			s.Opened++
		}
	}
	for k, theirs := range was {
		if theirs && !is[k] {
			s.Closed++
		}
	}
	s.ShortLived = -1
	var received int64
	for i, v := range now {
		if v.server.received < 0 || old[i].server.received < 0 {
			received = -1
			break
		}
		received += v.server.received - old[i].server.received
		s.Rejected += max(v.server.rejected-old[i].server.rejected, 0)
	}
	opened := s.Opened
	if received >= 0 {
		s.ShortLived = max(int(received)-s.Opened-ownNew, 0)
		opened += s.ShortLived
	}
	if sec := s.interval.Seconds(); sec > 0 {
		s.OpenedPerSecond = float64(opened) / sec
	}
}

func (w *watcher) summary(d time.Duration) *WatchReport {
	a := w.auditor
	a.judge(w.last)
	w.last.Commands = w.spent
	r := &WatchReport{
		Last: w.last, Samples: w.samples, Duration: d, Seconds: d.Seconds(), Commands: w.spent,
		Findings: trends(w.samples),
	}
	r.Measures = trendMeasures(w.samples, d)
	return r
}
