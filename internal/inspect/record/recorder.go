package record

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const (
	dialTimeout = 10 * time.Second
	scriptWait  = 3 * time.Second // for the script before, which may be a long one
)

// A Recorder counts what passes. Its methods may be called from any goroutine.
type Recorder struct {
	opts     Options
	listener net.Listener
	door     net.Listener // for who carries HTTP requests; nil where nobody asked
	books    *books
	script   chan struct{} // holds one token: whose script runs
	passed   atomic.Int64  // commands, for MaxCommands
	over     atomic.Bool   // MaxCommands was reached

	ctx  context.Context //nolint:containedctx // it ends what Start started
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu     sync.Mutex
	closed bool
	open   map[*client]struct{}
	lookup processes
}

// Start listens and records until Close. An address that cannot be listened on is a *ListenError.
func Start(ctx context.Context, o Options) (*Recorder, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return nil, &ListenError{o.Listen, err}
	}
	r := &Recorder{
		opts: o, listener: l, books: newBooks(o),
		script: make(chan struct{}, 1), open: map[*client]struct{}{},
	}
	r.ctx, r.stop = context.WithCancel(context.WithoutCancel(ctx))
	r.wg.Go(func() { r.accept(l, false) })
	return r, nil
}

// HTTPDoor is an address, on a free port of loopback, for a server that carries HTTP requests: its
// connections count for nobody, and are named by [HTTPClientName]. It is called once, before Close.
func (r *Recorder) HTTPDoor(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", &ListenError{"127.0.0.1:0", err}
	}
	r.door = l
	r.wg.Go(func() { r.accept(l, true) })
	return l.Addr().String(), nil
}

// Addr is where the recorder listens: host:port with a loopback host.
func (r *Recorder) Addr() string { return r.listener.Addr().String() }

// Open is how many clients are connected over TCP.
func (r *Recorder) Open() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	r.books.mu.Lock()
	defer r.books.mu.Unlock()
	for c := range r.open {
		if c.counts() {
			n++
		}
	}
	return n
}

// Exceeded reports that MaxCommands was reached and commands were refused.
func (r *Recorder) Exceeded() bool { return r.over.Load() }

// Request counts one HTTP request.
func (r *Recorder) Request() {
	r.books.mu.Lock()
	defer r.books.mu.Unlock()
	r.books.requests++
}

// Process finds out which process a connection of an HTTP server belongs to, for [Label]. The number means
// something to this Recorder only.
func (r *Recorder) Process(nc net.Conn) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lookup.of(r.books, nc).pid
}

// Close ends the recording and all connections and returns when nothing is left. A second call does
// nothing.
func (r *Recorder) Close() {
	r.mu.Lock()
	r.closed = true
	for c := range r.open {
		c.end()
	}
	r.mu.Unlock()
	r.stop()
	_ = r.listener.Close()
	if r.door != nil {
		_ = r.door.Close()
	}
	r.wg.Wait()
}

// Report is what was recorded so far. After Close it no longer changes, but then no connection is left
// open either: take it before.
func (r *Recorder) Report() *Report {
	rep := r.books.report()
	rep.Seconds = rep.Duration.Seconds()
	rep.Redis = Redis{Engine: "upstream", Listen: r.Addr(), InScript: "unknown"}
	if r.opts.InScript != nil {
		rep.Redis.InScript = "exact"
	}
	r.books.mu.Lock()
	served, inexact := r.books.served, r.books.inexact
	r.books.mu.Unlock()
	if served != nil {
		rep.addServed(*served)
	}
	rep.judge(inexact)
	return rep
}

func (r *Recorder) accept(l net.Listener, http bool) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		r.wg.Go(func() { r.serve(nc, http) })
	}
}

// serve carries one connection until either side ends it.
func (r *Recorder) serve(nc net.Conn, http bool) {
	defer func() { _ = nc.Close() }()
	ctx, cancel := context.WithTimeout(r.ctx, dialTimeout)
	up, err := r.opts.Dial(ctx)
	cancel()
	if err != nil {
		r.books.refuse()
		_, _ = nc.Write([]byte("-ERR the recorder cannot reach the Redis behind it\r\n"))
		return
	}
	defer func() { _ = up.Close() }()
	c := newClient(r, nc, up)
	c.http = http
	if !r.admit(c) {
		return
	}
	r.books.connect(c)
	var carried sync.WaitGroup
	carried.Go(c.replies)
	c.requests()
	carried.Wait()
	c.rest()
	r.books.disconnect(c)
	r.mu.Lock()
	delete(r.open, c) // last: who sees nobody connected finds everything booked
	r.mu.Unlock()
}

func (r *Recorder) admit(c *client) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	if c.http {
		c.proc = &process{}
	} else {
		c.proc = r.lookup.of(r.books, c.nc)
	}
	r.open[c] = struct{}{}
	return true
}
