package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// A tagged context is the caller's, with a deadline whose Location names the component. See conn.
type tagged struct {
	context.Context
	deadline time.Time
}

func (t tagged) Deadline() (time.Time, bool) { return t.deadline, true }

// tagPrefix marks the names of our Locations.
const tagPrefix = "redisopt:"

// newTag makes the Location of a component.
func newTag(c meter.Component) *time.Location {
	return time.FixedZone(tagPrefix+string(c), 0)
}

// tagOf is the component that a deadline is tagged with.
func tagOf(t time.Time) (meter.Component, bool) {
	name := t.Location().String()
	if len(name) <= len(tagPrefix) || name[:len(tagPrefix)] != tagPrefix {
		return "", false
	}
	return meter.Component(name[len(tagPrefix):]), true
}

// A tagger is the hook of the client of one component: it tags, refuses what Options do not allow
// before anything is sent, sends again what provably was not, and says what a failure means.
type tagger struct {
	up        *Upstream
	component meter.Component
	tag       *time.Location
}

func (t *tagger) context(ctx context.Context) context.Context {
	deadline, ok := ctx.Deadline()
	if !ok {
		deadline = time.Now().Add(forever)
	}
	return tagged{ctx, deadline.In(t.tag)}
}

func (t *tagger) DialHook(next redis.DialHook) redis.DialHook { return next }

func (t *tagger) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		name := argsName(cmd.Args())
		if err := t.up.precheck(name, 1, t.component); err != nil {
			cmd.SetErr(err)
			return err
		}
		begin := time.Now()
		ctx = t.context(ctx)
		err := unfinal(next(ctx, cmd))
		if t.again(ctx, err, func() bool { return isRead(name) }) {
			err = unfinal(next(ctx, cmd))
		}
		if err = t.up.explain(err, begin, t.component); err != nil {
			cmd.SetErr(err)
		}
		if name == "hello" && err != nil {
			// The library takes one layer off the error that ends a handshake, and ours is the outermost.
			return fmt.Errorf("handshake: %w", err)
		}
		return err
	}
}

func (t *tagger) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if err := t.precheckAll(cmds); err != nil {
			for _, c := range cmds {
				c.SetErr(err)
			}
			return err
		}
		begin := time.Now()
		ctx = t.context(ctx)
		err := unfinal(next(ctx, cmds))
		if t.again(ctx, err, func() bool { return allRead(cmds) }) {
			err = unfinal(next(ctx, cmds))
		}
		for _, c := range cmds {
			if cause := c.Err(); cause != nil {
				c.SetErr(t.up.explain(unfinal(cause), begin, t.component))
			}
		}
		return t.up.explain(err, begin, t.component)
	}
}

// precheckAll refuses a batch as a whole, so that none of it is sent.
func (t *tagger) precheckAll(cmds []redis.Cmder) error {
	for _, c := range cmds {
		if err := t.up.precheck(argsName(c.Args()), len(cmds), t.component); err != nil {
			return err
		}
	}
	return nil
}

// again is whether to send a command or batch a second time: when nothing of it can have run because
// no command of it left whole, or when the connection broke and running it twice does no harm.
// A failure to connect has its own attempts, and a reply that did not come in time is never asked
// for again here.
func (t *tagger) again(ctx context.Context, err error, harmless func() bool) bool {
	e, ok := errors.AsType[*Error](err)
	if ctx.Err() != nil || !ok || e.Class != Reset && e.Class != IdleClose {
		return false
	}
	op, ok := errors.AsType[*net.OpError](e.Err)
	dialed := ok && op.Op == "dial"
	return !dialed && (e.Unsent || harmless())
}

func allRead(cmds []redis.Cmder) bool {
	for _, c := range cmds {
		if !isRead(argsName(c.Args())) {
			return false
		}
	}
	return true
}

// dialMarker marks the dials of the client's own pools, which are to the Redis; those to Sentinels
// do not pass here.
type dialMarker struct{}

func (dialMarker) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if !strings.HasPrefix(network, networkPrefix) {
			network = networkPrefix
		}
		return next(ctx, network, addr)
	}
}

func (dialMarker) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (dialMarker) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
