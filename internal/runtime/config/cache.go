package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Cache configures the cache.
type Cache struct {
	// Environment is the first part of every key, so that two environments can share a database.
	// Default none.
	Environment string `yaml:"environment"`

	// Prefix is the part of every key that says whose it is. Nothing outside it is ever deleted.
	// Default cache.
	Prefix string `yaml:"prefix" jsonschema:"minLength=1"`

	// DefaultTTL is how long an entry lives when its writer does not say. Default 1h.
	DefaultTTL time.Duration `yaml:"default_ttl" min:"1s"`

	// MaxTTL is the longest an entry may live; more is shortened to it, default times to live
	// included. Default 24h.
	MaxTTL time.Duration `yaml:"max_ttl" min:"1s"`

	// NegativeTTL is how long it is remembered that there is no such thing. Default 30s.
	NegativeTTL time.Duration `yaml:"negative_ttl" min:"1ms"`

	// Jitter is the largest share by which a default time to live is shortened at random, so that what
	// was written together does not expire together. Default 0.1; 0 means none.
	Jitter float64 `yaml:"jitter" jsonschema:"minimum=0,maximum=0.5"`

	// Deadline is the longest a cache operation may take in all, repetitions included; after it the
	// caller goes on without the cache. Default 150ms.
	Deadline time.Duration `yaml:"deadline" min:"1ms" max:"1m"`

	// L1Bytes is the most bytes that are kept in memory, keys and bookkeeping included. Default 67108864
	// (64 MiB); 0 turns the memory tier off.
	L1Bytes int `yaml:"l1_bytes" jsonschema:"minimum=0"`

	// L1MaxTTL is how long an entry in memory is at most believed without looking at the upstream, and
	// so how long the change of another replica can go unseen. One hot key costs 30 days divided by it,
	// in commands a month. Default 1m.
	L1MaxTTL time.Duration `yaml:"l1_max_ttl" min:"1ms"`

	// StaleOnError is how long after its end an entry in memory is still served, marked stale, while
	// the upstream does not answer. Default 1h; 0s means not at all.
	StaleOnError time.Duration `yaml:"stale_on_error" min:"0s"`

	// Bell is whether replicas tell each other at once what they deleted. Each delete then costs one
	// command more. Default false: they see it within l1_max_ttl.
	Bell bool `yaml:"bell"`

	// CompressFrom is the size in bytes from which values are compressed. Default 4096; 0 means never.
	CompressFrom int `yaml:"compress_from_bytes" jsonschema:"minimum=0"`

	// EncryptionKeys are the keys for entries of sensitive classes, ID:BASE64 with 32 bytes each,
	// separated by commas. The first encrypts, all of them decrypt: to rotate, put a new one in front, and drop
	// the old one after max_ttl. Default none: such entries are refused.
	EncryptionKeys Secret `yaml:"encryption_keys" env:"REDISOPT_CACHE_KEYS"`

	// NameSecret makes the names of sensitive entries unreadable; at least 16 bytes. Default derived
	// from the first of encryption_keys, so that a rotation leaves the old entries behind until they
	// expire.
	NameSecret Secret `yaml:"name_secret" env:"REDISOPT_CACHE_NAME_SECRET"`

	// Deny are names of what must not be cached: an entry with such a part in its key, or such a field
	// in its value, is refused unless its class is sensitive. Default password, secret, token and the
	// like; a list replaces them.
	Deny []string `yaml:"deny"`

	// Classes are the named times to live, by the class's name. A class in the file is added to the
	// default ones, or changes the one of its name.
	Classes map[string]Class `yaml:"classes"`

	// Namespaces are the first parts of keys that differ from the rest, by that part. Default none.
	Namespaces map[string]Namespace `yaml:"namespaces"`
}

// A Class is a named time to live.
type Class struct {
	// TTL is how long entries of the class live. Default cache.default_ttl.
	TTL time.Duration `yaml:"ttl" min:"1s"`

	// StaleFor is how much longer an entry is kept, served marked stale while one caller loads it
	// anew. Default 0s.
	StaleFor time.Duration `yaml:"stale_for" min:"0s"`

	// L1TTL is how long an entry in memory is believed without looking at the upstream; less than 0s
	// keeps the class out of memory. Entries of a sensitive class are in memory only if this is above
	// 0s, because there they are not encrypted. Default 0s: a tenth of ttl, at most cache.l1_max_ttl.
	L1TTL time.Duration `yaml:"l1_ttl"`

	// NegativeTTL is cache.negative_ttl for this class. Default 0s: the same.
	NegativeTTL time.Duration `yaml:"negative_ttl" min:"0s"`

	// Sensitive is whether entries hold secrets or personal data. They are then only stored
	// encrypted, in a namespace of their own. Default false.
	Sensitive bool `yaml:"sensitive"`

	// LimiterOnly is whether the class is for rate limits, and refused for cache entries. Default
	// false.
	LimiterOnly bool `yaml:"limiter_only"`
}

