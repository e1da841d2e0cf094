package tend_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// find is the queue, as the command line finds it.
func find(t *testing.T, client redis.UniversalClient, name string) *tend.Queue {
	t.Helper()
	q, err := tend.Find(t.Context(), client, tend.Name{Queue: name})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func filter(t *testing.T, text string) tend.Filter {
	t.Helper()
	f, err := tend.ParseFilter(text)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// act selects and acts, and fails the test for what is no skip.
func act(t *testing.T, q *tend.Queue, action tend.Action, k tend.Criteria) (*tend.Selection, tend.Outcome) {
	t.Helper()
	return actAnd(t, q, action, k, nil)
}

// actAnd is act, and calls begun after the first script when it is not nil.
func actAnd(t *testing.T, q *tend.Queue, action tend.Action, k tend.Criteria, begun func()) (*tend.Selection, tend.Outcome) {
	t.Helper()
	s, err := q.Select(t.Context(), k)
	if err != nil {
		t.Fatal(err)
	}
	var opts tend.ActOptions
	if begun != nil {
		once := sync.OnceFunc(begun)
		opts.OnProgress = func(int64, int64) { once() }
	}
	out, err := q.Act(t.Context(), action, s, opts)
	if err != nil {
		t.Fatal(err)
	}
	total := out.Done
	for _, n := range out.Skipped {
		total += n
	}
	if total != s.Jobs+int64(len(s.Missing)) || out.Left != 0 || out.Unknown != 0 {
		t.Fatalf("of %d selected jobs %+v", s.Jobs, out)
	}
	return s, out
}

func enqueue(t *testing.T, q *tend.Queue, j tend.NewJob) tend.Added {
	t.Helper()
	added, err := q.Enqueue(t.Context(), j)
	if err != nil {
		t.Fatal(err)
	}
	return added
}

// awaitCompleted waits until the library has noted that n jobs are completed, a moment after their worker has said so:
// only then are their unique values free.
func awaitCompleted(t *testing.T, q *tend.Queue, n int64) {
	t.Helper()
	limit := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left, err := q.Left(t.Context(), []mover.State{mover.Completed})
		if err != nil {
			t.Fatal(err)
		}
		if left[mover.Completed] == n {
			return
		}
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("%d jobs are noted as completed after %s, want %d", left[mover.Completed], patience, n)
		}
	}
}

func libraries() []string { return []string{"bull", "bullmq5", "bullmq6"} }

func TestRealWorkersRunEveryRetriedJobOnceWhileTheyAreRetriedAndPausedUnderThem(t *testing.T) {
	const jobs = 300
	for _, lib := range libraries() {
		t.Run(lib, func(t *testing.T) {
			server := redistest.Start(t)
			client := server.Client(t)
			startPeer(t, peerOptions{}, "producer", lib, portOf(server.Addr), "bull", "mail", fmt.Sprint(jobs)).Quit()
			q := find(t, client, "mail")

			// The real worker of a paused queue takes nothing: another worker's job, due later, comes first.
			if did, err := q.Pause(t.Context()); err != nil || did.Already {
				t.Fatalf("Pause = %+v, %v", did, err)
			}
			worker := startPeer(t, peerOptions{Fail: 1}, "worker", lib, portOf(server.Addr), "bull", "mail")
			other := startPeer(t, peerOptions{}, "worker", lib, portOf(server.Addr), "bull", "other")
			clock := tend.At(client, mover.Endpoint{Layout: q.Endpoint().Layout, Major: q.Endpoint().Major, Prefix: "bull", Queue: "other"})
			enqueue(t, clock, tend.NewJob{Name: "tick", Data: []byte(`{"n":1}`), Delay: 500 * time.Millisecond})
			enqueue(t, q, tend.NewJob{Name: "__default__", Data: fmt.Appendf(nil, `{"n":%d}`, jobs+1)})
			other.awaitDone(1)
			if _, started := worker.counts(); len(started) > 0 {
				t.Fatalf("a paused queue's worker started %v", started)
			}
			if did, err := q.Resume(t.Context()); err != nil || did.Already {
				t.Fatalf("Resume = %+v, %v", did, err)
			}

			// Every job fails once; it is retried while others are still failing, with pauses between.
			limit := time.After(patience)
			for retried := int64(0); retried < jobs+1; {
				_, out := act(t, q, tend.Retry, tend.Criteria{States: []mover.State{mover.Failed}, Filter: filter(t, "reason~simulated")})
				retried += out.Done
				if _, err := q.Pause(t.Context()); err != nil {
					t.Fatal(err)
				}
				if _, err := q.Resume(t.Context()); err != nil {
					t.Fatal(err)
				}
				select {
				case <-limit:
					t.Fatalf("%d of %d retried after %s", retried, jobs+1, patience)
				default:
				}
			}
			worker.awaitDone(jobs + 1)
			worker.Quit()
			done, started := worker.counts()
			if wrong := onceEach(done, jobs+1); wrong != "" {
				t.Error(wrong)
			}
			for n, times := range started {
				if times != 2 {
					t.Errorf("job %d was started %d times, want once to fail and once to be done", n, times)
				}
			}
			left, err := q.Left(t.Context(), q.States())
			if err != nil || left[mover.Completed] != jobs+1 || left[mover.Waiting]+left[mover.Paused]+left[mover.Active]+left[mover.Failed] != 0 {
				t.Errorf("jobs are left %v, %v", left, err)
			}
		})
	}
}

