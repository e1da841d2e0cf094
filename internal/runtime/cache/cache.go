package cache

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// maxValueBytes bounds a value before compression and after decompression.
const maxValueBytes = 64 << 20

// errClosed is the cause of everything that is asked of a closed cache.
var errClosed = fmt.Errorf("%w: the cache is closed", ErrUnavailable)

// A Cache is two tiers, memory and an upstream. It is safe for concurrent use.
type Cache struct {
	opts     Options // with defaults
	root     string
	instance uint64 // of this process, for tokens and for what it announces
	spaces   *spaces
	ring     *ring
	pack     *packer
	memory   *memory
	versions *versions
	breaker  *breaker
	merge    *merger
	pending  *pending
	counts   totals
	lazy     atomic.Bool  // see NoRefresh
	doubt    atomic.Int64 // Unix ns: what was checked with the upstream before is not believed

	flightsMu sync.Mutex
	flights   map[string]*flight

	closeMu sync.Mutex
	closed  bool
	work    sync.WaitGroup
}

// New makes a cache. It reports all problems of Options at once and sends nothing: the cache works from
// the first call, with or without an upstream. Call Close when it is no longer used.
func New(o Options) (*Cache, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("cache options: %w", err)
	}
	r, err := newRing(&o)
	if err != nil {
		return nil, err
	}
	pack, err := newPacker(o.CompressFrom, maxValueBytes)
	if err != nil {
		return nil, err
	}
	mem, err := newMemory(o.L1Bytes)
	if err != nil {
		pack.close()
		return nil, fmt.Errorf("memory tier: %w", err)
	}
	c := &Cache{
		opts: o, root: o.root(), instance: random(),
		spaces: newSpaces(&o), ring: r, pack: pack, memory: mem,
		versions: newVersions(),
		breaker:  &breaker{after: int64(o.BreakAfter), every: o.ProbeEvery},
		pending:  newPending(),
		flights:  map[string]*flight{},
	}
	c.merge = &merger{
		client: o.Client, versions: c.versions, breaker: c.breaker,
		window: o.MergeWindow, most: o.MaxMerge, deadline: o.Deadline - o.Deadline/10,
		pipeline: o.Cluster, spawn: c.spawn, reading: map[string]*batch{},
	}
	return c, nil
}

// random is 64 random bits, never 0.
func random() uint64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // it never fails
	return max(1, binary.BigEndian.Uint64(b[:]))
}

// spawn runs f in a goroutine that Close waits for. It is false, and f does not run, after Close.
func (c *Cache) spawn(f func()) bool {
	c.closeMu.Lock()
	defer c.closeMu.Unlock()
	if c.closed {
		return false
	}
	c.work.Go(f)
	return true
}

// Close waits for what is under way: reads and writes for at most Options.Deadline, loads for at most
// Options.LoadTimeout. What is asked afterwards is answered as if the upstream were down. It does not
// close Options.Client.
func (c *Cache) Close() error {
	c.closeMu.Lock()
	again := c.closed
	c.closed = true
	c.closeMu.Unlock()
	c.work.Wait()
	if !again {
		c.memory.close()
		c.pack.close()
	}
	return nil
}

// Run does the work in the background until ctx ends: it runs the warmers, follows the other replicas
// (Options.Subscribe), and repeats deletes that the upstream did not take. Without any of these it
// sends nothing. Nothing that it started is left when it returns; its error is always nil when ctx
// ended.
func (c *Cache) Run(ctx context.Context) error {
	var group sync.WaitGroup
	defer group.Wait()
	if c.opts.Subscribe != nil {
		group.Go(func() { c.follow(ctx) })
	}
	for _, w := range c.opts.Warmers {
		group.Go(func() { c.keepWarm(ctx, w) })
	}
	retry := time.NewTicker(c.opts.ProbeEvery)
	defer retry.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-retry.C:
			c.retryDeletes(ctx)
		}
	}
}

// operation is the context of one write: it goes on when the caller leaves, since half a write is worse
// than one that nobody waits for, and ends a little before the deadline, so that the caller has its
// answer in time.
func (c *Cache) operation(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), c.opts.Deadline-c.opts.Deadline/10)
}

// send runs f, which sends commands, unless the upstream is being left alone. Its error is an
// ErrUnavailable for everything but replies that callers look at.
func (c *Cache) send(ctx context.Context, f func(ctx context.Context) error) error {
	if !c.breaker.allow(time.Now()) {
		return fmt.Errorf("%w: it did not answer before, and is asked again every %s", ErrUnavailable, c.opts.ProbeEvery)
	}
	err := f(ctx)
	c.breaker.report(err, time.Now())
	if isOutage(err) {
		return fmt.Errorf("%w: %w", ErrUnavailable, err)
	}
	return err
}
