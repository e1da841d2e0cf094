package governor

import (
	"context"
	"slices"

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
	queues  []string
	has     map[string]bool
	changed chan struct{} // closed and replaced when a waiting dequeue has to look again
	dues    chan struct{} // and when one that waits for a job's time has to

	// How many calls of a round are answered at once, since one has just waited for all of them.
	dequeues, forwards int
}

func (g *Governor) newGroup(queues []string) *group {
	own := &group{queues: queues, has: map[string]bool{}, changed: make(chan struct{}), dues: make(chan struct{})}
	for _, name := range queues {
		own.has[name] = true
	}
	g.groups = append(g.groups, own)
	return own
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
