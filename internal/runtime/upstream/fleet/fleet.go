// Package fleet shares one limit of connections among all replicas.
//
// Replicas register in one hash with how many connections they may open. One script decides by the
// server's clock: places past their time are dropped, and a replica is let in when the sum stays below
// the cap. Otherwise it is told who holds what, and stands in line: those who came earlier go first, and a
// place is kept for them.
//
// The hash, where ID is replica/instance:
//
//	schema      1; the lowest that all live members know, so that two versions run side by side
//	member:ID   a holder's document
//	until:ID    Unix milliseconds at which the place, or the turn in line, comes free
//	wait:ID     the document of one who waits, and since:ID since when
//
// A renewal is one plain HINCRBY on until:ID by as much as the new time is later. Its reply tells whether the
// place was still there, because a field that had been dropped begins anew at a time long past, which
// counts for nobody.
//
// What it cannot do: the cap is one of places, kept by those who register. Connections of others are not
// seen; the connection over which a replica asks is open before it has a place; a replica that was paused
// beyond its lease holds on to its connections and says so (Over). When the hash is lost, everybody
// registers anew at the next renewal, and whoever starts before that may be let in above the cap; that too
// is told as Over.
package fleet

import (
	"context"
	_ "embed" // the script is compiled in
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

//go:embed decide.lua
var decideScript string

// The modes of the script.
const (
	modeJoin   = "join"   // ask for a place, or stand in line
	modeAgain  = "again"  // register what is held anyway, above the cap if need be
	modeResize = "resize" // ask for another number
)

const (
	firstPause = time.Second
	lastPause  = 30 * time.Second
	lineLease  = 2*lastPause + 30*time.Second // a waiting replica that died leaves the line
	leaveFor   = 2 * time.Second
)

// errTooLong ends what took longer than Options.Timeout.
var errTooLong = errors.New("no answer in time")

// A Fleet is this replica's membership. Its methods may be called from several goroutines.
type Fleet struct {
	opts    Options
	started time.Time

	asking sync.Mutex // one command at a time, so that renewals and changes do not cross

	mu       sync.Mutex
	state    State
	untilMS  int64     // what until:ID holds, as far as is known; 0 when it is not
	serverMS int64     // the server's clock at the last script
	heard    time.Time // when that was here
}

// A State is what this replica knows of its place without asking.
type State struct {
	// Registered is whether it had a place when last heard of.
	Registered bool

	// Over is whether it holds connections that do not fit below the cap.
	Over bool

	// Connections is what it has registered, or asks for.
	Connections int

	// Cap is the limit it was made with, 0 for none.
	Cap int

	// Expires is when the place comes free unless renewed, by the server's clock.
	Expires time.Time

	// Listing is the fleet as of its At, with this replica in it.
	Listing Listing

	// Err is why the last command did not succeed; nil when it did.
	Err error
}

// New returns a Fleet that has sent nothing yet.
func New(o Options) (*Fleet, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	f := &Fleet{opts: o, started: time.Now()}
	f.state.Connections, f.state.Cap = o.Connections, o.Cap
	return f, nil
}

// State is what is known. It sends nothing.
func (f *Fleet) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	s := f.state
	s.Listing.Holders, s.Listing.Waiting = slices.Clone(s.Listing.Holders), slices.Clone(s.Listing.Waiting)
	return s
}

// List reads the fleet: 2 commands.
func (f *Fleet) List(ctx context.Context) (Listing, error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	return List(ctx, f.opts.Client, f.opts.Key)
}

