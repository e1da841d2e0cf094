package upstream_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func TestOptionsAreRefused(t *testing.T) {
	notPEM := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(notPEM, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	cases := []struct {
		name string
		o    upstream.Options
		want []string
	}{
		{"with nothing to connect to", upstream.Options{}, []string{"no Redis to connect to"}},
		{"with two ways to connect", upstream.Options{URL: "redis://a", Cluster: []string{"b:1"}}, []string{"more than one"}},
		{"with an https address", upstream.Options{URL: "https://" + secret + "@eu1-x.upstash.io"}, []string{"REST address", "UPSTASH_REDIS_REST_URL", "REDIS_URL=rediss://default:PASSWORD@eu1-x.upstash.io:6379"}},
		{"with an http address", upstream.Options{URL: "http://x:8079"}, []string{"REST address"}},
		{"without a scheme", upstream.Options{URL: "//someone:" + secret + "@h"}, []string{"no scheme"}},
		{"with host:port for a URL", upstream.Options{URL: "localhost:6379"}, []string{"unknown scheme"}},
		{"with an unknown scheme", upstream.Options{URL: "amqp://h"}, []string{`unknown scheme "amqp"`}},
		{"without a host", upstream.Options{URL: "redis://:" + secret + "@"}, []string{"no host"}},
		{"with a bad port", upstream.Options{URL: "redis://:" + secret + "@h:99999"}, []string{"port must be"}},
		{"with a bad database", upstream.Options{URL: "redis://:" + secret + "@h/x"}, []string{`database "x"`}},
		{"with a space around the URL", upstream.Options{URL: "redis://:" + secret + "@h \n"}, []string{"line break"}},
		{"with a raw % in the password", upstream.Options{URL: "redis://:" + secret + "%zz@h"}, []string{"escape"}},
		{"with a raw / in the password", upstream.Options{URL: "redis://:" + secret + "/@h:1"}, []string{"url:"}},
		{"without a path to a unix socket", upstream.Options{URL: "unix://"}, []string{"needs the path"}},
		{"with a user name alone", upstream.Options{URL: "redis://h", Username: "u"}, []string{"password: empty"}},
		{"with a cluster address that has credentials", upstream.Options{Cluster: []string{"u:" + secret + "@h"}}, []string{`"h": port must be a number`}},
		{"with a cluster and a database", upstream.Options{Cluster: []string{"h:1"}, DB: 2}, []string{"the only one a cluster has"}},
		{"with sentinels and no master", upstream.Options{Sentinel: upstream.Sentinel{Addrs: []string{"h:1"}}}, []string{"sentinel master"}},
		{"with a certificate and no key", upstream.Options{URL: "redis://h", TLS: upstream.TLS{CertFile: "x"}}, []string{"both needed"}},
		{"with an authority that is not there", upstream.Options{URL: "rediss://h", TLS: upstream.TLS{CAFile: "/nonexistent"}}, []string{"no such file"}},
		{"with an authority that is no certificate", upstream.Options{URL: "rediss://h", TLS: upstream.TLS{CAFile: notPEM}}, []string{"no PEM certificate"}},
		{"with a client name that has a space", upstream.Options{URL: "redis://h", ClientName: "a b"}, []string{"client name"}},
		{"with all problems at once", upstream.Options{
			URL: "http://h", DB: -1, MaxConnections: -1, Timeout: -1, DialTimeout: time.Microsecond, MaxCommands: -1, Protocol: 4,
		}, []string{"REST address", "database", "max_connections", "timeout", "dial timeout", "max_commands", "protocol"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			u, err := upstream.Open(t.Context(), c.o)
			if err == nil {
				_ = u.Close()
				t.Fatal("Open succeeded")
			}
			if got := upstream.Classify(err); got != upstream.BadOptions {
				t.Errorf("class of %q = %s, want %s", err, got, upstream.BadOptions)
			}
			wantText(t, err, c.want...)
			if strings.Contains(err.Error(), secret) {
				t.Errorf("the password is in the error: %q", err)
			}
		})
	}
}

func FuzzOptionsURL(f *testing.F) {
	for _, s := range []string{"redis://u:" + secret + "@h:1/2", "rediss://:" + secret + "@[::1]", "unix:///x?db=1", "https://" + secret, "", ":", "redis://%zz"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		// A cluster address beside the URL is refused always, so nothing is dialed.
		_, err := upstream.Open(t.Context(), upstream.Options{URL: s, Cluster: []string{"h:1"}})
		if s != "" && upstream.Classify(err) != upstream.BadOptions {
			t.Errorf("Open: %v", err)
		}
	})
}
