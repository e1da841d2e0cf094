package upstash

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/upstash/upstashtest"
)

func client(t *testing.T, s *upstashtest.Server) *Client {
	t.Helper()
	c, err := New(Options{Email: upstashtest.Email, APIKey: upstashtest.Key, URL: s.URL, Pause: time.Millisecond, Timeout: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

var middle = time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC)

func TestUsageIsReadInThreeRequestsThatNeverAskForCredentials(t *testing.T) {
	s := upstashtest.Start(t)
	u, err := client(t, s).Read(t.Context(), "", upstashtest.Endpoint+":6379", middle)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"GET /v2/redis/databases", "GET /v2/redis/database/" + upstashtest.ID + "?credentials=hide", "GET /v2/redis/stats/" + upstashtest.ID}
	if got := s.Asked(); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
	for name, c := range map[string]struct {
		got  *float64
		want float64
	}{
		"requests a month": {u.PerMonth, 12_000_000}, "script share": {u.ScriptShare, 0.25}, "write share": {u.WriteShare, 0.5},
		"storage": {u.StorageBytes, 50 << 20}, "traffic": {u.BandwidthPerMonth, 2 << 30}, "connections": {u.Connections, 41}, "peak": {u.PeakPerSecond, 12},
	} {
		if c.got == nil || *c.got != c.want {
			t.Errorf("%s = %v, want %v", name, c.got, c.want)
		}
	}
	if u.ReadRegions != 1 || u.Type != PayAsGo || u.BudgetUSD != 20 || len(u.Missing) > 0 {
		t.Errorf("usage = %+v", u)
	}
	if want := []Share{{"get", 0.75}, {"evalsha", 0.25}}; !slices.Equal(u.Commands, want) {
		t.Errorf("commands = %v, want %v", u.Commands, want)
	}
	if d := u.Compare(15_000_000); d == nil || d.Percent != 25 || len(d.Findings("shop")) != 1 {
		t.Errorf("drift = %+v, want 25%% and a finding", d)
	}
	if d := u.Compare(12_500_000); len(d.Findings("shop")) != 0 {
		t.Errorf("4%% of drift is told")
	}
	if len(u.Measures()) != 7 {
		t.Errorf("%d measures, want 7", len(u.Measures()))
	}
}

func TestADatabaseIsChosenByIdNameOrAddressOrBeingTheOnlyOne(t *testing.T) {
	s := upstashtest.Start(t)
	c := client(t, s)
	for _, want := range []string{upstashtest.ID, "SHOP", ""} {
		if _, err := c.Read(t.Context(), want, "", middle); err != nil {
			t.Errorf("%q: %v", want, err)
		}
	}
	for _, x := range [][2]string{{"other", ""}, {"", "db.example:6379"}} {
		_, err := c.Read(t.Context(), x[0], x[1], middle)
		if _, ok := errors.AsType[*ChoiceError](err); !ok {
			t.Errorf("%q at %q: %v, want a ChoiceError", x[0], x[1], err)
		}
	}
}

func TestOnTheFirstOfTheMonthTheLastFullDayCounts(t *testing.T) {
	var d Database
	var s Stats
	if err := errors.Join(json.Unmarshal([]byte(upstashtest.Database()), &d), json.Unmarshal([]byte(upstashtest.Stats()), &s)); err != nil {
		t.Fatal(err)
	}
	u := usageOf(&d, &s, time.Date(2026, 11, 1, 6, 0, 0, 0, time.UTC))
	if u.PerMonth != nil {
		t.Errorf("a month from days to come: %v", *u.PerMonth)
	}
	for _, first := range []time.Time{
		time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 23, 59, 59, 0, time.UTC), time.Date(2027, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Date(2028, 3, 1, 6, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 30, 0, 0, time.FixedZone("UTC-8", -8*3600)),
	} {
		u = usageOf(&d, &s, first)
		if u.PerMonth == nil || *u.PerMonth != 30*210_000 {
			t.Errorf("on %s a month = %v, want 30 times the last day", first, u.PerMonth)
		}
	}
	for _, last := range []time.Time{time.Date(2026, 11, 30, 23, 59, 59, 999_999_999, time.UTC), time.Date(2028, 2, 29, 12, 0, 0, 0, time.UTC), time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC)} {
		days := last.Sub(time.Date(last.Year(), last.Month(), 1, 0, 0, 0, 0, time.UTC)).Hours() / 24
		if u = usageOf(&d, &s, last); u.PerMonth == nil || math.Abs(*u.PerMonth-6_000_000/days*30) > 1 {
			t.Errorf("on %s a month = %v, want what %.2f days of 6,000,000 make", last, u.PerMonth, days)
		}
	}
}

