package migrate

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
)

const week = 7 * 24 * time.Hour

func TestALeaseThatRestsForAWeekIsRenewedEveryTenMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := leaseOf(LeaseOptions{}.withDefaults())
		renewals, pokes := 0, 0
		l.carry(func(_ context.Context, ttl time.Duration) (bool, error) {
			renewals++
			if want := 20 * time.Minute; ttl != want {
				t.Errorf("renewed for %s, want %s", ttl, want)
			}
			return true, nil
		})
		err := l.Hold(t.Context(), func(context.Context) error {
			l.SetResting(true)
			time.Sleep(week)
			synctest.Wait()
			if want := 1 + int(week/(10*time.Minute)); renewals != want {
				t.Errorf("%d renewals in a week, want %d", renewals, want)
			}
			renewals = 0
			for range 3 { // what rings while nothing is due costs one renewal each, and puts the next one off
				time.Sleep(time.Minute)
				l.Poke()
				pokes++
				synctest.Wait()
			}
			if renewals != pokes {
				t.Errorf("%d renewals for %d pokes", renewals, pokes)
			}
			return errStop
		})
		if !errors.Is(err, errStop) {
			t.Errorf("Hold = %v", err)
		}
	})
}

func TestALeaseIsRenewedOftenWhileSomethingMovesAndAtOnceWhenThatBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := leaseOf(LeaseOptions{}.withDefaults())
		var last time.Duration
		renewals := 0
		l.carry(func(_ context.Context, ttl time.Duration) (bool, error) {
			renewals, last = renewals+1, ttl
			return true, nil
		})
		_ = l.Hold(t.Context(), func(context.Context) error {
			time.Sleep(time.Minute)
			synctest.Wait()
			if renewals != 6 || last != 30*time.Second {
				t.Errorf("%d renewals in a minute, the last for %s, want 6 for 30s", renewals, last)
			}
			l.SetResting(true)
			synctest.Wait()
			if last != 20*time.Minute {
				t.Errorf("resting renewed for %s, want 20m", last)
			}
			l.SetResting(false)
			synctest.Wait()
			if last != 30*time.Second {
				t.Errorf("moving renewed for %s, want 30s", last)
			}
			return errStop
		})
	})
}

func TestARestingLeaseWhoseRedisIsSilentIsTriedEveryMinuteAndLostWhenItMustHaveExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := leaseOf(LeaseOptions{}.withDefaults())
		var silent atomic.Bool
		var tries atomic.Int64
		l.carry(func(context.Context, time.Duration) (bool, error) {
			if tries.Add(1); silent.Load() {
				return false, errors.New("no reply")
			}
			return true, nil
		})
		err := l.Hold(t.Context(), func(ctx context.Context) error {
			l.SetResting(true)
			synctest.Wait()
			silent.Store(true)
			tries.Store(0)
			began := time.Now()
			<-ctx.Done()
			if took := time.Since(began); took != 20*time.Minute || tries.Load() != 11 {
				t.Errorf("lost after %s and %d tries, want 20m and 11", took, tries.Load())
			}
			return ctx.Err()
		})
		if !errors.Is(err, ErrLeaseLost) {
			t.Errorf("Hold = %v, want ErrLeaseLost", err)
		}
	})
}

var errStop = errors.New("that is enough")

// leaseOf is a lease on nothing, whose releases fail.
func leaseOf(opts LeaseOptions) *Lease {
	opts.Key = "lease"
	return &Lease{
		client: &informed{}, opts: opts,
		poked: make(chan struct{}, 1), expires: time.Now().Add(opts.TTL),
	}
}

// informed is a Redis that only knows INFO, and fails at scripts.
type informed struct {
	redis.UniversalClient
	asked atomic.Int64
}

func (c *informed) Info(ctx context.Context, _ ...string) *redis.StringCmd {
	c.asked.Add(1)
	cmd := redis.NewStringCmd(ctx)
	cmd.SetVal("connected_clients:3\r\ntotal_commands_processed:100\r\n")
	return cmd
}

