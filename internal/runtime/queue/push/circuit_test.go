package push

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestACircuitHoldsJobsAndTriesOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var changes atomic.Int64
		c := newCircuit(3, func() { changes.Add(1) })
		use := func(v verdict) {
			t.Helper()
			ok, tries, _, _ := c.begin(time.Now())
			if !ok {
				t.Fatal("not admitted")
			}
			c.done(v, tries, time.Now())
		}
		use(failing)
		use(failing)
		use(alive)
		use(failing)
		use(failing)
		use(failing)
		ok, wait := c.admitted(time.Now(), 0)
		if ok || wait != firstPause {
			t.Fatalf("after 3 failures in a row: admitted %t, wait %s", ok, wait)
		}
		var pauses []time.Duration
		for range 8 {
			_, _, wait, _ := c.begin(time.Now())
			pauses = append(pauses, wait)
			time.Sleep(wait)
			one, _ := c.admitted(time.Now(), 0)
			if more, _ := c.admitted(time.Now(), 1); !one || more {
				t.Fatalf("after the pause: one is admitted %t, and another besides it %t", one, more)
			}
			ok, tries, _, _ := c.begin(time.Now())
			if second, _, _, _ := c.begin(time.Now()); !ok || !tries || second {
				t.Fatalf("after the pause: admitted %t, as the one that tries %t, and another one %t", ok, tries, second)
			}
			c.done(failing, true, time.Now())
		}
		want := []time.Duration{1e9, 2e9, 4e9, 8e9, 16e9, 32e9, 60e9, 60e9}
		if diff := cmp.Diff(want, pauses); diff != "" {
			t.Errorf("pauses (-want +got):\n%s", diff)
		}
		time.Sleep(lastPause)
		use(unknown) // taken back: another one may try
		if ok, tries, _, _ := c.begin(time.Now()); !ok || !tries {
			t.Fatal("nobody tries")
		}
		ok, _, _, moved := c.begin(time.Now())
		if ok {
			t.Fatal("two try")
		}
		c.done(alive, true, time.Now())
		select {
		case <-moved:
		default:
			t.Error("those who wait were not told")
		}
		if ok, _ := c.admitted(time.Now(), 0); !ok {
			t.Error("still open")
		}
		synctest.Wait()
		if changes.Load() < 10 {
			t.Errorf("told %d times of changes", changes.Load())
		}
		c.stop()
	})
}

func TestJobsWaitWhileTheApplicationIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var down atomic.Bool
		var runs atomic.Int64
		down.Store(true)
		s := sender(t)
		url := serveWired(t, s, func(w http.ResponseWriter, _ *http.Request) {
			if down.Load() {
				w.WriteHeader(502)
				return
			}
			runs.Add(1)
		})
		e := of(t, s, url, func(o *EndpointOptions) { o.Failures = 2 })
		for range 2 {
			if _, err := e.Run(t.Context(), job()); err == nil {
				t.Fatal("a 502 was taken")
			}
		}
		// A job that is short of time is put back, without counting.
		begin := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		_, err := e.Run(ctx, job())
		if _, ok := errors.AsType[*queue.RetryAfterError](err); !ok {
			t.Errorf("with the circuit open: %v, want a *queue.RetryAfterError", err)
		}
		if took := time.Since(begin); took != 100*time.Millisecond {
			t.Errorf("it waited for %s, want half of the time it had", took)
		}
		// Others wait until it is back.
		down.Store(false)
		var running sync.WaitGroup
		for range 5 {
			running.Go(func() {
				if _, err := e.Run(t.Context(), job()); err != nil {
					t.Errorf("Run = %v", err)
				}
			})
		}
		running.Wait()
		if took := time.Since(begin); took != firstPause {
			t.Errorf("they ran after %s, want %s", took, firstPause)
		}
		if s := e.Stats(); runs.Load() != 5 || s.Sent != 7 || s.Open || s.Opened != 1 {
			t.Errorf("%d runs, %+v; want 5 runs of 7 sent", runs.Load(), s)
		}
	})
}
