package queue

import (
	"context"
	"maps"
	"time"
)

const (
	nameRests = time.Second // that asynq may need to forget a job that has ended
	nameFirst = time.Second // after which a job is tried again whose id is taken, then twice as long each time
	nameMost  = time.Minute
)

// A name is an id that asynq has in hand. It tells jobs apart by that alone, whatever their queue: of two with the
// same id one would lose its lease, and be run again beside itself.
type name struct {
	band string
	over time.Time     // when what became of the job was known; zero before
	wait time.Duration // that was asked last of another job with this id
}

// refused puts a job off whose id another job of this process has.
func (w *witness) refused(ctx context.Context, l *line, band string, m message) bool {
	now := time.Now()
	w.mu.Lock()
	n, ok := w.names[m.ID]
	// Elsewhere in its queue it has ended, or it could not have been added; on a Redis Cluster nobody looks there.
	same := n.band == band || !w.e.cluster && w.e.byBand[n.band] == l
	if !ok || same || !n.over.IsZero() && now.Sub(n.over) >= nameRests {
		w.mu.Unlock()
		return false
	}
	n.wait = min(max(nameFirst, 2*n.wait), nameMost)
	w.names[m.ID] = n
	w.mu.Unlock()
	a := &attempt{place: place{band, m.ID}, line: l, msg: m, begun: now, over: make(chan struct{})}
	s := toRetry(now.Add(n.wait), "")
	if err := w.e.settle(context.WithoutCancel(ctx), a, s); err != nil {
		w.e.opts.Notice(err) // it is tried again when its lease has ended
	}
	w.e.governor.Wake(band) // there may be others
	return true
}

// forgetNames forgets what has rested. The mutex is held.
func (w *witness) forgetNames(now time.Time) {
	maps.DeleteFunc(w.names, func(_ string, n name) bool { return !n.over.IsZero() && now.Sub(n.over) >= nameRests })
}

// unnamed notes that it does not have it any more. The mutex is held.
func (w *witness) unnamed(p place) {
	if n, ok := w.names[p.id]; ok && n.band == p.band {
		n.over = time.Now()
		w.names[p.id] = n
	}
}
