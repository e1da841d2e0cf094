package cache

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"time"
)

// A Loader finds a value that is not in the cache, or ErrNotFound. Its context ends after
// Options.LoadTimeout and not when a caller leaves, because others may wait for the same value.
type Loader func(ctx context.Context) ([]byte, error)

// GetOrLoad reads an entry, and where there is none calls load and keeps what it returns.
//
// However many callers ask for one key at a time, there is one read of the upstream and one call of load.
// An entry past its time to live (Class.StaleFor) is served, marked stale, while one load runs behind it;
// an entry that is about to end is loaded anew a little before, more likely the nearer its end and the
// longer its load took. If load fails, an entry from memory is served up to Options.StaleOnError after its
// end, marked stale with the failure in Result.Cause. What load returns after the key or a tag of it was
// deleted or invalidated is returned and not kept.
//
// Price: 0 commands from memory, 1 from the upstream, and after a load 1 more for the write; for tags and
// guarded namespaces see Set. Values are kept after the callers have theirs.
//
// Its error is ErrNotFound, what load returned, a mistake in the call, or the end of ctx. While the
// upstream does not answer, entries that memory has and that are not past their time are served, and
// everything else is loaded.
func (c *Cache) GetOrLoad(ctx context.Context, key string, o SetOptions, load Loader) (Result, error) {
	if o.Token != "" || o.Negative {
		return Result{}, fmt.Errorf("%w: key %q: a load makes its own token and negative entries", ErrValue, shorten(key))
	}
	a, err := c.locate(key)
	if err != nil {
		return Result{}, err
	}
	p, err := c.policy(a, o)
	if err != nil {
		a.space.counts.refused.Add(1)
		return Result{}, err
	}
	now := time.Now()
	if r, ok := c.fromMemory(a, now); ok {
		if e := c.memory.get(a.store); e != nil && c.early(e, now) {
			a.space.counts.earlyLoads.Add(1)
			c.board(ctx, a, o, p.tags, load, true)
		}
		return r, r.absence()
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	f, joined := c.board(ctx, a, o, p.tags, load, false)
	if joined {
		a.space.counts.shared.Add(1)
	}
	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
		return Result{}, ctx.Err()
	}
}

// absence is ErrNotFound for a negative hit.
func (r Result) absence() error {
	if r.Negative {
		return ErrNotFound
	}
	return nil
}

// early is whether to load an entry anew before its end. It is true with a probability that grows
// towards the end, at a scale of what the load takes, so that one of many replicas goes ahead.
func (e *entry) early(now time.Time) bool {
	if e.forever || e.cost <= 0 || e.written.IsZero() || e.negative {
		return false
	}
	ahead := -math.Log(1 - rand.Float64()) // 1 on average, 5 in one of 150 cases
	return !now.Add(time.Duration(ahead * float64(e.cost))).Before(e.fresh)
}

// A flight reads, and loads if need be, one key for many callers.
type flight struct {
	at     uint64 // versions.read of the key
	seen   []seen // numbers of its tags
	done   chan struct{}
	result Result
	err    error
	landed bool // done is closed; only the flight's own goroutine looks
}

// publish gives the callers their answer, the first time.
func (f *flight) publish(r Result, err error) {
	if f.landed {
		return
	}
	f.result, f.err, f.landed = r, err, true
	close(f.done)
}

// current is whether a caller of now may have what the flight brings.
func (f *flight) current(v *versions, store string) bool {
	if f.at != v.read(store) {
		return false
	}
	for _, t := range f.seen {
		if t.at != v.tag(t.tag) {
			return false
		}
	}
	return true
}

// board joins the flight of a key, or starts one: with anew although memory has the key.
func (c *Cache) board(ctx context.Context, a address, o SetOptions, tags []string, load Loader, anew bool) (f *flight, joined bool) {
	c.flightsMu.Lock()
	defer c.flightsMu.Unlock()
	if f, ok := c.flights[a.store]; ok && f.current(c.versions, a.store) {
		return f, true
	}
	if !anew { // a flight that ended since the caller looked has left in memory what it brought
		if r, ok := c.fromMemory(a, time.Now()); ok {
			f = &flight{done: make(chan struct{})}
			f.publish(r, r.absence())
			return f, false
		}
	}
	f = &flight{at: c.versions.read(a.store), done: make(chan struct{})}
	for _, tag := range tags {
		f.seen = append(f.seen, seen{tag, c.versions.tag(tag)})
	}
	ctx = context.WithoutCancel(ctx)
	c.flights[a.store] = f
	started := c.spawn(func() {
		c.fly(ctx, f, a, o, tags, load)
		c.flightsMu.Lock()
		defer c.flightsMu.Unlock()
		if c.flights[a.store] == f {
			delete(c.flights, a.store)
		}
	})
	if !started {
		delete(c.flights, a.store)
		f.publish(Result{}, errClosed)
	}
	return f, false
}

