package ramp

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// Defaults of ClientOptions.
const (
	DefaultTimeout    = time.Second
	DefaultMirrorWait = 25 * time.Millisecond
)

// ClientOptions say between which two sides a Client goes. All without a default are required.
type ClientOptions struct {
	// Route is the route's name, such as Cache.
	Route string

	// Old and New reach the two sides.
	Old, New redis.UniversalClient

	// Router says where keys are.
	Router *Router

	// Ledger is told what happened.
	Ledger *Ledger

	// SameDatabase says that both sides reach one database: nothing is written twice.
	SameDatabase bool

	// Timeout bounds what is sent in the background. Default DefaultTimeout.
	Timeout time.Duration

	// MirrorWait is how long a write waits for the other side to take it too; after that it is brought
	// there in the background. Deletes wait as long as their context. Default DefaultMirrorWait.
	MirrorWait time.Duration
}

func (o ClientOptions) withDefaults() ClientOptions {
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.MirrorWait == 0 {
		o.MirrorWait = DefaultMirrorWait
	}
	return o
}

func (o ClientOptions) validate() error {
	var errs []error
	for name, missing := range map[string]bool{
		"route": o.Route == "", "old": o.Old == nil, "new": o.New == nil, "router": o.Router == nil, "ledger": o.Ledger == nil,
	} {
		if missing {
			errs = append(errs, fmt.Errorf("%s: missing", name))
		}
	}
	return errors.Join(errs...)
}

// A Client sends every command to the side on which its keys are. It knows the commands that the cache
// sends, and refuses others.
//
// A key that is mirrored is written on both sides: its own side first, the other one within MirrorWait or
// soon after. What a script changed, and what the other side could not take, is removed there instead, so
// that no side ever keeps what is out of date. A delete succeeds when both sides have it. A read that finds
// nothing on the new side, or no answer, asks the old one.
//
// Writes of one key go one after another, for as long as its own side takes to answer. So at most one side is
// behind with a key, and the key is on the other one, wherever it should be, until that side has caught up. A
// plain SET that the new side does not take goes straight to the old one, past whatever waits for it.
//
// A share of the reads of the old side is also read from the new one, in the background, and compared: 1
// command each, 3 where they differ. When too many wait they are not compared.
type Client struct {
	opts   ClientOptions
	shell  *redis.Client
	turns  turns
	toOld  *mirror
	toNew  *mirror
	shadow *shadow
}

// NewClient makes a Client. It sends nothing and starts nothing; see Run.
func NewClient(o ClientOptions) (*Client, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("ramp: %w", err)
	}
	c := &Client{opts: o}
	c.toOld, c.toNew, c.shadow = newMirror(c, Old), newMirror(c, New), newShadow(c)
	c.shell = redis.NewClient(&redis.Options{
		Addr: "ramp", DisableIdentity: true, MaxRetries: -1, ContextTimeoutEnabled: true,
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("a ramp dials nothing by itself")
		},
	})
	c.shell.AddHook(hook{c})
	return c, nil
}

// Redis is the client that the engine uses. It must not be closed.
func (c *Client) Redis() redis.UniversalClient { return c.shell }

// Run brings writes to the other side and compares reads until ctx ends; then it tries once more to bring
// over what waits. It returns nil.
func (c *Client) Run(ctx context.Context) error {
	var group sync.WaitGroup
	group.Go(func() { c.toOld.run(ctx) })
	group.Go(func() { c.toNew.run(ctx) })
	for range shadowWorkers {
		group.Go(func() { c.shadow.run(ctx) })
	}
	group.Wait()
	return nil
}

// Close releases what NewClient made. It closes neither side.
func (c *Client) Close() error { return c.shell.Close() }

// Backlogs are what still has to be brought to each side.
func (c *Client) Backlogs() (old, next Backlog) { return c.toOld.backlog(), c.toNew.backlog() }

// routed is where a key should be.
func (c *Client) routed(key string) Side {
	if c.opts.Router.New(c.opts.Route, key) {
		return New
	}
	return Old
}

// side is where a key is now. A key that is on its way to the side where it should be is on the other one.
func (c *Client) side(key string) Side {
	routed := c.routed(key)
	if c.toward(routed).behind(key) {
		return other(routed)
	}
	return routed
}

func other(side Side) Side {
	if side == Old {
		return New
	}
	return Old
}

// OnNew is whether a key is on the new side now.
func (c *Client) OnNew(key string) bool { return c.side(key) == New }

// mirrored is whether a key is to be written on both sides: also when that has ended, until the key has come
// to the side where it should be.
func (c *Client) mirrored(key string) bool {
	return !c.opts.SameDatabase && (c.opts.Router.Mirrored(c.opts.Route, key) || c.toward(c.routed(key)).behind(key))
}

// toward is the mirror that brings writes to side.
func (c *Client) toward(side Side) *mirror {
	if side == Old {
		return c.toOld
	}
	return c.toNew
}

// across is the mirror that brings writes of keys on side to the other one.
func (c *Client) across(side Side) *mirror { return c.toward(other(side)) }

func (c *Client) client(side Side) redis.UniversalClient {
	if side == Old {
		return c.opts.Old
	}
	return c.opts.New
}

// sampled is whether a read of the old side is to be compared.
func (c *Client) sampled() bool {
	share := c.opts.Router.Shadow(c.opts.Route)
	return share > 0 && rand.Float64()*100 < share
}

// A hook has the commands of the shell done by the sides.
type hook struct{ c *Client }

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		h.c.do(ctx, []redis.Cmder{cmd})
		return cmd.Err()
	}
}

func (h hook) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		h.c.do(ctx, cmds)
		for _, cmd := range cmds {
			if err := cmd.Err(); err != nil {
				return err
			}
		}
		return nil
	}
}

var (
	errScriptKeys = errors.New("a script of more or fewer keys than one cannot be divided between the two upstreams of a ramp")
	errCursor     = errors.New("the cursor of a SCAN is too large to say on which side of a ramp it is")
)
