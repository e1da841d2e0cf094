package cache

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Options.
const (
	DefaultTTL             = 3600 * time.Second
	DefaultMaxTTL          = 86400 * time.Second
	DefaultNegativeTTL     = 30 * time.Second
	DefaultMaxL1TTL        = time.Minute
	DefaultDeadline        = 150 * time.Millisecond
	DefaultLoadTimeout     = 10 * time.Second
	DefaultStaleOnError    = time.Hour
	DefaultGuardTTL        = 30 * time.Second
	DefaultL1Bytes         = 64 << 20
	DefaultMergeWindow     = time.Millisecond
	DefaultCompressFrom    = 4 << 10
	DefaultMaxRequestBytes = 10_000_000
	DefaultJitter          = 0.1
	DefaultPrefix          = "cache"
)

// Options say where entries are kept, for how long, and what may be kept at all. Only Client is
// required; every other zero value is a working default.
type Options struct {
	// Client reaches the upstream. It is not used at construction: a Cache starts, and answers, while
	// the upstream is down. It must keep to the deadline of its context (go-redis:
	// ContextTimeoutEnabled) and must not repeat by itself (MaxRetries: -1).
	Client redis.UniversalClient

	// InScript, when not nil, is told how many commands a script ran inside the server and what
	// started it, so that the meter can charge them. Only guarded namespaces run one.
	InScript func(key, command string, n int64)

	// BinarySafe is whether arguments may be any bytes. Where it is false, as over Upstash REST,
	// envelopes are written as base64, a third larger. Either form is always read. Default false.
	BinarySafe bool

	// Cluster is whether keys live on several nodes. Reads are then merged into one pipeline instead
	// of one MGET, which saves round trips and no commands. Default false.
	Cluster bool

	// Environment, when not empty, is the first part of every key, so that two environments can share
	// a database: "staging" makes staging:cache:user:42. Keys of IORedisJSON namespaces do not have it.
	Environment string

	// Prefix is the part of every key that says whose it is. Nothing outside it is ever deleted.
	// Default "cache".
	Prefix string

	// DefaultTTL is how long an entry lives when neither its writer nor its class says. Default 1h.
	DefaultTTL time.Duration

	// MaxTTL is the longest an entry may be kept, its stale time included; more is shortened to it and
	// counted in Stats.Clamped. Default 24h.
	MaxTTL time.Duration

	// NegativeTTL is how long "there is no such thing" is remembered. Default 30s, at most MaxTTL.
	NegativeTTL time.Duration

	// Jitter is the largest share by which a default or class time to live is shortened at random, so
	// that what was written together does not expire together. A time to live that the writer gives
	// is kept exactly. Default 0.1; negative means none.
	Jitter float64

	// Classes are the named times to live. Default DefaultClasses().
	Classes map[string]Class

	// Namespaces are the first parts of keys that differ from the default: codec raw, no class. A
	// sensitive class that no namespace has gets one of its own, its name in lower case.
	Namespaces map[string]Namespace

	// L1Bytes bounds what is kept in memory, keys and bookkeeping included. Default 64 MiB; negative
	// turns the memory tier off.
	L1Bytes int64

	// MaxL1TTL bounds how long an entry in memory is believed without looking at the upstream, and so
	// how long another replica's change can go unseen. The default for an entry is a tenth of its time
	// to live, at most this. Default 1m. One hot key costs 30 days / MaxL1TTL = 43,200 reads a month
	// for each replica.
	MaxL1TTL time.Duration

	// StaleOnError is how long after its end an entry in memory is still served, marked stale, while
	// the upstream does not answer. Default 1h; negative means not at all.
	StaleOnError time.Duration

	// Deadline is the longest one operation waits for the upstream, everything included. Default 150ms.
	// Loaders, patterns, warmers and samples have limits of their own.
	Deadline time.Duration

	// LoadTimeout bounds one call of a loader, which goes on when its caller leaves. Default 10s.
	LoadTimeout time.Duration

	// GuardTTL is how long a deleted key of a guarded namespace refuses values that were read before
	// the delete. It must be longer than any load. Default 30s.
	GuardTTL time.Duration

	// MergeWindow is how long reads gather behind one that is under way, to leave as one command. A
	// read that finds none under way leaves at once. Default 1ms; negative means reads are not merged.
	MergeWindow time.Duration

	// MaxMerge is the most keys of one merged read. Default 128.
	MaxMerge int

	// CompressFrom is the size in bytes from which values are compressed with zstd; what does not
	// shrink by a tenth is kept as it is. Default 4 KiB; negative means never. Values of sensitive
	// classes are never compressed, because their length would tell about their content.
	CompressFrom int

	// MaxRequestBytes is the largest request the upstream takes; a value that cannot fit is refused
	// before anything is sent, and batches are split. Default 10,000,000.
	MaxRequestBytes int

	// Keys encrypt the entries of sensitive classes. The first one encrypts, all of them decrypt: to
	// rotate, put a new key in front, and drop the old one after MaxTTL. Without keys, writing an
	// entry of a sensitive class is refused.
	Keys []Key

	// KeySecret makes the names of sensitive entries unreadable: every part of them after the
	// namespace is replaced by its HMAC. At least 16 bytes. Default: derived from the first of Keys,
	// so that a rotation leaves the sensitive entries of the old key behind, unread, until they expire.
	KeySecret []byte

	// Deny are names of what must not be cached: a key with such a part, or a JSON or MessagePack
	// value with such a field, is refused unless its class is sensitive. Names are compared word by
	// word without case: "token" finds accessToken and refresh_tokens, not tokenizer. Default
	// DefaultDeny(); an empty non-nil list denies nothing.
	Deny []string

	// Subscribe, when not nil, follows a channel on which replicas tell each other what they deleted
	// (see Feed). Run keeps it open. Every delete and invalidation then costs one PUBLISH more.
	Subscribe func(ctx context.Context, channel string) (Feed, error)

	// Channel is the name of that channel. Default Environment and Prefix with ":~bell".
	Channel string

	// Warmers are run by Run: once at the start, and then each in its own interval.
	Warmers []Warmer

	// Warmed, when not nil, is told of each run of a warmer.
	Warmed func(WarmReport, error)

	// BreakAfter is how many calls in a row must fail before the upstream is left alone. Default 3.
	BreakAfter int

	// ProbeEvery is how often one call is let through while the upstream is left alone; it bounds how
	// long its return goes unnoticed. Default 1s.
	ProbeEvery time.Duration
}

