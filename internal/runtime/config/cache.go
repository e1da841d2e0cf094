package config

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
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
