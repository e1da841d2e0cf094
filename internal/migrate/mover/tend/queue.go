package tend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// Asynq is the layout of asynq 0.26, beside those that package mover moves.
const Asynq mover.Layout = "asynq"

// States that only asynq has, beside those of package mover. Its pending is Waiting here, its
// scheduled Delayed, and its archived Failed.
const (
	Retrying    mover.State = "retrying"    // failed, and due for another try
	Aggregating mover.State = "aggregating" // waiting for its group to be complete
)

const (
	asynqPrefix = "asynq"
	asynqQueues = "asynq:queues"
)

// bandNames are the bands of one of asynq's queues, most urgent first; empty is the queue itself.
func bandNames() []string { return []string{"high", "", "low"} }

// A Name is how a person names a queue.
type Name struct {
	// Prefix is the key prefix, taken literally; "asynq" for asynq. Empty: bull, and where nothing is
	// kept there, the only one under which there is a queue of that name.
	Prefix string

	// Queue is the queue's name.
	Queue string
}

// A Queue is one queue in one layout. It is used by one goroutine.
type Queue struct {
	// InScript, when not nil, is told how many commands ran inside a script that was called.
	InScript func(n int64)

	client redis.UniversalClient
	at     mover.Endpoint
	bands  []string // of asynq's queue, those that are there; "" is the queue itself
	took   func() func() time.Duration
}

// An AmbiguousError reports that a name is kept in several places.
type AmbiguousError struct {
	Queue    string
	Prefixes []string
}

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("queue %q is kept under several prefixes, say which with --prefix: %s", e.Queue, strings.Join(e.Prefixes, ", "))
}

// Find finds a queue. It returns mover.ErrNoQueue, mover.ErrTooManyKeys or an *AmbiguousError where
// there is not exactly one. Price: about eighteen commands where the queue is asynq's or under bull,
// else a SCAN over the whole database by 1,000 keys and sixteen for each name that may be a queue.
func Find(ctx context.Context, client redis.UniversalClient, n Name) (*Queue, error) {
	if n.Queue == "" {
		return nil, errors.New("want the name of a queue")
	}
	var found []*Queue
	if n.Prefix == "" || n.Prefix == asynqPrefix {
		q, err := findAsynq(ctx, client, n.Queue)
		if err != nil {
			return nil, err
		}
		if q != nil {
			found = append(found, q)
		}
	}
	if n.Prefix != asynqPrefix {
		prefix := n.Prefix
		if prefix == "" {
			prefix = "bull"
		}
		e, ok, err := mover.Detect(ctx, client, prefix, n.Queue)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, At(client, e))
		}
	}
	if len(found) == 0 && n.Prefix == "" {
		all, err := mover.DetectQueues(ctx, client, mover.ListOptions{})
		if err != nil {
			return nil, err
		}
		for _, e := range all {
			if e.Queue == n.Queue {
				found = append(found, At(client, e))
			}
		}
	}
	switch len(found) {
	case 0:
		where := n.Prefix
		if where == "" {
			where = "bull"
		}
		return nil, fmt.Errorf("%w: nothing under %s:%s:*", mover.ErrNoQueue, where, n.Queue)
	case 1:
		return found[0], nil
	}
	e := &AmbiguousError{Queue: n.Queue}
	for _, q := range found {
		e.Prefixes = append(e.Prefixes, q.at.Prefix)
	}
	return nil, e
}

// At is the queue at e, which need not exist. Every band of asynq's counts as there.
func At(client redis.UniversalClient, e mover.Endpoint) *Queue {
	q := &Queue{client: client, at: e, took: stopwatch}
	if e.Layout == Asynq {
		q.at.Prefix = asynqPrefix
		q.bands = bandNames()
	}
	return q
}

// findAsynq is asynq's queue of that name with its bands, nil where there is none.
func findAsynq(ctx context.Context, client redis.UniversalClient, name string) (*Queue, error) {
	kind, err := client.Type(ctx, asynqQueues).Result()
	if err != nil {
		return nil, fmt.Errorf("read the type of %q: %w", asynqQueues, err)
	}
	if kind != "set" {
		return nil, nil
	}
	q := At(client, mover.Endpoint{Layout: Asynq, Prefix: asynqPrefix, Queue: name})
	members := []any{}
	for _, band := range q.bands {
		members = append(members, q.bandName(band))
	}
	there, err := client.SMIsMember(ctx, asynqQueues, members...).Result()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", asynqQueues, err)
	}
	kept := []string{}
	for i, is := range there {
		if is {
			kept = append(kept, q.bands[i])
		}
	}
	if q.bands = kept; len(kept) == 0 {
		return nil, nil
	}
	return q, nil
}

// Endpoint is where the queue is.
func (q *Queue) Endpoint() mover.Endpoint { return q.at }

// Bands are the bands of asynq's queue that are there: "high", "" for the queue itself, "low". Nil in
// other layouts.
func (q *Queue) Bands() []string { return slices.Clone(q.bands) }

// bandName is what asynq calls a band.
func (q *Queue) bandName(band string) string {
	if band == "" {
		return q.at.Queue
	}
	return q.at.Queue + ":" + band
}

// base is what every key of the queue, or of one of its bands, begins with.
func (q *Queue) base(band string) string {
	if q.at.Layout == Asynq {
		return "asynq:{" + q.bandName(band) + "}:"
	}
	return q.at.Key("")
}