// A Class is a named time to live.
type Class struct {
	// TTL is how long entries of the class are fresh. Default Options.DefaultTTL.
	TTL time.Duration

	// StaleFor is how much longer an entry is kept after TTL, served marked stale while one caller
	// loads it anew. Default 0: an entry ends with its time to live.
	StaleFor time.Duration

	// L1TTL is how long an entry in memory is believed without looking at the upstream. Default a tenth
	// of TTL, at most Options.MaxL1TTL; negative keeps the class out of memory. Entries of a sensitive
	// class are in memory only if this is above 0, because there they are not encrypted.
	L1TTL time.Duration

	// NegativeTTL replaces Options.NegativeTTL for the class. Default 0: it does not.
	NegativeTTL time.Duration

	// Sensitive classes hold secrets or personal data. Their entries are only stored encrypted, under
	// unreadable names, in a namespace that holds nothing else.
	Sensitive bool

	// LimiterOnly classes are for rate limits and refused for cache entries.
	LimiterOnly bool
}

// A Namespace says how the keys are kept whose first part is its name.
type Namespace struct {
	// Codec is how values are written. Default Raw. It is recorded in each entry, so that it can be
	// changed at any time; IORedisJSON is the exception, see there.
	Codec Codec

	// Class is the class of entries whose writer names none. Default none.
	Class string

	// OwnerParts, when above 0, is how many parts of a key after the namespace name its owner: with 1,
	// user:42:profile carries the tag user:42 by itself, and InvalidateTags("user:42") ends all that
	// belongs to user 42 for one command. Readers check it in the same command as the value.
	OwnerParts int

	// Guard makes the stale-set race impossible between replicas for untagged entries too: a delete
	// leaves a mark for Options.GuardTTL, and a value that was read before it is not stored. A delete
	// then costs 1 command a key instead of 1 for all, and storing over a mark or refreshing an entry
	// costs 1 command plus 2 inside a script instead of 1.
	Guard bool

	// Allow are names from Options.Deny that this namespace may hold after all.
	Allow []string
}

// A Key encrypts entries.
type Key struct {
	// ID is recorded in every entry; 1 to 32 letters, digits, - _ or dots.
	ID string

	// Secret is the AES-256 key, 32 bytes.
	Secret []byte
}

// A Feed is a subscription to a channel.
type Feed struct {
	// Messages are the payloads, in order. A closed channel ends the feed.
	Messages <-chan []byte

	// Gaps says that messages may have been lost. May be nil.
	Gaps <-chan struct{}

	// Close ends the subscription.
	Close func()
}

