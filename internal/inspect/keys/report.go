package keys

import (
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// A Report is one audit of the keys of a database.
type Report struct {
	At     time.Time          `json:"at"`
	Server connections.Server `json:"server"`

	// Policy is the server's maxmemory-policy, empty when it does not say.
	Policy string `json:"maxmemory_policy,omitempty"`

	// Keys is the size of the database.
	Keys int64 `json:"keys"`

	// Names is how many names were read, and NamesFrom by which command. Complete says that these are all
	// the audit was asked for.
	Names     int    `json:"names_read"`
	NamesFrom string `json:"names_from"`
	Complete  bool   `json:"names_complete"`

	// Detailed is how many of them were looked at by lot; Picked, how many more for their name, which
	// count for the largest keys and not for shares; Gone, how many were no longer there.
	Detailed int `json:"keys_in_detail"`
	Picked   int `json:"keys_picked"`
	Gone     int `json:"keys_gone"`

	Estimate Estimate `json:"estimate"`
	Sent     int      `json:"own_commands"`

	// SizeFrom says what sizes are: "MEMORY USAGE", or "elements" where they are the length of a sample of
	// elements times their number.
	SizeFrom     string `json:"size_from"`
	RequestLimit int64  `json:"request_limit_bytes"`

	Prefixes []Prefix `json:"prefixes"`
	Biggest  []Key    `json:"biggest"`

	Measures []inspect.Measure `json:"measures"`
	Findings []inspect.Finding `json:"findings"`

	// Missing names what could not be observed and why; Notes, what limits what was.
	Missing []string `json:"missing"`
	Notes   []string `json:"notes"`
}

// A Prefix is what is known of the keys whose names begin alike.
type Prefix struct {
	Name   string `json:"prefix"`
	Family Family `json:"family,omitempty"`

	// Share is the prefix's share of the names read; Keys, what that makes of all keys.
	Share Share   `json:"share_of_keys"`
	Keys  float64 `json:"keys_estimate"`

	Detailed int            `json:"keys_in_detail"`
	Types    map[string]int `json:"types"`

	// MeanBytes and TotalBytes are nil where the sample is too small or sizes are not observable.
	MeanBytes  *float64 `json:"mean_bytes,omitempty"`
	TotalBytes *float64 `json:"total_bytes_estimate,omitempty"`

	// NoTTL is the share of keys that never expire; TTL, how long the others of the sample stay.
	NoTTL Share    `json:"no_ttl"`
	TTL   []Expiry `json:"ttl"`

	// IdleMedianSeconds is how long half of the sample was not touched; nil unless asked for.
	IdleMedianSeconds *float64 `json:"idle_median_s,omitempty"`

	// Values are the string values of the sample by class, and what clients make of them. Nil where a
	// library owns them.
	Values *Values `json:"values,omitempty"`
}

// An Expiry is how many keys of a sample expire within UpToSeconds, and not within the entry before. 0 is
// all that stay longer.
type Expiry struct {
	UpToSeconds int64 `json:"up_to_s"`
	Keys        int   `json:"keys"`
}

// Values say what is in the string values of a sample.
type Values struct {
	Classes map[Class]int `json:"classes"`

	// Throws is the share on which JSON.parse throws; Changes, the share that @upstash/redis gives as
	// something else than the string that a plain client gives; Damaged, the share that is not UTF-8.
	Throws  Share `json:"json_parse_throws"`
	Changes Share `json:"type_changes"`
	Damaged Share `json:"not_utf8"`
}

// A Key is one key that was looked at.
type Key struct {
	Name   string `json:"key"`
	Prefix string `json:"prefix"`
	Family Family `json:"family,omitempty"`
	Type   string `json:"type"`

	// Bytes is what SizeFrom of the report says; nil when not observable.
	Bytes *int64 `json:"bytes,omitempty"`

	// Elements is the length of a collection; nil for strings and when not observable.
	Elements *int64 `json:"elements,omitempty"`

	// TTLSeconds is nil for a key that never expires.
	TTLSeconds *float64 `json:"ttl_s,omitempty"`

	// FullRead is what reading all of it costs.
	FullRead FullRead `json:"full_read"`

	ttlKnown bool
	idle     *float64
	value    *reading
	length   *int64 // of a string, where all of it was read
	picked   bool
	guessed  bool // nobody saw the name
	gone     bool
}

// A FullRead is the price of reading a whole key at once.
type FullRead struct {
	Command string `json:"command"`
	Bytes   *int64 `json:"bytes,omitempty"`

	// Commands is how many it takes in pieces that each stay below the request limit.
	Commands int `json:"commands,omitempty"`

	// OverLimit says that at once it is larger than the provider sends.
	OverLimit bool `json:"over_request_limit"`
}
