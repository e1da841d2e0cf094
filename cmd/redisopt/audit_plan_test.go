package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/plan"
	"github.com/redisopt/redisopt/internal/inspect/upstash"
	"github.com/redisopt/redisopt/internal/inspect/upstash/upstashtest"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

var planTime = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// usedOnUpstash is what the stand-in for the Developer API counts, half way through November.
func usedOnUpstash(t *testing.T) *upstash.Usage {
	t.Helper()
	c, err := upstash.New(upstash.Options{Email: upstashtest.Email, APIKey: upstashtest.Key, URL: upstashtest.Start(t).URL})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	u, err := c.Read(t.Context(), "", "", time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func TestPlansLookAsRecordedInEveryFormat(t *testing.T) {
	price := func(load plan.Load, opts plan.Options) pricesData {
		opts.Now = planTime
		r, err := plan.Compare(load, opts)
		if err != nil {
			t.Fatal(err)
		}
		return pricesData{Report: r}
	}
	full := price(plan.Load{Top: 12e6, InScript: 14e6, StorageBytes: 120 << 20, Sources: []string{"flags"}}, plan.Options{
		Current: "upstash-payg", Work: &plan.Effort{Hours: 40, USDPerHour: 80},
		Rates: map[string]plan.Rate{"self-hosted": {USDPerMonth: 14.4, MemoryBytes: 1 << 30}},
	})
	c, err := plan.Embedded()
	if err != nil {
		t.Fatal(err)
	}
	u := usedOnUpstash(t)
	load, current, _ := c.Load(countedByUpstash(u))
	if current != "upstash-payg" {
		t.Errorf("paid for %q, want upstash-payg", current)
	}
	counted := price(load, plan.Options{Current: current})
	counted.Upstash, counted.Drift = u, u.Compare(15e6)

	var spent *commands.Report
	synctest.Test(t, func(t *testing.T) {
		spent, err = commands.Audit(t.Context(), capturedBull(t).client(t), commands.Options{})
	})
	if err != nil {
		t.Fatal(err)
	}
	spent.From, spent.To = planTime, planTime.Add(time.Minute)
	drift := commandsData{Report: spent, Upstash: u, Drift: u.Compare(26_784_000)}
	spent.Findings = append(spent.Findings, drift.Drift.Findings(u.Database)...)

	for name, doc := range map[string]report.Document{
		"audit.plan":             pricesDocument(full),
		"audit.plan.upstash":     pricesDocument(counted),
		"audit.commands.upstash": commandsDocument(drift, commandsFlags{by: choice{value: "component"}}),
	} {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) { wantGolden(t, name, format, doc) })
		}
	}
}