// DefaultClasses are the classes that hold without configuration.
func DefaultClasses() map[string]Class {
	return map[string]Class{
		"USER_PROFILE":  {TTL: 3600 * time.Second},
		"CONTACTS_LIST": {TTL: 1800 * time.Second},
		"SUGGESTIONS":   {TTL: 300 * time.Second},
		"RATE_LIMIT":    {TTL: 60 * time.Second, LimiterOnly: true},
		"SESSION":       {TTL: 86400 * time.Second, Sensitive: true},
	}
}

// DefaultDeny are the names that must not be cached unencrypted.
func DefaultDeny() []string {
	return []string{
		"password", "passwd", "passphrase", "secret", "token", "jwt", "api key", "private key", "access key",
		"authorization", "credential", "cookie", "cvv", "cvc", "pin code", "otp",
	}
}

func (o Options) withDefaults() Options {
	o.Prefix = or(o.Prefix, DefaultPrefix)
	o.DefaultTTL = or(o.DefaultTTL, DefaultTTL)
	o.MaxTTL = or(o.MaxTTL, DefaultMaxTTL)
	o.NegativeTTL = or(o.NegativeTTL, min(DefaultNegativeTTL, o.MaxTTL))
	o.Jitter = or(o.Jitter, DefaultJitter)
	o.L1Bytes = or(o.L1Bytes, DefaultL1Bytes)
	o.MaxL1TTL = or(o.MaxL1TTL, DefaultMaxL1TTL)
	o.StaleOnError = or(o.StaleOnError, DefaultStaleOnError)
	o.Deadline = or(o.Deadline, DefaultDeadline)
	o.LoadTimeout = or(o.LoadTimeout, DefaultLoadTimeout)
	o.GuardTTL = or(o.GuardTTL, DefaultGuardTTL)
	o.MergeWindow = or(o.MergeWindow, DefaultMergeWindow)
	o.MaxMerge = or(o.MaxMerge, 128)
	o.CompressFrom = or(o.CompressFrom, DefaultCompressFrom)
	o.MaxRequestBytes = or(o.MaxRequestBytes, DefaultMaxRequestBytes)
	o.BreakAfter = or(o.BreakAfter, 3)
	o.ProbeEvery = or(o.ProbeEvery, time.Second)
	if o.Deny == nil {
		o.Deny = DefaultDeny()
	}
	if o.Classes == nil {
		o.Classes = DefaultClasses()
	}
	o.Channel = or(o.Channel, o.root()+"~bell")
	o.Classes = maps.Clone(o.Classes)
	o.Namespaces = maps.Clone(o.Namespaces)
	if o.Namespaces == nil {
		o.Namespaces = map[string]Namespace{}
	}
	taken := map[string]bool{}
	for _, ns := range o.Namespaces {
		taken[ns.Class] = true
	}
	for name, class := range o.Classes {
		class.TTL = or(class.TTL, o.DefaultTTL)
		o.Classes[name] = class
		own := strings.ToLower(name)
		if _, exists := o.Namespaces[own]; class.Sensitive && !taken[name] && !exists {
			o.Namespaces[own] = Namespace{Class: name}
		}
	}
	for name, ns := range o.Namespaces {
		ns.Codec = or(ns.Codec, Raw)
		o.Namespaces[name] = ns
	}
	return o
}

// root is what the keys in the upstream begin with.
func (o *Options) root() string {
	if o.Environment == "" {
		return o.Prefix + ":"
	}
	return o.Environment + ":" + o.Prefix + ":"
}

// or is value, or fallback where value is zero.
func or[T comparable](value, fallback T) T {
	var zero T
	if value == zero {
		return fallback
	}
	return value
}

