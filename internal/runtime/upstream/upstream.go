// Package upstream is the only way to a Redis. It makes the connections, never more than allowed,
// counts the commands where they leave the socket, charges them to whoever sent them, and says in
// terms of what to do about it why a Redis could not be used.
//
// Every engine takes the redis.UniversalClient that As returns and knows nothing of this package. With
// Options.Shared all of them share one connection, subscriptions share a second one, the Bell, and a
// third one exists while somebody uses WATCH or a stream: three connections for any number of clients.
package upstream

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// An Upstream is an open way to one Redis. It is safe for concurrent use.
type Upstream struct {
	opts      Options // with defaults
	target    target
	addr      string
	conns     *registry
	connected atomic.Bool                 // once, so that dials are reconnects
	lastDial  atomic.Pointer[dialFailure] // why the last dial did not succeed
	base      redis.UniversalClient       // owns the pool; nobody else sees it
	own       redis.UniversalClient       // As(opts.Component)
	mu        sync.Mutex                  // guards clients
	clients   map[meter.Component]redis.UniversalClient
	rest      *rest.Transport // nil over TCP
	mux       *mux.Mux        // nil for a Cluster
	bell      *Bell

	claimed    atomic.Int64 // of MaxCommands
	commands   atomic.Int64
	writes     atomic.Int64
	inScript   atomic.Int64
	unanswered atomic.Int64
	bytesOut   atomic.Int64
	bytesIn    atomic.Int64
}

// Open connects to a Redis and proves that it answers. It reports all problems of Options at once as
// an *OptionsError, and otherwise says in an *Error why the Redis cannot be used; it tries once and
// does not wait for a Redis that is down. Nothing is left behind when it fails.
//
// With Options.Lazy it connects to nothing and fails only for Options that are wrong.
//
// It costs one connection and 2 commands, HELLO and PING; and AUTH, SELECT and CLIENT SETNAME where
// Options ask for them. Every later connection costs the same less PING.
func Open(ctx context.Context, o Options) (*Upstream, error) {
	// The library prints failed dials to standard error; every one of them is also returned.
	logging.Disable()
	o = o.withDefaults()
	t, err := o.resolve()
	if err != nil {
		return nil, err
	}
	u := &Upstream{
		opts: o, target: t, addr: strings.Join(t.addrs, ","),
		conns:   newRegistry(o.MaxConnections, o.parting),
		clients: map[meter.Component]redis.UniversalClient{},
	}
	if err := u.build(); err != nil {
		return nil, err
	}
	u.own = u.As(o.Component)
	if o.Lazy {
		return u, nil
	}
	begin := time.Now()
	if err := u.own.Ping(ctx).Err(); err != nil {
		err = u.diagnose(ctx, err, begin)
		_ = u.Close()
		return nil, err
	}
	u.connected.Store(true)
	return u, nil
}

// Client is the client of Options.Component. It must not be closed; Close closes them all.
func (u *Upstream) Client() redis.UniversalClient { return u.own }

// As returns a client over the same connections whose commands are charged to c. Calling it again
// returns the same client. It must not be closed. It sends nothing by itself.
//
// The charge is exact for single commands, pipelines, transactions and scripts, and for the commands
// that set up a connection, which go to whoever needed it. Pub/sub is charged exactly except on a
// Cluster, where SUBSCRIBE and its kin are counted as untagged.
func (u *Upstream) As(c meter.Component) redis.UniversalClient {
	u.mu.Lock()
	defer u.mu.Unlock()
	if client, ok := u.clients[c]; ok {
		return client
	}
	client := u.newView(c)
	u.clients[c] = client
	return client
}

// Addr is where the Redis is: host:port or a socket's path, several separated by commas; never with
// credentials.
func (u *Upstream) Addr() string { return u.addr }

// Component is Options.Component with its default.
func (u *Upstream) Component() meter.Component { return u.opts.Component }

// Meter is Options.Meter, or the one that was made in its place.
func (u *Upstream) Meter() *meter.Meter { return u.opts.Meter }

// A Cost is what an Upstream has spent since it was opened.
type Cost struct {
	// Commands is the number of top-level commands whose last byte was handed to the socket, those
	// that set up connections included. It is what INFO commandstats of the server counts as calls
	// and rejected calls, commands that the server does not know apart.
	Commands int64 `json:"commands"`

	// Writes are those of Commands that are not known to leave the data alone; scripts count.
	Writes int64 `json:"writes"`

	// InScript is the number of commands run inside scripts, as far as callers reported it.
	InScript int64 `json:"in_script"`

	// Unanswered are those of Commands whose reply never came: the client stopped waiting, or the
	// connection broke. The server may or may not have run them.
	Unanswered int64 `json:"unanswered"`

	BytesOut int64 `json:"bytes_out"` // before encryption
	BytesIn  int64 `json:"bytes_in"`  // after decryption
}

