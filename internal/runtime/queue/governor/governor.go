package governor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// A Governor stands between asynq and a Redis. It is safe for concurrent use.
type Governor struct {
	opts    Options // with defaults
	id      string  // of this replica
	scripts map[string]script
	pool    redis.UniversalClient // Options.Jobs with the hook
	all     *group
	ready   chan struct{} // closed after the first sweep
	once    sync.Once
	loaded  atomic.Bool // the Redis knows asynq's script to dequeue
	taking  *redis.Script
	putting chan struct{} // of capacity 1: who puts jobs back has put something into it

	mu       sync.Mutex // guards the rest, and every queue
	queues   map[string]*queue
	names    []string // of queues, in the order of Options
	groups   []*group
	poke     chan struct{} // of capacity 1: Run has to look again at what is due
	retired  bool
	failures int // dequeues in a row that the Redis did not answer
	role     role
	bell     bell
	stats    Stats
	presence presence
	slowness int // by how much sweeps are slowed; see SlowSweeps
	cancels  map[*stub]struct{}
	back     []returned // to be put back
}

// New returns a Governor of the given queues. It adds a hook to Options.Jobs and sends nothing. It
// reports all problems of Options at once.
func New(o Options) (*Governor, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("governor: %w", err)
	}
	g := &Governor{
		opts: o, id: rand.Text()[:12], scripts: pinned(), pool: o.Jobs,
		taking: redis.NewScript(takeText), putting: make(chan struct{}, 1), ready: make(chan struct{}), poke: make(chan struct{}, 1),
		queues: map[string]*queue{}, names: o.Queues, slowness: 1,
		cancels: map[*stub]struct{}{},
	}
	for _, name := range o.Queues {
		q := newQueue(name)
		if w := o.Weights[name]; w > 0 {
			q.weight = w
		}
		g.queues[name] = q
	}
	g.all = g.newGroup(o.Queues)
	g.bell.init()
	o.Jobs.AddHook(hook{g})
	return g, nil
}

// Client returns a client to give to asynq. For a server, name the queues that it works on: it waits
// for those only, and whichever it asks for, it is given a job of the one whose turn it is by
// Options.Weights. So the order in which it asks does not matter, and asynq.Config.StrictPriority spares it
// finding one. Without names they are all, and each dequeue is about the queue that it is for. What is done by
// it is known to every replica. It must not be closed.
//
// A dequeue of queues that are known to be empty waits for work up to Options.Nap, and looking for
// delayed jobs when none is due does too, so give the server a TaskCheckInterval and a
// DelayedTaskCheckInterval of some milliseconds: they are not sent. Call Retire before Shutdown.
func (g *Governor) Client(queues ...string) redis.UniversalClient {
	own := g.all
	if len(queues) > 0 {
		g.mu.Lock()
		own = g.newGroup(queues)
		own.any = true
		g.mu.Unlock()
	}
	return &client{UniversalClient: g.pool, governor: g, group: own}
}

// Ready is closed once Run has looked at all queues for the first time. A server started after that
// asks for no queue that is empty.
func (g *Governor) Ready() <-chan struct{} { return g.ready }

// Wake says that there may be something to do in queues: work was added by a way that the hook does not
// see, or what Admit refused may be admitted now. The first costs a dequeue of each that turns out to be
// empty; for the second there is Admitted. Without names it is all of them.
func (g *Governor) Wake(queues ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, q := range g.named(queues) {
		q.suspect()
		q.held = time.Time{}
	}
	g.signal()
}

// Admitted says that Admit may answer otherwise for queues now. It costs nothing by itself. Without
// names it is all of them.
func (g *Governor) Admitted(queues ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if len(queues) == 0 {
		queues = g.names
	}
	for _, name := range queues {
		if q := g.queues[name]; q != nil && !q.held.IsZero() {
			q.held = time.Time{}
			g.rouse(q)
		}
	}
}

// SlowSweeps makes the sweep for all replicas factor times as rare; 1 is as Options say.
func (g *Governor) SlowSweeps(factor int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.slowness = max(1, factor)
}

// Retire makes every call that waits return, and lets no dequeue through any more: what was taken is
// finished, and nothing is begun. It cannot be undone.
func (g *Governor) Retire() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.retired = true
	g.signal()
}

// Pending is whether a queue may have work, as far as is known. It sends nothing.
func (g *Governor) Pending(queue string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[queue]
	return q != nil && q.mayHaveWork()
}

// Run follows the bell and sweeps until ctx ends. Errors of the Redis do not end it: it tries again.
func (g *Governor) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	defer wg.Wait()
	defer cancel()
	heard := make(chan struct{}, 1) // the bell follows, from the start or again: look at everything
	if g.opts.Subscribe != nil {
		wg.Go(func() { g.follow(ctx, heard) })
	} else {
		heard <- struct{}{}
	}
	wg.Go(func() { g.ring(ctx) })
	g.sweeps(ctx, heard)
	g.resign()
	if err := ctx.Err(); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

// named are the queues by these names, or all of them. The mutex is held.
func (g *Governor) named(names []string) []*queue {
	if len(names) == 0 {
		names = g.names
	}
	var all []*queue
	for _, name := range names {
		if q := g.queues[name]; q != nil {
			all = append(all, q)
		}
	}
	return all
}

// signal makes whoever waits look again: for one of the queues, or for any without names. The mutex is held.
func (g *Governor) signal(queues ...*queue) {
	if len(queues) == 0 {
		for _, own := range g.groups {
			own.awaken()
			own.remind()
		}
	}
	for _, q := range queues {
		for _, own := range q.served {
			own.awaken()
			own.remind()
		}
	}
}

// rouse is signal for what waits for work only: jobs come often, and who waits for the time of delayed ones
// has nothing to do with them. The mutex is held.
func (g *Governor) rouse(queues ...*queue) {
	if len(queues) == 0 {
		for _, own := range g.groups {
			own.awaken()
		}
	}
	for _, q := range queues {
		for _, own := range q.served {
			own.awaken()
		}
	}
}

// prod makes Run look again at what is due.
func (g *Governor) prod() {
	select {
	case g.poke <- struct{}{}:
	default:
	}
}
