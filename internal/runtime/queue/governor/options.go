package governor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Options, and what they follow from.
const (
	// DefaultSweep keeps the recovery of a crashed worker's job below 7 minutes: a sweep, and then up to
	// one minute until asynq looks for expired leases.
	DefaultSweep = 345 * time.Second

	// DefaultFollow keeps a replica that does not sweep for all below 3,000 commands a month.
	DefaultFollow = 15 * time.Minute

	DefaultResync   = 6 * time.Hour
	DefaultLease    = 45 * time.Second
	DefaultWindow   = 20 * time.Millisecond
	DefaultNap      = 250 * time.Millisecond
	DefaultTidy     = 30 * time.Minute
	DefaultAnnounce = time.Minute
)

// How leases are used; see Options.Lease.
const (
	recoveryGrace = 30 * time.Second // of asynq
	skewMargin    = 16 * time.Second // between the end of what a worker believes and what others may take
)

// Options say what to govern. Client, Jobs and Queues are required; the zero value of every other field
// works.
type Options struct {
	// Client carries the governor's own commands: sweeps, looks at what a sweep has found, PUBLISH.
	Client redis.UniversalClient

	// Jobs is the client that asynq's commands go out by. New adds a hook to it, so nothing else must
	// use it that is not meant to be governed.
	Jobs redis.UniversalClient

	// Subscribe follows channels; nil means that replicas do not hear of each other, and that only a sweep
	// finds what others enqueue.
	Subscribe func(ctx context.Context, channels ...string) (Feed, error)

	// Track follows every change of keys that begin with one of the prefixes (CLIENT TRACKING with
	// BCAST). A redis.Error from it means that the server does not know how; then, and when it is nil,
	// replicas tell each other by PUBLISH.
	Track func(ctx context.Context, prefixes ...string) (Feed, error)

	// Scope tells apart what shares a Redis: the number of the database and the namespace, since channels
	// know neither. Part of the name of the channel and of the key of the sweeper's lease.
	Scope string

	// Queues are the names of asynq's queues. Other queues pass through ungoverned. A name must not
	// contain "}:".
	Queues []string

	// Weights share the turns between queues that have jobs, for a server whose queues were named to Client:
	// each job is taken from one of them at random, as often as its weight says. Default 1.
	Weights map[string]int

	// Admit is asked right before each dequeue is sent; false leaves the job where it is, and is asked
	// again after Wake of that queue or after Nap. ahead are the queues of which jobs are fetched together
	// with it, each as often as that. Nil admits always. It is called by the goroutines of asynq's servers,
	// concurrently for different servers, and must not block or keep ahead.
	Admit func(queue string, ahead []string) bool

	// Spare is how many jobs the server can begin at once: so many are fetched in one round trip where they
	// are known to be there. More than that would wait here meanwhile; they are put back after a second. Nil
	// means one, as does what is less. It is for one server, and needs Return.
	Spare func() int

	// Took is told of each job before the server is given it. False means that the job was put somewhere
	// else, and the server is given another. Empty is told of a queue that gave none, and when it was asked. Both
	// may be nil.
	Took  func(ctx context.Context, queue string, message []byte) bool
	Empty func(queue string, asked time.Time)

	// Return puts a job back where it was taken from, since the server does not take it any more. It is called again
	// after an error that wraps ErrNotSent, for as long as the lease is sure to hold.
	Return func(ctx context.Context, queue string, message []byte) error

	// InScript is told of the commands that asynq's scripts run in the Redis, as far as their replies
	// say; command is what ran the script. The EXPIREAT of the first job of a day is not in it. May be nil.
	InScript func(command string, n int64)

	// Sweep is how often all queues are looked at with one EXISTS. Default 345s.
	Sweep time.Duration

	// Follow is how often a replica does the same that is not the sweeper, and finds out whether there
	// still is one. Default 15m.
	Follow time.Duration

	// Resync is how often the times at which delayed jobs are due are read again; that is also done at
	// the start and after the bell was lost. Default 6h.
	Resync time.Duration

	// Lease is how long a worker's claim to a job holds in Redis after it was last extended; another
	// worker may take the job 30s after that. It is extended in Redis when it is older than Lease less
	// 16s and answered locally otherwise, so a longer one costs fewer commands while long jobs run and
	// lets a crashed worker's job wait longer. Default 45s; asynq's own is 30s. Less than 20s is for tests.
	Lease time.Duration

	// Grace is how long after the end of a lease asynq lets others take the job: 30s, which is a constant
	// of asynq. Only tests that scale time down change it.
	Grace time.Duration

	// Window is how much time must pass between two announcements of work in the same queue. Nothing is
	// lost by it: what came in between is announced at its end, so it is also the longest that a worker in
	// another process waits for word. Default 20ms.
	Window time.Duration

	// Announce is how often a replica says that it holds leases in a queue, so that others look after
	// them; only while it takes jobs, and only when there are others. Default 1m.
	Announce time.Duration

	// Nap is how long a dequeue of empty queues waits for work before asynq is told that there is none.
	// It bounds how long Shutdown of a server takes when Retire was not called. Default 250ms.
	Nap time.Duration

	// Tidy is how long completed jobs may outlive their retention, so that they are deleted many at a
	// time. Default 30m.
	Tidy time.Duration

	// Presence is how often the state of servers is written for asynq's inspector. Default 0: never, and
	// the inspector sees no servers. It costs 2 commands and a script of 3 or more each time.
	Presence time.Duration

	// ArchiveMax and ArchiveAge replace the 10000 jobs and 90 days after which asynq deletes dead letters
	// without a word. Default 0 of either: no bound.
	ArchiveMax int
	ArchiveAge time.Duration

	// ClientOnly is for a process that enqueues and never works: it announces what it does and neither
	// follows nor sweeps.
	ClientOnly bool

	// Separate sends what concerns several queues one by one, as a Redis Cluster needs.
	Separate bool
}

