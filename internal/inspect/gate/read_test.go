package gate

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

func TestABaselineReadsBackAsItWasWritten(t *testing.T) {
	s := mailer(2)
	s.Findings = []Finding{{inspect.Finding{Rule: "b", File: "x.ts", Line: 3}, "anchor"}, {Finding: inspect.Finding{Rule: "a", Subject: "q"}}}
	open := Exactly(3)
	want := BaselineOf(Evidence{Static: s, Live: &Live{Connections: &open}, Recorded: &Recorded{Operations: []Operation{{"GET /", "test", 3, 2, ""}}}})
	var first, second bytes.Buffer
	if err := want.Write(&first); err != nil {
		t.Fatal(err)
	}
	got, err := ReadBaseline(bytes.NewReader(first.Bytes()))
	if err != nil {
		t.Fatal(err)
	}
	if err := got.Write(&second); err != nil || first.String() != second.String() {
		t.Errorf("written again it differs: %v\n%s", err, cmp.Diff(first.String(), second.String()))
	}
	if strings.Contains(first.String(), `"line": 3,`) {
		t.Errorf("a finding's line is kept:\n%s", first.String())
	}
}

func TestWhatIsNoEvidenceIsRefusedWithItsReason(t *testing.T) {
	for _, x := range []struct{ text, want string }{
		{"", "is empty"},
		{"{", "is no JSON"},
		{`{"kind":"budget-baseline/v2","data":{}}`, `is of the kind "budget-baseline/v2", and this program reads "budget-baseline/v1"`},
		{`{"kind":"budget-baseline/v1"}`, "has no data"},
		{`{"kind":"budget-baseline/v1","data":[]}`, "is no JSON of the kind"},
		{`{"kind":"budget-baseline/v1","data":{"connections":{"min":-1,"max":3}}}`, "negative"},
		{`{"kind":"budget-baseline/v1","data":{"sites":[{"file":"a","connections":{"min":3,"max":1}}]}}`, "site a:0"},
	} {
		if _, err := ReadBaseline(strings.NewReader(x.text)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("ReadBaseline(%s) = %v, want %q in it", x.text, err, x.want)
		}
	}
	if _, err := ReadBaseline(strings.NewReader(`{"kind":"x"}`)); err != nil {
		if _, ok := errors.AsType[*VersionError](err); !ok {
			t.Errorf("another kind is %T, want a *VersionError", err)
		}
	}
	for _, x := range []struct{ text, want string }{
		{`{"kind":"record/v1","data":{}}`, "nothing was recorded"},
		{`{"kind":"record/v1","data":{"tests":[{"name":"a","billed_work":-1,"max_billed_work_per_run":-2}]}}`, "want 0 or more"},
	} {
		if _, err := ReadRecord(strings.NewReader(x.text)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("ReadRecord(%s) = %v, want %q in it", x.text, err, x.want)
		}
	}
	for _, x := range []struct{ text, want string }{
		{`{"kind":"bench/v1","data":{"results":[]}}`, "no results"},
		{`{"kind":"bench/v1","data":{"results":[{"samples":3}]}}`, "result 0 has no operation"},
		{`{"kind":"bench/v1","data":{"results":[{"operation":"a","p95_us":-1}]}}`, "out of range"},
		{`{"kind":"bench/v1","data":{"results":[{"operation":"a","p95_us":1e300}]}}`, "out of range"},
	} {
		if _, err := ReadBench(strings.NewReader(x.text)); err == nil || !strings.Contains(err.Error(), x.want) {
			t.Errorf("ReadBench(%s) = %v, want %q in it", x.text, err, x.want)
		}
	}
}

