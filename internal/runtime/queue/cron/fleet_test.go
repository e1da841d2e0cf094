package cron

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A replica is one process of the fleet.
type replica struct {
	*Cron

	dead    bool // under the store's lock
	cancel  context.CancelFunc
	running sync.WaitGroup
}

// start runs a replica on s.
func start(t *testing.T, s *store, change ...func(*Options)) *replica {
	t.Helper()
	r := &replica{}
	alive := func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return !r.dead
	}
	opts := Options{
		Client: s.client(&r.dead), Subscribe: s.subscribe,
		Enqueue: func(ctx context.Context, tick Tick) error {
			if !alive() {
				return errDown
			}
			err := s.enqueue(ctx, tick)
			if !alive() {
				return errDown // it died with the answer under way
			}
			return err
		},
	}
	for _, f := range change {
		f(&opts)
	}
	var err error
	if r.Cron, err = New(opts); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	r.running.Go(func() {
		if err := r.Run(ctx); err != nil {
			t.Errorf("Run = %v", err)
		}
	})
	return r
}

// stop ends a replica as a deploy does.
func (r *replica) stop() { r.cancel(); r.running.Wait() }

// crash ends it so that nothing it does any more is seen by anybody.
func (r *replica) crash(s *store) {
	s.mu.Lock()
	r.dead = true
	s.mu.Unlock()
	r.stop()
}

// sleepUntil sleeps until an instant; the bubble's clock starts in the year 2000.
func sleepUntil(t *testing.T, text string) time.Time {
	t.Helper()
	at := instant(t, text)
	time.Sleep(time.Until(at))
	return at
}

func add(t *testing.T, c *Cron, list ...Schedule) {
	t.Helper()
	for _, s := range list {
		s.Queue = "q"
		if err := c.Add(t.Context(), s); err != nil {
			t.Fatal(err)
		}
	}
}

// weekly are schedules whose week of 25 October 2000 has the clocks of Europe and America set back.
func weekly() []Schedule {
	return []Schedule{
		{Name: "minute", Cron: "* * * * *"},
		{Name: "quarter", Cron: "*/15 * * * *", Zone: "Europe/Berlin"},
		{Name: "night", Cron: "30 2 * * *", Zone: "Europe/Berlin"},
		{Name: "nights", Cron: "0,30 0-4 * * *", Zone: "America/New_York"},
		{Name: "sunday", Cron: "30 1 * * 7", Zone: "America/New_York"},
		{Name: "often", Every: 37 * time.Second, Misfire: Skip},
		{Name: "all", Every: 5 * time.Minute, Misfire: All},
		{Name: "spread", Every: 10 * time.Minute, Jitter: 4 * time.Minute},
	}
}

// check compares what ran with the timetables: nothing missing, nothing doubled, nothing else.
func check(t *testing.T, s *store, list []Schedule, from, to time.Time) (ticks int) {
	t.Helper()
	for _, schedule := range list {
		schedule.Queue = "q"
		table, err := schedule.Timetable()
		if err != nil {
			t.Fatal(err)
		}
		ran := s.ran(schedule.Name)
		for at := table.Next(from); !schedule.fireAt(at).After(to); at = table.Next(at) {
			if ran[at.Unix()] != 1 {
				t.Errorf("%s: tick %s ran %d times, want once", schedule.Name, at, ran[at.Unix()])
			}
			delete(ran, at.Unix())
			ticks++
		}
		for unix, n := range ran {
			t.Errorf("%s: %s ran %d times and is no tick", schedule.Name, time.Unix(unix, 0).UTC(), n)
		}
	}
	return ticks
}