func (c *informed) EvalSha(ctx context.Context, _ string, _ []string, _ ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	cmd.SetErr(errors.New("no scripts here"))
	return cmd
}

func TestASoakOfAWeekIsSampledEveryFiveMinutesAndAShortOneEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &informed{}
		s, err := NewSampler(SamplerOptions{Client: client, Dir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		soak := func(length time.Duration) (evidence Evidence, looks int64) {
			since := time.Now()
			before := client.asked.Load()
			for time.Since(since) < length {
				time.Sleep(time.Minute)
				from := since
				if whole := time.Now().Add(-length); whole.After(from) {
					from = whole
				}
				if evidence, err = s.Read(ctx, KPIConnections, from, time.Now()); err != nil {
					t.Fatal(err)
				}
			}
			return evidence, client.asked.Load() - before
		}
		if e, looks := soak(10 * time.Minute); e.Coverage < 0.79 || looks > 11 { // the first and the last minute are not known yet
			t.Errorf("10 minutes: %d looks cover %g, want at most 11 for 0.79", looks, e.Coverage)
		}
		// The first hours are looked at more often, because what is asked about is short then.
		e, looks := soak(24 * time.Hour)
		if most := int64(24*12 + 100); e.Coverage < 0.99 || looks > most {
			t.Errorf("a day: %d looks cover %g, want at most %d for 0.99", looks, e.Coverage, most)
		}
		before := client.asked.Load()
		time.Sleep(week) // nobody asks
		synctest.Wait()
		if looks := client.asked.Load() - before; looks > week.Milliseconds()/sampleSeldom.Milliseconds()+1 {
			t.Errorf("a week without a question: %d looks", looks)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestThrottleAndSamplerShareALook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &informed{}
		g := &gauge{client: client}
		ctx, cancel := context.WithCancel(t.Context())
		resting := atomic.Bool{}
		resting.Store(true)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			Throttle{MaxConnections: 10}.run(ctx, g, &Pace{}, resting.Load, func(string) {})
		}()
		time.Sleep(time.Hour + time.Second)
		if n := client.asked.Load(); n != 61 {
			t.Errorf("an hour of rest: %d looks, want 61", n)
		}
		if g.look(ctx, 30*time.Second); client.asked.Load() != 61 {
			t.Error("a look that was fresh was taken again")
		}
		resting.Store(false)
		time.Sleep(time.Minute)
		if n := client.asked.Load() - 61; n != 12 {
			t.Errorf("a minute of moving: %d looks, want 12", n)
		}
		cancel()
		<-ended
	})
}

func TestHostingAWeekFitsIntoASmallPlan(t *testing.T) {
	bell := func(context.Context, string) (Rings, error) { return Rings{}, nil }
	for name, c := range map[string]struct {
		o           HostOptions
		all, inside int64
	}{
		"with a bell":     {HostOptions{Subscribe: bell}, 144 + 288, 4 * 144},
		"without one":     {HostOptions{}, 144 + 288 + 1440, 4 * 144},
		"throttled":       {HostOptions{Subscribe: bell, Throttle: Throttle{MaxConnections: 9}}, 144 + 288 + 1440, 4 * 144},
		"with its sweep":  {HostOptions{Subscribe: bell, Sweep: time.Hour}, 144 + 288 + 24, 4 * 144},
		"watched already": {HostOptions{Subscribe: bell, Watch: &Sampler{}}, 144, 4 * 144},
	} {
		if all, inside := c.o.Resting(day); all != c.all || inside != c.inside {
			t.Errorf("%s: %d and %d inside a day, want %d and %d", name, all, inside, c.all, c.inside)
		}
	}
	if all, inside := (HostOptions{Subscribe: bell}).Resting(day); all+inside > 1500 {
		t.Errorf("%d commands a day, want at most 1,500", all+inside)
	}
}
