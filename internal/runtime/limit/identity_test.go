package limit_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/limit"
)

func TestWhoIsCounted(t *testing.T) {
	l := open(t, limit.Options{HashKey: []byte("0123456789abcdef"), Rules: []limit.Rule{
		{Name: "user"},
		{Name: "ip", By: limit.ByIP},
		{Name: "token", By: limit.ByToken},
		{Name: "key", By: limit.ByKey},
		{Name: "hashed", HashSubject: true},
		limit.SMS(),
	}})
	ip := netip.MustParseAddr
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		name string
		req  limit.Request
		want string // after the prefix; a key that only has to begin so ends in *
	}{
		{"a user", limit.Request{Rule: "user", Subject: limit.Subject{User: "ann"}}, "user:{u=ann}"},
		{"a user before her address", limit.Request{Rule: "user", Subject: limit.Subject{User: "ann", IP: ip("192.0.2.7")}}, "user:{u=ann}"},
		{"nobody signed in is counted by token, hashed", limit.Request{Rule: "user", Subject: limit.Subject{Token: "secret", IP: ip("192.0.2.7")}}, "user:{t#*"},
		{"or by address", limit.Request{Rule: "user", Subject: limit.Subject{User: "undefined", IP: ip("192.0.2.7")}}, "user:{ip=192.0.2.7%2F32}"},
		{"null is nobody", limit.Request{Rule: "user", Subject: limit.Subject{User: "null", IP: ip("192.0.2.7")}}, "user:{ip=192.0.2.7%2F32}"},
		{"an address as IPv6 writes IPv4", limit.Request{Rule: "ip", Subject: limit.Subject{User: "ann", IP: ip("::ffff:192.0.2.7")}}, "ip:{ip=192.0.2.7%2F32}"},
		{"IPv6 by its /64", limit.Request{Rule: "ip", Subject: limit.Subject{IP: ip("2001:db8:1:2:3:4:5:6")}}, "ip:{ip=2001%3Adb8%3A1%3A2%3A%3A%2F64}"},
		{"a user who looks like an address is no address", limit.Request{Rule: "user", Subject: limit.Subject{User: "192.0.2.7/32"}}, "user:{u=192.0.2.7%2F32}"},
		{"braces and colons stay in their place", limit.Request{Rule: "user", Subject: limit.Subject{User: "a}:b{c*"}}, "user:{u=a%7D%3Ab%7Bc%2A}"},
		{"bytes that are no text", limit.Request{Rule: "user", Subject: limit.Subject{User: "\xff\x00"}}, "user:{u=%FF%00}"},
		{"a feature", limit.Request{Rule: "user", Feature: "export:pdf", Subject: limit.Subject{User: "ann"}}, "user/export%3Apdf:{u=ann}"},
		{"a long name is hashed", limit.Request{Rule: "user", Subject: limit.Subject{User: long}}, "user:{u~*"},
		{"a name that must not be seen", limit.Request{Rule: "hashed", Subject: limit.Subject{User: "ann"}}, "hashed:{u#*"},
		{"a number", limit.Request{Rule: "sms", Subject: limit.Subject{Phone: "+1 555 0100"}}, "sms:{p#*"},
		{"the caller's own key", limit.Request{Rule: "key", Subject: limit.Subject{Key: "shop 1"}}, "key:{k=shop%201}"},
	} {
		key, _, err := l.Key(c.req)
		got := strings.TrimPrefix(key, limit.DefaultPrefix+":")
		begin, open := strings.CutSuffix(c.want, "*")
		if err != nil || got != c.want && (!open || !strings.HasPrefix(got, begin)) {
			t.Errorf("%s: %s, %v, want %s", c.name, got, err, c.want)
		}
		if strings.Contains(key, "secret") || len(key) > 250 {
			t.Errorf("%s: %s", c.name, key)
		}
	}
	for name, req := range map[string]limit.Request{
		"nothing is known":               {Rule: "user"},
		"an empty user":                  {Rule: "user", Subject: limit.Subject{User: "  "}},
		"no address":                     {Rule: "ip", Subject: limit.Subject{User: "ann", Token: "t"}},
		"a number without digits":        {Rule: "sms", Subject: limit.Subject{Phone: "+"}},
		"a number is not taken for user": {Rule: "sms", Subject: limit.Subject{User: "ann"}},
		"no key":                         {Rule: "key", Subject: limit.Subject{User: "ann"}},
	} {
		if _, err := l.Check(t.Context(), req); !errors.Is(err, limit.ErrNoIdentity) {
			t.Errorf("%s: %v, want %v", name, err, limit.ErrNoIdentity)
		}
	}
}