func TestAWeekOfTwoReplicasMissesNothingAndDoublesNothing(t *testing.T) {
	for _, begin := range []string{"2000-10-25T00:00:00Z", "2001-03-22T00:00:00Z"} {
		synctest.Test(t, func(t *testing.T) {
			from := sleepUntil(t, begin)
			s := newStore()
			s.lag = func() time.Duration { return rand.N(300 * time.Millisecond) }
			a, b := start(t, s), start(t, s)
			add(t, a.Cron, weekly()...)
			time.Sleep(7*24*time.Hour + 10*time.Second)
			to := time.Now().Add(-10 * time.Second)
			ticks := checkUntil(t, s, weekly(), from, to)
			if got := a.Stats().Missed + b.Stats().Missed; got != 0 {
				t.Errorf("%d ticks are said to be missed", got)
			}
			fa, fb := a.Stats(), b.Stats()
			if fa.Fired == 0 || fb.Fired == 0 || fa.Fired+fb.Fired < uint64(ticks) || fa.Fired+fa.Duplicates != fb.Fired+fb.Duplicates {
				t.Errorf("%d ticks, one replica has %+v, the other %+v", ticks, fa, fb)
			}
			cost := s.cost()
			t.Logf("%s: %d ticks; commands of both besides enqueueing: %v", begin, ticks, cost)
			// In each 5 minutes: "minute" is noted by each replica once, "all" and "spread" by the one that fired,
			// the others rarely.
			if cost["hset"] > 4*7*24*12 || cost["evalsha"] > 20 || cost["hmget"] != 2*28 && cost["hmget"] != 2*27 {
				t.Errorf("commands besides enqueueing: %v", cost)
			}
			a.stop()
			b.stop()
		})
	}
}

func TestReplicasThatCrashAndComeBackMissNothingAndDoubleNothing(t *testing.T) {
	for seed := range uint64(2) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 4)) //nolint:gosec // a test that can be repeated
				from := sleepUntil(t, "2000-10-26T00:00:00Z")
				s := newStore()
				var lag sync.Mutex
				s.lag = func() time.Duration {
					lag.Lock()
					defer lag.Unlock()
					return time.Duration(random.IntN(2000)) * time.Millisecond
				}
				pick := func(n int) int {
					lag.Lock()
					defer lag.Unlock()
					return random.IntN(n)
				}
				fleet := []*replica{start(t, s), start(t, s)}
				add(t, fleet[0].Cron, weekly()...)
				synctest.Wait()
				end := from.Add(3 * 24 * time.Hour)
				for time.Now().Before(end) {
					time.Sleep(time.Duration(pick(1200)) * time.Second)
					at := pick(2)
					if pick(3) == 0 {
						fleet[at].stop()
					} else {
						fleet[at].crash(s)
					}
					// Sometimes none is left, for less than the grace.
					if pick(4) == 0 {
						fleet[1-at].crash(s)
						time.Sleep(time.Duration(pick(40)) * time.Second)
						fleet[1-at] = start(t, s)
					}
					time.Sleep(time.Duration(pick(60)) * time.Second)
					fleet[at] = start(t, s)
				}
				to := time.Now()
				time.Sleep(2 * time.Minute)
				fleet[0].stop()
				fleet[1].stop()
				t.Logf("%d ticks", checkUntil(t, s, weekly(), from, to))
			})
		})
	}
}

// checkUntil is check where ticks after to may have run or not.
func checkUntil(t *testing.T, s *store, list []Schedule, from, to time.Time) int {
	t.Helper()
	s.mu.Lock()
	for _, schedule := range list {
		for id := range s.runs {
			var unix int64
			if _, err := fmt.Sscanf(id, idPrefix+schedule.Name+":%d", &unix); err == nil && schedule.fireAt(time.Unix(unix, 0)).After(to) {
				if s.runs[id] > 1 {
					t.Errorf("%s ran %d times", id, s.runs[id])
				}
				delete(s.runs, id)
			}
		}
	}
	s.mu.Unlock()
	return check(t, s, list, from, to)
}

func TestADowntimeIsMadeUpForAsEachScheduleSays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2000-05-01T00:00:30Z")
		s := newStore()
		a := start(t, s)
		add(
			t, a.Cron, Schedule{Name: "once", Cron: "*/10 * * * *"}, Schedule{Name: "skip", Cron: "*/10 * * * *", Misfire: Skip},
			Schedule{Name: "all", Cron: "*/10 * * * *", Misfire: All, MisfireMax: 5}, Schedule{Name: "daily", Cron: "0 3 * * *"},
		)
		sleepUntil(t, "2000-05-01T01:00:30Z")
		a.stop()
		sleepUntil(t, "2000-05-01T02:55:00Z")
		var missed []Missed
		b := start(t, s, func(o *Options) { o.Missed = func(m Missed) { missed = append(missed, m) } })
		sleepUntil(t, "2000-05-01T02:56:00Z")
		for name, want := range map[string]int{"once": 6 + 1, "skip": 6, "all": 6 + 5, "daily": 0} {
			if got := s.ran(name); len(got) != want {
				t.Errorf("%s ran %d times, want %d: %v", name, len(got), want, got)
			}
		}
		if n := s.ran("once")[instant(t, "2000-05-01T02:50:00Z").Unix()]; n != 1 {
			t.Errorf("the latest missed tick ran %d times", n)
		}
		counts := map[string]int{}
		for _, m := range missed {
			counts[m.Schedule] += m.Count
		}
		if counts["once"] != 10 || counts["all"] != 6 || counts["skip"] != 0 {
			t.Errorf("missed %v, want 10 of once, 6 of all, none of skip, which does not know what it missed", counts)
		}
		b.stop()
		// A week later: the day's run was never lost, and comes once.
		sleepUntil(t, "2000-05-08T09:00:00Z")
		c, d := start(t, s), start(t, s)
		time.Sleep(time.Minute)
		if got := s.ran("daily"); len(got) != 1 || got[instant(t, "2000-05-08T03:00:00Z").Unix()] != 1 {
			t.Errorf("daily ran %v, want its latest tick once", got)
		}
		c.stop()
		d.stop()
	})
}

