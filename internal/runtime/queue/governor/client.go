package governor

import (
	"context"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// A client is what asynq is given. It puts the queues of the server into the context, so that the hook
// knows who asks, and answers subscriptions in process.
type client struct {
	redis.UniversalClient
	governor *Governor
	group    *group
}

// A group is the queues that one server works on. The Governor's mutex guards it.
type group struct {
	queues  []*queue
	any     bool          // whichever of them a server asks for, it may be given a job of another
	changed chan struct{} // closed when a waiting dequeue has to look again; nil: none waits
	dues    chan struct{} // and when one that waits for a job's time has to

	// How many calls of a round are answered at once, since one has just waited for all of them.
	dequeues, forwards int

	taken []fetched // in Redis, and not given to asynq yet
	since time.Time // when they were fetched, by the wall clock
	late  *time.Timer
}

// newGroup is a group of the queues by these names; of those that are not governed nothing is known. The
// mutex is held.
func (g *Governor) newGroup(names []string) *group {
	own := &group{}
	for _, name := range names {
		if q := g.queues[name]; q != nil {
			own.queues = append(own.queues, q)
			q.served = append(q.served, own)
		}
	}
	g.groups = append(g.groups, own)
	return own
}

// awaken makes whoever waits for work look again. The mutex is held.
func (own *group) awaken() {
	if own.changed != nil {
		close(own.changed)
		own.changed = nil
	}
}

// remind makes whoever waits for a job's time look again. The mutex is held.
func (own *group) remind() {
	if own.dues != nil {
		close(own.dues)
		own.dues = nil
	}
}

// closedBy is the channel in c, which is made if there is none.
func closedBy(c *chan struct{}) <-chan struct{} {
	if *c == nil {
		*c = make(chan struct{})
	}
	return *c
}

type groupKey struct{}

func (c *client) with(ctx context.Context) context.Context {
	return context.WithValue(ctx, groupKey{}, c.group)
}

func (g *Governor) groupOf(ctx context.Context) *group {
	if own, ok := ctx.Value(groupKey{}).(*group); ok {
		return own
	}
	return g.all
}

func (c *client) EvalSha(ctx context.Context, sha string, keys []string, args ...any) *redis.Cmd {
	return c.UniversalClient.EvalSha(c.with(ctx), sha, keys, args...)
}

func (c *client) Eval(ctx context.Context, script string, keys []string, args ...any) *redis.Cmd {
	return c.UniversalClient.Eval(c.with(ctx), script, keys, args...)
}

// Close does nothing: the client belongs to who made it.
func (c *client) Close() error { return nil }

// Subscribe follows asynq's channel of cancellations through the bell, at no cost. Other channels are
// followed as they always are.
func (c *client) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	if c.governor.opts.Subscribe == nil || !slices.Equal(channels, []string{cancelChannel}) {
		return c.UniversalClient.Subscribe(ctx, channels...)
	}
	return c.governor.subscribeStub(ctx, channels)
}