func TestAJobThatIsDeletedUnderARealWorkerIsEitherDoneOrDeleted(t *testing.T) {
	const jobs = 1500
	for _, lib := range libraries() {
		t.Run(lib, func(t *testing.T) {
			server := redistest.Start(t)
			client := server.Client(t)
			startPeer(t, peerOptions{}, "producer", lib, portOf(server.Addr), "bull", "mail", fmt.Sprint(jobs)).Quit()
			// It holds the first job of those that are to go until some are gone, or it might be done with all of them before.
			worker := startPeer(t, peerOptions{Hold: 50}, "worker", lib, portOf(server.Addr), "bull", "mail")
			worker.awaitDone(50)
			q := find(t, client, "mail")
			_, out := actAnd(t, q, tend.Delete, tend.Criteria{States: q.Waits(), Filter: filter(t, "data.n>50")}, func() { worker.Tell("go") })
			if out.Done == 0 {
				t.Fatalf("nothing was deleted: %+v", out)
			}
			worker.awaitDone(jobs - int(out.Done))
			worker.Quit()
			done, _ := worker.counts()
			if len(done)+int(out.Done) != jobs {
				t.Errorf("%d jobs done and %d deleted, of %d", len(done), out.Done, jobs)
			}
			for n, times := range done {
				if times != 1 {
					t.Errorf("job %d was done %d times", n, times)
				}
			}
			keys, err := client.Keys(t.Context(), "bull:mail:[0-9]*").Result()
			if err != nil || len(keys) != len(done) {
				t.Errorf("%d hashes are left for %d finished jobs, %v", len(keys), len(done), err)
			}
		})
	}
}

func TestRealWorkersRunWhatIsEnqueuedInTheLibrarysOwnOrder(t *testing.T) {
	for _, lib := range libraries() {
		t.Run(lib, func(t *testing.T) {
			server := redistest.Start(t)
			client := server.Client(t)
			at := mover.Endpoint{Layout: mover.BullMQ, Major: 5, Prefix: "bull", Queue: "mail"}
			switch lib {
			case "bull":
				at.Layout, at.Major = mover.Bull, 4
			case "bullmq6":
				at.Major = 6
			}
			q := tend.At(client, at)
			add := func(n int, j tend.NewJob) {
				j.Name, j.Data = "send", fmt.Appendf(nil, `{"n":%d}`, n)
				enqueue(t, q, j)
			}
			add(1, tend.NewJob{})
			add(2, tend.NewJob{Priority: 5})
			add(3, tend.NewJob{Priority: 1})
			add(4, tend.NewJob{Priority: 5})
			add(5, tend.NewJob{ID: "own"})
			add(6, tend.NewJob{Delay: 300 * time.Millisecond, Attempts: 3})
			add(7, tend.NewJob{Unique: "ann"})
			refused := func(what string, j tend.NewJob) {
				t.Helper()
				j.Name = "send"
				var taken *tend.TakenError
				if _, err := q.Enqueue(t.Context(), j); !errors.As(err, &taken) {
					t.Errorf("%s: %v, want it refused", what, err)
				}
			}
			refused("an id that is there", tend.NewJob{ID: "own"})
			refused("a unique value that is held", tend.NewJob{Unique: "ann"})
			worker := startPeer(t, peerOptions{}, "worker", lib, portOf(server.Addr), "bull", "mail")
			worker.awaitDone(7)
			awaitCompleted(t, q, 7)
			want := []int{1, 5, 7, 3, 2, 4}
			if lib == "bull" {
				want = []int{3, 2, 4, 1, 5, 7}
			}
			// The delayed job comes when it is due, which may be before the worker has begun.
			got := slices.DeleteFunc(worker.order(0), func(n int) bool { return n == 6 })
			if !slices.Equal(got, want) {
				t.Errorf("the worker ran %v, want %v", got, want)
			}
			// A worker that is blocked is woken, and the unique value is free again.
			add(8, tend.NewJob{Unique: "ann"})
			worker.awaitDone(8)
			add(9, tend.NewJob{Delay: 50 * time.Millisecond})
			worker.awaitDone(9)
			refused("the id of a job that has ended", tend.NewJob{ID: "own"})
			worker.Quit()
			if done, _ := worker.counts(); onceEach(done, 9) != "" {
				t.Error(onceEach(done, 9))
			}
		})
	}
}
