package governor_test

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func nothing(context.Context, *asynq.Task) error { return nil }

// faster divides the intervals that cost something while there is nothing to do.
func faster(by time.Duration) func(*governor.Options) {
	return func(o *governor.Options) {
		o.Sweep, o.Follow, o.Resync = governor.DefaultSweep/by, governor.DefaultFollow/by, governor.DefaultResync/by
	}
}

func TestIdlingStaysWithinItsPrice(t *testing.T) {
	for mode, track := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := redistest.Start(t)
			p := plan{queues: names(33), concurrency: 10, handler: nothing, track: track}
			first := join(t, s.URL(), p)
			for _, q := range names(11) {
				enqueue(t, first.client, q, "later", asynq.ProcessIn(24*time.Hour))
			}
			price := func(what string, r *replica, most float64) {
				t.Helper()
				t.Logf("%s: %.0f commands a month", what, r.gov.MonthlyCost())
				for _, c := range r.gov.Periodic() {
					t.Logf("  %-25s every %-9s %2d commands, %5.0f a month: %s", c.Name, c.Interval, c.Price, c.PerMonth(), c.Why)
				}
				if got := r.gov.MonthlyCost(); got > most {
					t.Errorf("%s: %.0f commands a month, want at most %.0f", what, got, most)
				}
			}
			price("one replica, 11 queues in three bands, a delayed job in each", first, 10_000)
			second := join(t, s.URL(), p)
			within(t, 10*time.Second, "one of them sweeps, with a lease", func() bool { return settled(first, second) })
			if second.gov.Stats().Sweeper {
				first, second = second, first
			}
			price("the sweeper of two", first, 10_000)
			price("the other", second, 3_000)
		})
	}
}

// settled is whether one replica sweeps for all, with the lease that says so where there are several.
func settled(all ...*replica) bool {
	sweepers, leases := 0, 0
	for _, r := range all {
		if r.gov.Stats().Sweeper {
			sweepers++
		}
		for _, p := range r.gov.Periodic() {
			if p.Name == "sweeper's lease" {
				leases++
			}
		}
	}
	return sweepers == 1 && leases == min(1, len(all)-1)
}

// agree runs replicas with all intervals divided and compares what was sent with what Periodic says: at
// most more than it, as a part of it, and at most less. On a busy machine timers come late and one that is
// missed is left out, so less says little; more would be a price that is not said.
func agree(t *testing.T, s *redistest.Server, by time.Duration, lasts time.Duration, track bool, replicas int, more, less float64) {
	t.Helper()
	look := s.Client(t)
	var all []*replica
	for range replicas {
		r := join(t, s.URL(), plan{queues: names(11), concurrency: 10, handler: nothing, track: track, options: faster(by)})
		all = append(all, r)
		if len(all) == 1 {
			for _, q := range names(11) {
				enqueue(t, r.client, q, "later", asynq.ProcessIn(24*time.Hour))
			}
		}
	}
	within(t, 10*time.Second, "their roles are settled", func() bool { return settled(all...) })
	// What was begun before it counts is over after the longest interval.
	settle := time.NewTimer(2 * governor.DefaultFollow / by)
	<-settle.C
	// It is asked while one of them sweeps: a lease that ran out with a stalled machine changes who does, and
	// for a moment there is none.
	said := 0.0 // commands a nanosecond
	within(t, 10*time.Second, "their roles are settled", func() bool {
		said = 0
		for _, r := range all {
			for _, p := range r.gov.Periodic() {
				said += float64(p.Price) / float64(p.Interval)
			}
		}
		return settled(all...)
	})
	for again := 2; ; again-- {
		reset(t, look)
		begin := time.Now()
		<-time.After(lasts)
		got := float64(sum(billed(t, look)))
		took := time.Since(begin)
		want := said * float64(took)
		t.Logf("%d replicas, intervals divided by %d, %s: %.0f commands, %.1f said (%+.1f%%): %v", replicas, by, took.Round(time.Second), got, want, 100*(got-want)/want, billed(t, look))
		switch {
		case got > (1+more)*want:
			t.Errorf("%.0f commands, want %.1f, at most %.0f%% more", got, want, 100*more)
		case got >= (1-less)*want:
		case again > 0:
			continue // a machine that stood still for half of the time
		default:
			t.Errorf("%.0f commands, want %.1f, at most %.0f%% less", got, want, 100*less)
		}
		return
	}
}

// With TORTURE=1 it takes 36 minutes with the intervals divided by 20, and one hour with them as they are;
// a larger number is minutes of the first alone, best a multiple of 18.
func TestIdlingSendsWhatPeriodicSays(t *testing.T) {
	by, lasts, more, less := time.Duration(3000), governor.DefaultResync/3000, 0.15, 0.5
	minutes, _ := strconv.Atoi(os.Getenv("TORTURE"))
	if minutes > 0 {
		by, lasts, more, less = 20, 2*governor.DefaultResync/20, 0.05, 0.05
	}
	if minutes > 1 {
		lasts = time.Duration(minutes) * time.Minute
	}
	for mode, track := range modes() {
		for _, replicas := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, %d replicas", mode, replicas), func(t *testing.T) {
				t.Parallel()
				agree(t, redistest.Start(t), by, lasts, track, replicas, more, less)
			})
		}
	}
	if minutes == 1 {
		t.Run("an hour as it is", func(t *testing.T) {
			t.Parallel()
			agree(t, redistest.Start(t), 1, time.Hour, false, 2, 0.3, 0.3) // 14 commands: one more or less is 7%
		})
	}
}

func TestNothingIsSentBetweenSweeps(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	r := join(t, s.URL(), plan{queues: names(11), concurrency: 10, handler: nothing})
	enqueue(t, r.client, "q01", 1)
	over(t, look, names(11))
	reset(t, look)
	<-time.After(2 * time.Second) // hundreds of rounds of asynq
	if got := billed(t, look); sum(got) > 0 {
		t.Errorf("idle for 2s: %v, want nothing", got)
	}
}
