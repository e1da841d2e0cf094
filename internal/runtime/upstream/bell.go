package upstream

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// bellBuffer is how many messages a Subscription may be behind before it is dropped.
const bellBuffer = 1024

// bellMaxBackoff bounds the random pause before the bell connects again.
const bellMaxBackoff = time.Second

var (
	// ErrSlowSubscriber ends a Subscription whose reader is too many messages behind.
	ErrSlowSubscriber = errors.New("the subscriber does not read its messages fast enough and was dropped")

	// ErrBellClosed ends every Subscription when the Upstream is closed.
	ErrBellClosed = errors.New("the bell is closed")
)

// A Message is what was published on a channel.
type Message struct {
	Pattern string // the pattern by which it came; empty for a channel subscribed by name
	Channel string
	Payload []byte

	// Keys are the keys that changed at one time, where changes of keys are followed; none means that any
	// may have changed. Such a message has neither a channel nor a payload.
	Keys []string
}

// A Bell carries every subscription of a process. Over TCP that is one connection, made by the first
// subscription and closed after the last; over REST one stream for each channel or pattern that
// somebody follows. It reconnects by itself after a random pause and sends no PING: the system's
// keep-alive finds out that the other side is gone. It is safe for concurrent use.
type Bell struct {
	up     *Upstream
	ctx    context.Context // ends with the Bell
	cancel context.CancelFunc
	wg     sync.WaitGroup
	feed   feed
	change sync.Mutex // one change of what is subscribed at a time

	mu     sync.Mutex // guards the rest
	topics map[topic]*following
	closed bool
}

// A topic is a channel, a pattern of channels, or the beginning of the keys whose changes are followed.
type topic struct {
	name    string
	pattern bool
	keys    bool
}

// following is a topic and who follows it.
type following struct {
	subs  map[*Subscription]struct{}
	ready chan struct{} // closed when the server has confirmed
	err   error         // why it could not; set before ready is closed
	lost  bool          // between the loss of the connection and the next confirmation
}

// A feed subscribes at the server. Calls do not overlap.
type feed interface {
	add(ctx context.Context, ts []topic) error // confirmations follow by Bell.confirmed
	remove(ts []topic)
	close()
}

// Bell is where to subscribe.
func (u *Upstream) Bell() *Bell { return u.bell }

func (u *Upstream) newBell() *Bell {
	b := &Bell{up: u, topics: map[topic]*following{}}
	b.ctx, b.cancel = context.WithCancel(context.Background())
	switch {
	case u.rest != nil:
		b.feed = &streamFeed{bell: b, open: map[topic]*stream{}}
	case len(u.opts.Cluster) > 0:
		b.feed = &pubSubFeed{bell: b}
	default:
		b.feed = &socketFeed{bell: b}
	}
	return b
}

// A Subscription is one subscriber of some channels or patterns.
type Subscription struct {
	bell   *Bell
	topics []topic
	c      chan Message
	gaps   chan struct{}
	err    error // guarded by bell.mu
	ended  bool  // guarded by bell.mu
}

// C are the messages. It is closed when the Subscription ends; Err then says why.
func (s *Subscription) C() <-chan Message { return s.c }

// Gaps says that messages may have been missed, because the connection was made anew: read again what
// is followed. Several gaps that nobody has taken yet are told as one.
func (s *Subscription) Gaps() <-chan struct{} { return s.gaps }

// Err is why the Subscription ended: ErrSlowSubscriber, ErrBellClosed, or nil after Close.
func (s *Subscription) Err() error {
	s.bell.mu.Lock()
	defer s.bell.mu.Unlock()
	return s.err
}

// Close ends the Subscription. It may be called more than once.
func (s *Subscription) Close() error {
	s.bell.drop(s, nil)
	s.bell.sweep()
	return nil
}

// Subscribe follows channels by name, and returns when the server has confirmed all of them: what is
// published from then on is delivered. It costs one SUBSCRIBE for each channel that nobody follows
// yet, an UNSUBSCRIBE when the last one stops, and a connection when it is the first.
func (b *Bell) Subscribe(ctx context.Context, channels ...string) (*Subscription, error) {
	return b.follow(ctx, channelsOf(channels), bellBuffer)
}

// PSubscribe is Subscribe for all channels that match patterns.
func (b *Bell) PSubscribe(ctx context.Context, patterns ...string) (*Subscription, error) {
	ts := channelsOf(patterns)
	for i := range ts {
		ts[i].pattern = true
	}
	return b.follow(ctx, ts, bellBuffer)
}

func channelsOf(names []string) []topic {
	ts := make([]topic, len(names))
	for i, name := range names {
		ts[i].name = name
	}
	return ts
}