// fly brings the value of one key.
func (c *Cache) fly(ctx context.Context, f *flight, a address, o SetOptions, tags []string, load Loader) {
	// Whatever happens, nobody waits for ever.
	defer f.publish(Result{}, fmt.Errorf("load key %q: it ended without an answer", shorten(a.text)))
	s, err := c.look(ctx, a, tags)
	switch now := time.Now(); {
	case err != nil:
		s.token = token{instance: c.instance, key: hashOf(a.store), at: f.at}
		if e := c.memory.get(a.store); e != nil && e.current(c.versions, a.store) && (e.forever || now.Before(e.fresh)) {
			r := c.degraded(a, err)
			f.publish(r, r.absence())
			return
		}
	case s.entry != nil:
		r := c.answer(a, s)
		f.publish(r, r.absence())
		if !r.Stale && !c.early(s.entry, now) {
			return
		}
	default:
		a.space.counts.misses.Add(1)
	}
	if s.token.at != f.at {
		s.token.at = f.at // a change between the start and the look is one since the start
	}
	r, err := c.load(ctx, a, o, s.token, load, f)
	if err == nil || errors.Is(err, ErrNotFound) {
		return
	}
	if e := c.memory.get(a.store); e != nil && e.current(c.versions, a.store) && e.usable(c.opts.StaleOnError) {
		a.space.counts.staleHits.Add(1)
		r = e.result(time.Now(), FromMemory)
		r.Stale, r.Cause = true, err
		f.publish(r, r.absence())
		return
	}
	f.publish(r, err)
}

// usable is whether an entry may still be served when nothing better is to be had.
func (e *entry) usable(after time.Duration) bool {
	return e.forever || time.Now().Before(e.fresh.Add(max(0, after)))
}

// load calls the loader, publishes what it returns, and then keeps it.
func (c *Cache) load(ctx context.Context, a address, o SetOptions, t token, load Loader, f *flight) (Result, error) {
	begin := time.Now()
	lctx, cancel := context.WithTimeout(ctx, c.opts.LoadTimeout)
	value, err := safely(lctx, load)
	cancel()
	a.space.counts.loads.Add(1)
	o.cost, o.jitter = time.Since(begin), true
	r := Result{Value: value, Source: FromLoader, Codec: or(o.Codec, a.space.Codec)}
	switch {
	case errors.Is(err, ErrNotFound):
		a.space.counts.absences.Add(1)
		if a.space.bare {
			f.publish(Result{Hit: true, Negative: true, Source: FromLoader, Codec: r.Codec}, ErrNotFound)
			return r, err
		}
		o.Negative, o.TTL, o.StaleFor, value = true, 0, 0, nil
		r = Result{Hit: true, Negative: true, Source: FromLoader, Codec: r.Codec}
	case err != nil:
		a.space.counts.loadErrors.Add(1)
		return Result{}, fmt.Errorf("load key %q: %w", shorten(a.text), err)
	}
	w, refused := c.prepare(a.text, value, o)
	if refused != nil {
		r.Cause = refused // the caller has its value; it is just not kept
		f.publish(r, r.absence())
		return r, r.absence()
	}
	r.TTL, r.NoExpiry = w.fresh, w.forever
	w.token = t.parsed()
	if c.begin(w); !w.finished {
		w.written = time.Now()
		c.keep(w) // before anybody has it, so that nobody misses it afterwards
	}
	f.publish(r, r.absence())
	if !w.finished {
		c.run(ctx, []*write{w})
	}
	return r, r.absence()
}

// safely calls a loader and makes an error of a panic, because the caller's goroutine is not here to
// handle it.
func safely(ctx context.Context, load Loader) (value []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			value, err = nil, fmt.Errorf("the loader panicked: %v", v)
		}
	}()
	return load(ctx)
}
