package fleet

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Options.
const (
	// DefaultKey is the lease hash.
	DefaultKey = "redisopt:fleet"

	// DefaultLease is how long a place is kept that nobody renews: two renewals may fail.
	DefaultLease = 75 * time.Minute

	// DefaultRenew is how often a place is renewed: 1,440 commands in a 30-day month for each replica.
	DefaultRenew = 30 * time.Minute

	// DefaultWait is how long Join waits for a place.
	DefaultWait = 2 * time.Minute

	// DefaultTimeout bounds one command.
	DefaultTimeout = 5 * time.Second

	// Schema is the schema number of the hash this program reads and writes.
	Schema = 1
)

const (
	shortestRenew = 15 * time.Minute
	longestLease  = 12 * time.Hour
)

// Options say who this replica is and what the fleet may hold. Client, Replica and Instance are required.
type Options struct {
	// Client reaches the Redis whose connections are shared out. It need not be up. Required.
	Client redis.UniversalClient

	// Replica is this process's name, unique in the fleet and the same after a restart: letters, digits,
	// dots, hyphens and underscores, at most 64. Required.
	Replica string

	// Instance is the name of this one run of the process, new at each start; the same letters. Required.
	Instance string

	// Host is the machine or container it runs on, and Version what it runs; for people, except that a
	// process takes over the place of one with the same Replica and Host. At most 200 bytes each.
	Host, Version string

	// Connections is how many connections this replica may open. At least 0.
	Connections int

	// Cap is how many connections all replicas together may hold. Default 0: no limit; replicas register
	// to be seen. Where replicas differ, each is admitted by its own.
	Cap int

	// Key is the lease hash. Default DefaultKey. Give each environment that shares a Redis one of its own.
	Key string

	// Lease is how long a place is kept without renewal, and so how long a crashed replica that does not
	// come back holds its place. Default DefaultLease; at least 2 Renew, at most 12h.
	Lease time.Duration

	// Renew is the time between two renewals. Default DefaultRenew; at least 15m.
	Renew time.Duration

	// Wait is how long Join waits while the fleet is full. Default DefaultWait; negative means not at all.
	Wait time.Duration

	// Timeout bounds one command. Default DefaultTimeout.
	Timeout time.Duration

	// Event is told of what happens, see Event; may be nil. It is called without a lock held, from the
	// goroutine that found out, and must return soon.
	Event func(Event)

	// InScript is told of commands that a script ran on the server; may be nil.
	InScript func(command string, n int64)

	knows int // schema known; 0 means Schema. Tests raise it.
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Lease, DefaultLease}, {&o.Renew, DefaultRenew}, {&o.Wait, DefaultWait}, {&o.Timeout, DefaultTimeout}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Key == "" {
		o.Key = DefaultKey
	}
	if o.Event == nil {
		o.Event = func(Event) {}
	}
	if o.InScript == nil {
		o.InScript = func(string, int64) {}
	}
	if o.knows == 0 {
		o.knows = Schema
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Client == nil {
		bad("client: missing")
	}
	for _, n := range []struct{ field, name string }{{"replica", o.Replica}, {"instance", o.Instance}} {
		if n.name == "" || len(n.name) > 64 || strings.ContainsFunc(n.name, notInName) {
			bad("%s: got %q, want 1 to 64 letters, digits, dots, hyphens and underscores", n.field, n.name)
		}
	}
	if len(o.Host) > 200 {
		bad("host: %d bytes long, want at most 200", len(o.Host))
	}
	if len(o.Version) > 200 {
		bad("version: %d bytes long, want at most 200", len(o.Version))
	}
	if o.Connections < 0 {
		bad("connections: got %d, want 0 or more", o.Connections)
	}
	if o.Cap < 0 {
		bad("cap: got %d, want 0 or more", o.Cap)
	}
	if len(o.Key) > 512 {
		bad("key: %d bytes long, want at most 512", len(o.Key))
	}
	if o.Renew < shortestRenew {
		bad("renew: got %s, want at least %s", o.Renew, shortestRenew)
	}
	if o.Lease < 2*o.Renew || o.Lease > longestLease {
		bad("lease: got %s, want twice renew (%s) to %s", o.Lease, 2*o.Renew, longestLease)
	}
	if o.Timeout < time.Millisecond {
		bad("timeout: got %s, want at least 1ms", o.Timeout)
	}
	return errors.Join(errs...)
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
}
