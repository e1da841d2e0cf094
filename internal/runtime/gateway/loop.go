package gateway

import (
	"bufio"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// maxLoops is the most loops that share the connections. One answers more than 100,000 requests a second.
const maxLoops = 4

// keepScratch is the largest buffer that a loop keeps.
const keepScratch = 1 << 20

// A loop answers the everyday requests of many connections on one goroutine: it waits for all of them at
// once, and for the Redis too, so that a request costs one read, one write, and no goroutine that has to be
// woken. What is not everyday it hands over, with what was read of it, to fasthttp, which serves the
// connection from then on; see loop.readable. A request it answers, it answers byte for byte as that way does.
type loop struct {
	g     *Gateway
	names *headerNames
	poll  *poller
	pump  *mux.Pump              // of the first loop; nil otherwise, or when the Redis is not reached by a socket
	hand  func(net.Conn, handed) // to fasthttp
	limit Limits
	open  atomic.Int64 // connections, those on their way included
	redis atomic.Int64 // the descriptor of the shared connection

	mu      sync.Mutex // guards what others leave for the loop
	asleep  bool       // it waits, and has to be woken
	arrived []*client
	ended   []*turn
	closing bool
	gone    bool  // nobody looks any more
	until   int64 // Unix nanoseconds; when closing has to be done

	// What only the loop's goroutine touches.
	clients []*client // by descriptor
	count   int       // of clients
	busy    int       // turns under way
	unread  bool      // the Redis may have sent more than was read
	last    bool      // closing
	now     int64     // Unix nanoseconds
	due     int64     // when the next client's time may be up; 0: there is none
	free    []*turn
	took    []*turn
	in      []byte // what was read
	body    []byte // of the answer being made
	out     []byte // the answer being written
	parser  parser
	done    chan struct{}
}

// A parser reads requests with fasthttp's own code.
type parser struct {
	source source
	reader *bufio.Reader
	header fasthttp.RequestHeader
	uri    fasthttp.URI
	req    Request

	maxBody int
}

func (s *fastServer) newLoop(hand func(net.Conn, handed)) (*loop, error) {
	poll, err := newPoller()
	if err != nil {
		return nil, err
	}
	l := &loop{
		g: s.g, names: &s.names, poll: poll, hand: hand, limit: s.g.opts.Listener,
		in: make([]byte, loopBytes), done: make(chan struct{}),
	}
	l.parser.maxBody = s.g.opts.MaxBodyBytes
	l.parser.reader = bufio.NewReaderSize(nil, l.limit.MaxHeaderBytes)
	return l, nil
}

// adopt gives the loop a connection that has just been made, whose descriptor it owns from now on.
func (l *loop) adopt(fd int) {
	l.open.Add(1)
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		closeFD(fd)
		return
	}
	l.arrived = append(l.arrived, &client{fd: fd})
	l.rouse()
}

// tell is for turns that waited.
func (l *loop) tell(t *turn) {
	l.mu.Lock()
	l.ended = append(l.ended, t)
	l.rouse()
}

// stop ends the loop: requests in progress are answered, and what is left when the time is up is closed.
func (l *loop) stop(until time.Time) {
	l.mu.Lock()
	l.closing, l.until = true, until.UnixNano()
	l.rouse()
}

// rouse has the loop look at what was left for it. It gives back the lock, and not before it has woken the
// loop: as soon as that can go on, it may end and close the descriptor by which it is woken.
func (l *loop) rouse() {
	if l.asleep {
		l.asleep = false
		l.poll.wake()
	}
	l.mu.Unlock()
}

// run serves until stop, and until nothing is left.
func (l *loop) run() {
	defer close(l.done)
	defer l.poll.close()
	if l.pump != nil {
		defer l.pump.Stop()
	}
	for !l.idle() {
		runtime.Gosched() // who was woken shall not wait for the system's scheduler
		ready, err := l.poll.wait(l.patience())
		l.now = time.Now().UnixNano()
		if err != nil {
			l.closeAll() // without a way to wait there is nothing else
			l.stop(time.Now())
		}
		hungUp := l.dispatch(ready)
		if l.unread {
			l.unread = l.pump != nil && l.pump.Ready(hungUp)
		}
		l.collect()
		l.g.mux.Flush()
		if l.due != 0 && l.now >= l.due {
			l.expire()
		}
	}
}

// idle is whether the loop is closing and nothing is left of it; then nothing more comes either.
func (l *loop) idle() bool {
	if !l.last || l.count > 0 || l.busy > 0 {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = len(l.arrived) == 0
	return l.gone
}

// dispatch reads from the clients that are ready. HungUp is whether the Redis has ended the connection.
func (l *loop) dispatch(ready []readiness) (hungUp bool) {
	for _, r := range ready {
		switch {
		case r.fd < len(l.clients) && l.clients[r.fd] != nil:
			c := l.clients[r.fd]
			c.ended = c.ended || r.ended
			l.readable(c)
		case r.fd == int(l.redis.Load()):
			l.unread = true
			hungUp = hungUp || r.ended
		}
	}
	return hungUp
}

// A readiness is a descriptor that has something to read. Ended is whether its end has come, too.
type readiness struct {
	fd    int
	ended bool
}

// patience is how long there is nothing to do but to wait: not at all, until somebody's time is up, or, below
// 0, for ever.
func (l *loop) patience() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.unread || len(l.arrived)+len(l.ended) > 0 || l.closing && !l.last {
		return 0
	}
	l.asleep = true
	if l.due == 0 {
		return -1
	}
	return time.Duration(max(0, l.due-time.Now().UnixNano()))
}

// collect takes what others left.
func (l *loop) collect() {
	l.mu.Lock()
	l.asleep = false
	arrived := l.arrived
	l.arrived = nil
	l.took, l.ended = l.ended, l.took[:0]
	closing := l.closing && !l.last
	l.mu.Unlock()
	for _, c := range arrived {
		l.welcome(c)
	}
	for i, t := range l.took {
		l.took[i] = nil
		if t.resume(l.body) {
			l.answer(t)
		}
	}
	if closing {
		l.last = true
		l.expire()
	}
}

// expire ends the waits that took too long, and says when to look again. While the loop is closing that is
// soon: those that have no request in progress go.
func (l *loop) expire() {
	l.due = 0
	if l.last {
		l.due = min(l.until, l.now+int64(closingLook))
		if l.now >= l.until {
			l.closeAll()
			l.due = 0
		}
	}
	for _, c := range l.clients {
		switch {
		case c == nil || c.turn != nil:
		case l.last && len(c.part) == 0 && (c.served || l.now-c.since >= int64(closingGrace)):
			l.close(c)
		case l.now >= c.due:
			l.late(c)
		default:
			l.remind(c.due)
		}
	}
}

// How often a loop that is closing looks for connections that may go, and how long it gives a new one for
// its first request.
const (
	closingLook  = 100 * time.Millisecond
	closingGrace = 5 * time.Second
)

// remind has the loop look at its clients at that time.
func (l *loop) remind(at int64) {
	if l.due == 0 || at < l.due {
		l.due = at
	}
}

func (l *loop) closeAll() {
	for _, c := range l.clients {
		if c != nil {
			l.close(c)
		}
	}
}
