package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func leased() queue.Queue { return queue.Queue{Name: "q", Mode: queue.Lease} }

// impatient ends a test soon that leaves jobs leased.
func impatient(o *queue.Options) { o.ShutdownTimeout = 50 * time.Millisecond }

// lease fetches exactly one job.
func (r *replica) lease(t *testing.T) queue.Leased {
	t.Helper()
	got, err := r.Lease(t.Context(), "q", 1, patience)
	if err != nil || len(got) != 1 {
		t.Fatalf("Lease = %d jobs, %v, want 1", len(got), err)
	}
	return got[0]
}

func problem(t *testing.T, what string, err error, want queue.LeaseProblem) {
	t.Helper()
	if e, ok := errors.AsType[*queue.LeaseError](err); !ok || e.Problem != want {
		t.Errorf("%s = %v, want a *LeaseError that says %s", what, err, want)
	}
}

func TestAnApplicationLeasesJobsAndSaysWhatBecameOfThem(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		r := run(t, url, []queue.Queue{leased()}, nil)
		ok := r.add(t, queue.EnqueueRequest{Queue: "q", Payload: []byte("hello"), Headers: map[string]string{"traceparent": "00-1"}})
		l := r.lease(t)
		if l.Job.ID != ok.ID || string(l.Job.Payload) != "hello" || l.Job.Attempt != 1 || l.Job.Headers["traceparent"] != "00-1" {
			t.Errorf("leased %+v", l.Job)
		}
		if err := r.Progress(t.Context(), l.Token, []byte("50")); err != nil {
			t.Errorf("Progress: %v", err)
		}
		until, err := r.Extend(t.Context(), l.Token, time.Minute)
		if left := time.Until(until); err != nil || left < 50*time.Second || left > time.Minute {
			t.Errorf("Extend = %s from now, %v, want a minute", left, err)
		}
		if err := r.Complete(t.Context(), l.Token, []byte("42")); err != nil {
			t.Fatalf("Complete: %v", err)
		}
		// It returned when Redis had it.
		if f, err := r.Find(t.Context(), "q", ok.ID); err != nil || f.State != queue.Completed || string(f.Result) != "42" {
			t.Errorf("Find = %+v, %v, want it completed with its result", f, err)
		}
		problem(t, "Complete again", r.Complete(t.Context(), l.Token, nil), queue.LeaseUnknown)

		dead := r.add(t, queue.EnqueueRequest{Queue: "q"})
		l = r.lease(t)
		if err := r.Fail(t.Context(), l.Token, queue.Failure{Reason: "gone", Dead: true}); err != nil {
			t.Fatal(err)
		}
		if f, err := r.Find(t.Context(), "q", dead.ID); err != nil || f.State != queue.Archived || f.Reason != "gone" {
			t.Errorf("Find = %+v, %v, want a dead letter", f, err)
		}
		again := r.add(t, queue.EnqueueRequest{Queue: "q", Attempts: 2, Backoff: &queue.Backoff{Delay: time.Millisecond}})
		for attempt, f := range []queue.Failure{{Reason: "slow down", RetryAfter: time.Millisecond}, {Reason: "no"}, {Reason: "no"}} {
			l = r.lease(t)
			if want := max(1, attempt); l.Job.ID != again.ID || l.Job.Attempt != want {
				t.Errorf("leased %s, attempt %d, want %s, attempt %d", l.Job.ID, l.Job.Attempt, again.ID, want)
			}
			if err := r.Fail(t.Context(), l.Token, f); err != nil {
				t.Fatal(err)
			}
		}
		r.state(t, "q", again.ID, queue.Archived)
	})
}

func TestNothingIsTakenFromRedisUnlessSomebodyWaits(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		r := run(t, url, []queue.Queue{leased()}, impatient)
		for range 5 {
			r.add(t, queue.EnqueueRequest{Queue: "q"})
		}
		got, err := r.Lease(t.Context(), "q", 2, patience)
		if err != nil || len(got) == 0 {
			t.Fatalf("Lease = %v, %v", got, err)
		}
		if d, err := r.Depth(t.Context(), "q"); err != nil || d.Active > 2 || d.Pending < 3 {
			t.Errorf("Depth = %+v, %v, want no more than the 2 that were asked for taken", d, err)
		}
		if st := r.Stats()[0]; st.Waiting != 0 || st.Leased != len(got) {
			t.Errorf("Stats = %+v, want %d leased and nobody waiting", st, len(got))
		}
		if _, err := r.Lease(t.Context(), "q", 0, 0); err == nil {
			t.Error("Lease of no job succeeded")
		}
		for range 3 - len(got) + 2 {
			r.lease(t)
		}
		begin := time.Now()
		if got, err := r.Lease(t.Context(), "q", 1, 50*time.Millisecond); err != nil || len(got) != 0 {
			t.Errorf("Lease of an empty queue = %v, %v, want nothing and no error", got, err)
		}
		if took := time.Since(begin); took < 50*time.Millisecond {
			t.Errorf("waited %s, want 50ms", took)
		}
	})
}

