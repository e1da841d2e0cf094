package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
)

// Defaults of Options.
const (
	DefaultShutdownTimeout = 25 * time.Second
	DefaultWatchdog        = 2 * time.Minute
	DefaultCommandTimeout  = 5 * time.Second
)

// Options say which queues there are and how Redis is reached. Client, Jobs and Queues are required.
type Options struct {
	// Client carries the Engine's own commands, and Jobs what asynq sends; hooks are added to both. Each
	// must be a client of its own over the same Redis, such as upstream's View, that keeps to the deadline
	// of its context and repeats nothing by itself. Neither is closed.
	Client, Jobs redis.UniversalClient

	// Cluster says that the Redis is a Cluster, where one command can be about one queue only. A
	// *redis.ClusterClient is recognised without it.
	Cluster bool

	// Queues are the queues. Names must differ.
	Queues []Queue

	// Governor says how the Redis is followed while there is nothing to do: its Subscribe, Track and Scope,
	// and its intervals, Presence included. The other fields are filled in, and the archive's limits are
	// raised to what Queues say of failed jobs.
	Governor governor.Options

	// Concurrency is how many jobs of all queues run at the same time in this process. Default the sum of
	// the queues' own.
	Concurrency int

	// Replica names this process in lease tokens. Default a random name.
	Replica string

	// ShutdownTimeout is how long running jobs may take after Run's context has ended before they are
	// interrupted and given back. Default 25s.
	ShutdownTimeout time.Duration

	// Watchdog is how long commands may go unanswered before Reconnect is called; after as long again Run
	// returns an *UnreachableError. Default 2m; at least 1s.
	Watchdog time.Duration

	// Reconnect drops connections that may be dead; may be nil.
	Reconnect func(ctx context.Context) error

	// CommandTimeout bounds each command of the Engine's own. Default 5s.
	CommandTimeout time.Duration

	// Paused is asked whether the control document has a queue paused; may be nil. Changed returns a
	// channel that is closed when the answers may differ, as control.Control.Changed does; may be nil.
	Paused  func(queue string) bool
	Changed func() <-chan struct{}

	// Admit is asked before each job of a queue is taken; false leaves the job in Redis until Admitted tells
	// that the answer may be another. ahead is how many others of the queue are taken together with it. It must not
	// block. Nil takes all.
	Admit func(queue string, ahead int) bool

	// Observe is told of every attempt that ended; may be nil. It is called from several goroutines and
	// must return soon.
	Observe func(Event)

	// InScript is told of commands that scripts of the Engine ran on the server; may be nil.
	InScript func(command string, n int64)

	// Notice is told of what went wrong aside, such as progress that could not be kept; may be nil.
	Notice func(error)
}

func (o Options) withDefaults() Options {
	o.Queues = slices.Clone(o.Queues)
	sum := 0
	for i := range o.Queues {
		o.Queues[i] = o.Queues[i].withDefaults()
		if o.Queues[i].Mode != "" {
			sum += o.Queues[i].Concurrency
		}
	}
	if o.Concurrency == 0 {
		o.Concurrency = max(1, sum)
	}
	if o.Replica == "" {
		o.Replica = randomID()[:12]
	}
	if o.ShutdownTimeout == 0 {
		o.ShutdownTimeout = DefaultShutdownTimeout
	}
	if o.Watchdog == 0 {
		o.Watchdog = DefaultWatchdog
	}
	if o.CommandTimeout == 0 {
		o.CommandTimeout = DefaultCommandTimeout
	}
	if o.Paused == nil {
		o.Paused = func(string) bool { return false }
	}
	if o.Admit == nil {
		o.Admit = func(string, int) bool { return true }
	}
	if o.Observe == nil {
		o.Observe = func(Event) {}
	}
	if o.InScript == nil {
		o.InScript = func(string, int64) {}
	}
	if o.Notice == nil {
		o.Notice = func(error) {}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Client == nil {
		bad("client: missing")
	}
	if o.Jobs == nil {
		bad("jobs: missing")
	}
	if len(o.Queues) == 0 {
		bad("queues: none")
	}
	if o.Concurrency < 1 {
		bad("concurrency: got %d, want at least 1", o.Concurrency)
	}
	if o.ShutdownTimeout < 0 {
		bad("shutdown_timeout: got %s, want 0 or more", o.ShutdownTimeout)
	}
	if o.Watchdog < time.Second {
		bad("watchdog: got %s, want at least 1s", o.Watchdog)
	}
	if o.CommandTimeout < time.Millisecond {
		bad("command_timeout: got %s, want at least 1ms", o.CommandTimeout)
	}
	seen := map[string]bool{}
	for i, q := range o.Queues {
		if err := q.validate(); err != nil {
			bad("queues[%d] %s: %w", i, q.Name, err)
		}
		if seen[q.Name] {
			bad("queues[%d]: %q is the name of another one too", i, q.Name)
		}
		seen[q.Name] = true
	}
	for i, q := range o.Queues {
		for _, on := range q.DependsOn {
			if !seen[on] {
				bad("queues[%d] %s: depends_on: no queue is named %q", i, q.Name, on)
			}
		}
	}
	return errors.Join(errs...)
}