// jobBase is what the keys of jobs begin with.
func (q *Queue) jobBase(band string) string {
	if q.at.Layout == Asynq {
		return q.base(band) + "t:"
	}
	return q.base(band)
}

// A container is one key that holds the ids of jobs.
type container struct {
	key   string
	list  bool
	state mover.State
	band  string
	group string // of jobs that are aggregated
}

// containers are where jobs of the given states are, in the order jobs pass through them.
func (q *Queue) containers(ctx context.Context, states []mover.State) ([]container, error) {
	all := []container{}
	switch q.at.Layout {
	case Asynq:
		for _, band := range q.bands {
			base := q.base(band)
			if slices.Contains(states, Aggregating) {
				groups, err := q.client.SMembers(ctx, base+"groups").Result()
				if err != nil {
					return nil, fmt.Errorf("read %q: %w", base+"groups", err)
				}
				slices.Sort(groups)
				for _, g := range groups {
					all = append(all, container{key: base + "g:" + g, state: Aggregating, band: band, group: g})
				}
			}
			all = append(all,
				container{key: base + "scheduled", state: mover.Delayed, band: band},
				container{key: base + "retry", state: Retrying, band: band},
				container{key: base + "pending", list: true, state: mover.Waiting, band: band},
				container{key: base + "active", list: true, state: mover.Active, band: band},
				container{key: base + "completed", state: mover.Completed, band: band},
				container{key: base + "archived", state: mover.Failed, band: band})
		}
		slices.SortStableFunc(all, func(a, b container) int { return stateRank(a.state) - stateRank(b.state) })
	case mover.Bull, mover.BullMQ:
		if q.at.Layout == mover.BullMQ {
			all = append(all, container{key: q.at.Key("waiting-children"), state: mover.WaitingChildren})
		}
		all = append(all,
			container{key: q.at.Key("delayed"), state: mover.Delayed},
			container{key: q.at.Key("wait"), list: true, state: mover.Waiting},
			container{key: q.at.Key("paused"), list: true, state: mover.Paused})
		if q.at.Layout == mover.BullMQ {
			all = append(all, container{key: q.at.Key("prioritized"), state: mover.Prioritized})
		}
		all = append(all,
			container{key: q.at.Key("active"), list: true, state: mover.Active},
			container{key: q.at.Key("completed"), state: mover.Completed},
			container{key: q.at.Key("failed"), state: mover.Failed})
	}
	return slices.DeleteFunc(all, func(c container) bool { return !slices.Contains(states, c.state) }), nil
}

// Order is the states of every layout, in the order a job passes through them.
func Order() []mover.State { return order() }

// order is all states, in the order a job passes through them.
func order() []mover.State {
	return []mover.State{
		mover.WaitingChildren, Aggregating, mover.Delayed, Retrying, mover.Waiting, mover.Paused, mover.Prioritized,
		mover.Active, mover.Completed, mover.Failed,
	}
}

func stateRank(s mover.State) int { return slices.Index(order(), s) }

// States are the states that jobs of this layout can be in, in the order a job passes through them.
func (q *Queue) States() []mover.State {
	return slices.DeleteFunc(order(), func(s mover.State) bool {
		switch s {
		case Aggregating, Retrying:
			return q.at.Layout != Asynq
		case mover.Paused:
			return q.at.Layout == Asynq
		case mover.Prioritized, mover.WaitingChildren:
			return q.at.Layout != mover.BullMQ
		case mover.Waiting, mover.Active, mover.Delayed, mover.Completed, mover.Failed:
		}
		return false
	})
}

// Waits are the states of jobs that only wait for a worker.
func (q *Queue) Waits() []mover.State {
	return []mover.State{mover.Waiting, mover.Paused, mover.Prioritized}
}

// ParseStates reads the names of states as any of the libraries calls them: wait and pending for
// waiting, scheduled for delayed, archived and dead for failed, retry for retrying. "waiting" means
// paused and prioritized jobs as well, which only wait too; "all" is every state. It reports every
// name that this layout does not know.
func (q *Queue) ParseStates(names []string) ([]mover.State, error) {
	var (
		errs []error
		got  []mover.State
	)
	known := q.States()
	for _, name := range names {
		switch name = strings.TrimSpace(name); name {
		case "all":
			got = append(got, known...)
			continue
		case "waiting", "wait", "pending":
			got = append(got, q.Waits()...)
			continue
		case "scheduled":
			name = string(mover.Delayed)
		case "archived", "dead":
			name = string(mover.Failed)
		case "retry":
			name = string(Retrying)
		}
		if !slices.Contains(known, mover.State(name)) {
			errs = append(errs, fmt.Errorf("state %q: %s has %s", name, q.at.Layout, joinStates(known)))
			continue
		}
		got = append(got, mover.State(name))
	}
	got = slices.DeleteFunc(got, func(s mover.State) bool { return !slices.Contains(known, s) })
	slices.SortFunc(got, func(a, b mover.State) int { return stateRank(a) - stateRank(b) })
	return slices.Compact(got), errors.Join(errs...)
}

func joinStates(states []mover.State) string {
	names := make([]string, len(states))
	for i, s := range states {
		names[i] = string(s)
	}
	return strings.Join(names, ", ")
}

// stopwatch begins to measure; the returned function says how long it has been.
func stopwatch() func() time.Duration {
	begin := time.Now()
	return func() time.Duration { return time.Since(begin) }
}
