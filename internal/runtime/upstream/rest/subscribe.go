package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

const (
	messageBuffer = 256
	streamBackoff = 50 * time.Millisecond
	streamMax     = time.Second
	streamStable  = 10 * time.Second // after so long a stream counts as healthy, and pauses begin anew
)

// ErrSlow ends a Subscription whose messages nobody took in time.
var ErrSlow = errors.New("the subscriber is too slow: its buffer of messages is full")

// A Message is what was published on a channel.
type Message struct {
	Pattern string // that the channel matched; "" for a subscription by name
	Channel string
	Payload []byte
}

// A Subscription is a stream of messages. It reconnects by itself, after a random pause that grows,
// until it is closed or its subscriber is too slow. It is safe for concurrent use.
type Subscription struct {
	t      *Transport
	owner  meter.Component
	cancel context.CancelFunc
	c      chan Message
	gaps   chan struct{}
	work   sync.WaitGroup
	done   chan struct{}

	mu  sync.Mutex
	err error
}

// C are the messages; 256 of them are kept for a subscriber that is busy. It is closed when the
// Subscription ends; Err then says why.
func (s *Subscription) C() <-chan Message { return s.c }

// Gaps says that messages may have been missed, because a stream was made anew, or a gateway
// says so of its own: read again what is
// followed. Several gaps in a row may be told as one.
func (s *Subscription) Gaps() <-chan struct{} { return s.gaps }