// Plus is what c and d cost together.
func (c Cost) Plus(d Cost) Cost {
	return Cost{
		Commands: c.Commands + d.Commands, Writes: c.Writes + d.Writes, InScript: c.InScript + d.InScript,
		Unanswered: c.Unanswered + d.Unanswered, BytesOut: c.BytesOut + d.BytesOut, BytesIn: c.BytesIn + d.BytesIn,
	}
}

// Minus is what was spent from d, an earlier cost of the same Upstream, to c.
func (c Cost) Minus(d Cost) Cost {
	return Cost{
		Commands: c.Commands - d.Commands, Writes: c.Writes - d.Writes, InScript: c.InScript - d.InScript,
		Unanswered: c.Unanswered - d.Unanswered, BytesOut: c.BytesOut - d.BytesOut, BytesIn: c.BytesIn - d.BytesIn,
	}
}

// Spent is the cost so far. It sends nothing.
func (u *Upstream) Spent() Cost {
	return Cost{
		Commands: u.commands.Load(), Writes: u.writes.Load(), InScript: u.inScript.Load(),
		Unanswered: u.unanswered.Load(), BytesOut: u.bytesOut.Load(), BytesIn: u.bytesIn.Load(),
	}
}

// AddInScript reports that a script of component c ran n commands on the server; command is what
// started it, such as "evalsha".
func (u *Upstream) AddInScript(c meter.Component, command string, n int64) {
	u.inScript.Add(n)
	u.opts.Meter.InScript(c, command, n)
}

// Connections says who holds the open connections, oldest first. It sends nothing.
func (u *Upstream) Connections() []Holder { return u.conns.holders() }

// Close closes all connections. Commands under way fail, subscriptions end.
func (u *Upstream) Close() error {
	u.conns.end()
	err := u.base.Close()
	err = errors.Join(err, u.bell.Close())
	if u.mux != nil {
		err = errors.Join(err, u.mux.Close())
	}
	if u.rest != nil {
		err = errors.Join(err, u.rest.Close())
	}
	u.conns.wait()
	return err
}

// build makes the ways to the Redis, none of which connects yet.
func (u *Upstream) build() error {
	var err error
	if u.opts.REST.URL != "" {
		if u.rest, err = u.newTransport(); err != nil {
			return &OptionsError{err}
		}
	}
	if len(u.opts.Cluster) == 0 {
		if u.mux, err = u.newMux(); err != nil {
			if u.rest != nil {
				_ = u.rest.Close()
			}
			return &OptionsError{err}
		}
	}
	u.bell = u.newBell()
	if u.opts.Shared || u.rest != nil {
		u.base = u.newClient(u.dialInProcess, true)
	} else {
		u.base = u.newClient(u.dial, false)
	}
	return nil
}

// newClient makes a client that dials so; in process means that its connections take no socket.
func (u *Upstream) newClient(dial dialer, inProcess bool) redis.UniversalClient {
	o := u.opts
	// One connection is left for pub/sub.
	pool := max(1, o.MaxConnections-1)
	opts := &redis.UniversalOptions{
		Addrs: u.target.addrs, DB: u.target.db,
		Username: u.target.username, Password: u.target.password,
		SentinelUsername: o.Sentinel.Username, SentinelPassword: o.Sentinel.Password,
		MasterName: o.Sentinel.Master, IsClusterMode: len(o.Cluster) > 0,
		ClientName: o.ClientName, Protocol: o.Protocol,
		Dialer:      dial,
		DialTimeout: o.DialTimeout,
		// The dialer has attempts of its own, which keep to the deadline.
		DialerRetries: 1,
		// A reply that did not come is never asked for again by the library: the first may have run.
		MaxRetries:  -1,
		ReadTimeout: o.Timeout, WriteTimeout: o.Timeout,
		ContextTimeoutEnabled: true,
		PoolSize:              pool, MaxActiveConns: pool,
		// Without this the library opens up to ten more connections for pipelines.
		PipelinePoolSize: -1,
		PoolTimeout:      o.Timeout,
		ConnMaxIdleTime:  -1,
		DisableIdentity:  true,
		MaintNotificationsConfig: &maintnotifications.Config{
			Mode: maintnotifications.ModeDisabled,
		},
	}
	if inProcess {
		u.inProcess(opts)
	}
	switch {
	case len(o.Cluster) > 0:
		// How many nodes there are is not known yet; one connection each is the most that is sure to fit.
		opts.PoolSize, opts.MaxActiveConns = 1, 1
		opts.WriteTimeout = -1 // as in newView
		c := redis.NewClusterClient(opts.Cluster())
		c.OnNewNode(func(node *redis.Client) { node.Options().WriteTimeout = 0 })
		return c
	case opts.MasterName != "":
		c := redis.NewFailoverClient(opts.Failover())
		c.AddHook(dialMarker{})
		return c
	}
	return redis.NewClient(opts.Simple())
}