func TestPricingEndsWithTheCodeOfItsCause(t *testing.T) {
	some := []string{"--commands-per-month", "1M"}
	credentials := func(key, url string) map[string]string {
		return map[string]string{"UPSTASH_EMAIL": upstashtest.Email, "UPSTASH_API_KEY": key, "UPSTASH_API_URL": url}
	}
	api := upstashtest.Start(t).URL
	throttled := upstashtest.Start(t)
	for range 9 {
		throttled.Next(upstashtest.Answer{Status: 429, Header: map[string]string{"Retry-After": "3000"}})
	}
	recorded := filepath.Join("..", "..", "internal", "inspect", "plan", "testdata", "audit.commands.json")
	load, err := os.ReadFile(recorded)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "load.json")
	if err := os.WriteFile(file, load, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		env  map[string]string
		args []string
		want int
		out  string
		err  string
	}{
		{"a load from flags", nil, some, 0, "upstash-payg, 2.00 dollars", ""},
		{"a load from a document", nil, []string{"--from", file}, 0, "audit.commands/v1", ""},
		{"a load from Upstash", credentials(upstashtest.Key, api), []string{"--budget-usd", "1000"}, 0, "Upstash Developer API", ""},
		{"ours beside theirs", credentials(upstashtest.Key, api), []string{"--from", file, "--budget-usd", "1000"}, 0, "Counted by Upstash", ""},
		{"a plan too small", nil, append([]string{"--provider", "upstash-free"}, some...), 3, "plan-too-small", "plan-too-small"},
		{"a cheaper plan fails when asked", nil, []string{"--commands-per-month", "50M", "--current", "upstash-payg", "--fail-on", "warn"}, 3, "cheaper-plan", ""},
		{"limits not judged under --strict", nil, append([]string{"--strict"}, some...), 8, "storage", "inconclusive"},
		{"no load at all", nil, nil, 2, "", "--from"},
		{"an unknown plan", nil, append([]string{"--provider", "gold"}, some...), 2, "", "upstash-fixed-250mb"},
		{"a document that is none", nil, []string{"--from", filepath.Join("..", "nowhere.json")}, 2, "", "nowhere.json"},
		{"the same document twice", nil, []string{"--from", file, "--from", file}, 2, "", "both say"},
		{"a peak below the average", nil, []string{"--commands-per-month", "50M", "--peak", "1"}, 2, "", "less than the average"},
		{"work without a rate", nil, append([]string{"--hours", "3"}, some...), 2, "", "hourly rate"},
		{"a catalogue that is none", nil, append([]string{"--catalogue", file}, some...), 2, "", "schema"},
		{"a rate that is none", nil, append([]string{"--rate", "self-hosted=much"}, some...), 2, "", "dollars a month"},
		{"no number", nil, []string{"--commands-per-month", "-5"}, 2, "", "500k or 12M"},
		{"half of the credentials", map[string]string{"UPSTASH_EMAIL": "a@example.com"}, nil, 2, "", "UPSTASH_API_KEY"},
		{"an address without TLS", credentials(upstashtest.Key, "http://api.example.com"), nil, 2, "", "read on the way"},
		{"a wrong key", credentials("wrong-key-9", api), nil, 6, "", "Vercel"},
		{"a wrong key beside a load", credentials("wrong-key-9", api), some, 0, "not known: Upstash's own count", ""},
		{"no such database", credentials(upstashtest.Key, api), []string{"--database", "other"}, 2, "", "UPSTASH_DATABASE"},
		{"nobody answers", credentials(upstashtest.Key, "http://127.0.0.1:1"), []string{"--timeout", "100ms"}, 5, "", "--offline"},
		{"throttled", credentials(upstashtest.Key, throttled.URL), nil, 75, "", "wait a minute"},
		{"offline asks nobody", credentials("wrong-key-9", "http://127.0.0.1:1"), append([]string{"--offline"}, some...), 0, "upstash-payg", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{}
			s := r.streams()
			s.env = func(name string) (string, bool) { v, ok := c.env[name]; return v, ok }
			t.Chdir(t.TempDir())
			if got := run(t.Context(), append([]string{"audit", "plan"}, c.args...), s); got != c.want {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", got, c.want, &r.out, &r.err)
			}
			if c.out == "" && r.out.Len() > 0 {
				t.Errorf("stdout = %s, want nothing", &r.out)
			}
			if !strings.Contains(r.out.String(), c.out) || !strings.Contains(r.err.String(), c.err) {
				t.Errorf("stdout lacks %q or stderr lacks %q\nstdout: %s\nstderr: %s", c.out, c.err, &r.out, &r.err)
			}
			if key := c.env["UPSTASH_API_KEY"]; key != "" && strings.Contains(r.out.String()+r.err.String(), key) {
				t.Errorf("the key is printed\nstdout: %s\nstderr: %s", &r.out, &r.err)
			}
		})
	}
}

func TestAuditCommandsAsksUpstashOnlyWithCredentials(t *testing.T) {
	url := redistest.Start(t).URL()
	api := upstashtest.Start(t)
	for _, c := range []struct {
		name, key, database, want string
	}{
		{"with a database that is named", upstashtest.Key, "shop", "our count"},
		{"with a database that is another", upstashtest.Key, "", "not observed: Upstash's own count"},
		{"with a wrong key", "wrong-key-9", "shop", "not observed: Upstash's own count"},
		{"without", "", "shop", ""},
	} {
		r := &recorder{}
		s := r.streams()
		env := map[string]string{"REDIS_URL": url}
		if c.key != "" {
			env["UPSTASH_EMAIL"], env["UPSTASH_API_KEY"], env["UPSTASH_API_URL"] = upstashtest.Email, c.key, api.URL
		}
		env["UPSTASH_DATABASE"] = c.database
		s.env = func(name string) (string, bool) { v, ok := env[name]; return v, ok }
		if got := run(t.Context(), []string{"audit", "commands", "--window", "1s"}, s); got != 0 {
			t.Errorf("%s: exit %d\nstderr: %s", c.name, got, &r.err)
		}
		told := strings.Contains(r.out.String(), "pstash's own count") || strings.Contains(r.out.String(), "Counted by Upstash")
		if told != (c.want != "") || !strings.Contains(r.out.String(), c.want) {
			t.Errorf("%s: stdout = %s", c.name, &r.out)
		}
	}
}