// A Feed is a subscription.
type Feed struct {
	// Messages are what was said. A closed channel ends the feed.
	Messages <-chan Message

	// Gaps says that messages may have been lost. May be nil.
	Gaps <-chan struct{}

	// Close ends the subscription. May be nil.
	Close func()
}

// A Message is something that was published, or a change of keys.
type Message struct {
	Channel string
	Payload []byte

	// Keys are the keys that the server says have changed, all at one time. Only from Track; none at all
	// means that anything may have.
	Keys []string
}

func (o Options) withDefaults() Options {
	set := func(d *time.Duration, to time.Duration) {
		if *d == 0 {
			*d = to
		}
	}
	set(&o.Sweep, DefaultSweep)
	set(&o.Follow, DefaultFollow)
	set(&o.Resync, DefaultResync)
	set(&o.Lease, DefaultLease)
	set(&o.Grace, recoveryGrace)
	set(&o.Window, DefaultWindow)
	set(&o.Announce, DefaultAnnounce)
	set(&o.Nap, DefaultNap)
	set(&o.Tidy, DefaultTidy)
	if o.InScript == nil {
		o.InScript = func(string, int64) {}
	}
	if o.Admit == nil {
		o.Admit = func(string, []string) bool { return true }
	}
	if o.Spare == nil || o.Return == nil {
		o.Spare = func() int { return 1 }
	}
	if o.Took == nil {
		o.Took = func(context.Context, string, []byte) bool { return true }
	}
	if o.Empty == nil {
		o.Empty = func(string, time.Time) {}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("client: missing"))
	}
	if o.Jobs == nil {
		errs = append(errs, errors.New("jobs: missing client"))
	}
	if len(o.Queues) == 0 {
		errs = append(errs, errors.New("queues: none named"))
	}
	for i, q := range o.Queues {
		switch {
		case strings.TrimSpace(q) == "":
			errs = append(errs, fmt.Errorf("queues: number %d has no name", i+1))
		case strings.Contains(q, "}:") || strings.HasSuffix(q, "}"):
			errs = append(errs, fmt.Errorf("queues: %q would end the hash tag of its keys early", q))
		case slices.Contains(o.Queues[:i], q):
			errs = append(errs, fmt.Errorf("queues: %q is named twice", q))
		}
	}
	for _, d := range []struct {
		name     string
		got, min time.Duration
	}{
		{"sweep", o.Sweep, time.Millisecond},
		{"follow", o.Follow, time.Millisecond},
		{"resync", o.Resync, time.Millisecond},
		{"lease", o.Lease, time.Second},
		{"grace", o.Grace, 0},
		{"window", o.Window, time.Millisecond},
		{"announce", o.Announce, time.Millisecond},
		{"nap", o.Nap, time.Millisecond},
		{"tidy", o.Tidy, 0},
		{"presence", o.Presence, 0},
		{"archive age", o.ArchiveAge, 0},
	} {
		if d.got < d.min {
			errs = append(errs, fmt.Errorf("%s: got %s, want at least %s", d.name, d.got, d.min))
		}
	}
	if o.ArchiveMax < 0 {
		errs = append(errs, fmt.Errorf("archive max: got %d, want 0 or more", o.ArchiveMax))
	}
	return errors.Join(errs...)
}
