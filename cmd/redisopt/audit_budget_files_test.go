package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/inspect/record"
)

func TestTheGateReadsWhatRecordWrites(t *testing.T) {
	r := record.Report{
		Tests: []record.Test{
			{Name: "", Count: record.Count{BilledWork: 9}},
			{Name: "GET /users", Runs: 3, MaxPerRun: 4, Count: record.Count{BilledWork: 10}, Commands: []record.Calls{{Command: "get", Sent: 8}, {Command: "set", Sent: 2}}},
		},
		Sources:     []record.Source{{Name: "api", Count: record.Count{BilledWork: 19}}},
		Connections: record.Connections{PeakPerProcess: 5},
	}
	var out bytes.Buffer
	if err := report.Write(&out, report.FormatJSON, report.Document{Kind: gate.RecordKind, Data: r}, report.WriteOptions{}); err != nil {
		t.Fatal(err)
	}
	got, err := gate.ReadRecord(&out)
	if err != nil {
		t.Fatal(err)
	}
	want := []gate.Operation{{Name: "GET /users", Kind: "test", Commands: 4, Runs: 3, Sent: "8 get, 2 set"}, {Name: "api", Kind: "source", Commands: 19}}
	if diff := cmp.Diff(want, got.Operations); diff != "" || got.PeakPerProcess != 5 {
		t.Errorf("operations (-want +got):\n%s\nconnections %d, want 5", diff, got.PeakPerProcess)
	}
}

func TestTheGateReadsWhatBenchWrites(t *testing.T) {
	took := func(d time.Duration, n int) *bench.Result {
		r := &bench.Result{Loop: bench.Open, Started: int64(n), Done: int64(n)}
		for range n {
			r.Latency.All.Record(d)
		}
		return r
	}
	file := bench.File{Target: "redis over TCP", Evidence: true, Scenarios: []bench.Measured{
		{Name: "cache-get", Result: took(time.Millisecond, 2000)},
		{Name: "cache-set", Result: took(3*time.Millisecond, 2000)},
		{Name: "queue-add", Result: took(20*time.Millisecond, 2000)},
		{Name: "queue-round-trip", Result: took(time.Second, 2000)},
		{Name: "limit-hot", Result: took(time.Millisecond, 3)},
		{Name: "limit-cold", Result: took(time.Hour, 2000), Broken: "two answers were wrong"},
	}}
	dir := t.TempDir()
	path := filepath.Join(dir, "bench.json")
	if err := file.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	b, why, err := readBench(path)
	if err != nil || why != "" {
		t.Fatalf("readBench = %v, %q", err, why)
	}
	slowest := map[string]time.Duration{}
	for _, l := range b.Results {
		slowest[l.Operation] = max(slowest[l.Operation], l.P95.High.Round(time.Millisecond))
	}
	want := map[string]time.Duration{
		"cache": 3 * time.Millisecond, "cache-get": time.Millisecond, "cache-set": 3 * time.Millisecond,
		"queue": 20 * time.Millisecond, "queue-add": 20 * time.Millisecond, "queue-round-trip": time.Second, "limit": 0, "limit-hot": 0, "limit-cold": 0,
	}
	if diff := cmp.Diff(want, slowest); diff != "" {
		t.Errorf("slowest 95th percentiles (-want +got):\n%s", diff)
	}
	i := slices.IndexFunc(b.Results, func(l gate.Latency) bool { return l.Operation == "limit-cold" })
	if i < 0 || !strings.Contains(b.Results[i].Doubt, "two answers were wrong") {
		t.Errorf("results %+v, want a doubt about the scenario that was wrong", b.Results)
	}

	file.Evidence, file.Target = false, "embedded, not evidence"
	if err := file.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if b, why, err := readBench(path); b != nil || err != nil || why != "it measured embedded, not evidence" {
		t.Errorf("an embedded Redis: %v, %q, %v", b, why, err)
	}
	for text, want := range map[string]string{
		"": "is empty", "[]": "bench/v1", `{"kind":"redisopt.bench","schema":99}`: "schema 99", `{"kind":"other"}`: `kind "other"`,
		`{"kind":"bench/v1","data":{"results":[{"operation":"cache","samples":500,"p95_us":1}]}}`: "",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, _, err := readBench(path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("readBench(%s) = %v, want %q", text, err, want)
		}
	}
}

func TestABenchmarkWhoseOperationsFailedPassesNothing(t *testing.T) {
	r := benchResult(1, 2000, time.Millisecond)
	r.Started, r.Errors, r.FirstError = 3000, map[string]int64{"error": 1000}, "reset"
	path := filepath.Join(t.TempDir(), "bench.json")
	if err := benchFileOf(true, bench.Measured{Name: "cache-get", Result: r, Commands: 2000}).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	b := benchOf(benchFileOf(true, bench.Measured{Name: "cache-get", Result: r}))
	if len(b.Results) == 0 || !strings.Contains(b.Results[0].Doubt, "1000 of 3000 operations failed") {
		t.Errorf("results %+v, want the doubt", b.Results)
	}
	var rec recorder
	args := []string{"audit", "budget", "--offline", "--code", t.TempDir(), "--bench", path, "--strict", "-o", "json"}
	if code := run(t.Context(), args, rec.streams()); code != exitInconclusive || !strings.Contains(rec.out.String(), "1000 of 3000 operations failed") {
		t.Errorf("exit %d, stdout %s, stderr %s", code, rec.out.String(), rec.err.String())
	}
}
