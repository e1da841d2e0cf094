package main

import (
	"bytes"
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/source"
)

// sampleCode is code of the package that scans it.
func sampleCode(elem ...string) string {
	return filepath.Join(append([]string{"..", "..", "internal", "inspect", "source", "testdata"}, elem...)...)
}

func TestAuditOfCodeLooksAsRecordedInEveryFormat(t *testing.T) {
	r, err := source.Scan(t.Context(), sampleCode("apps", "bullmq-options"), source.Options{Replicas: 2})
	if err != nil {
		t.Fatal(err)
	}
	for _, format := range report.Formats() {
		t.Run(string(format), func(t *testing.T) {
			wantGolden(t, "audit.code", format, codeDocument(r))
		})
	}
}

func TestAuditOfCodeEndsWithTheCodeOfItsVerdict(t *testing.T) {
	for _, c := range []struct {
		name        string
		args        []string
		want        int
		out, stderr string
	}{
		{"warnings alone pass", []string{sampleCode("apps", "bullmq-options")}, 0, "33", "read "},
		{"warnings fail when asked to", []string{sampleCode("apps", "bullmq-options"), "--fail-on", "warn"}, 3, "33", "idle-polling"},
		{"something broken fails", []string{sampleCode("rules", "worker-job-options", "bad")}, 3, "app.ts:5", "not retried"},
		{"nothing to find", []string{sampleCode("rules", "syntax-error", "good")}, 0, "nothing that talks to a Redis", ""},
		{"a directory that is not there", []string{sampleCode("nowhere")}, 2, "", "nowhere"},
		{"a file instead of a directory", []string{sampleCode("apps", "bull", "package.json")}, 2, "", "not a directory"},
		{"an entry that is not there", []string{sampleCode("apps", "bull"), "--entry", "x.ts"}, 2, "", "x.ts"},
		{"too many replicas", []string{".", "--replicas", "1000000"}, 2, "", "replicas"},
		{"half a variable", []string{".", "--env", "A"}, 2, "", "NAME=VALUE"},
		{"two paths", []string{"a", "b"}, 2, "", "at most 1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r recorder
			if got := run(t.Context(), append([]string{"audit", "code"}, c.args...), r.streams()); got != c.want {
				t.Errorf("exit %d, want %d; %s", got, c.want, r.err.String())
			}
			if !strings.Contains(r.out.String(), c.out) || !strings.Contains(r.err.String(), c.stderr) {
				t.Errorf("stdout %q, stderr %q; want %q and %q in them", r.out.String(), r.err.String(), c.out, c.stderr)
			}
		})
	}
}

func TestKnownVariablesChangeThePrediction(t *testing.T) {
	idle := func(args ...string) float64 {
		var r recorder
		if got := run(t.Context(), append([]string{"audit", "code", sampleCode("apps", "bull"), "-o", "json"}, args...), r.streams()); got != 0 {
			t.Fatalf("exit %d: %s", got, r.err.String())
		}
		var doc struct {
			Data source.Report `json:"data"`
		}
		if err := json.NewDecoder(bytes.NewReader(r.out.Bytes())).Decode(&doc); err != nil {
			t.Fatal(err)
		}
		return doc.Data.Idle.Top.Min
	}
	if usual, slow := idle(), idle("--env", "DRAIN_DELAY=300", "--env", "GUARD_INTERVAL=300000", "--env", "STALLED_INTERVAL=300000"); usual < 40*slow {
		t.Errorf("%.0f commands a month with defaults and %.0f with 300 s, want 43 times as many", usual, slow)
	}
}
