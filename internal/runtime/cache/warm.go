package cache

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// A Warmer fills part of the cache before it is asked for. Its zero values work, except Items.
type Warmer struct {
	// Name is shown in reports.
	Name string

	// Items returns what is to be there. It is called at the beginning of each run.
	Items func(ctx context.Context) ([]WarmItem, error)

	// Every is how long Run waits between two runs. Default 0: once, when Run starts.
	Every time.Duration

	// Concurrency is how many loaders run at a time. Default 4.
	Concurrency int

	// MaxCommands bounds what one run may cost, in billed commands. Default 10,000; negative means no
	// bound.
	MaxCommands int64

	// Force loads and writes entries that are fresh too.
	Force bool
}

// A WarmItem is one entry to fill.
type WarmItem struct {
	Key     string
	Load    Loader
	Options SetOptions
}

// A WarmReport is what one run of a Warmer did. Items = Fresh + Stored + Absent + Failed + Left.
type WarmReport struct {
	Name     string `json:"name"`
	Items    int    `json:"items"`
	Fresh    int    `json:"fresh"`  // there already, and left alone
	Stored   int    `json:"stored"` // loaded and written
	Absent   int    `json:"absent"` // the loader found that there is nothing
	Failed   int    `json:"failed"` // not loaded, refused, or not taken by the upstream
	Left     int    `json:"left"`   // not reached, because the commands were spent or ctx ended
	Commands int64  `json:"commands"`

	// Errors are the reasons, at most 10.
	Errors []string `json:"errors"`
}

func (w Warmer) validate() error {
	var errs []error
	if w.Items == nil {
		errs = append(errs, errors.New("items: missing, give a function that lists them"))
	}
	if w.Every < 0 {
		errs = append(errs, fmt.Errorf("every: got %s, want 0 (once) or more", w.Every))
	}
	if w.Concurrency < 0 {
		errs = append(errs, fmt.Errorf("concurrency: got %d, want 0 (default) or more", w.Concurrency))
	}
	return errors.Join(errs...)
}

// Warm runs a warmer once. What is fresh is found by one MGET for every 100 items and skipped; the rest is
// loaded side by side and written.
//
// Price: 1 command for every 100 items and 1 for each entry that was not fresh; more with tags and
// guarded namespaces, see Set. It stops before it spends more than w.MaxCommands, with ErrBudget. An
// upstream that does not answer ends it with ErrUnavailable. The report is complete in every case.
func (c *Cache) Warm(ctx context.Context, w Warmer) (WarmReport, error) {
	if err := w.validate(); err != nil {
		return WarmReport{Name: w.Name, Errors: []string{}}, fmt.Errorf("warmer %q: %w", w.Name, err)
	}
	w.Concurrency, w.MaxCommands = or(w.Concurrency, 4), or(w.MaxCommands, 10_000)
	run := warming{cache: c, warmer: w, report: WarmReport{Name: w.Name, Errors: []string{}}}
	items, err := w.Items(ctx)
	if err != nil {
		return run.report, fmt.Errorf("warmer %q: list its items: %w", w.Name, err)
	}
	run.report.Items = len(items)
	err = run.all(ctx, items)
	r := run.report
	r.Left = r.Items - r.Fresh - r.Stored - r.Absent - r.Failed
	if err != nil {
		return r, fmt.Errorf("warmer %q: %d of %d items left: %w", w.Name, r.Left, r.Items, err)
	}
	return r, nil
}

// A warming is one run of a warmer.
type warming struct {
	cache  *Cache
	warmer Warmer

	mu     sync.Mutex
	report WarmReport
	claims int64 // commands that are being spent
}

