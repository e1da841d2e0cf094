package cron

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Options.
const (
	// DefaultKey is the hash that holds the schedules. Its name with ":changed" behind it is the bell's
	// channel.
	DefaultKey = "redisopt:cron"

	// DefaultSweep is how often a replica looks for changes without having been told: 120 commands in a
	// 30-day month.
	DefaultSweep = 6 * time.Hour

	// DefaultGrace is how late a tick may be enqueued without having been missed.
	DefaultGrace = time.Minute

	// DefaultRetain is how long the id of a tick stays taken after its job has finished.
	DefaultRetain = time.Hour

	// DefaultTimeout bounds one enqueueing, one reading and one change.
	DefaultTimeout = 5 * time.Second
)

// What Enqueue answers besides nil; wrap them freely.
var (
	// ErrDuplicate means that the id is taken: another replica enqueued the tick.
	ErrDuplicate = errors.New("another replica has enqueued this tick")

	// ErrRefused means that the job of this tick will never be taken, as it is not valid. The tick is
	// given up. Any other error is tried again under the same id, as long as Misfire asks for the tick.
	ErrRefused = errors.New("the job is not valid")
)

// A Tick is one firing of a schedule.
type Tick struct {
	// ID is cron:NAME:UNIXTIME, the same in every replica: the id of the job.
	ID string

	// Schedule is the schedule as it is now.
	Schedule Schedule

	// At is when the schedule was due, in whole seconds UTC, jitter aside.
	At time.Time

	// Late is whether it was missed and is made up for.
	Late bool

	// Retain is how long the id must stay taken after the job has finished, whatever else limits the
	// retention of the queue.
	Retain time.Duration
}

// Missed says that ticks of a schedule were missed and are not made up for.
type Missed struct {
	Schedule string
	Count    int
	More     bool      // there were more than Count
	Until    time.Time // none after it
}

// A Feed is one subscription to the bell.
type Feed struct {
	// Rings receives once for every message. When it is closed the feed is over.
	Rings <-chan []byte

	// Gaps receives when messages may have been missed, after a reconnect.
	Gaps <-chan struct{}

	// Close ends the feed; it is called once.
	Close func()
}

// Options say where schedules are kept and where their jobs go. Client is required; Enqueue is for Run.
type Options struct {
	// Client reaches the Redis that holds the schedules. Required.
	Client redis.UniversalClient

	// Enqueue takes a tick's job under the tick's id. It must refuse an id that is taken with
	// ErrDuplicate, and keep it taken for Tick.Retain after the job has finished. It is called from
	// several goroutines, for one schedule from one at a time.
	Enqueue func(ctx context.Context, tick Tick) error

	// Subscribe opens the bell for one channel. Without it changes are found by the sweep alone.
	Subscribe func(ctx context.Context, channel string) (Feed, error)

	// Key is the hash that holds the schedules. Default DefaultKey.
	Key string

	// Sweep is the time between two looks for changes that nobody announced, 1 command each. Default
	// DefaultSweep; at least 1 minute.
	Sweep time.Duration

	// Grace is how late a tick may be enqueued without having been missed. Default DefaultGrace; at
	// least 1s.
	Grace time.Duration

	// Retain is passed on in each Tick. Default DefaultRetain; at least 10 minutes and 10 times Grace,
	// because replicas do not fire at the same instant.
	Retain time.Duration

	// Timeout bounds one enqueueing, one reading and one change. Default DefaultTimeout.
	Timeout time.Duration

	// InScript is told of commands that a script ran on the server; may be nil.
	InScript func(command string, n int64)

	// Failed is told of each reading, writing and enqueueing that did not succeed; may be nil. It is
	// called without a lock held, from several goroutines, and must return soon.
	Failed func(error)

	// Missed is told of ticks that are not made up for; may be nil. As Failed.
	Missed func(Missed)
}

func (o Options) withDefaults() Options {
	if o.Key == "" {
		o.Key = DefaultKey
	}
	if o.Sweep == 0 {
		o.Sweep = DefaultSweep
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.Retain == 0 {
		o.Retain = DefaultRetain
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.InScript == nil {
		o.InScript = func(string, int64) {}
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	if o.Missed == nil {
		o.Missed = func(Missed) {}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("client: missing"))
	}
	if len(o.Key) > 512 {
		errs = append(errs, fmt.Errorf("key: %d bytes long, want at most 512", len(o.Key)))
	}
	if o.Sweep < time.Minute {
		errs = append(errs, fmt.Errorf("sweep: got %s, want at least 1m", o.Sweep))
	}
	if o.Grace < time.Second {
		errs = append(errs, fmt.Errorf("grace: got %s, want at least 1s", o.Grace))
	}
	if o.Retain < 10*time.Minute || o.Retain < 10*o.Grace {
		errs = append(errs, fmt.Errorf("retain: got %s, want at least 10m and 10 times grace", o.Retain))
	}
	if o.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("timeout: got %s, want at least 1ms", o.Timeout))
	}
	return errors.Join(errs...)
}

// Periodic is one command that a replica sends however little there is to do.
type Periodic struct {
	Name     string
	Interval time.Duration
	Commands int64 // billed, each time
}

// Periodic lists the commands that Run sends without a tick, a change or a failure: the sweep.
func (c *Cron) Periodic() []Periodic {
	return []Periodic{{Name: "cron_sweep", Interval: c.opts.Sweep, Commands: 1}}
}
