package limit

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Options.
const (
	DefaultPrefix   = "redisopt:limit"
	DefaultDeadline = 50 * time.Millisecond
	DefaultMaxLocal = 100_000
	DefaultMaxBatch = 100
	DefaultFailures = 5
	DefaultPause    = time.Second
)

// Options say where and what to limit.
type Options struct {
	// Client is the Redis that counts: over TCP, a multiplexer, or REST; all arguments are ASCII text.
	// It is not touched before the first check, and must give up when the context of a command ends.
	// Nil: every rule is decided by its OnError, as if Redis never answered.
	Client redis.UniversalClient

	// Cluster says that Client talks to a Redis Cluster, where one script call can be about one slot only.
	// A *redis.ClusterClient is recognised without it.
	Cluster bool

	// Other is a second Redis to which subjects move one by one. Nil: there is none.
	Other *Other

	// InScript is told of the commands that a script ran on the server, by the command that started it
	// ("evalsha" or "eval"). It is exact, because the script itself counts. Nil: nobody is told.
	InScript func(command string, n int64)

	// Rules are the limits. Nil: DefaultRules.
	Rules []Rule

	// Prefix is what all keys begin with. Default "redisopt:limit". A key is PREFIX:RULE:{SUBJECT}, or
	// PREFIX:RULE/FEATURE:{SUBJECT}, so that on a Cluster all limits of one subject are in one slot.
	Prefix string

	// HashKey keys the HMAC of subjects that must not appear in Redis or in events. Required with a rule
	// that hashes; at least 16 bytes, and the same in every replica.
	HashKey []byte

	// Instances is how many replicas share the limits. Default 1. It divides what may be leased, and the
	// limit that each has on its own while Redis is away; it does not have to be exact for a limit to
	// hold.
	Instances int

	// Deadline is the longest a check may take, repetitions included. Default 50ms, of which Redis has
	// nine tenths to answer.
	Deadline time.Duration

	// Failures is after how many failed calls in a row Redis is left alone for Pause. Default 5.
	Failures int

	// Pause is how long Redis is left alone before one call tries it again. Default 1s.
	Pause time.Duration

	// MaxLocal is how many keys are remembered in memory for leases and denials, about 300 B each; the
	// ones longest unused are forgotten. Default 100,000.
	MaxLocal int

	// MaxBatch is the most requests in one CheckMany or CheckAll. Default 100.
	MaxBatch int

	// Event is told what an operator may want to log, at most once a second for each rule and kind. It
	// must return at once. Nil: nobody is told; Stats count everything either way.
	Event func(Event)
}

func (o Options) withDefaults() Options {
	if o.Rules == nil {
		o.Rules = DefaultRules()
	}
	if o.Prefix == "" {
		o.Prefix = DefaultPrefix
	}
	if o.Instances == 0 {
		o.Instances = 1
	}
	if o.Deadline == 0 {
		o.Deadline = DefaultDeadline
	}
	if o.Failures == 0 {
		o.Failures = DefaultFailures
	}
	if o.Pause == 0 {
		o.Pause = DefaultPause
	}
	if o.MaxLocal == 0 {
		o.MaxLocal = DefaultMaxLocal
	}
	if o.MaxBatch == 0 {
		o.MaxBatch = DefaultMaxBatch
	}
	if _, ok := o.Client.(*redis.ClusterClient); ok {
		o.Cluster = true
	}
	if o.InScript == nil {
		o.InScript = func(string, int64) {}
	}
	o.Other = o.Other.withDefaults()
	return o
}

var keyPrefix = regexp.MustCompile(`^[A-Za-z0-9_.:/@-]{1,128}$`)

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if !keyPrefix.MatchString(o.Prefix) {
		bad("prefix: got %q, want 1 to 128 of a-z A-Z 0-9 _ . : / @ -", o.Prefix)
	}
	if n := len(o.HashKey); n > 0 && n < 16 {
		bad("hash_key: got %d bytes, want at least 16", n)
	}
	if o.Instances < 1 {
		bad("instances: got %d, want 1 or more", o.Instances)
	}
	if o.Deadline < time.Millisecond {
		bad("deadline: got %s, want at least 1ms", o.Deadline)
	}
	if o.Failures < 1 {
		bad("failures: got %d, want 1 or more", o.Failures)
	}
	if o.Pause < time.Millisecond {
		bad("pause: got %s, want at least 1ms", o.Pause)
	}
	if o.MaxLocal < 1 {
		bad("max_local: got %d, want 1 or more", o.MaxLocal)
	}
	if o.MaxBatch < 1 || o.MaxBatch > 1000 {
		bad("max_batch: got %d, want 1 to 1000", o.MaxBatch)
	}
	if o.Other != nil {
		errs = append(errs, o.Other.validate())
	}
	return errors.Join(errs...)
}
