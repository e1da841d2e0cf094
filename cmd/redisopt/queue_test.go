package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// queueDocuments are one document of each kind: from the capture on a real server, with the ages of
// its jobs replaced.
func queueDocuments(t *testing.T) map[string]report.Document {
	t.Helper()
	client := redistest.Start(t).Client(t)
	keys, err := capture.Bull()
	if err != nil {
		t.Fatal(err)
	}
	if err := capture.Restore(t.Context(), client, keys); err != nil {
		t.Fatal(err)
	}
	queues, err := mover.List(t.Context(), client, mover.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range queues {
		if queues[i].OldestWaitingMS >= 0 {
			queues[i].OldestWaitingMS = 12783222
		}
	}
	detail, err := mover.Show(t.Context(), client, mover.Endpoint{Prefix: "{bull}", Queue: "token-refresh"})
	if err != nil {
		t.Fatal(err)
	}
	detail.Problems = append(detail.Problems, mover.Problem{JobID: "7", Rule: "missing-hash", Message: "{bull}:token-refresh:7 is gone"})
	return map[string]report.Document{"queue.ls": queuesDocument(queues), "queue.show": queueDocument(detail)}
}

func TestQueuesLookAsRecordedInEveryFormat(t *testing.T) {
	for name, doc := range queueDocuments(t) {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) {
				var out bytes.Buffer
				opts := report.WriteOptions{Width: 80, Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Version: "v0.0.0"}
				if err := report.Write(&out, format, doc, opts); err != nil {
					t.Fatal(err)
				}
				file := filepath.Join("testdata", "golden", name+"."+string(format))
				if *updateScripts {
					if err := os.WriteFile(file, out.Bytes(), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				want, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(string(want), out.String()); diff != "" {
					t.Errorf("%s (-want +got):\n%s", file, diff)
				}
				if format != report.FormatTable {
					return
				}
				for line := range strings.Lines(out.String()) {
					if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > 80 {
						t.Errorf("%d columns: %q", n, line)
					}
				}
			})
		}
	}
}

func TestAgesAreShownInTheirTwoLargestUnits(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 1500 * time.Millisecond: "1.5s", 59 * time.Second: "59s", 61 * time.Second: "1m1s", 2 * time.Hour: "2h",
		2*time.Hour + 59*time.Minute + 59*time.Second: "2h59m", 49 * time.Hour: "2d1h", 48 * time.Hour: "2d",
	} {
		if got := roughly(d); got != want {
			t.Errorf("roughly(%s) = %q, want %q", d, got, want)
		}
	}
}
