package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/demo"
	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// steady replaces what differs from run to run: addresses, times, counts that depend on how many jobs
// the live producer came to add.
func steady(r *demo.Result) {
	r.Server.Addr = "127.0.0.1:16379"
	r.Duration, r.DurationSeconds = 12*time.Second, 12
	r.Connections.Roles, r.Connections.Phases = r.Connections.Roles[:1], r.Connections.Phases[:1]
	r.Commands = demo.Commands{
		WindowSeconds: 10, TopLevel: 47, InScript: 56, TopPerMonth: 12_182_400, AllPerMonth: 26_697_600,
		BudgetMultiple: 53.4, Method: "counted", Simulated: true,
	}
	r.Table[0].TopPerMonth, r.Table[0].AllPerMonth = r.Commands.TopPerMonth, r.Commands.AllPerMonth
	live := int64(r.Added.There + r.Added.Back)
	for i := range r.Queues {
		q := &r.Queues[i]
		q.Price = mover.Price{TopLevel: 10, InScript: 100}
		for _, p := range []*demo.Passage{&q.There, &q.Back} {
			p.Scripts, p.Took, p.TookMS = 20, 100*time.Millisecond, 100
			if q.Name != "suggestion-generation" {
				continue
			}
			added := p.Jobs - 30
			p.Jobs, p.Moved[mover.Waiting] = 30, p.Moved[mover.Waiting]-added
			p.Found -= p.Expected - 55
			p.Expected = 55
		}
	}
	for i := range r.Phases {
		p := &r.Phases[i]
		for _, l := range []*demo.PhaseLeg{&p.There, &p.Back} {
			l.Cost, l.Took, l.TookMS = upstream.Cost{Commands: 200, Writes: 40}, 50*time.Millisecond, 50
			if p.Name == "phase 3" {
				l.Moved = 100
			}
		}
		if p.Traffic != nil {
			p.Traffic.Reads, p.Traffic.Writes, p.Traffic.Checks, p.Traffic.Again = 320, 180, 80, 0
		}
	}
	r.Added = demo.Added{There: 25, Back: 30}
	// On a slow machine the capture's short-lived counters expire while it runs.
	r.Comparison.Expected = slices.DeleteFunc(r.Comparison.Expected, func(e demo.Explanation) bool {
		return e.Kind == "stalled-check" || e.Kind == "limiter"
	})
	r.Comparison.Identical = 66
	for i := range r.Comparison.Expected {
		if e := &r.Comparison.Expected[i]; e.Kind == "live" {
			e.Keys, e.Count = e.Keys[:1], e.Count-int(live)+55
		}
	}
	r.Cost = demo.Cost{Audit: upstream.Cost{Commands: 17}, Migrate: upstream.Cost{Commands: 1500, Writes: 300}}
}

func TestDemoLooksAsRecordedInEveryFormat(t *testing.T) {
	r, err := demo.Run(t.Context(), demo.Options{Window: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Passed() {
		t.Errorf("the demo failed: %+v", r.Comparison.Unexplained)
	}
	steady(r)
	for _, format := range report.Formats() {
		t.Run(string(format), func(t *testing.T) {
			wantGolden(t, "demo", format, demoDocument(r))
		})
	}
}

func TestDemoPrintsOneDocumentAndEndsWithItsCost(t *testing.T) {
	var r recorder
	if code := run(t.Context(), []string{"demo", "--window", "1s", "-o", "json"}, r.streams()); code != exitOK {
		t.Fatalf("exit code %d, want 0; stderr: %s", code, r.err.String())
	}
	var doc struct {
		Kind string      `json:"kind"`
		Data demo.Result `json:"data"`
	}
	if err := json.Unmarshal(r.out.Bytes(), &doc); err != nil {
		t.Fatalf("stdout is not one JSON document: %v", err)
	}
	if doc.Kind != "demo/v1" || !doc.Data.Passed() || doc.Data.Connections.Bull != 33 {
		t.Errorf("document %s, passed %v, %d Bull connections; want demo/v1, true, 33", doc.Kind, doc.Data.Passed(), doc.Data.Connections.Bull)
	}
	for _, want := range []string{"roll back", "cost: "} {
		if !strings.Contains(r.err.String(), want) {
			t.Errorf("stderr = %q, want it to contain %q", r.err.String(), want)
		}
	}
}

func TestDemoThatFindsADifferenceSaysSo(t *testing.T) {
	r := &demo.Result{
		Queues:     []demo.Queue{{Name: "mail", There: demo.Passage{Found: 4, Expected: 5, Left: 1}}},
		Comparison: demo.Comparison{Keys: 9, Identical: 8, Unexplained: []string{"bull:mail:1.data: a -> b"}},
	}
	if r.Passed() {
		t.Error("Passed() = true with a lost job and an unexplained difference")
	}
	var out bytes.Buffer
	if err := report.Write(&out, report.FormatTable, demoDocument(r), report.WriteOptions{Width: 80}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"UNEXPLAINED", "bull:mail:1.data", "4 of 5 jobs found, 1 left"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("document lacks %q:\n%s", want, out.String())
		}
	}
}

func TestAnInterruptedDemoLeavesNothingAndSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var r recorder
	stop := time.AfterFunc(300*time.Millisecond, cancel)
	defer stop.Stop()
	if code := run(ctx, []string{"demo"}, r.streams()); code == exitOK {
		t.Errorf("exit code 0 after an interruption; stdout: %s", r.out.String())
	}
	if r.out.Len() > 0 {
		t.Errorf("stdout = %q, want nothing", r.out.String())
	}
}
