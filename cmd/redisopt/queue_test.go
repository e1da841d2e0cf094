package main

import (
	"testing"
	"time"

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
				wantGolden(t, name, format, doc)
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
