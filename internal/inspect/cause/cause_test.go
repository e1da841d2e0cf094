package cause_test

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/cause"
)

func read(t *testing.T, text string) *cause.Log {
	t.Helper()
	l, err := cause.ReadLog(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func kinds(causes []cause.Cause) []cause.Kind {
	var all []cause.Kind
	for _, c := range causes {
		all = append(all, c.Kind)
	}
	return all
}

// quiet is a server that is well and far from every limit.
func quiet(tls bool) cause.Facts {
	return cause.Facts{Connections: 40, Limit: 10_000, TLS: &tls, Reached: true, Uptime: 100 * 24 * time.Hour, Now: time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)}
}

// The texts in testdata/captured.json were logged by ioredis 5.11, node-redis 5 and go-redis 9 before servers
// that were really set up so.
func TestTextsOfRealLibrariesBeforeBrokenServersAreUnderstood(t *testing.T) {
	text, err := os.ReadFile("testdata/captured.json")
	if err != nil {
		t.Fatal(err)
	}
	var rows []struct {
		Setup, Library string
		Texts          []string
	}
	if err := json.Unmarshal(text, &rows); err != nil {
		t.Fatal(err)
	}
	full := quiet(false)
	full.Connections, full.Limit, full.Rejected = 3, 3, 5
	want := map[string]struct {
		facts cause.Facts
		first []cause.Kind // any of them
	}{
		"plain client, TLS port": {quiet(true), []cause.Kind{cause.TLSMismatch}},
		"TLS client, plain port": {quiet(false), []cause.Kind{cause.TLSMismatch}},
		"untrusted certificate":  {quiet(true), []cause.Kind{cause.TLSUntrusted}},
		"maxclients reached":     {full, []cause.Kind{cause.ConnectionLimit}},
		"idle timeout":           {quiet(false), []cause.Kind{cause.IdleClose}},
		"wrong password":         {quiet(false), []cause.Kind{cause.Auth}},
		"no password":            {quiet(false), []cause.Kind{cause.Auth}},
		"dead port":              {cause.Facts{Rejected: -1}, []cause.Kind{cause.Refused}},
		"unknown host":           {cause.Facts{Rejected: -1}, []cause.Kind{cause.DNS}},
		"out of memory":          {quiet(false), []cause.Kind{cause.OutOfMemory}},
		"server stopped":         {cause.Facts{Rejected: -1}, []cause.Kind{cause.Restart, cause.Refused}},
	}
	for _, row := range rows {
		t.Run(row.Library+" "+row.Setup, func(t *testing.T) {
			w, ok := want[row.Setup]
			if !ok {
				t.Fatal("no expectation")
			}
			causes, _ := cause.Judge(read(t, strings.Join(row.Texts, "\n")), w.facts)
			if len(causes) == 0 || !slices.Contains(w.first, causes[0].Kind) {
				t.Fatalf("%q: got %v, want one of %v first", row.Texts, kinds(causes), w.first)
			}
			if c := causes[0]; len(c.For) == 0 || c.Next == "" || c.Summary == "" {
				t.Errorf("got %+v, want its evidence and what to do", c)
			}
			if row.Setup != "maxclients reached" && slices.Contains(kinds(causes), cause.ConnectionLimit) {
				t.Errorf("blames the limit: %+v", causes)
			}
		})
	}
}

func TestResetsFarBelowTheLimitAreNotExhaustion(t *testing.T) {
	for _, f := range []cause.Facts{quiet(true), quiet(false)} {
		causes, ruledOut := cause.Judge(read(t, strings.Repeat("Error: read ECONNRESET\n", 500)), f)
		if slices.Contains(kinds(causes), cause.ConnectionLimit) {
			t.Errorf("blames the limit at 40 of 10,000: %+v", causes)
		}
		i := slices.IndexFunc(ruledOut, func(c cause.Cause) bool { return c.Kind == cause.ConnectionLimit })
		if i < 0 || !strings.Contains(strings.Join(ruledOut[i].Against, " "), "40 of 10000 connections are open, 0.4% of the limit") {
			t.Errorf("ruled out %+v, want the limit with its numbers", ruledOut)
		}
	}
}

func TestOneTextAloneGivesNoMoreThanLowConfidence(t *testing.T) {
	causes, _ := cause.Judge(read(t, "read ECONNRESET"), cause.Facts{Rejected: -1})
	if len(causes) < 3 {
		t.Fatalf("got %v, want everything that fits", kinds(causes))
	}
	for _, c := range causes {
		if c.Confidence != cause.Low {
			t.Errorf("%s: confidence %s, want low", c.Kind, c.Confidence)
		}
	}
}

func TestWhatTheServerSaysIsBelievedEvenFarBelowTheLimitWithWhatSpeaksAgainstIt(t *testing.T) {
	causes, _ := cause.Judge(read(t, "ReplyError: ERR max number of clients reached"), quiet(false))
	if len(causes) != 1 || causes[0].Kind != cause.ConnectionLimit || causes[0].Confidence == cause.High || len(causes[0].Against) == 0 {
		t.Errorf("got %+v, want the limit with less than high confidence", causes)
	}
}

func TestErrorsAtOneMomentWhenTheServerStartedAreARestart(t *testing.T) {
	var log strings.Builder
	for i := range 30 {
		fmt.Fprintf(&log, `{"level":50,"time":%d,"msg":"redis","err":{"message":"read ECONNRESET","code":"ECONNRESET"}}`+"\n", 1_795_000_000_000+int64(i)*20)
	}
	f := quiet(false)
	f.Now = time.UnixMilli(1_795_000_000_000).Add(time.Hour)
	f.Uptime = time.Hour - 2*time.Second
	causes, _ := cause.Judge(read(t, log.String()), f)
	if len(causes) == 0 || causes[0].Kind != cause.Restart || causes[0].Confidence != cause.Medium {
		t.Errorf("got %+v, want a restart", causes)
	}
	f.Uptime = 100 * 24 * time.Hour
	if causes, _ := cause.Judge(read(t, log.String()), f); len(causes) > 0 && causes[0].Kind == cause.Restart {
		t.Errorf("got a restart of a server that has been running for 100 days: %+v", causes[0])
	}
}

func TestErrorsAtASteadyPaceAreATimeout(t *testing.T) {
	var log strings.Builder
	at := time.Date(2026, 11, 29, 1, 0, 0, 0, time.UTC)
	for range 10 {
		at = at.Add(300 * time.Second)
		fmt.Fprintf(&log, "%s ERROR Socket closed unexpectedly\n", at.Format(time.RFC3339))
	}
	causes, _ := cause.Judge(read(t, log.String()), quiet(false))
	if len(causes) == 0 || causes[0].Kind != cause.IdleClose || !strings.Contains(strings.Join(causes[0].For, " "), "every 5m0s") {
		t.Errorf("got %+v, want an idle close every 5 minutes", causes)
	}
	f := quiet(false)
	f.LongestIdle = 3 * time.Hour
	again, _ := cause.Judge(read(t, log.String()), f)
	if i := slices.IndexFunc(again, func(c cause.Cause) bool { return c.Kind == cause.IdleClose }); i >= 0 && len(again[i].Against) == 0 {
		t.Errorf("a connection that is idle for 3 hours does not speak against it: %+v", again[i])
	}
}

func TestAnAddressWithoutTLSBeforeAServerWithItIsTold(t *testing.T) {
	causes, _ := cause.Judge(read(t, "connecting to redis://app:hunter2@db.example:6379\nError: read ECONNRESET"), quiet(true))
	if len(causes) == 0 || causes[0].Kind != cause.TLSMismatch || causes[0].Confidence != cause.Medium {
		t.Errorf("got %+v", causes)
	}
}

func TestPasswordsInALogAreMasked(t *testing.T) {
	l := read(t, "connect redis://app:hunter2@db.example:6379 failed: ECONNREFUSED and rediss://:p@ss@x/0")
	if text := l.Texts[0].Text; strings.Contains(text, "hunter2") || strings.Contains(text, "p@ss") || !strings.Contains(text, "db.example") {
		t.Errorf("got %q", text)
	}
}

func TestSilenceHasTheirOwnCauseAndALogWithoutErrorsHasNone(t *testing.T) {
	causes, _ := cause.Judge(read(t, "Error: read ETIMEDOUT"), quiet(true))
	if len(causes) == 0 || causes[0].Kind != cause.IdleNAT {
		t.Errorf("got %v, want idle-nat", kinds(causes))
	}
	causes, ruledOut := cause.Judge(read(t, "started\nlistening on 3000\n"), quiet(true))
	if len(causes)+len(ruledOut) != 0 {
		t.Errorf("got %v and %v of a log without errors", causes, ruledOut)
	}
}

func TestQuotaOfAProviderIsDecided(t *testing.T) {
	causes, _ := cause.Judge(read(t, "ERR max requests limit exceeded. Limit: 500000, Usage: 500000"), quiet(true))
	if len(causes) != 1 || causes[0].Kind != cause.Quota || causes[0].Confidence != cause.High {
		t.Errorf("got %+v", causes)
	}
	f := cause.Findings(causes, "app.log")
	if len(f) != 1 || f[0].Severity != inspect.Critical || f[0].Rule != "connection-errors-quota" || f[0].Remedy == "" {
		t.Errorf("got %+v", f)
	}
}

func TestALogOfAnyLengthIsReadInBounds(t *testing.T) {
	var log strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&log, "%s: connect ECONNREFUSED 127.0.0.1:%d\n", strings.Repeat("kind"+string(rune('a'+i%26))+string(rune('a'+i/26%26))+string(rune('a'+i/676)), 3), i)
	}
	log.WriteString(strings.Repeat("x", 1<<20) + "\nread ECONNRESET\n")
	l := read(t, log.String())
	if len(l.Texts) > 200 || l.Errors != 1001 || len(l.Missing) == 0 {
		t.Errorf("%d texts, %d errors, missing %v", len(l.Texts), l.Errors, l.Missing)
	}
}

func FuzzLogs(f *testing.F) {
	for _, s := range []string{
		"read ECONNRESET", `{"time":1795000000000,"msg":"x","err":{"message":"EPIPE","code":"EPIPE"}}`, `{"time":"2026-11-29T00:00:00Z","error":"EOF"}`,
		"[2026-11-29 10:00:00,123] ERROR read ETIMEDOUT", "://@://@", "{", `{"err":null,"ts":1e300}`, "\xff\xfe\x00",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		l, err := cause.ReadLog(strings.NewReader(string(data)))
		if err != nil {
			t.Fatal(err)
		}
		sum := int64(0)
		for _, text := range l.Texts {
			sum += text.Count
		}
		if l.Errors+l.Other != l.Lines || sum > l.Lines {
			t.Errorf("%d errors, %d others, %d texts of %d lines", l.Errors, l.Other, sum, l.Lines)
		}
		causes, _ := cause.Judge(l, cause.Facts{Connections: 40, Limit: 10000, Reached: true})
		if l.Errors == 0 && len(causes) > 0 {
			t.Errorf("causes %v of no error", causes)
		}
	})
}
