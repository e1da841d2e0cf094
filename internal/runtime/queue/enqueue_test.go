package queue_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// waits is a queue that nobody works on here.
func waits(name string) queue.Queue { return queue.Queue{Name: name} }

func TestWhatCannotBeTakenIsRefusedWithItsReason(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		checked := waits("checked")
		checked.MaxPayload = 64
		checked.Schema = json.RawMessage(`{"type":"object","required":["user"],"properties":{"user":{"type":"string"}}}`)
		r := open(t, url, []queue.Queue{checked, waits("free")}, nil)
		for name, c := range map[string]struct {
			req  queue.EnqueueRequest
			want string
		}{
			"an unknown queue":           {queue.EnqueueRequest{Queue: "fre"}, `no queue is named "fre"; there are checked, free`},
			"a payload too large":        {queue.EnqueueRequest{Queue: "checked", Payload: make([]byte, 65)}, "queue checked: the payload has 65 bytes, at most 64 are taken"},
			"a payload that is no JSON":  {queue.EnqueueRequest{Queue: "checked", Payload: []byte("{")}, "queue checked: the payload does not match its schema: it is no JSON"},
			"a payload without a field":  {queue.EnqueueRequest{Queue: "checked", Payload: []byte("{}")}, "/: missing property 'user'"},
			"a field of another type":    {queue.EnqueueRequest{Queue: "checked", Payload: []byte(`{"user":1}`)}, "/user: got number, want string"},
			"a priority that is none":    {queue.EnqueueRequest{Queue: "free", Priority: "urgent"}, `priority: got "urgent", want high, normal or low`},
			"a negative delay":           {queue.EnqueueRequest{Queue: "free", Delay: -1}, "delay: got -1ns, want 0 or more"},
			"too many attempts":          {queue.EnqueueRequest{Queue: "free", Attempts: 1001}, "attempts: got 1001, want 1 to 1000"},
			"a timeout of nothing":       {queue.EnqueueRequest{Queue: "free", Timeout: 1}, "timeout: got 1ns, want 1ms to 30 days"},
			"a header that is taken":     {queue.EnqueueRequest{Queue: "free", Headers: map[string]string{"Redisopt-x": ""}}, `"Redisopt-x": names that begin with redisopt are taken`},
			"an id too long":             {queue.EnqueueRequest{Queue: "free", ID: strings.Repeat("x", 201)}, "id: 201 bytes, want at most 200"},
			"a name that is no UTF-8":    {queue.EnqueueRequest{Queue: "free", Name: "\xff"}, "name: want UTF-8"},
			"a backoff that is none":     {queue.EnqueueRequest{Queue: "free", Backoff: &queue.Backoff{Kind: "linear"}}, `backoff: kind: got "linear"`},
			"a time in the far future":   {queue.EnqueueRequest{Queue: "free", RunAt: time.Now().AddDate(6, 0, 0)}, "more than 5 years away"},
			"an item with an id":         {queue.EnqueueRequest{Queue: "free", Batch: "b", ID: "x", Payload: []byte("1")}, "id: an item of a batch has none"},
			"an item that is no JSON":    {queue.EnqueueRequest{Queue: "free", Batch: "b", Payload: []byte("x")}, "an item of a batch must be JSON"},
			"an item beyond its schema":  {queue.EnqueueRequest{Queue: "checked", Batch: "b", Payload: []byte("1")}, "got number, want object"},
			"a schema that fits is none": {queue.EnqueueRequest{Queue: "checked", Payload: []byte(`{"user":"ann"}`)}, ""},
		} {
			t.Run(name, func(t *testing.T) {
				_, err := r.Enqueue(t.Context(), c.req)
				if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) {
					t.Errorf("Enqueue = %v, want %q in it", err, c.want)
				}
			})
		}
		for _, name := range []string{"checked", "free"} {
			want := 0
			if name == "checked" {
				want = 1
			}
			if d, err := r.Depth(t.Context(), name); err != nil || d.Pending+d.Scheduled != want {
				t.Errorf("Depth(%s) = %+v, %v, want %d jobs", name, d, err, want)
			}
		}
	})
}

func TestOptionsReportEveryProblemAtOnce(t *testing.T) {
	_, err := queue.New(queue.Options{Queues: []queue.Queue{
		{Name: "a:high"},
		{Name: "b", Mode: queue.Push},
		{Name: "c", DependsOn: []string{"d"}},
		{Name: "c"},
		{Name: "{e}", Attempts: -1},
	}})
	for _, want := range []string{
		"client: missing", "jobs: missing", `"a:high": :high and :low at the end are the bands of another queue`,
		"runner: missing, mode push needs one", `depends_on: no queue is named "d"`, `"c" is the name of another one too`,
		"want no braces", "attempts: got -1, want at least 1",
	} {
		if !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("New = %v, want %q in it", err, want)
		}
	}
}