// Err is why C was closed; nil after Close, and before.
func (s *Subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close ends the streams and waits until they have ended.
func (s *Subscription) Close() error {
	s.cancel()
	<-s.done
	return nil
}

// missed tells of a gap.
func (s *Subscription) missed() {
	select {
	case s.gaps <- struct{}{}:
	default:
	}
}

func (s *Subscription) end(err error) {
	s.mu.Lock()
	if s.err == nil && !errors.Is(err, context.Canceled) {
		s.err = err
	}
	s.mu.Unlock()
	s.cancel()
}

// Subscribe opens one stream for all channels and one for each pattern, and returns when the endpoint
// has confirmed them. It tries once, within ctx and Options.Timeout. Every time a stream is opened
// counts as one SUBSCRIBE or PSUBSCRIBE of c.
//
// The endpoint separates the names of channels from what follows by a comma. A channel that is
// subscribed by name may have commas in it; of one that matched a pattern only what is before the first
// comma is taken for its name.
func (t *Transport) Subscribe(ctx context.Context, c meter.Component, channels, patterns []string) (*Subscription, error) {
	if len(channels)+len(patterns) == 0 {
		return nil, errors.New("subscribe: no channel and no pattern")
	}
	for _, name := range slices.Concat(channels, patterns) {
		if name == "" || strings.ContainsAny(name, "\r\n") {
			return nil, fmt.Errorf("subscribe: channel %q cannot travel over REST", name)
		}
	}
	run, cancel := context.WithCancel(t.ctx)
	s := &Subscription{
		t: t, owner: c, cancel: cancel, done: make(chan struct{}),
		c: make(chan Message, messageBuffer), gaps: make(chan struct{}, 1),
	}
	var streams []*stream
	if len(channels) > 0 {
		streams = append(streams, &stream{s: s, command: "subscribe", kind: "message", names: channels})
	}
	for _, p := range patterns {
		streams = append(streams, &stream{s: s, command: "psubscribe", kind: "pmessage", names: []string{p}})
	}
	for _, st := range streams {
		if err := st.open(ctx, run); err != nil {
			cancel()
			for _, opened := range streams {
				opened.shut()
			}
			return nil, err
		}
	}
	t.work.Add(1)
	for _, st := range streams {
		s.work.Go(func() { st.follow(run) })
	}
	go func() {
		defer t.work.Done()
		s.work.Wait()
		close(s.c)
		close(s.done)
	}()
	return s, nil
}

// A stream is one request that does not end.
type stream struct {
	s       *Subscription
	command string // "subscribe" or "psubscribe"
	kind    string // of its messages
	names   []string
	body    io.ReadCloser
	events  *eventReader
	cancel  context.CancelFunc
}

// open makes the request, in the life of run, and waits within ctx until it is confirmed.
func (st *stream) open(ctx, run context.Context) error {
	t := st.s.t
	begin := time.Now()
	if cause := t.breaker.allow(begin); cause != nil {
		open := *cause
		open.Open, open.Unsent = true, true
		return &open
	}
	life, cancel := context.WithCancel(run)
	timer := time.AfterFunc(t.opts.Timeout, cancel)
	stop := context.AfterFunc(ctx, cancel)
	err := st.connect(life)
	waited := !timer.Stop()
	gaveUp := !stop()
	if err == nil && (waited || gaveUp) {
		err = &Error{Kind: TimedOut}
	}
	if err == nil {
		st.cancel = cancel
		t.breaker.success(time.Since(begin))
		return nil
	}
	cancel()
	st.shut()
	if err.Kind == Canceled && waited {
		err.Kind = TimedOut
	}
	err.Addr, err.After = t.addr, time.Since(begin)
	if err.isFailure() && t.breaker.failure(err, time.Now()) {
		t.freshSockets()
	}
	if gaveUp && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// connect sends the request and reads the confirmations.
func (st *stream) connect(ctx context.Context) *Error {
	t := st.s.t
	var path strings.Builder
	path.WriteString("/" + st.command)
	for _, n := range st.names {
		path.WriteString("/" + url.PathEscape(n))
	}
	var trace Trace
	req, err := t.newStreamRequest(trace.Context(ctx), path.String())
	if err != nil {
		return &Error{Kind: Unreached, Err: err, Unsent: true}
	}
	res, err := t.http.Load().Do(req) //nolint:bodyclose // the stream lives on; shut closes it
	if err != nil {
		return t.transportError(ctx, err, trace.Connected())
	}
	st.body = res.Body
	t.note(res.Header)
	kind, _, _ := strings.Cut(res.Header.Get("Content-Type"), ";")
	if res.StatusCode != http.StatusOK || kind != "text/event-stream" {
		return st.refused(res, kind)
	}
	st.count()
	st.events = newEventReader(res.Body, int(min(t.opts.MaxReplyBytes, 1<<30)))
	for confirmed := 0; confirmed < len(st.names); {
		data, missed, err := st.events.next()
		if err != nil {
			return t.transportError(ctx, err, true)
		}
		if missed {
			st.s.missed()
		} else if !bytes.HasPrefix(data, []byte(st.kind+",")) {
			confirmed++
		} else if err := st.hand(data); err != nil {
			return &Error{Kind: Lost, Err: err}
		}
	}
	return nil
}

// refused says why there is no stream.
func (st *stream) refused(res *http.Response, kind string) *Error {
	t := st.s.t
	body, err := readAll(res, 64<<10)
	if err != nil {
		body = nil
	}
	a := answer{status: res.StatusCode, kind: kind, body: body, retry: res.Header.Get("Retry-After")}
	if a.status == http.StatusOK {
		return &Error{Kind: NotREST, Status: a.status, Err: fmt.Errorf("no stream of events: %w", t.described(a, nil))}
	}
	reply, e := t.understand(&request{cmds: make([]command, 1)}, a, nil)
	if e == nil {
		text := strings.TrimSpace(strings.TrimPrefix(string(reply), "-"))
		e = &Error{Kind: Refused, Status: a.status, Err: errors.New(text), Unsent: true}
	}
	return e
}

// count charges the opening of the stream.
func (st *stream) count() {
	o := st.s.t.opts.Observer
	if o.Meter != nil {
		m := o.Meter.Series(st.s.owner, st.command)
		m.Sent(0)
		m.Ended(meter.OK, 0, 0)
	}
	if o.Spent != nil {
		o.Spent(Spent{Commands: 1})
	}
}

func (st *stream) shut() {
	if st.body != nil {
		_ = st.body.Close()
		st.body = nil
	}
	if st.cancel != nil {
		st.cancel()
	}
}

// follow hands on messages, and opens the stream again when it breaks.
func (st *stream) follow(ctx context.Context) {
	defer st.shut()
	for failures := 0; ; {
		begin := time.Now()
		err := st.read()
		st.shut()
		if errors.Is(err, ErrSlow) {
			st.s.end(err)
			return
		}
		if time.Since(begin) > streamStable {
			failures = 0
		}
		for opened := false; !opened; failures++ {
			if !pause(ctx, rand.N(min(streamMax, streamBackoff<<min(failures, 16)))) {
				return
			}
			if st.open(ctx, ctx) != nil {
				continue
			}
			opened = true
		}
		st.s.missed()
	}
}

// read hands on messages until the stream breaks.
func (st *stream) read() error {
	for {
		data, missed, err := st.events.next()
		if err != nil {
			return err
		}
		if missed {
			st.s.missed()
			continue
		}
		if err := st.hand(data); err != nil {
			return err
		}
	}
}

// hand hands on what is a message.
func (st *stream) hand(data []byte) error {
	m, ok := st.message(data)
	if !ok {
		return nil
	}
	select {
	case st.s.c <- m:
		return nil
	default:
		return ErrSlow
	}
}

// message understands "message,<channel>,<payload>" and "pmessage,<pattern>,<channel>,<payload>".
func (st *stream) message(data []byte) (Message, bool) {
	rest, ok := bytes.CutPrefix(data, []byte(st.kind+","))
	if !ok {
		return Message{}, false
	}
	name := ""
	for _, n := range st.names {
		if len(n) > len(name) && len(rest) > len(n) && rest[len(n)] == ',' && string(rest[:len(n)]) == n {
			name = n
		}
	}
	if name == "" {
		return Message{}, false
	}
	rest = rest[len(name)+1:]
	m := Message{Channel: name}
	if st.kind == "pmessage" {
		channel, payload, ok := bytes.Cut(rest, []byte(","))
		if !ok {
			return Message{}, false
		}
		m.Pattern, m.Channel, rest = name, string(channel), payload
	}
	m.Payload = bytes.Clone(rest)
	return m, true
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (t *Transport) newStreamRequest(ctx context.Context, path string) (*http.Request, error) {
	req, err := t.newRequest(ctx, path, nil)
	if err != nil {
		return nil, err
	}
	delete(req.Header, "Content-Type")
	req.Header["Accept"] = []string{"text/event-stream"}
	return req, nil
}
