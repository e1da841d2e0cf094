package outcome

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

// A Source can be looked at. It is for one goroutine.
type Source interface {
	// Name is stable: readings on disk are told apart by it.
	Name() string

	// Look takes a reading, on from the one before, which is nil at first.
	Look(ctx context.Context, before *Reading, now time.Time) (Reading, error)
}

// Options say what is watched and where that is kept.
type Options struct {
	// Sources are looked at, each at its own price. At least one.
	Sources []Source

	// Path is the file of readings. Required.
	Path string

	// Every is the time between two looks. Default 5 minutes; at least 10 milliseconds.
	Every time.Duration

	// Inner is asked for what no source knows. Nil: nobody is.
	Inner migrate.Watch
}

// A Watch takes readings while Run runs, and is a migrate.Watch over all there are. It is safe for concurrent use.
type Watch struct {
	opts  Options
	diary diary

	mu   sync.Mutex // of last and of writing
	last map[string]*Reading
}

// Open returns a watch that looks at nothing until Run or Look.
func Open(opts Options) (*Watch, error) {
	if opts.Every == 0 {
		opts.Every = 5 * time.Minute
	}
	var errs []error
	if len(opts.Sources) == 0 {
		errs = append(errs, errors.New("sources: got none"))
	}
	if opts.Path == "" {
		errs = append(errs, errors.New("file of readings: got none"))
	}
	if opts.Every < 10*time.Millisecond {
		errs = append(errs, fmt.Errorf("interval: got %s, want at least 10ms", opts.Every))
	}
	return &Watch{opts: opts, diary: diary{opts.Path}, last: map[string]*Reading{}}, errors.Join(errs...)
}

// Run looks at every source at once, and then every Every, until ctx ends; it returns nil then. A source that does
// not answer is a gap in its readings; a file that cannot be written is an error.
func (w *Watch) Run(ctx context.Context) error {
	tick := time.NewTicker(w.opts.Every)
	defer tick.Stop()
	for {
		if _, err := w.Look(ctx); err != nil || ctx.Err() != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// Look takes one reading of every source, keeps them, and returns them in the order of the sources.
func (w *Watch) Look(ctx context.Context) ([]Reading, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []Reading
	for _, s := range w.opts.Sources {
		before := w.last[s.Name()]
		if before == nil {
			var err error
			if before, err = w.diary.last(s.Name()); err != nil {
				return out, fmt.Errorf("readings: %w", err)
			}
		}
		now := time.Now().UTC().Truncate(time.Millisecond)
		r, err := s.Look(ctx, before, now)
		switch {
		case ctx.Err() != nil:
			return out, nil
		case err != nil: // the cursors stay, so that the next look finds what this one did not
			var from Reading
			if before != nil {
				from = *before
			}
			r = from.next(s.Name(), now)
			r.Gap = err.Error()
		}
		if err := w.diary.append(r); err != nil {
			return out, fmt.Errorf("keep readings: %w", err)
		}
		w.last[s.Name()] = &r
		out = append(out, r)
	}
	return out, nil
}

// Read measures a KPI between two times from the readings on disk; those that no source knows are for Inner.
func (w *Watch) Read(ctx context.Context, kpi string, from, to time.Time) (migrate.Evidence, error) {
	if !slices.Contains(KPIs(), kpi) {
		if w.opts.Inner == nil {
			return migrate.Evidence{From: from, To: to, Missing: []string{"nothing here measures " + kpi}}, nil
		}
		return w.opts.Inner.Read(ctx, kpi, from, to)
	}
	all, err := w.diary.read(from.Add(-w.opts.Every), to)
	if err != nil {
		return migrate.Evidence{}, fmt.Errorf("readings: %w", err)
	}
	e := Evidence(all, kpi, from, to)
	if kpi == migrate.KPIConnectionErrors && !e.Known && w.opts.Inner != nil {
		return w.opts.Inner.Read(ctx, kpi, from, to)
	}
	return e, nil
}

// Readings are those on disk of path, from and to.
func Readings(path string, from, to time.Time) ([]Reading, error) { return diary{path}.read(from, to) }