func TestASchemaThatRefersElsewhereIsRefused(t *testing.T) {
	q := waits("q")
	q.Schema = json.RawMessage(`{"$ref":"file:///etc/passwd"}`)
	_, err := queue.New(queue.Options{Client: plain(t, "redis://127.0.0.1:1"), Jobs: plain(t, "redis://127.0.0.1:1"), Queues: []queue.Queue{q}})
	if err == nil || !strings.Contains(err.Error(), "want no other documents") {
		t.Errorf("New = %v, want that a schema may not refer to files", err)
	}
}

func TestAnIDIsTakenWhileItsJobWaitsOrRunsAndFreeAfterwards(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		entered, leave := make(chan struct{}), make(chan error)
		r := run(t, url, []queue.Queue{works("q", func(context.Context, queue.Job) ([]byte, error) {
			entered <- struct{}{}
			return nil, <-leave
		})}, nil)
		req := queue.EnqueueRequest{Queue: "q", ID: "sync-42", Attempts: 1}
		duplicate := func(want queue.State, req queue.EnqueueRequest) {
			t.Helper()
			_, err := r.Enqueue(t.Context(), req)
			d, ok := errors.AsType[*queue.DuplicateError](err)
			if !ok || d.State != want || d.ID != "sync-42" {
				t.Errorf("Enqueue(%s) = %v, want a *DuplicateError of a job that is %s", req.Priority, err, want)
			}
		}
		later := req
		later.Delay = time.Hour
		r.add(t, later)
		duplicate(queue.Scheduled, req)
		if err := r.Cancel(t.Context(), "q", "sync-42"); err != nil {
			t.Fatal(err)
		}
		r.add(t, req)
		<-entered
		duplicate(queue.Active, req)
		high := req
		high.Priority = queue.High
		duplicate(queue.Active, high)
		leave <- errSimulated
		r.state(t, "q", "sync-42", queue.Archived)

		once := req
		once.Once = true
		duplicate(queue.Archived, once)
		r.add(t, high) // a dead letter does not block, and makes way, also in another band
		<-entered
		leave <- nil
		f := r.state(t, "q", "sync-42", queue.Completed)
		if f.Priority != queue.High || f.Reason != "" {
			t.Errorf("job is %+v, want the new one, without the old one's reason", f)
		}
		if d, err := r.Depth(t.Context(), "q"); err != nil || d.Archived != 0 || d.Completed != 1 {
			t.Errorf("Depth = %+v, %v, want one completed job and no dead letter", d, err)
		}
		duplicate(queue.Completed, once)
	})
}

func TestAUniqueKeyIsHeldByWhatWaitsOrRunsAndNotByADeadLetter(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		leave := make(chan error)
		r := run(t, url, []queue.Queue{works("q", func(context.Context, queue.Job) ([]byte, error) { return nil, <-leave })}, nil)
		req := queue.EnqueueRequest{Queue: "q", Unique: "user-7", Attempts: 1}
		for i, outcome := range []error{errSimulated, nil, nil} {
			first := r.add(t, req)
			second := req
			second.Priority = queue.Low
			_, err := r.Enqueue(t.Context(), second)
			if d, ok := errors.AsType[*queue.DuplicateError](err); !ok || d.ID != first.ID || d.Key != "user-7" {
				t.Errorf("round %d: Enqueue = %v, want a *DuplicateError of %s", i, err, first.ID)
			}
			leave <- outcome
			want := queue.Completed
			if outcome != nil {
				want = queue.Archived
			}
			r.state(t, "q", first.ID, want)
		}
		other := r.add(t, queue.EnqueueRequest{Queue: "q", Unique: "user-8"})
		leave <- nil
		r.state(t, "q", other.ID, queue.Completed)
	})
}

func TestADelayedJobIsNeverEarly(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		ran := make(chan time.Time, 2)
		r := run(t, url, []queue.Queue{works("q", func(context.Context, queue.Job) ([]byte, error) {
			ran <- time.Now()
			return nil, nil
		})}, nil)
		due := time.Now().Add(2 * time.Second)
		got := r.add(t, queue.EnqueueRequest{Queue: "q", RunAt: due})
		if got.State != queue.Scheduled || got.RunAt.Before(due) {
			t.Errorf("Enqueue = %+v, want it scheduled for %s or the second after", got, due)
		}
		if at := <-ran; at.Before(due) {
			t.Errorf("ran %s before its time", due.Sub(at))
		}
		past := r.add(t, queue.EnqueueRequest{Queue: "q", RunAt: time.Now().Add(-time.Hour)})
		if past.State != queue.Pending {
			t.Errorf("Enqueue = %+v, want it pending: its time has passed", past)
		}
		<-ran
	})
}