func TestAReplicaThatWasSuspendedDoesNotRepeatWhatOthersRanLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2000-05-01T00:00:30Z")
		s := newStore()
		a := start(t, s)
		list := []Schedule{{Name: "once", Cron: "0 3 * * *"}, {Name: "all", Cron: "*/20 * * * *", Misfire: All}}
		add(t, a.Cron, list...)
		// The other one hangs in an enqueueing until long after.
		hang := make(chan struct{})
		b := start(t, s, func(o *Options) {
			enqueue := o.Enqueue
			o.Enqueue = func(ctx context.Context, tick Tick) error {
				<-hang
				return enqueue(ctx, tick)
			}
		})
		end := sleepUntil(t, "2000-05-01T13:10:30Z")
		close(hang)
		time.Sleep(time.Minute)
		check(t, s, list, instant(t, "2000-05-01T00:00:30Z"), end)
		a.stop()
		b.stop()
	})
}

func TestAnOutageOfRedisDelaysTicksAndBringsNoneTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		from := sleepUntil(t, "2000-05-01T00:00:30Z")
		s := newStore()
		a, b := start(t, s), start(t, s)
		list := []Schedule{{Name: "minute", Cron: "* * * * *"}, {Name: "all", Every: time.Minute, Misfire: All, MisfireMax: 100}}
		add(t, a.Cron, list...)
		sleepUntil(t, "2000-05-01T00:10:50Z")
		s.setDown(true)
		sleepUntil(t, "2000-05-01T00:11:40Z") // within the grace: nothing is missed
		s.setDown(false)
		sleepUntil(t, "2000-05-01T00:20:30Z")
		check(t, s, list, from, time.Now())

		s.setDown(true)
		sleepUntil(t, "2000-05-01T00:50:30Z")
		s.setDown(false)
		time.Sleep(3 * time.Minute)
		check(t, s, list[1:], from, time.Now())
		if got := len(s.ran("minute")); got < 20+1+2 || got > 20+1+3 {
			t.Errorf("minute ran %d times, want 20, one for the outage, and those after it", got)
		}
		if a.Stats().Failed == 0 || a.Stats().Err != nil {
			t.Errorf("stats %+v, want failures and no reading that fails", a.Stats())
		}
		a.stop()
		b.stop()
	})
}

func TestAJobThatIsNotValidIsGivenUpAndOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		var failed []error
		var mu sync.Mutex
		a := start(t, s, func(o *Options) {
			enqueue := o.Enqueue
			o.Enqueue = func(ctx context.Context, tick Tick) error {
				if tick.Schedule.Name == "bad" {
					return fmt.Errorf("queue q: %w", ErrRefused)
				}
				return enqueue(ctx, tick)
			}
			o.Failed = func(err error) { mu.Lock(); failed = append(failed, err); mu.Unlock() }
		})
		add(t, a.Cron, Schedule{Name: "bad", Every: time.Minute}, Schedule{Name: "good", Every: time.Minute})
		time.Sleep(10*time.Minute + time.Second)
		mu.Lock()
		defer mu.Unlock()
		if got := a.Stats(); got.Refused != 10 || got.Fired != 10 || len(failed) != 10 || !errors.Is(failed[0], ErrRefused) {
			t.Errorf("stats %+v, failures %v", got, failed)
		}
		a.stop()
	})
}
