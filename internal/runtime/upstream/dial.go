package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// What a connection is for.
const (
	useCommands = "commands"
	usePubSub   = "pub/sub"
)

const (
	keepAlive     = 30 * time.Second
	backoffBase   = 50 * time.Millisecond
	backoffMax    = 2 * time.Second
	dialAttempts  = 5                      // of a reconnect; the first connection gets one
	handOverGrace = 500 * time.Millisecond // for a connection that is just being closed
	reconnectWait = 2 * time.Second        // for TCP on a reconnect: a lost SYN is repeated ever later
)

// networkPrefix marks the name of the network under which a client dials the Redis rather than a
// Sentinel. What follows is the component whose pub/sub connection it is, or nothing for the pool.
const networkPrefix = "redisopt:"

// A registry holds the open connections of one Upstream and enforces the cap. It is safe for
// concurrent use.
type registry struct {
	patience time.Duration // with a server that has not let go of what we have closed

	mu      sync.Mutex
	max     int
	open    []*conn // those that we have closed and the server has not, too
	dialing int
	freed   chan struct{} // closed and replaced whenever a connection goes

	parting   []*os.File    // second handles of those that the server has not closed
	abandoned int           // attempts to connect that nobody waits for
	ended     bool          // nobody will need a place any more
	closing   chan struct{} // closed then
	farewells sync.WaitGroup
}

func newRegistry(limit int, patience time.Duration) *registry {
	return &registry{max: limit, patience: patience, freed: make(chan struct{}), closing: make(chan struct{})}
}

// reserve takes the place of one connection, or returns false and what to wait on for one.
func (r *registry) reserve() (bool, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.open)+r.dialing >= r.max {
		return false, r.freed
	}
	r.dialing++
	return true, nil
}

// release gives a reserved place back.
func (r *registry) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialing--
	r.signal()
}

// add turns a reserved place into an open connection.
func (r *registry) add(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.dialing--
	r.open = append(r.open, c)
}

func (r *registry) remove(c *conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if i := slices.Index(r.open, c); i >= 0 {
		r.open = slices.Delete(r.open, i, i+1)
		r.signal()
	}
}

func (r *registry) signal() {
	close(r.freed)
	r.freed = make(chan struct{})
}

func (r *registry) holders() []Holder {
	r.mu.Lock()
	open := slices.Clone(r.open)
	r.mu.Unlock()
	all := make([]Holder, 0, len(open))
	for _, c := range open {
		all = append(all, c.holder())
	}
	return all
}

// dial is the only place where connections are made.
func (u *Upstream) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	name, marked := strings.CutPrefix(network, networkPrefix)
	if len(u.opts.Sentinel.Addrs) > 0 && !marked {
		// A Sentinel is not the Redis: neither its connections nor its commands are counted.
		raw, err := u.dialOnce(ctx, addr)
		if err != nil {
			return nil, u.dialError(err, addr, 0)
		}
		return raw, nil
	}
	use, owner := useCommands, meter.Untagged
	if marked && name != "" {
		use, owner = usePubSub, meter.Component(name)
	}
	if err := u.reserve(ctx, use, owner); err != nil {
		return nil, err
	}
	raw, err := u.dialRetry(ctx, addr)
	if err != nil {
		u.conns.release()
		return nil, err
	}
	c := u.newConn(raw, addr, use, owner)
	if _, bare := raw.(*tls.Conn); bare {
		return c, nil
	}
	return sysConn{c}, nil
}

// newConn turns a reserved place into an open connection.
func (u *Upstream) newConn(raw net.Conn, addr, use string, owner meter.Component) *conn {
	c := &conn{
		Conn: raw, up: u, addr: addr, use: use, owner: owner, component: owner,
		kinds: map[meter.Component]map[string]*commandKind{}, lastUse: time.Now(),
	}
	u.conns.add(c)
	return c
}

