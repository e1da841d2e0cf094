package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/record"
)

func sampleRecord() *record.Report {
	count := func(sent, inScript, idle, setup int64) record.Count {
		n := sent + inScript
		return record.Count{Sent: sent, InScript: inScript, Billed: n - setup, Work: n - idle - setup, Idle: idle, Setup: setup, BilledWork: n - idle - setup, BytesOut: 40 * sent, BytesIn: 20 * sent}
	}
	failed := count(6, 2, 0, 0)
	failed.Errors = 1
	return &record.Report{
		Command: []string{"npm", "test"}, Began: time.Date(2026, 11, 22, 11, 59, 0, 0, time.UTC), Seconds: 3.25, Duration: 3250 * time.Millisecond,
		Exit: record.Exit{Code: 0}, Redis: record.Redis{Engine: "embedded", Listen: "127.0.0.1:40000", InScript: "exact"},
		Provider:    record.Provider{Name: "upstash", BillsInScript: true, Free: []string{"hello", "ping"}, AsOf: "2026-08-21"},
		Total:       count(24, 4, 3, 4),
		Connections: record.Connections{Opened: 4, Peak: 3, Processes: 2, PeakPerProcess: 2, Left: 1},
		Sources: []record.Source{
			{Name: "api", Named: "environment", PeakConnections: 2, Count: count(16, 4, 0, 2)},
			{Name: "node worker.js", Named: "process", PeakConnections: 1, Count: count(8, 0, 3, 2)},
		},
		Tests: []record.Test{
			{Name: "GET /users", Source: "api", Runs: 2, MaxPerRun: 3, Count: count(5, 0, 0, 0), Commands: []record.Calls{{Command: "get", Sent: 5}}},
			{Name: "POST /orders", Source: "api", Runs: 1, MaxPerRun: 8, Count: failed, Commands: []record.Calls{{Command: "evalsha", Sent: 2}, {Command: "set", Sent: 4}}},
			{Name: "", Source: "api, node worker.js", MaxPerRun: 8, Count: count(13, 2, 3, 4), Commands: []record.Calls{{Command: "get", Sent: 13}}},
		},
		Clients:  []record.Client{{Name: "", Library: "ioredis", Source: "api", Connections: 3, Count: count(24, 4, 3, 4)}},
		Commands: []record.Command{{Command: "get", Count: count(14, 0, 0, 0)}, {Command: "evalsha", Count: count(2, 4, 0, 0)}},
		Prefixes: []record.Prefix{{Prefix: "user:*", Count: count(14, 0, 0, 0)}, {Prefix: "(no key)", Count: count(4, 0, 0, 4)}},
		Scripts:  []record.Script{{SHA1: "6660cc9e00000000000000000000000000000000", Title: "Move next job to be processed to active", Count: count(2, 4, 0, 0)}},
		Errors:   []record.Failure{{Code: "WRONGTYPE", Text: "WRONGTYPE Operation against a key holding the wrong kind of value", Command: "lpush", Count: 1}},
		Measures: []inspect.Measure{{Name: "record.commands.billed_work", Value: 21, Unit: "command", Evidence: inspect.Evidence{Source: "recorded run", Samples: 24}}},
		Findings: []inspect.Finding{{Rule: "connections-left", Severity: inspect.Note, Subject: "the recorded command", Message: "1 connections were still open when the recording ended, of processes that the command left behind", Remedy: "stop what the command starts before it ends, or record longer with --linger"}},
		Missing:  []string{},
	}
}

func TestRecordLooksAsRecordedInEveryFormat(t *testing.T) {
	for _, format := range report.Formats() {
		wantGolden(t, "record", format, recordDocument(sampleRecord()))
		wantGolden(t, "record.plan", format, recordPlanDocument(recordFlags{env: []string{"BULL_URL"}}, []string{"npm", "test"}))
	}
}

