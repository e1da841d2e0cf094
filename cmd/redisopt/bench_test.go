package main

import (
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// benchResult is a made-up result: n operations of base and up to as much again, in ten slices.
func benchResult(seed uint64, n int, base time.Duration) *bench.Result {
	random := rand.New(rand.NewPCG(seed, 1))
	r := &bench.Result{
		Loop: bench.Open, RatePerSecond: 100, RampToPerSecond: 100, Began: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
		Took: time.Duration(n) * 10 * time.Millisecond, Planned: int64(n), Started: int64(n), Done: int64(n), Errors: map[string]int64{},
	}
	const slices = 10
	r.Latency.Slices = make([]bench.Slice, slices)
	for i := range n {
		d := base + time.Duration(random.Float64()*float64(base))
		s := &r.Latency.Slices[i*slices/n]
		s.At = time.Duration(i*slices/n) * time.Second
		r.Latency.All.Record(d)
		s.Latency.Record(d)
		r.Service.Record(d - base/10)
		r.Queueing.Record(base / 10)
		r.Lateness.Record(20 * time.Microsecond)
	}
	return r
}

func benchFileOf(evidence bool, measured ...bench.Measured) *bench.File {
	target := "redis over TCP"
	if !evidence {
		target = "embedded, not evidence"
	}
	return &bench.File{Program: "v0.0.0", Target: target, Evidence: evidence, Host: "linux/amd64, 2 CPUs", Seed: 1, Scenarios: measured}
}

func TestBenchDocuments(t *testing.T) {
	few := benchResult(2, 150, 30*time.Millisecond)
	few.Limited, few.Errors, few.FirstError, few.Started = 5, map[string]int64{"timeout": 3}, "no reply after 5s", 158
	file := benchFileOf(true,
		bench.Measured{Name: "cache-get", Result: benchResult(1, 2000, time.Millisecond), Commands: 2000},
		bench.Measured{Name: "limit-cold", Result: benchResult(3, 2000, 40*time.Millisecond), Commands: 8000, InScript: 6000},
		bench.Measured{Name: "queue-round-trip", Result: few, Commands: 3002, InScript: 2000, Broken: "1 jobs were run more than once"})
	asserts, err := assertionsOf(theBudgets, []string{"errors<0.1%", "commands<=4"})
	if err != nil {
		t.Fatal(err)
	}
	doc := benchDocument(file, judge(file, asserts), 2)
	for _, format := range []report.Format{report.FormatTable, report.FormatJSON, report.FormatMarkdown, report.FormatJUnit} {
		wantGolden(t, "bench", format, doc)
	}
	old := benchFileOf(true, file.Scenarios[0])
	data := compareData{Old: "old.json", New: "new.json", MaxRegress: 0.1, Missing: []comparedMissing{{Operation: "limit-cold", Why: "it is not in old.json"}}}
	changes, err := bench.Compare(&old.Scenarios[0].Result.Latency, &benchResult(5, 2000, 1200*time.Microsecond).Latency, comparedPercentiles(), 0.1)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range changes {
		data.Changes = append(data.Changes, changeOf("cache-get", c))
	}
	wantGolden(t, "bench-compare", report.FormatTable, compareDocument(data))
	wantGolden(t, "bench-compare", report.FormatJSON, compareDocument(data))
	x := &scenario.Turns{Alternated: &bench.Alternated{A: benchResult(1, 4000, time.Millisecond), B: benchResult(2, 4000, time.Millisecond)}}
	x.B.Errors = map[string]int64{"timeout": 2}
	x.B.Connect.RecordN(2*time.Millisecond, 3)
	x.B.TLS.RecordN(5*time.Millisecond, 3)
	x.Sides = [2]bench.Measured{{Name: "cache-get", Result: x.A, Commands: 4000}, {Name: "cache-get", Result: x.B, Commands: 8000, Broken: "1 answers were not the value that was stored"}}
	for i := range uint64(8) {
		x.Pairs = append(x.Pairs, bench.Pair{A: benchResult(i+10, 500, time.Millisecond), B: benchResult(i+30, 500, time.Millisecond)})
	}
	turns := turnsData{A: "redis over TCP", B: "redis over REST", Evidence: true, Pairs: 8, MaxRegress: 0.1, Scenarios: []turnsScenario{turnsOf("cache-get", x, 0.1, 2)}}
	wantGolden(t, "bench-turns", report.FormatTable, turnsDocument(turns))
	wantGolden(t, "bench-turns", report.FormatJSON, turnsDocument(turns))
	knee := kneeData{Target: "redis over TCP", Evidence: true, Scenarios: []kneeScenario{kneeOf("cache-get", &scenario.Found{
		RatePerSecond: 100, Steps: []bench.Step{{RatePerSecond: 100, Result: file.Scenarios[0].Result, Taken: true}, {RatePerSecond: 150, Result: few}},
	})}}
	wantGolden(t, "bench-knee", report.FormatTable, kneeDocument(knee))
	wantGolden(t, "bench-knee", report.FormatJSON, kneeDocument(knee))
	plan := scenario.Plan{Scenarios: scenario.All()[:2], Run: bench.Options{Pace: bench.Pace{Rate: 50, Duration: 5 * time.Second}}}
	wantGolden(t, "bench-plan", report.FormatTable, benchPlanDocument(plan, &benchTarget{name: "redis over TCP", evidence: true}))
	wantGolden(t, "bench-plan", report.FormatJSON, benchPlanDocument(plan, &benchTarget{name: "redis over TCP", evidence: true}))
}

func TestABenchmarkEndsWithTheCauseOfItsVerdict(t *testing.T) {
	fast := bench.Measured{Name: "cache-get", Result: benchResult(1, 2000, time.Millisecond), Commands: 2000}
	slow := bench.Measured{Name: "limit-cold", Result: benchResult(2, 2000, 60*time.Millisecond), Commands: 8000}
	few := bench.Measured{Name: "queue-add", Result: benchResult(3, 150, time.Millisecond), Commands: 600}
	broken := fast
	broken.Broken = "3 answers were not the value that was stored"
	budgets, err := assertionsOf(theBudgets, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		file   *bench.File
		strict bool
		want   int
	}{
		"all within":                {benchFileOf(true, fast), false, exitOK},
		"one too slow":              {benchFileOf(true, fast, slow), false, exitViolated},
		"broken before too slow":    {benchFileOf(true, broken, slow), false, exitMismatch},
		"too few samples":           {benchFileOf(true, few), false, exitOK},
		"too few samples, strictly": {benchFileOf(true, few), true, exitInconclusive},
		"no evidence of slowness":   {benchFileOf(false, slow), false, exitOK},
		"no evidence, strictly":     {benchFileOf(false, slow), true, exitInconclusive},
	} {
		if got := exitCode(benchVerdict(test.file, judge(test.file, budgets), test.strict), false); got != test.want {
			t.Errorf("%s: exit %d, want %d", name, got, test.want)
		}
	}
}

func TestTwoResultFilesAreComparedAndMerged(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, base time.Duration, seed uint64) string {
		path := filepath.Join(dir, name)
		if err := benchFileOf(true, bench.Measured{Name: "cache-get", Result: benchResult(seed, 3000, base), Commands: 3000}).WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	old, same, slower := write("old.json", time.Millisecond, 1), write("same.json", time.Millisecond, 2), write("slower.json", 1200*time.Microsecond, 3)
	other := filepath.Join(dir, "other.json")
	if err := os.WriteFile(other, []byte(`{"kind":"redisopt.bench","schema":7,"program":"v9"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"bench", "compare", old, same}, exitOK, ""},
		{[]string{"bench", "compare", old, slower}, exitViolated, "slower: cache-get p50"},
		{[]string{"bench", "compare", old, slower, "--max-regress", "30%"}, exitOK, ""},
		{[]string{"bench", "compare", old, other}, exitUsage, "schema 7, written by version v9"},
		{[]string{"bench", "compare", old, filepath.Join(dir, "none")}, exitUsage, "no such file"},
		{[]string{"bench", "compare", old}, exitUsage, "accepts 2 arg"},
		{[]string{"bench", "merge", old, same, "--out", filepath.Join(dir, "both.json")}, exitOK, ""},
		{[]string{"bench", "merge", old, other}, exitUsage, "schema 7"},
	} {
		var rec recorder
		if code := run(t.Context(), test.args, rec.streams()); code != test.want || !strings.Contains(rec.err.String(), test.says) {
			t.Errorf("%v: exit %d, stderr %q; want %d and %q", test.args[:2], code, rec.err.String(), test.want, test.says)
		}
	}
	both, err := bench.ReadFile(filepath.Join(dir, "both.json"))
	if err != nil || both.Find("cache-get").Result.Done != 6000 || both.Find("cache-get").Commands != 6000 {
		t.Errorf("merged: %+v, %v; want 6,000 operations", both, err)
	}
}

func TestBenchOnARealRedis(t *testing.T) {
	server, readFile := redistest.Start(t), bench.ReadFile
	bench := func(env map[string]string, args ...string) (int, *recorder) {
		t.Helper()
		rec := &recorder{}
		s := rec.streams()
		s.env = func(name string) (string, bool) {
			v, ok := env[name]
			return v, ok
		}
		return run(t.Context(), append([]string{"bench"}, args...), s), rec
	}
	here := map[string]string{"REDIS_URL": server.URL()}
	quick := []string{"--rate", "300", "--duration", "1s", "--warm-up", "100ms", "--keys", "20", "-o", "json"}
	page := filepath.Join(t.TempDir(), "page.html")

	code, rec := bench(here, append(quick, "cache-get", "limit-cold", "queue-add", "--assert", "p95<1m", "--assert", "commands<=4.5", "--html", page)...)
	if code != exitOK || !strings.Contains(rec.out.String(), `"outcome": "pass"`) || !strings.Contains(rec.out.String(), `"evidence": true`) {
		t.Errorf("exit %d, stderr %s, stdout %s", code, rec.err.String(), rec.out.String())
	}
	if text, err := os.ReadFile(page); err != nil || strings.Count(string(text), "<svg") < 6 {
		t.Errorf("the page has %d drawings, %v; want 6 and more", strings.Count(string(text), "<svg"), err)
	}
	if code, rec = bench(here, append(quick, "cache-get", "--assert", "p50<2us")...); code != exitViolated || !strings.Contains(rec.err.String(), "cache-get: p50 is") {
		t.Errorf("too slow: exit %d, stderr %s; want 3 and the line", code, rec.err.String())
	}
	if code, rec = bench(here, append(quick, "cache-get", "--against", "env:OTHER", "--pairs", "2")...); code != exitUsage || !strings.Contains(rec.err.String(), "OTHER is not set") {
		t.Errorf("no other target: exit %d, stderr %s", code, rec.err.String())
	}
	two := map[string]string{"REDIS_URL": server.URL(), "OTHER": redistest.Start(t).URL()}
	sides := filepath.Join(t.TempDir(), "sides.json")
	code, rec = bench(two, append(quick, "cache-set", "--duration", "200ms", "--against", "env:OTHER", "--pairs", "6", "--max-regress", "100%", "--out", sides, "--html", page)...)
	// Two servers on a busy machine may really differ by more; whether the verdict is right is tested without them.
	if code != exitOK && code != exitViolated || !strings.Contains(rec.out.String(), `"b": "the redis of OTHER"`) || strings.Count(rec.out.String(), `"commands_per_operation": 1`) != 2 {
		t.Errorf("in turns: exit %d, stderr %s, stdout %s", code, rec.err.String(), rec.out.String())
	}
	for _, side := range []string{"a", "b"} {
		if one, err := readFile(sidePath(sides, side)); err != nil || one.Find("cache-set").Result.Done != 6*60 {
			t.Errorf("side %s: %+v, %v; want all turns of it", side, one, err)
		}
	}
	if text, err := os.ReadFile(page); err != nil || !strings.Contains(string(text), "cache-set, B") {
		t.Errorf("%v, want both sides on the page", err)
	}
	if code, rec = bench(here, "cache-get", "--knee", "--assert", "p95<1us", "--rate", "50", "--duration", "500ms", "--warm-up", "0s", "-o", "json"); code != exitOK || !strings.Contains(rec.out.String(), `"rate_per_second": 0,`) {
		t.Errorf("knee: exit %d, stderr %s, stdout %s", code, rec.err.String(), rec.out.String())
	}
	nobody := map[string]string{"REDIS_URL": "redis://127.0.0.1:1"}
	if code, rec = bench(nobody, append(quick, "cache-get", "--timeout", "1s")...); code != exitUnreachable {
		t.Errorf("nobody there: exit %d, stderr %s; want 5", code, rec.err.String())
	}
	config := filepath.Join(t.TempDir(), "redisopt.yaml")
	if err := os.WriteFile(config, []byte("version: 1\nupstream: {environment: production}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if code, rec = bench(here, append(quick, "cache-get", "--config", config)...); code != exitUsage || !strings.Contains(rec.err.String(), "tagged production") {
		t.Errorf("production: exit %d, stderr %s; want 2", code, rec.err.String())
	}
	if keys := server.Client(t).Keys(t.Context(), "*").Val(); len(keys) != 0 {
		t.Errorf("left behind: %v", keys)
	}
}

func TestBenchHTTPJudgesAnEndpoint(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer hush" {
			w.WriteHeader(http.StatusUnauthorized)
		}
	}))
	defer server.Close()
	for _, test := range []struct {
		args []string
		want int
		says string
	}{
		{[]string{"--token-env", "API_TOKEN", "--assert", "errors<=0%", "--assert", "p95<1m"}, exitOK, ""},
		{[]string{"--assert", "errors<=0%"}, exitViolated, "HTTP 401"},
		{[]string{"--header", "Authorization: Bearer hush"}, exitUsage, "use --token-env"},
		{[]string{"--token-env", "NONE"}, exitUsage, "NONE is not set"},
	} {
		var rec recorder
		s := rec.streams()
		s.env = func(name string) (string, bool) {
			if name == "API_TOKEN" {
				return "hush", true
			}
			return "", false
		}
		args := append([]string{"bench", "http", "--url", server.URL, "--rate", "300", "--duration", "800ms", "--warm-up", "50ms"}, test.args...)
		if code := run(t.Context(), args, s); code != test.want || !strings.Contains(rec.err.String(), test.says) || strings.Contains(rec.out.String()+rec.err.String(), "Bearer hush") && test.want != exitUsage {
			t.Errorf("%v: exit %d, stderr %s", test.args, code, rec.err.String())
		}
	}
	var rec recorder
	if code := run(t.Context(), []string{"bench", "http", "--url", "http://127.0.0.1:1/", "--rate", "50", "--duration", "200ms", "--warm-up", "0s"}, rec.streams()); code != exitUnreachable {
		t.Errorf("nobody there: exit %d, stderr %s", code, rec.err.String())
	}
}