func TestEveryFailureHasItsClassAndNeverTheKey(t *testing.T) {
	leak := `{"message":"key ` + upstashtest.Key + "\\u001b[31m is bad\"}"
	for _, c := range []struct {
		name    string
		answers []upstashtest.Answer
		want    Class
		asked   int
	}{
		{"a wrong key", []upstashtest.Answer{{Status: 401, Body: leak}}, Denied, 1},
		{"a key that may not", []upstashtest.Answer{{Status: 403, Body: leak}}, Denied, 1},
		{"no such database", []upstashtest.Answer{{Status: 404, Body: leak}}, NotFound, 1},
		{"throttled to the end", slices.Repeat([]upstashtest.Answer{{Status: 429, Body: leak}}, 3), Throttled, 3},
		{"told to wait for longer than there is time", []upstashtest.Answer{{Status: 429, Header: map[string]string{"Retry-After": "3000"}}}, Throttled, 1},
		{"down to the end", slices.Repeat([]upstashtest.Answer{{Status: 503, Body: leak}}, 3), Unreachable, 3},
		{"another refusal", []upstashtest.Answer{{Status: 406, Body: leak}}, Rejected, 1},
		{"a redirect", []upstashtest.Answer{{Status: 302, Header: map[string]string{"Location": "http://127.0.0.1:1/"}}}, Malformed, 1},
		{"no JSON", []upstashtest.Answer{{Status: 200, Body: "<html>"}}, Malformed, 1},
		{"another object", []upstashtest.Answer{{Status: 200, Body: `{"hello":1}`}}, Malformed, 1},
		{"too long", []upstashtest.Answer{{Status: 200, Body: strings.Repeat(" ", 9<<20)}}, Malformed, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := upstashtest.Start(t)
			s.Next(c.answers...)
			_, err := client(t, s).Database(t.Context(), upstashtest.ID)
			failed, ok := errors.AsType[*Error](err)
			if !ok || failed.Class != c.want {
				t.Fatalf("%v, want class %s", err, c.want)
			}
			if text := err.Error(); strings.Contains(text, upstashtest.Key) || strings.ContainsAny(text, "\x1b\n") {
				t.Errorf("the error holds the key or control characters: %q", text)
			}
			if got := len(s.Asked()); got != c.asked {
				t.Errorf("%d requests, want %d", got, c.asked)
			}
		})
	}
}

func TestAnAPIThatComesBackIsAskedAgain(t *testing.T) {
	s := upstashtest.Start(t)
	s.Next(upstashtest.Answer{Status: 500}, upstashtest.Answer{Status: 429, Header: map[string]string{"Retry-After": "0"}})
	if _, err := client(t, s).Stats(t.Context(), upstashtest.ID); err != nil {
		t.Errorf("after two failures: %v", err)
	}
}

func TestAnAPIThatHangsIsLeftAtTheDeadline(t *testing.T) {
	release := make(chan struct{})
	web := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer web.Close()
	defer close(release)
	c, err := New(Options{Email: "e", APIKey: "k", URL: web.URL, Timeout: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Databases(t.Context())
	if failed, ok := errors.AsType[*Error](err); !ok || failed.Class != Unreachable {
		t.Errorf("%v, want unreachable", err)
	}
}

func TestOptionsThatWouldLeakTheKeyAreRefused(t *testing.T) {
	for name, o := range map[string]Options{
		"no email":          {APIKey: "k"},
		"no key":            {Email: "e"},
		"a line break":      {Email: "e", APIKey: "k\n"},
		"plain HTTP":        {Email: "e", APIKey: "k", URL: "http://api.example/v2"},
		"another scheme":    {Email: "e", APIKey: "k", URL: "ftp://127.0.0.1/"},
		"a password in it":  {Email: "e", APIKey: "k", URL: "https://a:b@api.example/v2"},
		"a negative time":   {Email: "e", APIKey: "k", Timeout: -1},
		"no address at all": {Email: "e", APIKey: "k", URL: "::"},
	} {
		if _, err := New(o); err == nil {
			t.Errorf("%s is accepted", name)
		} else if strings.Contains(err.Error(), "a:b") {
			t.Errorf("%s: the error holds the URL: %v", name, err)
		}
	}
	if got := fmt.Sprintf("%v %+v %#v", Options{APIKey: "sesame"}, Options{APIKey: "sesame"}, Options{APIKey: "sesame"}); strings.Contains(got, "sesame") {
		t.Errorf("printed options hold the key: %s", got)
	}
}