func (o *Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if o.Client == nil {
		bad("client: missing, give a redis.UniversalClient")
	}
	if o.Environment != "" && !plainPart(o.Environment) {
		bad("environment: got %q, want letters, digits, - _ or dots", o.Environment)
	}
	if !plainPart(o.Prefix) {
		bad("prefix: got %q, want letters, digits, - _ or dots", o.Prefix)
	}
	for _, d := range []struct {
		name string
		got  time.Duration
		min  time.Duration
	}{
		{"default_ttl", o.DefaultTTL, time.Millisecond},
		{"max_ttl", o.MaxTTL, time.Millisecond},
		{"negative_ttl", o.NegativeTTL, time.Millisecond},
		{"max_l1_ttl", o.MaxL1TTL, time.Millisecond},
		{"deadline", o.Deadline, time.Millisecond},
		{"load_timeout", o.LoadTimeout, time.Millisecond},
		{"guard_ttl", o.GuardTTL, time.Second},
		{"probe_every", o.ProbeEvery, time.Millisecond},
	} {
		if d.got < d.min {
			bad("%s: got %s, want at least %s", d.name, d.got, d.min)
		}
	}
	if o.DefaultTTL > o.MaxTTL {
		bad("default_ttl: got %s, want at most max_ttl %s", o.DefaultTTL, o.MaxTTL)
	}
	if o.NegativeTTL > o.MaxTTL {
		bad("negative_ttl: got %s, want at most max_ttl %s", o.NegativeTTL, o.MaxTTL)
	}
	if o.Jitter > 0.5 {
		bad("jitter: got %g, want at most 0.5", o.Jitter)
	}
	if o.MaxMerge < 1 || o.MaxMerge > 10_000 {
		bad("max_merge: got %d, want 1 to 10000", o.MaxMerge)
	}
	if o.MaxRequestBytes < 1024 {
		bad("max_request_bytes: got %d, want at least 1024", o.MaxRequestBytes)
	}
	if o.BreakAfter < 1 {
		bad("break_after: got %d, want 1 or more", o.BreakAfter)
	}
	if len(o.KeySecret) > 0 && len(o.KeySecret) < 16 {
		bad("key_secret: got %d bytes, want at least 16", len(o.KeySecret))
	}
	errs = append(errs, o.validateKeys()...)
	errs = append(errs, o.validateClasses()...)
	errs = append(errs, o.validateNamespaces()...)
	for i, w := range o.Warmers {
		if err := w.validate(); err != nil {
			errs = append(errs, fmt.Errorf("warmers[%d]: %w", i, err))
		}
	}
	return errors.Join(errs...)
}

func (o *Options) validateKeys() []error {
	var errs []error
	seen := map[string]bool{}
	for i, k := range o.Keys {
		switch {
		case len(k.ID) > 32 || !plainPart(k.ID):
			errs = append(errs, fmt.Errorf("keys[%d].id: got %q, want 1 to 32 letters, digits, - _ or dots", i, k.ID))
		case seen[k.ID]:
			errs = append(errs, fmt.Errorf("keys[%d].id: %q is there twice, give each key its own", i, k.ID))
		}
		seen[k.ID] = true
		if len(k.Secret) != 32 {
			errs = append(errs, fmt.Errorf("keys[%d].secret: got %d bytes, want 32", i, len(k.Secret)))
		}
	}
	return errs
}

func (o *Options) validateClasses() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.Classes)) {
		class := o.Classes[name]
		if class.TTL < time.Millisecond {
			errs = append(errs, fmt.Errorf("classes.%s.ttl: got %s, want at least 1ms", name, class.TTL))
		}
		if class.TTL > o.MaxTTL {
			errs = append(errs, fmt.Errorf("classes.%s.ttl: got %s, want at most max_ttl %s", name, class.TTL, o.MaxTTL))
		}
		if class.StaleFor < 0 {
			errs = append(errs, fmt.Errorf("classes.%s.stale_for: got %s, want 0 or more", name, class.StaleFor))
		}
		if class.NegativeTTL < 0 || class.NegativeTTL > o.MaxTTL {
			errs = append(errs, fmt.Errorf("classes.%s.negative_ttl: got %s, want 0 to max_ttl %s", name, class.NegativeTTL, o.MaxTTL))
		}
		if class.Sensitive && class.LimiterOnly {
			errs = append(errs, fmt.Errorf("classes.%s: sensitive and limiter_only exclude each other", name))
		}
	}
	return errs
}

func (o *Options) validateNamespaces() []error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(o.Namespaces)) {
		ns := o.Namespaces[name]
		bad := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("namespaces."+name+format, args...))
		}
		if !plainPart(name) {
			errs = append(errs, fmt.Errorf("namespaces: got %q, want letters, digits, - _ or dots", name))
			continue
		}
		if !ns.Codec.known() {
			bad(".codec: got %q, want raw, json, msgpack or ioredis-json", ns.Codec)
		}
		class, ok := o.Classes[ns.Class]
		switch {
		case ns.Class == "":
		case !ok:
			bad(".class: no class %q is configured", ns.Class)
		case class.LimiterOnly:
			bad(".class: %s is for rate limits only", ns.Class)
		case class.Sensitive && ns.Codec == IORedisJSON:
			bad(".class: %s is sensitive and ioredis-json cannot be encrypted, use another codec", ns.Class)
		}
		if ns.OwnerParts < 0 || ns.OwnerParts > 8 {
			bad(".owner_parts: got %d, want 0 to 8", ns.OwnerParts)
		}
		if ns.Codec == IORedisJSON && (ns.OwnerParts > 0 || ns.Guard) {
			bad(": ioredis-json entries have no envelope, so owner_parts and guard cannot work there")
		}
	}
	return errs
}