func TestTheJobOfAnApplicationThatVanishesIsTriedAgain(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := leased()
		q.Lease = 2 * time.Second
		q.Backoff.Delay = time.Millisecond
		r := run(t, url, []queue.Queue{q}, func(o *queue.Options) { o.Replica = "r1" })
		id := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
		first := r.lease(t)
		second := r.lease(t)
		if _, err := r.Extend(t.Context(), second.Token, time.Minute); err != nil {
			t.Errorf("Extend: %v", err)
		}
		if second.Job.ID != id || second.Job.Attempt != 2 || second.Token == first.Token {
			t.Errorf("leased %+v, want attempt 2 of %s", second, id)
		}
		problem(t, "Complete after the lease", r.Complete(t.Context(), first.Token, nil), queue.LeaseEnded)
		problem(t, "a token of another replica", r.Complete(t.Context(), "r2.ABC", nil), queue.LeaseElse)
		problem(t, "a token that is none", r.Complete(t.Context(), "nonsense", nil), queue.LeaseUnknown)
		if err := r.Complete(t.Context(), second.Token, nil); err != nil {
			t.Fatal(err)
		}
		if f := r.state(t, "q", id, queue.Completed); f.Attempt != 1 {
			t.Errorf("%d failed attempts, want 1", f.Attempt)
		}
	})
}

func TestAJobThatNobodyTakesFromTheDeskGoesBackUncounted(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		r := run(t, url, []queue.Queue{leased()}, nil)
		// The application goes away before there is a job.
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error, 1)
		go func() {
			_, err := r.Lease(ctx, "q", 1, patience)
			left <- err
		}()
		eventually(t, func() error {
			if r.Stats()[0].Waiting != 1 {
				return errors.New("nobody waits")
			}
			return nil
		})
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("Lease = %v, want the context's error", err)
		}
		id := r.add(t, queue.EnqueueRequest{Queue: "q", Attempts: 1}).ID
		l := r.lease(t)
		if l.Job.ID != id || l.Job.Attempt != 1 {
			t.Errorf("leased %+v, want the first attempt of %s", l.Job, id)
		}
		if err := r.Complete(t.Context(), l.Token, nil); err != nil {
			t.Fatal(err)
		}
	})
}

func TestManyApplicationsLeaseEachJobOnce(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		const jobs, applications = 300, 8
		a := run(t, url, []queue.Queue{leased()}, nil)
		b := run(t, url, []queue.Queue{leased()}, nil)
		seen := make(chan string, 2*jobs)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		ended := make(chan error, applications)
		for i := range applications {
			r := a
			if i%2 == 1 {
				r = b
			}
			go func() {
				for {
					got, err := r.Lease(ctx, "q", 1+i, patience)
					if err != nil {
						ended <- nil
						return
					}
					for _, l := range got {
						if err := r.Complete(t.Context(), l.Token, nil); err != nil {
							ended <- fmt.Errorf("complete %s: %w", l.Job.ID, err)
							return
						}
						seen <- l.Job.ID
					}
				}
			}()
		}
		reqs := make([]queue.EnqueueRequest, jobs)
		for i := range reqs {
			reqs[i] = queue.EnqueueRequest{Queue: "q"}
		}
		if _, errs := a.EnqueueMany(t.Context(), reqs); errors.Join(errs...) != nil {
			t.Fatal(errors.Join(errs...))
		}
		once := map[string]bool{}
		for range jobs {
			select {
			case id := <-seen:
				if once[id] {
					t.Errorf("job %s was leased twice", id)
				}
				once[id] = true
			case <-time.After(patience):
				t.Fatalf("%d of %d jobs were leased", len(once), jobs)
			}
		}
		eventually(t, func() error {
			d, err := a.Depth(t.Context(), "q")
			if err == nil && d.Completed+d.Pending+d.Active != d.Completed {
				err = fmt.Errorf("depth is %+v, want all completed", d)
			}
			return err
		})
		cancel()
		for range applications {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
	})
}