func TestTheClientBehindProxies(t *testing.T) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:ffff::/48")}
	for _, c := range []struct {
		name, remote string
		forwarded    []string
		want         string
	}{
		{"no proxy", "192.0.2.1:4711", nil, "192.0.2.1"},
		{"a header that anybody can write", "192.0.2.1:4711", []string{"198.51.100.9"}, "192.0.2.1"},
		{"one proxy", "10.0.0.1:80", []string{"198.51.100.9"}, "198.51.100.9"},
		{"two proxies", "10.0.0.1:80", []string{"203.0.113.5, 198.51.100.9", "10.1.2.3"}, "198.51.100.9"},
		{"what stands before the first stranger is not read", "10.0.0.1:80", []string{"127.0.0.1, 198.51.100.9"}, "198.51.100.9"},
		{"only proxies", "10.0.0.1:80", []string{"10.0.0.2, 10.0.0.3"}, "10.0.0.2"},
		{"nonsense", "10.0.0.1:80", []string{"198.51.100.9, unknown"}, "10.0.0.1"},
		{"with ports and brackets", "[2001:db8:ffff::1]:80", []string{"[2001:db8::9]:1234"}, "2001:db8::9"},
		{"IPv4 written as IPv6", "[::ffff:10.0.0.1]:80", []string{"::ffff:198.51.100.9"}, "198.51.100.9"},
		{"empty lines", "10.0.0.1:80", []string{"", " , 198.51.100.9 ,"}, "198.51.100.9"},
	} {
		if got, err := limit.ClientIP(c.remote, c.forwarded, trusted); err != nil || got.String() != c.want {
			t.Errorf("%s: %s, %v, want %s", c.name, got, err, c.want)
		}
	}
	if _, err := limit.ClientIP("@", nil, trusted); err == nil {
		t.Error("a socket's path is no address, and no error")
	}
}

func TestOptionsSayAllThatIsWrong(t *testing.T) {
	_, err := limit.New(limit.Options{
		Prefix: "a b", HashKey: []byte("short"), Instances: -1, Deadline: time.Microsecond, Failures: -1, Pause: -1, MaxLocal: -1, MaxBatch: 5000,
	})
	for _, word := range []string{"prefix", "hash_key", "instances", "deadline", "failures", "pause", "max_local", "max_batch"} {
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%v does not name %s", err, word)
		}
	}
	for name, c := range map[string]struct {
		rule limit.Rule
		want string
	}{
		"a negative limit":              {limit.Rule{Name: "r", Limit: -1}, "limit: got -1"},
		"a period too short":            {limit.Rule{Name: "r", Period: time.Microsecond}, "period: got 1µs"},
		"a negative period":             {limit.Rule{Name: "r", Period: -time.Second}, "period: got -1s"},
		"a name with a colon":           {limit.Rule{Name: "a:b"}, "name: got"},
		"a zone that is none":           {limit.Rule{Name: "r", Algorithm: limit.Calendar, TimeZone: "Mars/Olympus"}, "time_zone"},
		"a period of a calendar":        {limit.Rule{Name: "r", Algorithm: limit.Calendar, Period: time.Hour}, "period: got 1h0m0s, want none"},
		"a burst of a window":           {limit.Rule{Name: "r", Burst: 5}, "burst: only a token-bucket"},
		"a tier of nothing":             {limit.Rule{Name: "r", Tiers: map[string]int64{"free": 0}}, "tiers: got 0"},
		"a ratio over one":              {limit.Rule{Name: "r", NearRatio: 1.5}, "near_ratio"},
		"one key for all of the former": {limit.Rule{Name: "r", Legacy: "rate_limit"}, "has no {user}"},
		"a bucket beside the former":    {limit.Rule{Name: "r", Algorithm: limit.TokenBucket, Legacy: "{user}"}, "cannot count what"},
		"a shared set of another kind":  {limit.Rule{Name: "r", Legacy: "{user}", LegacyShare: true}, "want sliding-log"},
		"a lease beside the former":     {limit.Rule{Name: "r", Legacy: "{user}", Lease: limit.LeaseOn}, "lease: cannot be on"},
	} {
		if _, err := limit.New(limit.Options{Rules: []limit.Rule{c.rule}}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
	if _, err := limit.New(limit.Options{Cluster: true, Rules: []limit.Rule{{Name: "r", Legacy: "{user}"}}}); err == nil {
		t.Error("a former set on a Cluster is no error")
	}
}

func TestHeaders(t *testing.T) {
	denied := limit.Result{Rule: "api", Limit: 60, Used: 60, Period: time.Minute, ResetAfter: 100 * time.Millisecond, RetryAfter: 12100 * time.Millisecond}
	fine := limit.Result{Rule: "day", Allowed: true, Limit: 1000, Used: 1, Remaining: 999, Period: 24 * time.Hour, ResetAfter: time.Hour}
	got := limit.Headers(nil, fine, denied)
	want := []limit.Header{
		{Name: "RateLimit-Policy", Value: `"day";q=1000;w=86400, "api";q=60;w=60`},
		{Name: "RateLimit", Value: `"day";r=999;t=3600, "api";r=0;t=13`},
		{Name: "Retry-After", Value: "13"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := limit.Headers(nil, fine); len(got) != 2 {
		t.Errorf("an allowed request has %v", got)
	}
	if got := limit.Headers(nil); got != nil {
		t.Errorf("no result has %v", got)
	}
	if denied.RetryAfterSeconds() != 13 || denied.ResetAfterSeconds() != 1 {
		t.Errorf("%d and %d seconds, want 13 and 1", denied.RetryAfterSeconds(), denied.ResetAfterSeconds())
	}
}

func TestStrictest(t *testing.T) {
	results := []limit.Result{
		{Rule: "plenty", Allowed: true, Limit: 10, Remaining: 9},
		{Rule: "little", Allowed: true, Limit: 1000, Remaining: 100},
		{Rule: "soon", RetryAfter: time.Second},
		{Rule: "late", RetryAfter: time.Minute},
	}
	for n, want := range map[int]string{1: "plenty", 2: "little", 3: "soon", 4: "late"} {
		if got := limit.Strictest(results[:n]).Rule; got != want {
			t.Errorf("of %d: %s, want %s", n, got, want)
		}
	}
	if got := limit.Strictest(nil); got.Rule != "" {
		t.Errorf("of none: %+v", got)
	}
}
