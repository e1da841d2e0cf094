package api

import (
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit"
)

func checkCall(query, body string) call {
	return call{method: http.MethodPost, path: "/v1/limit/check" + query, body: body}
}

func TestADenialIs200WithTheResultOr429AsTheCallerLikes(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	const who = `{"rule":"two","subject":{"user":"42"}}`
	for i := range 2 {
		r := ask(t, a, checkCall("", who))
		got := decode[LimitResult](t, r, 200)
		if !got.Allowed || got.Limit != 2 || got.Remaining != int64(1-i) || got.Reason != "checked" || got.Commands < 1 || got.Commands > 5 {
			t.Errorf("check %d = %+v, want it allowed for at most 5 commands", i, got)
		}
		if r.Header.Get("RateLimit-Limit") != "2" || r.Header.Get("RateLimit-Remaining") != strconv.Itoa(1-i) || r.Header.Get("Retry-After") != "" ||
			!strings.Contains(r.Header.Get("RateLimit-Policy"), `"two";q=2;w=60`) || !strings.Contains(r.Header.Get("RateLimit"), fmt.Sprintf("r=%d", 1-i)) {
			t.Errorf("check %d: headers %v, want where the quota stands", i, r.Header)
		}
	}
	r := ask(t, a, checkCall("", who))
	if got := decode[LimitResult](t, r, 200); got.Allowed || got.RetryAfterSeconds <= 0 || got.RetryAfterSeconds > 62 {
		t.Errorf("the third = %+v, want it denied with a time to wait", got)
	}
	r = ask(t, a, checkCall("?denied=429", who))
	p := r.problem(t)
	if r.StatusCode != 429 || p.Code != "rate_limited" || p.Limit == nil || p.Limit.Allowed || p.Limit.Limit != 2 {
		t.Errorf("the fourth = %d %s, want 429 with the result", r.StatusCode, r.body)
	}
	if wait, err := strconv.Atoi(r.Header.Get("Retry-After")); err != nil || wait < 1 || wait > 62 {
		t.Errorf("Retry-After = %q, want whole seconds within the window", r.Header.Get("Retry-After"))
	}
	if r.Header.Get("RateLimit-Remaining") != "0" || r.Header.Get("RateLimit-Reset") == "" || r.Header.Get("RateLimit") == "" {
		t.Errorf("headers = %v, want RateLimit-*", r.Header)
	}

	r = ask(t, a, call{method: http.MethodPost, path: "/v1/limit/peek", body: who})
	if got := decode[LimitResult](t, r, 200); got.Allowed || got.Used != 2 {
		t.Errorf("peek = %+v, want 2 used", got)
	}
	if r := ask(t, a, call{method: http.MethodPost, path: "/v1/limit/reset", body: who}); r.StatusCode != 200 {
		t.Errorf("reset = %d %s", r.StatusCode, r.body)
	}
	if got := decode[LimitResult](t, ask(t, a, checkCall("?denied=429", who)), 200); !got.Allowed {
		t.Errorf("after a reset = %+v, want it allowed", got)
	}
}

func TestSeveralLimitsAreOneRequest(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	many := func(query, extra string) answer {
		return ask(t, a, call{method: http.MethodPost, path: "/v1/limit/check-many" + query, body: `{"requests":[
			{"rule":"api","subject":{"user":"1"}},{"rule":"two","subject":{"user":"1"},"cost":2}]` + extra + `}`})
	}
	r := many("", "")
	if got := decode[LimitResults](t, r, 200); !got.Allowed || len(got.Results) != 2 || got.Results[1].Remaining != 0 {
		t.Errorf("both = %s, want them allowed", r.body)
	}
	if r.Header.Get("RateLimit-Limit") != "2" || !strings.Contains(r.Header.Get("RateLimit-Policy"), `"api"`) || !strings.Contains(r.Header.Get("RateLimit-Policy"), `"two"`) {
		t.Errorf("headers = %v, want both, and the strictest in front", r.Header)
	}
	r = many("", `,"all":true`)
	got := decode[LimitResults](t, r, 200)
	if got.Allowed || got.Results[0].Allowed || got.Results[0].Reason != "other" || got.Results[1].Allowed {
		t.Errorf("all or none = %s, want none", r.body)
	}
	peek := decode[LimitResult](t, ask(t, a, call{method: http.MethodPost, path: "/v1/limit/peek", body: `{"rule":"api","subject":{"user":"1"}}`}), 200)
	if peek.Used > 2 { // a peek may count itself
		t.Errorf("after it %d are used of the first, want only what was allowed", peek.Used)
	}
	r = many("?denied=429", "")
	if p := r.problem(t); r.StatusCode != 429 || p.Limit == nil || p.Limit.Rule != "two" {
		t.Errorf("one denied = %d %s, want 429 with the strictest", r.StatusCode, r.body)
	}
}

