package cache

import "time"

// A Source is where a value came from.
type Source string

// The sources.
const (
	FromNowhere  Source = ""
	FromMemory   Source = "memory"
	FromUpstream Source = "upstream"
	FromLoader   Source = "loader"
)

// A Result is the answer to a read. The zero value is a miss.
type Result struct {
	// Hit is whether there is an entry. Values that look like nothing are entries: 0, false, "" and
	// null are hits, and so is the knowledge that there is nothing (Negative).
	Hit bool

	// Negative is whether the entry says that there is no such thing. Value is then nil.
	Negative bool

	// Value is the value, in the form that Codec says. It is shared and must not be changed.
	Value []byte

	// Codec is what the entry says of itself.
	Codec Codec

	// Source is who answered.
	Source Source

	// Stale is whether the entry is past its time to live, or could not be checked because the upstream
	// does not answer.
	Stale bool

	// Foreign is whether the value was written by somebody else and is no JSON: Value is then the JSON
	// string of its text. Only in IORedisJSON namespaces.
	Foreign bool

	// Degraded is whether the upstream did not answer. Cause says why. The caller goes on without the
	// cache, and with Value where there is one.
	Degraded bool
	Cause    error

	// Age is the time since the value was written and TTL how much longer it is fresh, both 0 where
	// the entry does not say, as in IORedisJSON namespaces. NoExpiry entries have TTL 0 too.
	Age      time.Duration
	TTL      time.Duration
	NoExpiry bool

	// Token, given to Set, makes it store only if nothing was deleted, invalidated or written since
	// this read. It means something to this process only, except where tags or a guard protect the
	// entry: there it holds against all replicas. It is opaque and safe in a URL or header.
	Token string
}

// SetOptions say how a value is kept. The zero value follows the namespace.
type SetOptions struct {
	// TTL is how long the entry is fresh, at least 1ms; more than Options.MaxTTL is shortened to it. Default: that of
	// the class.
	TTL time.Duration

	// StaleFor is how much longer it is kept to be served stale while it is loaded anew. Default: that
	// of the class.
	StaleFor time.Duration

	// Class is the class. Default: that of the namespace.
	Class string

	// NoExpiry keeps the entry until it is deleted. It cannot be combined with TTL, StaleFor, tags or
	// a namespace with owners.
	NoExpiry bool

	// Codec replaces that of the namespace for this entry; not from or to IORedisJSON.
	Codec Codec

	// Tags are what the entry depends on: InvalidateTags of any of them ends it. At most 16.
	Tags []string

	// Negative stores that there is no such thing; the value must be empty.
	Negative bool

	// Token, when not empty, is that of the Result the value was made for; see Result.Token. A token
	// that is not one is refused.
	Token string

	// Announce tells other replicas to drop what they have in memory, for one PUBLISH. Without
	// Options.Subscribe it does nothing.
	Announce bool

	// cost is how long the value took to load, for early refresh.
	cost time.Duration

	// jitter is whether the time to live may be shortened at random.
	jitter bool
}

// A SetResult says what became of a write.
type SetResult struct {
	// Stored is whether the upstream has the value. If not, Cause says why: the upstream did not answer
	// (the value is then in memory only), or the value was superseded (it is nowhere).
	Stored bool
	Cause  error

	// TTL is how long the entry is fresh, after clamping and jitter; 0 with NoExpiry. Clamped is whether
	// it was shortened to Options.MaxTTL.
	TTL     time.Duration
	Clamped bool

	// ValueBytes is the size of the value and StoredBytes that of what was sent for it: after compression and
	// encryption, with the envelope, in base64 where the transport needs it. Commands are the billed
	// commands it cost, those inside scripts included.
	ValueBytes  int
	StoredBytes int
	Compressed  bool
	Encrypted   bool
	Commands    int
}