func (b *Bell) follow(ctx context.Context, ts []topic, buffer int) (*Subscription, error) {
	if len(ts) == 0 {
		return nil, errors.New("nothing to subscribe to")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s := &Subscription{bell: b, c: make(chan Message, buffer), gaps: make(chan struct{}, 1)}
	var fresh []topic
	var wait []*following
	b.mu.Lock()
	if b.closed {
		b.mu.Unlock()
		return nil, ErrBellClosed
	}
	for _, t := range ts {
		f := b.topics[t]
		if f == nil {
			f = &following{subs: map[*Subscription]struct{}{}, ready: make(chan struct{})}
			b.topics[t] = f
			fresh = append(fresh, t)
		}
		if _, twice := f.subs[s]; twice {
			continue
		}
		f.subs[s] = struct{}{}
		s.topics = append(s.topics, t)
		wait = append(wait, f)
	}
	if len(fresh) > 0 {
		b.wg.Go(func() { b.add(fresh) })
	}
	b.mu.Unlock()
	for _, f := range wait {
		if err := b.await(ctx, f); err != nil {
			_ = s.Close()
			return nil, err
		}
	}
	return s, nil
}

func (b *Bell) await(ctx context.Context, f *following) error {
	select {
	case <-f.ready:
		return f.err
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ctx.Done():
		return ErrBellClosed
	}
}

// add subscribes to topics that nobody followed before.
func (b *Bell) add(ts []topic) {
	b.change.Lock()
	defer b.change.Unlock()
	ctx, cancel := context.WithTimeout(b.ctx, b.up.opts.DialTimeout)
	defer cancel()
	b.mu.Lock()
	ts = slices.DeleteFunc(ts, func(t topic) bool { return b.topics[t] == nil }) // given up meanwhile
	b.mu.Unlock()
	if len(ts) == 0 {
		return
	}
	err := b.feed.add(ctx, ts)
	if err == nil {
		return
	}
	err = fmt.Errorf("subscribe: %w", err)
	b.mu.Lock()
	for _, t := range ts {
		if f := b.topics[t]; f != nil {
			f.fail(err)
			delete(b.topics, t)
		}
	}
	b.mu.Unlock()
	b.feed.remove(ts)
}

// fail tells those who wait that it did not work.
func (f *following) fail(err error) {
	select {
	case <-f.ready:
	default:
		f.err = err
		close(f.ready)
	}
}

// confirmed notes that the server has confirmed t. After a loss it tells the followers of the gap.
func (b *Bell) confirmed(t topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.topics[t]
	if f == nil {
		return
	}
	select {
	case <-f.ready:
	default:
		close(f.ready)
	}
	if f.lost {
		f.lost = false
		for s := range f.subs {
			s.gap()
		}
	}
}

// refused notes that the server does not want to subscribe to what it has not confirmed yet.
func (b *Bell) refused(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, f := range b.topics {
		f.fail(err)
	}
}

// lost notes that the connection of all topics, or of one, is gone.
func (b *Bell) lost(ts ...topic) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(ts) == 0 {
		for _, f := range b.topics {
			f.lost = true
		}
	}
	for _, t := range ts {
		if f := b.topics[t]; f != nil {
			f.lost = true
		}
	}
}

func (s *Subscription) gap() {
	select {
	case s.gaps <- struct{}{}:
	default:
	}
}

// deliver hands a message to its followers; who does not keep up is dropped.
func (b *Bell) deliver(t topic, m Message) {
	slow := false
	b.mu.Lock()
	if f := b.topics[t]; f != nil {
		for s := range f.subs {
			select {
			case s.c <- m:
			default:
				slow = true
				b.dropLocked(s, ErrSlowSubscriber)
			}
		}
	}
	b.mu.Unlock()
	if slow {
		b.wg.Go(b.sweep)
	}
}

func (b *Bell) drop(s *Subscription, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.dropLocked(s, why)
}

func (b *Bell) dropLocked(s *Subscription, why error) {
	if s.ended {
		return
	}
	s.ended, s.err = true, why
	close(s.c)
	for _, t := range s.topics {
		if f := b.topics[t]; f != nil {
			delete(f.subs, s)
		}
	}
}

// sweep unsubscribes from what nobody follows any more.
func (b *Bell) sweep() {
	b.change.Lock()
	defer b.change.Unlock()
	var idle []topic
	b.mu.Lock()
	for t, f := range b.topics {
		if len(f.subs) == 0 {
			idle = append(idle, t)
			delete(b.topics, t)
			f.fail(ErrBellClosed)
		}
	}
	empty := len(b.topics) == 0
	b.mu.Unlock()
	if len(idle) == 0 {
		return
	}
	if empty {
		b.feed.close()
		return
	}
	b.feed.remove(idle)
}

// Close ends every Subscription and the connection. Nothing is left when it returns.
func (b *Bell) Close() error {
	b.mu.Lock()
	b.closed = true
	for _, f := range b.topics {
		for s := range f.subs {
			b.dropLocked(s, ErrBellClosed)
		}
	}
	b.mu.Unlock()
	b.cancel()
	b.sweep()
	b.change.Lock()
	b.feed.close()
	b.change.Unlock()
	b.wg.Wait()
	return nil
}

// pause waits before the attempt after try failures in a row; false when the Bell is closed.
func (b *Bell) pause(try int) bool {
	bound := min(bellMaxBackoff, backoffBase<<min(try, 16))
	timer := time.NewTimer(bound/2 + rand.N(bound/2+1))
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-b.ctx.Done():
		return false
	}
}

// componentOfNetwork is whose subscription a client dials, from the name of the network.
func componentOfNetwork(network string) (meter.Component, bool) {
	if len(network) <= len(networkPrefix) || network[:len(networkPrefix)] != networkPrefix {
		return "", false
	}
	return meter.Component(network[len(networkPrefix):]), true
}