// recordHere runs a recording of this test program's own copy of a shell script and returns its document.
func recordHere(t *testing.T, want int, flags []string, script string) (*record.Report, string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "record.json")
	var r recorder
	args := append(append([]string{"record", "--out", file}, flags...), "--", "sh", "-c", script)
	if code := run(t.Context(), args, r.streams()); code != want {
		t.Fatalf("exit code %d, want %d\n%s", code, want, r.err.String())
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var doc struct {
		Kind string
		Data record.Report
	}
	if err := json.Unmarshal(text, &doc); err != nil || doc.Kind != "record/v1" {
		t.Fatalf("%v: %s", err, text)
	}
	return &doc.Data, r.err.String()
}

func TestAnyExitCodeOfTheCommandIsKept(t *testing.T) {
	for _, code := range []int{0, 1, 3, 42, 255} {
		doc, _ := recordHere(t, code, nil, "exit "+count(int64(code)))
		if doc.Exit.Code != code {
			t.Errorf("the document says %d, want %d", doc.Exit.Code, code)
		}
	}
	doc, stderr := recordHere(t, 128+15, nil, "kill -TERM $$")
	if doc.Exit.Signal != "terminated" || !strings.Contains(stderr, "ended by a signal") {
		t.Errorf("got %+v and %q", doc.Exit, stderr)
	}
}

func TestWhatTheCommandPrintsIsNeverLost(t *testing.T) {
	var r recorder
	code := run(t.Context(), []string{"record", "-o", "json", "--", "sh", "-c", "echo to out; echo to err >&2; yes line | head -20000"}, r.streams())
	if code != 0 || !json.Valid(r.out.Bytes()) {
		t.Fatalf("exit code %d, standard output is no JSON: %.200s", code, r.out.String())
	}
	if got := r.err.String(); !strings.Contains(got, "to out\n") || !strings.Contains(got, "to err\n") || strings.Count(got, "line\n") != 20000 {
		t.Errorf("%d lines of output", strings.Count(got, "line\n"))
	}
	r = recorder{}
	file := filepath.Join(t.TempDir(), "r.json")
	if code := run(t.Context(), []string{"record", "--out", file, "--", "echo", "to out"}, r.streams()); code != 0 || r.out.String() != "to out\n" {
		t.Errorf("with --out standard output is %q, exit code %d", r.out.String(), code)
	}
}

func TestAGrandchildThatStaysDoesNotHoldTheRecording(t *testing.T) {
	begun := time.Now()
	_, _ = recordHere(t, 0, []string{"--linger", "100ms"}, "sleep 60 & echo started")
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("took %s, as long as the grandchild lives", took)
	}
}

func TestTheCommandGetsItsRedisAndNoOther(t *testing.T) {
	env := recordEnv([]string{
		"PATH=/bin", "REDIS_URL=redis://real", "REDIS_PASSWORD=secret", "REDIS_PASSWORD_FILE=/secret", "REDIS_TLS=1", "REDIS_URL_FILE=/url",
		"UPSTASH_REDIS_REST_URL=https://real", "BULL_URL=redis://real",
	}, []string{"BULL_URL"}, "127.0.0.1:4000", recordGate{url: "http://127.0.0.1:5000", token: "t"})
	want := []string{
		"BULL_URL=redis://127.0.0.1:4000", "KV_REST_API_TOKEN=t", "KV_REST_API_URL=http://127.0.0.1:5000", "PATH=/bin",
		"REDISOPT_RECORD=redis://127.0.0.1:4000", "REDIS_HOST=127.0.0.1", "REDIS_PORT=4000", "REDIS_URL=redis://127.0.0.1:4000",
		"UPSTASH_REDIS_REST_TOKEN=t", "UPSTASH_REDIS_REST_URL=http://127.0.0.1:5000",
	}
	if !slices.Equal(env, want) {
		t.Errorf("got %q, want %q", env, want)
	}
}

func TestAnOutFileThatCannotBeWrittenIsAnErrorEvenWhereTheCommandSucceeds(t *testing.T) {
	var r recorder
	if code := run(t.Context(), []string{"record", "--out", t.TempDir(), "--", "true"}, r.streams()); code != exitFailure {
		t.Errorf("exit code %d, want %d: %s", code, exitFailure, r.err.String())
	}
	if !bytes.Contains(r.err.Bytes(), []byte("--out")) {
		t.Errorf("got %s", r.err.String())
	}
}