func TestTheAddressOfTheClientIsFoundBehindTrustedProxiesOnly(t *testing.T) {
	t.Parallel()
	o := engines(t, open(t))
	o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	a := newAPI(t, o)
	for name, tt := range map[string]struct{ subject, counted string }{
		"an address":                       {`{"ip":"203.0.113.9"}`, "203.0.113.9"},
		"one of a /64":                     {`{"ip":"2001:db8:1:2:3::9"}`, "2001:db8:1:2"},
		"behind a proxy":                   {`{"remote_addr":"10.0.0.1:555","forwarded_for":["198.51.100.1, 203.0.113.10"]}`, "203.0.113.10"},
		"behind two":                       {`{"remote_addr":"10.0.0.1","forwarded_for":["203.0.113.11","10.0.0.2"]}`, "203.0.113.11"},
		"what a stranger forwards":         {`{"remote_addr":"203.0.113.12","forwarded_for":["1.2.3.4"]}`, "203.0.113.12"},
		"an address of the other notation": {`{"ip":"::ffff:203.0.113.13"}`, "203.0.113.13"},
	} {
		got := decode[LimitResult](t, ask(t, a, checkCall("", `{"rule":"address","subject":`+tt.subject+`}`)), 200)
		plain := strings.NewReplacer("%3A", ":", "%2F", "/").Replace(got.Subject)
		if !strings.Contains(plain, tt.counted) {
			t.Errorf("%s: counted %q, want %s", name, got.Subject, tt.counted)
		}
	}
}

func TestSecretsOfASubjectStayInside(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	for _, body := range []string{
		`{"rule":"sms","subject":{"phone":"+49 170 1234567"}}`,
		`{"rule":"api","subject":{"token":"very-secret-token"}}`,
	} {
		r := ask(t, a, checkCall("", body))
		if r.StatusCode != 200 || strings.Contains(r.body, "1701234567") || strings.Contains(r.body, "very-secret") {
			t.Errorf("check %s = %d %s, want a hash", body, r.StatusCode, r.body)
		}
	}
}

func TestWhileTheUpstreamIsDownEachRuleDecidesForItself(t *testing.T) {
	t.Parallel()
	l, err := limit.New(limit.Options{Client: unreachable(t), Deadline: 50 * time.Millisecond, Rules: []limit.Rule{
		{Name: "api"}, {Name: "shut", Limit: 2, OnError: limit.Closed},
	}})
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t, Options{Limit: l})
	if got := decode[LimitResult](t, ask(t, a, checkCall("?denied=429", `{"rule":"api","subject":{"user":"1"}}`)), 200); !got.Allowed || got.Reason != "local" {
		t.Errorf("a rule that counts by itself = %+v, want it allowed", got)
	}
	r := ask(t, a, checkCall("?denied=429", `{"rule":"shut","subject":{"user":"1"}}`))
	if p := r.problem(t); r.StatusCode != 503 || p.Code != "limiter_unavailable" || p.Limit == nil || p.Limit.Reason != "error_closed" || r.Header.Get("Retry-After") == "" {
		t.Errorf("a rule that refuses = %d %s, want 503 with a time to wait", r.StatusCode, r.body)
	}
	if got := decode[LimitResult](t, ask(t, a, checkCall("", `{"rule":"shut","subject":{"user":"1"}}`)), 200); got.Allowed {
		t.Errorf("a rule that refuses, with 200 = %+v, want it denied", got)
	}
}

func TestACostAboveTheLimitIsToldApart(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	r := ask(t, a, checkCall("?denied=429", `{"rule":"two","subject":{"user":"1"},"cost":3}`))
	if p := r.problem(t); r.StatusCode != 429 || !strings.Contains(p.Hint, "ask for less") || r.Header.Get("Retry-After") != "" {
		t.Errorf("a cost above the limit = %d %s, want to hear that waiting does not help", r.StatusCode, r.body)
	}
}

func TestARuleThatOnlyWatchesShowsNothing(t *testing.T) {
	t.Parallel()
	l, err := limit.New(limit.Options{Client: open(t), Deadline: patience, Rules: []limit.Rule{{Name: "watched", Limit: 1, Mode: limit.Shadow}}})
	if err != nil {
		t.Fatal(err)
	}
	a := newAPI(t, Options{Limit: l})
	for range 3 {
		r := ask(t, a, checkCall("?denied=429", `{"rule":"watched","subject":{"user":"1"}}`))
		for name := range r.Header {
			if strings.HasPrefix(strings.ToLower(name), "ratelimit") {
				t.Errorf("header %s: %s, want none", name, r.Header.Get(name))
			}
		}
		if got := decode[LimitResult](t, r, 200); !got.Allowed {
			t.Errorf("check = %+v, want it allowed", got)
		}
	}
}

func TestTheRulesAreListed(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	got := decode[struct{ Rules []LimitRule }](t, ask(t, a, call{path: "/v1/limit/rules"}), 200)
	if len(got.Rules) != 5 || got.Rules[0].Name != "api" || got.Rules[0].Limit != 60 || got.Rules[0].PeriodSeconds != 60 || got.Rules[4].OnError != "closed" {
		t.Errorf("rules = %+v, want those in force with their defaults", got.Rules)
	}
}
