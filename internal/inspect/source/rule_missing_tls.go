package source

import (
	"net/url"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect"
)

// missingTLS finds connections in plain text to where TLS is spoken, and passwords for a host that
// only the environment names, without any setting for TLS.
func missingTLS(f *facts) {
	seen := make(map[*object]bool)
	for _, s := range f.sites {
		k := s.first()
		if k.library == Upstash || k.library == Ratelimit || k.link == lent || k.options == nil {
			continue
		}
		o := k.options
		for _, name := range []string{"connection", "redis", "socket"} {
			if inner, ok := likely(o.field(name)).(*object); ok && inner.native == nil {
				o = inner
			}
		}
		if seen[o] || o.open || o.has("tls") {
			continue
		}
		seen[o] = true
		f.judgeTLS(k, o)
	}
}

func (f *facts) judgeTLS(k *construction, o *object) {
	at := k.place
	if o.place.mod != nil {
		at = o.place
	}
	address, isText := likely(o.field("host")).(string)
	if address == "" {
		address, isText = likely(o.field("url")).(string)
	}
	host := address
	if u, err := url.Parse(address); err == nil && u.Host != "" {
		if u.Scheme == "rediss" {
			return
		}
		host = u.Hostname()
	}
	switch {
	case isText && strings.HasSuffix(host, ".upstash.io"):
		change := addOption(o, "tls: {}")
		if o.field("url") != nil {
			change = nil
		}
		f.found(at, inspect.Finding{
			Severity: inspect.Critical, Subject: host,
			Message: "a plain connection to a server that speaks TLS: it is reset, which shows as ECONNRESET and not as a full server",
			Remedy:  "add tls: {}, or use a rediss:// address", Fix: change,
		})
	case !isText && o.has("password") && envOf(o.field("host")) != "":
		const option = "tls: process.env.REDIS_TLS === 'true' ? {} : undefined"
		f.found(at, inspect.Finding{
			Severity: inspect.Note, Subject: "process.env." + envOf(o.field("host")),
			Message: "the password crosses the network in plain text unless the host is local, and a server that speaks TLS resets the connection (ECONNRESET)",
			Remedy:  "add " + option, Fix: addOption(o, option),
		})
	}
}