func TestARecordedRunIsJudgedByTestAndSource(t *testing.T) {
	first, err := ReadRecord(strings.NewReader(`{"kind":"record/v1","data":{
		"tests":[{"name":"","billed_work":99},{"name":"GET /users","runs":1,"billed_work":4,"max_billed_work_per_run":4,"commands":[{"command":"get","sent":3},{"command":"set","sent":1}]},
			{"name":"GET /slow","runs":3,"billed_work":30,"max_billed_work_per_run":12}],
		"sources":[{"name":"api","billed_work":130}],"connections":{"peak_per_process":7}}}`))
	if err != nil {
		t.Fatal(err)
	}
	second := &Recorded{Operations: []Operation{{"GET /users", "test", 5, 1, ""}, {"other", "test", 1, 1, ""}}, PeakPerProcess: 3}
	first.Merge(second)
	r := judged(t, Evidence{Recorded: first}, Options{Budgets: budgets(func(b *budget.Budgets) {
		b.Connections.PerProcess = 6
		b.Operations = []budget.Operation{{Name: "GET /users", Commands: 4}, {Name: "GET /slow", Commands: 12}, {Name: "o*", Commands: 0}, {Name: "api", Commands: 200}, {Name: "DELETE /", Commands: 1}}
	})})
	got := map[string]string{}
	for _, n := range r.Judgements {
		got[n.Name()] = string(n.Verdict) + ": " + n.Message
		if n.Budget == "operations.GET /users" && n.Remedy != "cache or batch what repeats; its 2 runs sent 3 get, 1 set" {
			t.Errorf("remedy %q", n.Remedy)
		}
	}
	want := map[string]string{
		"connections.per_process of the one with most": "fail: 7 connections, 6 allowed in one process",
		"operations.GET /users":                        "fail: 5 commands, 4 allowed",
		"operations.GET /slow":                         "pass: 12 commands, 12 allowed",
		"operations.o* of other":                       "fail: 1 command, 0 allowed",
		"operations.api":                               "pass: 130 commands, 200 allowed",
		"operations.DELETE /":                          `inconclusive: no test or source of the recorded run is called "DELETE /"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("judgements (-want +got):\n%s", diff)
	}
}

func TestABenchmarkIsJudgedOnEnoughSamples(t *testing.T) {
	b, err := ReadBench(strings.NewReader(`{"kind":"bench/v1","data":{"results":[
		{"operation":"cache","samples":1000,"p50_us":400,"p95_us":99000,"p99_us":300000},
		{"operation":"limit","samples":20,"p95_us":1,"p99_us":1},
		{"operation":"queue","samples":1000,"p95_us":10001}]}}`))
	if err != nil {
		t.Fatal(err)
	}
	r := judged(t, Evidence{Bench: b}, Options{Budgets: budgets(func(b *budget.Budgets) {
		l := b.Latency["cache"]
		l.P99 = 200 * time.Millisecond
		b.Latency["cache"] = l
		b.Latency["search"] = budget.Latency{P95: time.Second, MinSamples: 10}
	})})
	got := map[string]string{}
	for _, n := range r.Judgements {
		got[n.Name()] = string(n.Verdict) + ": " + n.Message
	}
	want := map[string]string{
		"latency.cache.p95":  "pass: 99ms in 1000 samples, 100ms allowed",
		"latency.cache.p99":  "fail: 300ms in 1000 samples, 200ms allowed",
		"latency.limit.p95":  "inconclusive: 20 samples, and a verdict needs 200",
		"latency.queue.p95":  "fail: 10.001ms in 1000 samples, 10ms allowed",
		"latency.search.p95": "inconclusive: the benchmark did not measure it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("judgements (-want +got):\n%s", diff)
	}
	if r := judged(t, Evidence{}, Options{Budgets: budget.Default()}); len(r.Judgements) != 0 {
		t.Errorf("the default budgets alone ask for a benchmark: %+v", r.Judgements)
	}
}

func FuzzBaselines(f *testing.F) {
	var out bytes.Buffer
	if err := BaselineOf(Evidence{Static: mailer(1)}).Write(&out); err != nil {
		f.Fatal(err)
	}
	f.Add(out.Bytes())
	f.Add([]byte(`{"kind":"budget-baseline/v1","data":{"connections":{"min":1,"max":2,"open_above":true},"findings":[{"rule":"a"}]}}`))
	f.Add([]byte(`{"kind":"budget-baseline/v9"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b, err := ReadBaseline(bytes.NewReader(text))
		if err != nil {
			return
		}
		var first, second bytes.Buffer
		if err := b.Write(&first); err != nil {
			t.Fatal(err)
		}
		again, err := ReadBaseline(bytes.NewReader(first.Bytes()))
		if err != nil {
			t.Fatalf("what was written cannot be read: %v", err)
		}
		if err := again.Write(&second); err != nil || first.String() != second.String() {
			t.Errorf("it changes by being read: %v", err)
		}
		bud := budgets(func(b *budget.Budgets) {
			b.Connections = budget.Connections{Fleet: 3, PerProcess: 2, PlanLimit: 9, DeployFactor: 1, FailAt: 0.8}
			b.Commands.PerMonth, b.Increase = 10, budget.Increase{}
		})
		r, err := Judge(Evidence{Static: mailer(2)}, Options{Budgets: bud, Baseline: b, Now: now})
		if err != nil {
			t.Fatal(err)
		}
		for _, n := range r.Judgements {
			if n.Verdict == "" || n.Message == "" {
				t.Errorf("no verdict or no reason: %+v", n)
			}
		}
	})
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte(`{"kind":"record/v1","data":{"tests":[{"name":"a","runs":1,"billed_work":2}]}}`))
	f.Add([]byte(`{"kind":"bench/v1","data":{"results":[{"operation":"a","samples":1,"p95_us":3.5}]}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if r, err := ReadRecord(bytes.NewReader(text)); err == nil && len(r.Operations) == 0 {
			t.Error("a record of nothing is taken")
		}
		if b, err := ReadBench(bytes.NewReader(text)); err == nil && len(b.Results) == 0 {
			t.Error("a benchmark of nothing is taken")
		}
	})
}