func (w *warming) all(ctx context.Context, items []WarmItem) error {
	const page = 100
	for len(items) > 0 {
		n := min(page, len(items))
		todo, err := w.stale(ctx, items[:n])
		if err != nil {
			return err
		}
		if err := w.fill(ctx, todo); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

// stale are the items that are not fresh. Items that cannot be looked at are counted as failed.
func (w *warming) stale(ctx context.Context, items []WarmItem) ([]WarmItem, error) {
	var as []address
	var known []WarmItem
	for _, item := range items {
		a, err := w.cache.locate(item.Key)
		if err == nil && item.Load == nil {
			err = fmt.Errorf("key %q: there is no loader", shorten(item.Key))
		}
		if err != nil {
			w.fail(err)
			continue
		}
		as, known = append(as, a), append(known, item)
	}
	if w.warmer.Force || len(known) == 0 {
		return known, nil
	}
	if !w.claim(1) {
		return nil, ErrBudget
	}
	before := w.cache.merge.commands.Load()
	sights, err := w.cache.lookMany(ctx, as, nil)
	w.spent(1, max(1, min(w.cache.merge.commands.Load()-before, int64(len(known)))))
	if err != nil {
		return nil, err
	}
	var todo []WarmItem
	for i, s := range sights {
		if s.entry != nil && !s.entry.result(time.Now(), FromUpstream).Stale {
			w.report.Fresh++
			continue
		}
		known[i].Options.Token = s.token.encode()
		todo = append(todo, known[i])
	}
	return todo, nil
}

// fill loads and writes items, some at a time, and waits for all that it began.
func (w *warming) fill(ctx context.Context, items []WarmItem) error {
	var group sync.WaitGroup
	defer group.Wait()
	slots := make(chan struct{}, w.warmer.Concurrency)
	for _, item := range items {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case slots <- struct{}{}:
		}
		if w.cache.breaker.open() {
			<-slots
			return ErrUnavailable
		}
		price := w.price(item)
		if !w.claim(price) {
			<-slots
			return ErrBudget
		}
		group.Go(func() {
			defer func() { <-slots }()
			w.spent(price, w.one(ctx, item))
		})
	}
	return nil
}

// one loads and writes one item, and returns what it cost.
func (w *warming) one(ctx context.Context, item WarmItem) int64 {
	c := w.cache
	begin := time.Now()
	lctx, cancel := context.WithTimeout(ctx, c.opts.LoadTimeout)
	defer cancel()
	value, err := safely(lctx, item.Load)
	o := item.Options
	o.cost, o.jitter = time.Since(begin), true
	absent := errors.Is(err, ErrNotFound)
	if absent {
		o.Negative, o.TTL, o.StaleFor, value = true, 0, 0, nil
	} else if err != nil {
		w.fail(fmt.Errorf("load key %q: %w", shorten(item.Key), err))
		return 0
	}
	r, err := c.Set(ctx, item.Key, value, o)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil || !r.Stored && !errors.Is(r.Cause, ErrSuperseded):
		w.failed(errors.Join(err, r.Cause))
	case absent:
		w.report.Absent++
	default: // superseded too: something newer is there
		w.report.Stored++
	}
	return int64(r.Commands)
}

// price is the most that writing an item can cost: the command, a script where the namespace is
// guarded, a look at tags that are not known, and their creation.
func (w *warming) price(item WarmItem) int64 {
	n := int64(1)
	a, err := w.cache.locate(item.Key)
	if err != nil {
		return n
	}
	if a.space.Guard {
		n += 2
	}
	if a.owner != "" {
		n++
	}
	if tags := int64(len(item.Options.Tags)); tags > 0 {
		n += 1 + tags
	}
	return n
}

// claim takes n commands out of the budget.
func (w *warming) claim(n int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if limit := w.warmer.MaxCommands; limit > 0 && w.report.Commands+w.claims+n > limit {
		return false
	}
	w.claims += n
	return true
}

// spent puts back a claim and notes what it really cost.
func (w *warming) spent(claimed, cost int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.claims -= claimed
	w.report.Commands += cost
}

func (w *warming) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failed(err)
}

// failed notes why. The caller holds the lock.
func (w *warming) failed(err error) {
	w.report.Failed++
	if len(w.report.Errors) < 10 {
		w.report.Errors = append(w.report.Errors, err.Error())
	}
}

// keepWarm runs a warmer until ctx ends. What goes wrong in a run is in the cache's counts, and the next
// run tries again.
func (c *Cache) keepWarm(ctx context.Context, w Warmer) {
	for {
		report, err := c.Warm(ctx, w)
		if c.opts.Warmed != nil {
			c.opts.Warmed(report, err)
		}
		if w.Every == 0 {
			return
		}
		pause := time.NewTimer(w.Every)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-pause.C:
		}
	}
}