// reserve waits a moment for a place, since the pool asks for a new connection while it still closes
// the broken one that it replaces.
func (u *Upstream) reserve(ctx context.Context, use string, owner meter.Component) error {
	timer := time.NewTimer(handOverGrace)
	defer timer.Stop()
	for {
		ok, freed := u.conns.reserve()
		if ok {
			return nil
		}
		select {
		case <-freed:
			continue
		case <-timer.C:
			if u.conns.anyParting() {
				timer.Reset(handOverGrace)
				continue
			}
		case <-ctx.Done():
			if u.conns.anyParting() {
				return u.dialError(ctx.Err(), u.addr, 0)
			}
		}
		e := &Error{Class: ConnectionLimit, Addr: u.addr, Limit: int64(u.opts.MaxConnections), Unsent: true}
		e.Err = &CapError{
			Cap: u.opts.MaxConnections, Asked: owner, For: use, Holders: u.conns.holders(),
			Cluster: len(u.opts.Cluster) > 0,
		}
		return e
	}
}

// dialRetry connects, and when the Upstream was connected before it tries again after a random pause
// that grows, never past the deadline of ctx and not after the last attempt.
func (u *Upstream) dialRetry(ctx context.Context, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, u.opts.DialTimeout)
	defer cancel()
	attempts := 1
	if u.connected.Load() {
		attempts = dialAttempts
	}
	begin := time.Now()
	var last error
	for i := range attempts {
		raw, err := u.connect(ctx, addr)
		if err == nil {
			return raw, nil
		}
		if last == nil || !isTimeout(err) {
			last = err
		}
		u.lastDial.Store(&dialFailure{last, time.Now()})
		if i == attempts-1 || !worthRetrying(classifyTransport(err)) || !pause(ctx, backoff(i)) {
			break
		}
	}
	return nil, u.dialError(last, addr, time.Since(begin))
}

func (u *Upstream) dialError(err error, addr string, after time.Duration) error {
	return &Error{Class: classifyTransport(err), Addr: addr, After: after, Err: err, Unsent: true}
}

// A dialFailure is why the latest attempt to connect did not succeed.
type dialFailure struct {
	err error
	at  time.Time
}

// dialOnce makes one connection, TLS included.
func (u *Upstream) dialOnce(ctx context.Context, addr string) (net.Conn, error) {
	d := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: keepAlive, Interval: keepAlive / 2, Count: 3}}
	if u.connected.Load() {
		d.Timeout = reconnectWait
	}
	var took Timing
	begin := time.Now()
	raw, err := d.DialContext(ctx, u.target.network, addr)
	if err == nil && u.opts.Timed != nil {
		took.Connect = time.Since(begin)
		defer func() { u.opts.Timed(took) }()
	}
	if err != nil || u.target.tls == nil {
		return raw, err
	}
	conf := u.target.tls.Clone()
	if conf.ServerName == "" {
		if conf.ServerName, _, err = net.SplitHostPort(addr); err != nil {
			conf.ServerName = addr
		}
	}
	t := tls.Client(raw, conf)
	begin = time.Now()
	if err := t.HandshakeContext(ctx); err != nil {
		_ = raw.Close()
		return nil, &handshakeError{err}
	}
	took.TLS = time.Since(begin)
	return t, nil
}

// A handshakeError is a failure of TLS on a connection that TCP had made.
type handshakeError struct{ err error }

func (e *handshakeError) Error() string { return "TLS: " + e.err.Error() }
func (e *handshakeError) Unwrap() error { return e.err }

// backoff is a random time up to a bound that doubles with every attempt: many clients that lost one
// server come back spread out.
func backoff(attempt int) time.Duration {
	bound := min(backoffMax, backoffBase<<min(attempt, 16))
	return rand.N(bound)
}

// pause waits for d and says whether ctx still has time left after it.
func pause(ctx context.Context, d time.Duration) bool {
	if deadline, ok := ctx.Deadline(); ok && time.Until(deadline) <= d {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// worthRetrying is whether a failure to connect may pass by itself.
func worthRetrying(c Class) bool {
	return slices.Contains([]Class{Refused, Reset, DNS, Unreachable}, c)
}

func isTimeout(err error) bool {
	var t net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &t) && t.Timeout()
}