// Join asks for a place until it has one, at most Options.Wait: after 1 s, then twice as long each time up to
// 30 s, each pause shortened at random by up to a half. A place that a process of the same Replica and Host
// held is taken over at once. Call it before other connections are opened.
//
// It ends with a *FullError when there was no place in time, with an *ImpossibleError when there cannot be
// one, and with a *SchemaError or *DamagedError when the hash is not ours to change. Any other error
// means that Redis did not answer; one may then go on, and Run registers later.
//
// An attempt costs 1 script that runs 2 to 4 commands, 1 command more when the server does not know the
// script; waiting the whole 2 minutes is some 9 attempts. Giving up costs 1 command more.
func (f *Fleet) Join(ctx context.Context) error {
	begun := time.Now()
	var told []string
	var full *FullError
	for pause := firstPause; ; pause = min(2*pause, lastPause) {
		if o := f.opts; o.Cap > 0 && f.connections() > o.Cap {
			return &ImpossibleError{f.connections(), o.Cap}
		}
		answered, err := f.ask(ctx, modeJoin, f.connections())
		switch {
		case answered != nil:
			full = answered
		case err == nil || full == nil || lasting(err):
			return err
		default: // in line already, so an outage is waited out too
			f.opts.Event(Event{Kind: Failed, Err: err})
		}
		full.Waited = time.Since(begun)
		if held := holding(full.Listing); told == nil || !slices.Equal(held, told) {
			told = held
			f.opts.Event(Event{Kind: Waiting, Listing: full.Listing})
		}
		rest := f.opts.Wait - full.Waited
		if rest <= 0 {
			return errors.Join(full, f.Leave(ctx))
		}
		wait := time.NewTimer(min(rest, pause/2+rand.N(pause/2+1)))
		select {
		case <-wait.C:
		case <-ctx.Done():
			wait.Stop()
			_ = f.Leave(context.WithoutCancel(ctx)) // the turn in line ends by itself otherwise
			return errors.Join(full, ctx.Err())
		}
	}
}

// Resize asks for n connections instead. With a *FullError nothing has changed and the old number stays; fewer
// are always granted. Before Join, or when there is no place, it only sets what is asked for. It costs what
// one attempt of Join does.
func (f *Fleet) Resize(ctx context.Context, n int) error {
	switch {
	case n < 0:
		return fmt.Errorf("fleet: connections: got %d, want 0 or more", n)
	case !f.State().Registered:
		f.mu.Lock()
		f.state.Connections = n
		f.mu.Unlock()
		return nil
	case f.opts.Cap > 0 && n > f.opts.Cap && n > f.connections():
		return &ImpossibleError{n, f.opts.Cap}
	}
	full, err := f.ask(ctx, modeResize, n)
	if full != nil {
		return full
	}
	return err
}

// Leave gives the place, or the turn in line, free: 1 command, at most 2 seconds. Call it when Run and
// everything else has ended and only the connection for this command is left. Where it does not succeed the place comes
// free at its expiry, or when this replica starts again.
func (f *Fleet) Leave(ctx context.Context) error {
	f.asking.Lock()
	defer f.asking.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, min(leaveFor, f.opts.Timeout), errTooLong)
	defer cancel()
	id := f.self(0, false).id()
	err := f.opts.Client.HDel(ctx, f.opts.Key, "member:"+id, "until:"+id, "wait:"+id, "since:"+id).Err()
	if err != nil {
		return fmt.Errorf("fleet: leave %s: %w", f.opts.Key, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Registered, f.state.Over, f.untilMS = false, false, 0
	return nil
}

// lasting is whether asking again would give the same.
func lasting(err error) bool {
	_, newer := errors.AsType[*SchemaError](err)
	_, damaged := errors.AsType[*DamagedError](err)
	return newer || damaged
}

func (f *Fleet) connections() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state.Connections
}

// self is this replica as it is written.
func (f *Fleet) self(connections int, over bool) Member {
	o := f.opts
	return Member{
		Replica: o.Replica, Instance: o.Instance, Host: o.Host, Version: o.Version, Connections: connections,
		Started: f.started.UTC().Truncate(time.Millisecond), Over: over, Schema: o.knows,
	}
}

func (f *Fleet) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, f.opts.Timeout, errTooLong)
}

// ask runs the script once and takes what it says. A *FullError is returned apart: it is an answer.
func (f *Fleet) ask(ctx context.Context, mode string, n int) (*FullError, error) {
	f.asking.Lock()
	a, err := f.decide(ctx, mode, n)
	events := f.take(a, err, mode, n)
	f.asking.Unlock()
	for _, e := range events {
		f.opts.Event(e)
	}
	if err == nil && a.status == 0 {
		return &FullError{Asked: n, Cap: f.opts.Cap, Listing: a.before}, nil
	}
	return nil, err
}

// An answer is what the script said.
type answer struct {
	status int64
	now    int64   // the server's clock, ms
	before Listing // the fleet before the script's changes
}