func TestTheOrderInsideABandIsKeptAndNoBandStarves(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		var mu sync.Mutex
		var order []queue.Job
		r := open(t, url, []queue.Queue{works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, j)
			return nil, nil
		})}, nil)
		const each = 120 // with half of them chance alone fails one run of 500
		for i := range each {
			for _, p := range []queue.Priority{queue.Low, queue.Normal, queue.High} {
				r.add(t, queue.EnqueueRequest{Queue: "q", Priority: p, ID: fmt.Sprintf("%s-%03d", p, i)})
			}
		}
		r.start()
		eventually(t, func() error {
			if st := r.Stats()[0]; st.Done != 3*each {
				return fmt.Errorf("%d done, want %d", st.Done, 3*each)
			}
			return nil
		})
		mu.Lock()
		defer mu.Unlock()
		of := map[queue.Priority][]string{}
		sum := map[queue.Priority]int{}
		for i, j := range order {
			of[j.Priority] = append(of[j.Priority], j.ID)
			sum[j.Priority] += i
			if i == each && len(of[queue.Low]) == 0 { // of turns with these weights, 3 runs in a million
				t.Errorf("no job of low among the first %d", each)
			}
		}
		for p, ids := range of {
			if !slices.IsSorted(ids) {
				t.Errorf("band %s ran as %v, want the order in which they were added", p, ids)
			}
		}
		if sum[queue.High] >= sum[queue.Normal] || sum[queue.Normal] >= sum[queue.Low] {
			t.Errorf("mean places are %v, want high before normal before low", sum)
		}
	})
}

func TestItemsOfABatchBecomeOneJob(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		got := make(chan queue.Job, 10)
		q := works("notify", func(_ context.Context, j queue.Job) ([]byte, error) {
			got <- j
			if j.Attempt == 1 {
				return nil, errSimulated
			}
			return nil, nil
		})
		q.Batch = queue.Batch{Wait: 3 * time.Second, Size: 3}
		r := run(t, url, []queue.Queue{q}, nil)
		item := func(key, payload string) queue.Enqueued {
			t.Helper()
			return r.add(t, queue.EnqueueRequest{Queue: "notify", Batch: key, Payload: []byte(payload)})
		}
		first := item("ann", `{"n":1}`)
		item("ann", `2`)
		bob := item("bob", `"only"`)
		third := item("ann", `3`)
		if first.ID != third.ID || third.Items != 3 || third.State != queue.Pending || bob.ID == first.ID || bob.State != queue.Scheduled {
			t.Errorf("got %+v, %+v, %+v: want ann's three in one batch that goes at once, and bob's apart", first, third, bob)
		}
		if next := item("ann", `4`); next.ID == first.ID || next.Items != 1 {
			t.Errorf("got %+v, want a new batch after the full one", next)
		}
		payloads := map[string]int{}
		for range 6 {
			j := <-got
			payloads[string(j.Payload)] = max(payloads[string(j.Payload)], j.Attempt)
			if j.Items != len(mustList(t, j.Payload)) {
				t.Errorf("job has %d items, its payload is %s", j.Items, j.Payload)
			}
		}
		// Each batch ran twice with the same items: they are kept with the job.
		want := map[string]int{`[{"n":1},2,3]`: 2, `["only"]`: 2, `[4]`: 2}
		if diff := cmp.Diff(want, payloads); diff != "" {
			t.Errorf("payloads and attempts (-want +got):\n%s", diff)
		}
		r.state(t, "notify", first.ID, queue.Completed)
	})
}

func mustList(t *testing.T, text []byte) []any {
	t.Helper()
	var list []any
	if err := json.Unmarshal(text, &list); err != nil {
		t.Error(err)
	}
	return list
}

func TestManyAreAddedAtOnceEachWithItsOwnOutcome(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		r := open(t, url, []queue.Queue{waits("a"), waits("b")}, nil)
		var reqs []queue.EnqueueRequest
		for i := range 450 {
			reqs = append(reqs, queue.EnqueueRequest{Queue: "a", ID: fmt.Sprint(i)})
		}
		reqs = append(reqs,
			queue.EnqueueRequest{Queue: "a", ID: "3"},
			queue.EnqueueRequest{Queue: "nowhere"},
			queue.EnqueueRequest{Queue: "b", Priority: queue.High, Delay: time.Hour},
			queue.EnqueueRequest{Queue: "b", Batch: "k", Payload: []byte("1")},
		)
		results, errs := r.EnqueueMany(t.Context(), reqs)
		for i := range 450 {
			if errs[i] != nil || results[i].ID != fmt.Sprint(i) {
				t.Fatalf("request %d: %+v, %v", i, results[i], errs[i])
			}
		}
		if _, ok := errors.AsType[*queue.DuplicateError](errs[450]); !ok {
			t.Errorf("the second job 3: %v, want a *DuplicateError", errs[450])
		}
		if _, ok := errors.AsType[*queue.UnknownQueueError](errs[451]); !ok {
			t.Errorf("an unknown queue: %v", errs[451])
		}
		if errs[452] != nil || errs[453] != nil {
			t.Errorf("delayed and batch: %v, %v", errs[452], errs[453])
		}
		da, _ := r.Depth(t.Context(), "a")
		db, _ := r.Depth(t.Context(), "b")
		if da.Pending != 450 || db.Scheduled != 2 {
			t.Errorf("%d pending in a and %d scheduled in b, want 450 and 2", da.Pending, db.Scheduled)
		}
	})
}