// newView makes the client of one component.
func (u *Upstream) newView(c meter.Component) redis.UniversalClient {
	hook := &tagger{up: u, component: c, tag: newTag(c)}
	switch base := u.base.(type) {
	case *redis.Client:
		view := base.WithTimeout(u.opts.Timeout)
		// The library takes the earlier of its own write timeout and the context's deadline, and
		// only the latter carries the tag; the connection applies the timeout instead.
		view.Options().WriteTimeout = 0
		// Pub/sub connections are dialed under this name, which tells the dialer whose they are.
		view.Options().Network = networkPrefix + string(c)
		view.AddHook(hook)
		return view
	case *redis.ClusterClient:
		return newClusterView(base, hook)
	}
	return u.base
}

// restricted is whether anything has to be looked at before it is written.
func (u *Upstream) restricted() bool { return u.opts.MaxCommands > 0 || u.opts.ReadOnly }

// admit claims one command of the budget at the socket, where nothing passes it by.
func (u *Upstream) admit(command string, c meter.Component) error {
	if u.opts.ReadOnly && !allowedReadOnly(command) {
		return &ReadOnlyError{Command: command, Component: c}
	}
	if limit := u.opts.MaxCommands; limit > 0 && u.claimed.Add(1) > limit {
		u.claimed.Add(-1)
		return &SpendError{Limit: limit, Spent: u.commands.Load(), Command: command, Wanted: 1, Component: c}
	}
	return nil
}

// refund gives back what was claimed for commands that the socket did not take.
func (u *Upstream) refund(n int) {
	if n > 0 && u.opts.MaxCommands > 0 {
		u.claimed.Add(-int64(n))
	}
}

// precheck refuses a command, or a batch of n that contains it, before any of it is written.
func (u *Upstream) precheck(command string, n int, c meter.Component) error {
	if u.opts.ReadOnly && !allowedReadOnly(command) {
		return &ReadOnlyError{Command: command, Component: c}
	}
	if limit := u.opts.MaxCommands; limit > 0 && u.claimed.Load()+int64(n) > limit {
		return &SpendError{Limit: limit, Spent: u.commands.Load(), Command: command, Wanted: int64(n), Component: c}
	}
	return nil
}

// sent counts one command that left.
func (u *Upstream) sent(write bool) {
	u.commands.Add(1)
	if write {
		u.writes.Add(1)
	}
}

// explain turns a failure of the transport into an *Error. Replies of the server, error replies
// included, pass as they are, because callers look at them; so does a caller's own cancellation.
func (u *Upstream) explain(err error, begin time.Time, c meter.Component) error {
	if err == nil {
		return nil
	}
	var (
		server   redis.Error
		spend    *SpendError
		readOnly *ReadOnlyError
		ours     *Error
		limit    *CapError
	)
	switch {
	case strings.Contains(err.Error(), "all sentinels specified in configuration are unreachable"):
		// The library wraps redis.Nil in it when no Sentinel knows the master, and that is no missing key.
		return &Error{Class: Unreachable, Addr: u.addr, After: time.Since(begin), Err: errors.New(err.Error()), Unsent: true}
	case errors.As(err, &server), errors.As(err, &spend), errors.As(err, &readOnly), errors.Is(err, context.Canceled), errors.Is(err, redis.ErrClosed):
		return err
	case errors.As(err, &limit):
		if limit.Asked == meter.Untagged {
			asked := *limit
			asked.Asked = c
			return &Error{Class: ConnectionLimit, Addr: u.addr, Limit: int64(limit.Cap), Err: &asked, Unsent: true}
		}
		return err
	case errors.As(err, &ours):
		return err
	}
	e := &Error{Class: classifyTransport(err), Addr: u.addr, After: time.Since(begin), Err: withoutAddr(err), Unsent: unsent(err)}
	if e.Class == Timedout {
		// The caller gave up while a dial was failing in the background: that is the reason.
		if last := u.lastDial.Load(); last != nil && last.at.After(begin) {
			e.Class, e.Err, e.Unsent = classifyTransport(last.err), fmt.Errorf("%w (%w)", last.err, err), true
		}
	}
	return e
}