// decide runs the script. Running it twice does what running it once does.
func (f *Fleet) decide(ctx context.Context, mode string, n int) (answer, error) {
	ctx, cancel := f.bounded(ctx)
	defer cancel()
	o, self := f.opts, f.self(n, false)
	within, err := json.Marshal(self)
	if err != nil {
		return answer{}, fmt.Errorf("fleet: %w", err)
	}
	over, err := json.Marshal(f.self(n, true))
	if err != nil {
		return answer{}, fmt.Errorf("fleet: %w", err)
	}
	line := lineLease.Milliseconds()
	if o.Wait < 0 {
		line = 0
	}
	reply, err := redis.NewScript(decideScript).Run(ctx, o.Client, []string{o.Key},
		mode, self.id(), o.Replica, o.Host, n, o.Cap, o.Lease.Milliseconds(), line, o.knows, within, over).Slice()
	if err != nil {
		return answer{}, fmt.Errorf("fleet: %s %s: %w", mode, o.Key, err)
	}
	if len(reply) != 5 {
		return answer{}, fmt.Errorf("fleet: the script answered with %d values, want 5", len(reply))
	}
	commands, _ := reply[0].(int64)
	o.InScript("evalsha", commands)
	a := answer{}
	a.status, _ = reply[1].(int64)
	a.now, _ = reply[2].(int64)
	detail, _ := reply[3].(string)
	switch a.status {
	case -1:
		got := 0
		_, _ = fmt.Sscan(detail, &got) // 0 where even that is not readable
		return a, &SchemaError{o.Key, got, o.knows}
	case -2:
		return a, &DamagedError{o.Key, detail}
	}
	flat, _ := reply[4].([]any)
	fields := map[string]string{}
	for i := 0; i+1 < len(flat); i += 2 {
		field, _ := flat[i].(string)
		fields[field], _ = flat[i+1].(string)
	}
	a.before, err = parse(fields, time.UnixMilli(a.now), o.Key, o.knows)
	return a, err
}

// take notes an answer, and returns what there is to tell. f.asking is held.
func (f *Fleet) take(a answer, err error, mode string, n int) []Event {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Err = err
	if err != nil {
		f.untilMS = 0 // it may have run
		return nil
	}
	f.serverMS, f.heard = a.now, time.Now()
	if a.status == 0 {
		f.state.Listing = a.before
		return nil
	}
	was := f.state
	f.untilMS = a.now + f.opts.Lease.Milliseconds()
	f.state = State{
		Registered: true, Connections: n, Cap: f.opts.Cap, Expires: time.UnixMilli(f.untilMS).UTC(),
	}
	self := f.self(n, false)
	self.Expires = f.state.Expires
	after := a.before
	after.Holders = slices.DeleteFunc(slices.Clone(after.Holders), func(m Member) bool {
		takenOver := mode == modeJoin && m.Replica == self.Replica && m.Host == self.Host
		return m.id() == self.id() || takenOver
	})
	self.Over = f.opts.Cap > 0 && after.Connections()+n > f.opts.Cap
	f.state.Over = self.Over
	events := f.changes(a.before, after, was)
	after.Holders = append(after.Holders, self)
	slices.SortFunc(after.Holders, func(x, y Member) int { return strings.Compare(x.id(), y.id()) })
	after.Waiting = slices.DeleteFunc(slices.Clone(after.Waiting), func(m Member) bool { return m.id() == self.id() })
	f.state.Listing = after
	return events
}

// changes is what there is to tell: before is the fleet as found, others those beside this replica.
func (f *Fleet) changes(before, others Listing, was State) []Event {
	self := f.self(0, false)
	var events []Event
	there := slices.ContainsFunc(before.Holders, func(m Member) bool { return m.id() == self.id() })
	switch {
	case !was.Registered:
		events = append(events, Event{Kind: Joined, Listing: before})
	case !there:
		events = append(events, Event{Kind: Lost, Listing: before})
	}
	for _, m := range others.Holders {
		if m.Replica == self.Replica {
			events = append(events, Event{Kind: Duplicate, Listing: before, Other: m})
		}
	}
	switch {
	case f.state.Over && !was.Over:
		events = append(events, Event{Kind: Over, Listing: before})
	case was.Over && !f.state.Over:
		events = append(events, Event{Kind: Within, Listing: before})
	}
	return events
}

// holding is who holds what, to see whether it has changed.
func holding(l Listing) []string {
	out := make([]string, 0, len(l.Holders))
	for _, m := range l.Holders {
		out = append(out, fmt.Sprint(m.id(), m.Connections))
	}
	return out
}