// A Namespace says how the keys are kept whose first part is its name.
type Namespace struct {
	// Codec is how values are written: raw bytes, json, msgpack, or ioredis-json for keys that are
	// shared with code that does JSON.parse(await redis.get(key)). Default raw.
	Codec Codec `yaml:"codec" jsonschema:"enum=raw,enum=json,enum=msgpack,enum=ioredis-json"`

	// Class is the class of entries whose writer names none. Default none.
	Class string `yaml:"class"`

	// OwnerParts is how many parts of a key after the namespace name its owner: with 1 all of
	// user:42:… is ended by invalidating user:42, for one command. Default 0.
	OwnerParts int `yaml:"owner_parts" jsonschema:"minimum=0,maximum=8"`

	// Guard is whether a value that was read before a delete is kept from being stored after it, also
	// between replicas. A delete then costs one command for each key. Default false.
	Guard bool `yaml:"guard"`

	// Allow are names from cache.deny that this namespace may hold after all. Default none.
	Allow []string `yaml:"allow"`
}

// Codec is how values are written.
type Codec string

// The codecs.
const (
	RawCodec     Codec = "raw"
	JSONCodec    Codec = "json"
	MsgPackCodec Codec = "msgpack"
	IORedisJSON  Codec = "ioredis-json"
)

// cache reports what contradicts what in the cache.
func (k *checker) cache() {
	c := k.config.Cache
	if c.DefaultTTL > c.MaxTTL {
		k.bad("cache.default_ttl", "%s is longer than cache.max_ttl (%s)", durationText(c.DefaultTTL), durationText(c.MaxTTL))
	}
	if c.NegativeTTL > c.MaxTTL {
		k.bad("cache.negative_ttl", "%s is longer than cache.max_ttl (%s)", durationText(c.NegativeTTL), durationText(c.MaxTTL))
	}
	for _, name := range slices.Sorted(maps.Keys(c.Classes)) {
		class, key := c.Classes[name], "cache.classes."+name
		if class.TTL > c.MaxTTL {
			k.bad(key+".ttl", "%s is longer than cache.max_ttl (%s)", durationText(class.TTL), durationText(c.MaxTTL))
		}
		if class.Sensitive && class.LimiterOnly {
			k.bad(key+".sensitive", "is set together with limiter_only; rate limits hold no values")
		}
	}
	for key, part := range map[string]string{"cache.prefix": c.Prefix, "cache.environment": c.Environment} {
		if part != "" && (!validName.MatchString(part)) {
			k.bad(key, "got %s, want 1 to 64 letters, digits, dots, hyphens and underscores", quote(part))
		}
	}
	k.namespaces()
	_, err := c.Keys()
	k.check("cache.encryption_keys", err)
	if n := len(c.NameSecret); n > 0 && n < 16 {
		k.bad("cache.name_secret", "is %d bytes long, want at least 16", n)
	}
}

func (k *checker) namespaces() {
	c := k.config.Cache
	for _, name := range slices.Sorted(maps.Keys(c.Namespaces)) {
		ns, key := c.Namespaces[name], "cache.namespaces."+name
		class, known := c.Classes[ns.Class]
		switch {
		case ns.Class == "":
		case !known:
			k.bad(key+".class", "no class is named %s%s", quote(ns.Class), meant(suggest(ns.Class, slices.Sorted(maps.Keys(c.Classes)))))
		case class.LimiterOnly:
			k.bad(key+".class", "class %s is for rate limits only", printable(ns.Class))
		case class.Sensitive && ns.Codec == IORedisJSON:
			k.bad(key+".codec", "ioredis-json cannot be encrypted, but class %s is sensitive", printable(ns.Class))
		}
		if ns.OwnerParts > 0 && ns.Codec == IORedisJSON {
			k.bad(key+".owner_parts", "needs tags, which ioredis-json cannot have")
		}
	}
}

// A Key encrypts entries of the cache.
type Key struct {
	ID     string
	Secret []byte // 32 bytes
}

// Keys are encryption_keys taken apart, the one that encrypts first. Errors do not hold any of them.
func (c Cache) Keys() ([]Key, error) {
	var (
		all  []Key
		errs []error
	)
	if strings.TrimSpace(c.EncryptionKeys.Reveal()) == "" {
		return nil, nil
	}
	for i, item := range strings.Split(c.EncryptionKeys.Reveal(), ",") {
		id, encoded, ok := strings.Cut(strings.TrimSpace(item), ":")
		secret, err := base64.StdEncoding.DecodeString(encoded)
		switch {
		case !ok || len(id) > 32 || !validName.MatchString(id):
			errs = append(errs, fmt.Errorf("key %d: want ID:BASE64, the ID of 1 to 32 letters, digits, dots, hyphens and underscores", i+1))
		case err != nil:
			errs = append(errs, fmt.Errorf("key %d: what follows its ID is not base64; make one with: openssl rand -base64 32", i+1))
		case len(secret) != 32:
			errs = append(errs, fmt.Errorf("key %d: is %d bytes long, want 32; make one with: openssl rand -base64 32", i+1, len(secret)))
		case slices.ContainsFunc(all, func(k Key) bool { return k.ID == id }):
			errs = append(errs, fmt.Errorf("key %d: has the ID of an earlier one", i+1))
		default:
			all = append(all, Key{id, secret})
		}
	}
	return all, errors.Join(errs...)
}
