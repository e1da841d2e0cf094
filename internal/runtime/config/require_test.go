package config

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsRequiredDependsOnWhatIsNeeded(t *testing.T) {
	rest := map[string]string{"UPSTASH_REDIS_REST_URL": "https://x.upstash.io", "UPSTASH_REDIS_REST_TOKEN": "t"}
	for name, x := range map[string]struct {
		env  map[string]string
		need Need
		want []string // a part of each problem
	}{
		"nothing is needed, nothing is set":           {nil, Need{}, nil},
		"a cache on REST":                             {rest, Need{Upstream: true}, nil},
		"a cache on a URL":                            {map[string]string{"REDIS_URL": "redis://h"}, Need{Upstream: true}, nil},
		"queues on a URL, without the four variables": {map[string]string{"REDIS_URL": "redis://h"}, Need{Upstream: true, Queues: true}, nil},
		"queues on a host without a password":         {map[string]string{"REDIS_HOST": "h"}, Need{Queues: true, Connections: true}, nil},
		"no upstream at all":                          {nil, Need{Upstream: true}, []string{"no Redis to work on; set REDIS_URL"}},
		"queues on REST only":                         {rest, Need{Upstream: true, Queues: true}, []string{"queues need a Redis over TCP (the REST pair is set, but REST cannot do this)"}},
		"connections on REST only":                    {rest, Need{Connections: true}, []string{"connections can only be examined over TCP"}},
		"a password without a server":                 {map[string]string{"REDIS_PASSWORD": "p"}, Need{Queues: true}, []string{"(a password is set, but no server)"}},
		"REST is needed, TCP is set":                  {map[string]string{"REDIS_URL": "redis://h"}, Need{REST: true}, []string{"no REST address"}},
		"half a pair is one problem": {
			map[string]string{"UPSTASH_REDIS_REST_URL": "https://x.upstash.io"},
			Need{Upstream: true, REST: true},
			[]string{"upstream.rest_token: missing"},
		},
		"everything is missing at once": {nil, Need{Queues: true, REST: true, Token: true}, []string{"queues need", "no REST address", "REDISOPT_TOKEN"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := sources(x.env, nil)
			s.Need = x.need
			_, err := Load(s)
			got := messages(err)
			if len(got) != len(x.want) {
				t.Fatalf("problems = %q, want %d", got, len(x.want))
			}
			for i := range got {
				if !strings.Contains(got[i], x.want[i]) {
					t.Errorf("problem %q, want %q in it", got[i], x.want[i])
				}
			}
		})
	}
}

func TestWhichTCPAddressCounts(t *testing.T) {
	for name, x := range map[string]struct {
		env   map[string]string
		file  string
		flags map[string]string
		want  string // URL, or the addresses
		user  string
		pass  string
	}{
		"parts": {
			env:  map[string]string{"REDIS_HOST": "h", "REDIS_USERNAME": "u", "REDIS_PASSWORD": "p:@/", "REDIS_TLS": "true"},
			want: "rediss://h:6379", user: "u", pass: "p:@/",
		},
		"an IPv6 address": {env: map[string]string{"REDIS_HOST": "::1"}, want: "redis://[::1]:6379"},
		"url goes before host of the same source": {
			env: map[string]string{"REDIS_URL": "redis://a", "REDIS_HOST": "b", "REDIS_PASSWORD": "for b"}, want: "redis://a",
		},
		"a host in the environment goes before a url in the file": {
			env: map[string]string{"REDIS_HOST": "b"}, file: "upstream: {url: redis://a}", want: "redis://b:6379",
		},
		"a password completes a url that has none": {
			env: map[string]string{"REDIS_URL": "redis://a", "REDIS_PASSWORD": "p"}, want: "redis://a", pass: "p",
		},
		"a password does not replace that of a url": {
			env: map[string]string{"REDIS_URL": "redis://:own@a", "REDIS_PASSWORD": "p"}, want: "redis://:own@a",
		},
		"a password completes a flag when no other server is configured": {
			env: map[string]string{"REDIS_PASSWORD": "p"}, flags: map[string]string{"redis-url": "redis://a"}, want: "redis://a", pass: "p",
		},
		"a password of another server is not sent to the one behind a flag": {
			env: map[string]string{"REDIS_URL": "redis://prod", "REDIS_PASSWORD": "p"}, flags: map[string]string{"redis-url": "redis://a"}, want: "redis://a",
		},
		"sentinel": {
			file: "upstream: {tls: true, password: p, sentinel: {master: m, addresses: [a:1, b:2]}}", want: "a:1 b:2", pass: "p",
		},
		"cluster": {file: "upstream: {cluster: [a:1]}", want: "a:1"},
	} {
		t.Run(name, func(t *testing.T) {
			s := sources(x.env, map[string]string{DefaultFile: x.file})
			s.Flags = x.flags
			c, err := Load(s)
			if err != nil {
				t.Fatal(err)
			}
			got, ok := c.TCP()
			address := got.URL.Reveal()
			if address == "" {
				address = strings.Join(got.Hosts(), " ")
			}
			if !ok || address != x.want || got.Username != x.user || got.Password.Reveal() != x.pass {
				t.Errorf("TCP() = %s user %q password %q %t, want %s %q %q", address, got.Username, got.Password.Reveal(), ok, x.want, x.user, x.pass)
			}
		})
	}
}

func TestHostsHoldNoCredentials(t *testing.T) {
	for url, want := range map[string]string{"redis://u:p@h": "h:6379", "redis://u:p@[::1]:7": "[::1]:7", "unix:///run/r.sock": "/run/r.sock"} {
		if got := (TCP{URL: URL(url)}).Hosts(); len(got) != 1 || got[0] != want {
			t.Errorf("Hosts of %s = %q, want %s", url, got, want)
		}
	}
}

func TestWarnings(t *testing.T) {
	for name, x := range map[string]struct {
		env  map[string]string
		file string
		want []string
	}{
		"Upstash without TLS": {
			env:  map[string]string{"REDIS_URL": "redis://:p@x.upstash.io:6379"},
			want: []string{"REDIS_URL: upstream.url: Upstash speaks only TLS, and resets connections that do not; write rediss:// instead of redis://"},
		},
		"Upstash by parts without TLS": {
			env:  map[string]string{"REDIS_HOST": "x.upstash.io"},
			want: []string{"upstream.tls: Upstash speaks only TLS, and resets connections that do not; set REDIS_TLS=true"},
		},
		"a URL without TLS beside REDIS_TLS": {
			env:  map[string]string{"REDIS_URL": "redis://h", "REDIS_TLS": "1"},
			want: []string{"REDIS_URL: upstream.url: begins with redis://, so TLS is not used although upstream.tls is set (env REDIS_TLS); write rediss://"},
		},
		"a secret in the file": {
			file: "upstream:\n  password: p\n  host: h\n",
			want: []string{"redisopt.yaml:2:13: upstream.password: is a secret; keep this file out of version control, or set REDIS_PASSWORD or REDIS_PASSWORD_FILE instead"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, err := Load(sources(x.env, map[string]string{DefaultFile: x.file}))
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, w := range c.Warnings() {
				got = append(got, w.Error())
			}
			if diff := cmp.Diff(x.want, got); diff != "" {
				t.Errorf("warnings (-want +got):\n%s", diff)
			}
		})
	}
}
