package config

import (
	"fmt"
	"net/url"
	"strings"
)

// Ramp is the second upstream, to which cache and limits move key by key: `redisopt migrate phase1`. It is
// reached over REST (rest_url and rest_token) or over TCP (url), not both. Without either there is none.
// The one under upstream is then the old side, and this the new one.
type Ramp struct {
	// RESTURL is the address of the new side's Upstash REST API, beginning with https://. Default none.
	RESTURL URL `yaml:"rest_url" env:"REDISOPT_RAMP_REST_URL"`

	// RESTToken is the bearer token for rest_url. Default none.
	RESTToken Secret `yaml:"rest_token" env:"REDISOPT_RAMP_REST_TOKEN"`

	// URL is the new side's address over TCP: redis://, rediss:// (TLS) or unix://, with user, password
	// and database number. It takes one of upstream.max_connections, which must be 3 or more where the
	// old side is reached over TCP too. Default none.
	URL URL `yaml:"url" env:"REDISOPT_RAMP_URL"`

	// SameDatabase is whether both sides are ways to one and the same database, as Upstash over TCP and
	// over REST: nothing is then written twice, and counters need not be carried. Phase 1 finds out
	// whether it is true before it begins. Default false.
	SameDatabase bool `yaml:"same_database"`
}

// Set is whether there is a second upstream.
func (r Ramp) Set() bool { return r.RESTURL != "" || r.URL != "" }

// Addr is where the new side is, without credentials; empty where there is none.
func (r Ramp) Addr() string {
	u, err := url.Parse(string(r.URL))
	switch {
	case r.RESTURL != "":
		return r.RESTURL.String()
	case r.URL == "" || err != nil:
		return ""
	case u.Scheme == "unix":
		return u.Path
	}
	return strings.Join(TCP{URL: r.URL}.Hosts(), ",")
}

// oldIsTCP is whether there is an old side over TCP.
func (c *Config) oldIsTCP() bool {
	_, tcp := c.TCP()
	return tcp
}

// MainConnections is the most connections to the upstream over TCP: all of upstream.max_connections, less
// the one that the new side of a ramp takes.
func (c *Config) MainConnections() int {
	if c.Ramp.URL != "" {
		return max(1, c.Upstream.MaxConnections-1)
	}
	return c.Upstream.MaxConnections
}

// ramp reports what is wrong with the second upstream.
func (k *checker) ramp() {
	r := k.config.Ramp
	if r.RESTURL != "" {
		k.check("ramp.rest_url", r.RESTURL.checkREST())
	}
	if r.URL != "" {
		k.check("ramp.url", r.URL.checkTCP())
	}
	switch {
	case r.RESTURL != "" && r.URL != "":
		k.bad("ramp.url", "ramp.rest_url is set too (%s); the new side is reached in one way, so remove one of them", k.config.originNear("ramp.rest_url"))
	case r.RESTURL != "" && r.RESTToken == "":
		k.missing("ramp.rest_token", "missing, but ramp.rest_url is set (%s); set REDISOPT_RAMP_REST_TOKEN", k.config.originNear("ramp.rest_url"))
	case r.RESTURL == "" && r.RESTToken != "":
		k.missing("ramp.rest_url", "missing, but ramp.rest_token is set (%s); set REDISOPT_RAMP_REST_URL", k.config.originNear("ramp.rest_token"))
	case r.URL != "" && k.config.oldIsTCP() && k.config.Upstream.MaxConnections < 3:
		k.bad("upstream.max_connections", "%d leaves none for ramp.url (%s): the old side needs 2, for commands and for the bell, and the new side 1; set 3, or reach the new side by ramp.rest_url, which holds none",
			k.config.Upstream.MaxConnections, k.config.originNear("ramp.url"))
	}
	if !r.Set() {
		return
	}
	key := "ramp.url"
	if r.URL == "" {
		key = "ramp.rest_url"
	}
	if tcp, ok := k.config.TCP(); ok && (len(tcp.Cluster) > 0 || len(tcp.SentinelAddrs) > 0 && r.URL != "") {
		what := "a Redis Cluster"
		if len(tcp.Cluster) == 0 {
			what = "Sentinels"
		}
		k.bad(key, "the old side is %s, and keys cannot be taken from it one by one; migrate copy moves all of them", what)
	}
	if same := sameAddress(k.config, r); same != "" && !r.SameDatabase {
		k.bad(key, "is the address of the old side too (%s); set ramp.same_database, or the address that keys are to move to", printable(same))
	}
}

// sameAddress is the address that both sides have, if they are reached in the same way.
func sameAddress(c *Config, r Ramp) string {
	if r.RESTURL != "" && strings.EqualFold(strings.TrimRight(string(r.RESTURL), "/"), strings.TrimRight(string(c.Upstream.RESTURL), "/")) {
		return fmt.Sprint(r.RESTURL)
	}
	if tcp, ok := c.TCP(); ok && r.URL != "" && tcp.URL != "" {
		a, errA := url.Parse(string(tcp.URL))
		b, errB := url.Parse(string(r.URL))
		if errA == nil && errB == nil && a.Host == b.Host && a.Path == b.Path {
			return a.Host + a.Path
		}
	}
	return ""
}
