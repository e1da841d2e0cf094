package main

import (
	"maps"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
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
	queues, err := tend.List(t.Context(), client, mover.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range queues {
		if queues[i].OldestWaitingMS >= 0 {
			queues[i].OldestWaitingMS = 12783222
		}
	}
	q, err := tend.Find(t.Context(), client, tend.Name{Prefix: "{bull}", Queue: "token-refresh"})
	if err != nil {
		t.Fatal(err)
	}
	detail, err := q.Show(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	detail.Problems = append(detail.Problems, mover.Problem{JobID: "7", Rule: "missing-hash", Message: "{bull}:token-refresh:7 is gone"})
	docs := map[string]report.Document{"queue.ls": queuesDocument(queues), "queue.show": queueDocument(detail)}
	maps.Copy(docs, queueChangeDocuments())
	maps.Copy(docs, queueOtherDocuments(t, client))
	return docs
}

// queueChangeDocuments are a plan and results of retry, delete, drain, pause and resume.
func queueChangeDocuments() map[string]report.Document {
	at := mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bull", Queue: "mail"}
	plan := queueChangeData{
		Queue: at, States: []mover.State{mover.Failed}, Filter: "reason~timeout,age<1d", Selected: 120,
		ByState: map[mover.State]int64{mover.Failed: 120}, Looked: 480, Estimated: mover.Price{TopLevel: 4, InScript: 1104},
		Outcome: tend.Outcome{Skipped: map[string]int64{}, Skips: []tend.Skip{}, Left: 120},
	}
	did := plan
	did.Changed, did.SchedulesKept, did.More = true, 1, true
	did.Outcome = tend.Outcome{
		Done: 116, Skipped: map[string]int64{tend.Gone: 3, tend.Locked: 1}, Scripts: 3,
		Skips: []tend.Skip{{ID: "17", State: mover.Failed, Why: tend.Gone}, {ID: "18", State: mover.Failed, Why: tend.Locked}},
	}
	stopped := did
	stopped.Outcome = tend.Outcome{Done: 50, Skipped: map[string]int64{}, Skips: []tend.Skip{}, Left: 20, Unknown: 50, Scripts: 2}
	pause := queuePauseData{Queue: at, Paused: true, Changed: true, Jobs: map[mover.State]int64{mover.Active: 2, mover.Waiting: 17}}
	resume := queuePauseData{
		Queue:   mover.Endpoint{Layout: tend.Asynq, Prefix: "asynq", Queue: "mail"},
		Jobs:    map[mover.State]int64{},
		Pausing: tend.Pausing{Already: true, Bands: []string{"mail:high", "mail"}},
	}
	return map[string]report.Document{
		"queue.retry.plan": queueChangeDocument("retry", plan),
		"queue.retry":      queueChangeDocument("retry", did),
		"queue.delete":     queueChangeDocument("delete", stopped),
		"queue.drain":      queueChangeDocument("drain", did),
		"queue.pause":      queuePauseDocument(pause),
		"queue.resume":     queuePauseDocument(resume),
		"queue.drain_wait": queueDrainWaitDocument(queueDrainWaitData{
			Queue: at, States: []mover.State{mover.Waiting, mover.Active}, Left: map[mover.State]int64{mover.Waiting: 3},
			Looks: 7, WaitedSeconds: 31.5, Paused: true,
		}),
		"queue.enqueue": queueEnqueueDocument(queueEnqueueData{
			Queue: at, Job: tend.Added{ID: "118", State: mover.Delayed, DueMS: 1795000600000}, Name: "send", DataBytes: 13, Changed: true,
		}),
		"queue.export": queueExportDocument(queueExportData{
			Queue: at, File: "failed.ndjson", Bytes: 20480,
			Exported: tend.Exported{Jobs: 12, Looked: 40, ByState: map[mover.State]int64{mover.Failed: 12}},
		}),
	}
}

// queueOtherDocuments are what is listed of the capture.
func queueOtherDocuments(t *testing.T, client redis.UniversalClient) map[string]report.Document {
	t.Helper()
	q, err := tend.Find(t.Context(), client, tend.Name{Queue: "suggestion-generation"})
	if err != nil {
		t.Fatal(err)
	}
	now := time.UnixMilli(1795400000000)
	states := []mover.State{mover.Delayed, mover.Waiting, mover.Failed}
	page, err := q.Page(t.Context(), tend.PageOptions{States: states, Limit: 9, Data: true, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	dead, err := q.Dead(t.Context(), tend.DeadOptions{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]report.Document{
		"queue.jobs": queueJobsDocument(queueJobsData{Queue: q.Endpoint(), States: states, Filter: "age>1h", Page: page}, now),
		"queue.dead": queueDeadDocument(queueDeadData{Queue: q.Endpoint(), Dead: dead}, now),
	}
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
