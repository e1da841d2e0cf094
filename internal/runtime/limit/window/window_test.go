package window_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// A grant is units that were admitted at a time, and may be used until another.
type grant struct{ at, until, units int64 }

// mostIn is, by brute force, the most units in any window of length period: a window that is the worst
// begins with a grant.
func mostIn(grants []grant, period int64) int64 {
	var most int64
	for _, first := range grants {
		var sum int64
		for _, g := range grants {
			if g.at >= first.at && g.at < first.at+period {
				sum += g.units
			}
		}
		most = max(most, sum)
	}
	return most
}

// used is what an exact limiter counts at now: all that was admitted in the period before.
func used(grants []grant, now, period int64) int64 {
	var sum int64
	for _, g := range grants {
		if g.at > now-period {
			sum += g.units
		}
	}
	return sum
}

func policies() []window.Policy {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		panic(err)
	}
	return []window.Policy{
		{Algorithm: window.Log, Limit: 7, Period: 10 * time.Second},
		{Algorithm: window.Log, Limit: 1, Period: time.Second},
		{Algorithm: window.Sliding, Limit: 9, Period: 10 * time.Second, Buckets: 10},
		{Algorithm: window.Sliding, Limit: 5, Period: 7777 * time.Millisecond, Buckets: 60},
		{Algorithm: window.Sliding, Limit: 5, Period: 10 * time.Second, Buckets: 1},
		{Algorithm: window.Counter, Limit: 8, Period: 10 * time.Second},
		{Algorithm: window.Fixed, Limit: 5, Period: 10 * time.Second},
		{Algorithm: window.Bucket, Limit: 7, Period: 10 * time.Second, Burst: 7},
		{Algorithm: window.Bucket, Limit: 20, Period: 10 * time.Second, Burst: 3},
		{Algorithm: window.Calendar, Limit: 6, Every: window.Day, Location: berlin},
		{Algorithm: window.Calendar, Limit: 6, Every: window.Month, Location: berlin},
	}
}

// walk asks at random times, and calls check after each decision.
func walk(p window.Policy, seed uint64, steps int, check func(now int64, a window.Ask, d window.Decision, before, after []grant)) {
	rng := rand.New(rand.NewPCG(seed, 3))
	var s window.State
	var grants []grant
	now := int64(1_795_000_000_000_000) + rng.Int64N(1e10)
	reach := []int64{0, 100, 300_000, 2_000_000, 9_000_000}
	if p.Algorithm == window.Calendar {
		reach = []int64{0, 1e6, 3600e6, 20 * 3600e6}
	}
	for range steps {
		now += rng.Int64N(reach[rng.IntN(len(reach))] + 1)
		n := 1 + rng.Int64N(2)
		a := window.Ask{Min: n, Want: n}
		d := p.Take(&s, now, a)
		before := grants
		if d.Granted > 0 {
			grants = append(grants, grant{now, now, d.Granted})
		}
		check(now, a, d, before, grants)
	}
}

func TestRandomHistoriesAgainstBruteForce(t *testing.T) {
	for i, p := range policies() {
		t.Run(fmt.Sprintf("%d %s", i, p.Algorithm), func(t *testing.T) {
			bound := p.Bound(window.Holding{})
			period := p.Period.Microseconds()
			if p.Algorithm == window.Calendar {
				period = int64(24 * time.Hour / time.Microsecond)
				if p.Every == window.Month {
					period *= 28
				}
			}
			for seed := range uint64(8) {
				walk(p, seed, 300, func(now int64, a window.Ask, d window.Decision, before, after []grant) {
					if d.Granted == 0 && d.Retry <= 0 || d.Granted > 0 && d.Retry != 0 {
						t.Fatalf("seed %d: %+v of %+v", seed, d, a)
					}
					exact := used(before, now, period)
					if p.Algorithm == window.Log {
						if fits := exact+a.Min <= p.Limit; fits != (d.Granted > 0) {
							t.Fatalf("seed %d: %d used, %+v granted %d", seed, exact, a, d.Granted)
						}
						if want := used(after, now, period); d.Used != want {
							t.Fatalf("seed %d: says %d used, want %d", seed, d.Used, want)
						}
					}
					if p.Algorithm == window.Sliding && d.Granted == 0 {
						if late := used(before, now, period+bound.TooLong.Microseconds()); late+a.Min <= p.Limit {
							t.Fatalf("seed %d: denied though %d are used even when each counts %s too long", seed, late, bound.TooLong)
						}
					}
				})
			}
			for seed := range uint64(8) {
				var all []grant
				walk(p, seed, 300, func(_ int64, _ window.Ask, _ window.Decision, _, after []grant) { all = after })
				if most := mostIn(all, period); most > bound.Max {
					t.Fatalf("seed %d: %d in one window: %s", seed, most, bound)
				}
			}
		})
	}
}

func TestARetryAtTheTimeItWasToldSucceeds(t *testing.T) {
	for i, p := range policies() {
		t.Run(fmt.Sprintf("%d %s", i, p.Algorithm), func(t *testing.T) {
			for seed := range uint64(6) {
				rng := rand.New(rand.NewPCG(seed, 4))
				var s window.State
				now := int64(1_795_000_000_000_000) + rng.Int64N(1e10)
				for range 120 {
					n := 1 + rng.Int64N(min(3, p.Capacity()))
					d := p.Take(&s, now, window.Ask{Min: n, Want: n})
					if d.Granted > 0 {
						now += rng.Int64N(500_000)
						continue
					}
					if early := p.Peek(s, now+d.Retry-10, n, 0); early.Granted > 0 && p.Algorithm != window.Counter && d.Retry > 10 {
						t.Fatalf("seed %d: told to wait %d, %d would do", seed, d.Retry, d.Retry-10)
					}
					now += d.Retry
					if again := p.Take(&s, now, window.Ask{Min: n, Want: n}); again.Granted != n {
						t.Fatalf("seed %d: told to wait %d for %d and still denied: %+v", seed, d.Retry, n, again)
					}
				}
			}
		})
	}
}

// Units that are held in advance count until the last moment at which they may be used, and a period more.
func TestWhatIsHeldNeverAddsToAnExactLimit(t *testing.T) {
	for i, p := range policies() {
		t.Run(fmt.Sprintf("%d %s", i, p.Algorithm), func(t *testing.T) {
			const hold = 2_500_000
			bound := p.Bound(window.Holding{Units: p.Limit, Replicas: 3, Hold: hold * time.Microsecond})
			period := p.Period.Microseconds()
			if p.Algorithm == window.Calendar {
				period = int64(24 * time.Hour / time.Microsecond)
			}
			for seed := range uint64(20) {
				rng := rand.New(rand.NewPCG(seed, 5))
				var s window.State
				var spent, left []grant
				now := int64(1_795_000_000_000_000) + rng.Int64N(1e10)
				for range 400 {
					now += rng.Int64N(1_500_000)
					// Whoever holds units uses some of them as late as possible.
					for k := range left {
						if left[k].units > 0 && (left[k].until > now && left[k].until < now+1_500_000 || rng.IntN(4) == 0) && left[k].until > now {
							spent = append(spent, grant{now, 0, left[k].units})
							left[k].units = 0
						}
					}
					a := window.Ask{Min: 1, Want: 1 + rng.Int64N(4), Hold: hold}
					if k := rng.IntN(len(left) + 1); k < len(left) && left[k].units > 0 && left[k].until <= now {
						a.Give, a.Stamp = left[k].units, left[k].at // of at, which is the stamp here
						left[k].units = 0
					}
					d := p.Take(&s, now, a)
					if d.Granted == 0 {
						continue
					}
					spent = append(spent, grant{now, 0, 1})
					left = append(left, grant{d.Stamp, now + d.Hold, d.Granted - 1})
				}
				if most := mostIn(spent, period); most > bound.Max {
					t.Fatalf("seed %d: %d in one window: %s", seed, most, bound)
				}
			}
		})
	}
}

func TestDamagedAndForeignStatesAreEmpty(t *testing.T) {
	p := window.Policy{Algorithm: window.Sliding, Limit: 5, Period: time.Minute, Buckets: 60}
	for _, text := range []string{
		"", "5", "L1", "L1:1000000:a:a:1:2:", "L1:1000000:a:c:1:2:1;", "L1:0:a:a:1:1:", "L2:1000000:a:a:1:1:", "C1:1:2:3", "L1:x:y:z:1:1:",
		"L1:1000000:a:b:1:3:1.-2;", "L1:1000000:a:b:1:fffffffffffffffff:1;", "\x00\xff",
	} {
		s := window.Decode(p, text)
		if d := p.Peek(s, 1_795_000_000_000_000, 5, 0); d.Granted != 5 {
			t.Errorf("Decode(%q) has used %d", text, d.Used)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("L1:1000000:6b49d200:6b49d203:2:5:1.2;2;")
	f.Add("C1:1795000000000000:3:4")
	f.Add("F1:1795000000000000:3")
	f.Add("G1:1795000000000000:12345.5")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range policies() {
			s := window.Decode(p, text)
			again := window.Decode(p, s.Encode(p))
			if got, want := again.Encode(p), s.Encode(p); got != want {
				t.Errorf("%s: %q reads back as %q", p.Algorithm, want, got)
			}
			p.Take(&s, 1_795_000_000_000_000, window.Ask{Min: 1, Want: 3})
		}
	})
}

func TestCalendarDays(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	p := window.Policy{Algorithm: window.Calendar, Limit: 1, Every: window.Day, Location: berlin}
	for _, c := range []struct {
		name, at string
		reset    time.Duration
	}{
		{"before midnight there, in the evening before in UTC", "2026-11-22T22:30:00Z", 30 * time.Minute},
		{"the day on which clocks are put forward has 23 hours", "2026-03-28T23:00:00Z", 23 * time.Hour},
		{"the day on which they are put back has 25", "2026-10-24T22:00:00Z", 25 * time.Hour},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		if d := p.Peek(window.State{}, at.UnixMicro(), 1, 0); time.Duration(d.Reset)*time.Microsecond != c.reset {
			t.Errorf("%s: resets in %s, want %s", c.name, time.Duration(d.Reset)*time.Microsecond, c.reset)
		}
	}
}

func TestABoundSaysWhatIsAndWhy(t *testing.T) {
	for _, p := range policies() {
		if text := p.Bound(window.Holding{}).String(); !strings.Contains(text, "at most") || !strings.Contains(text, ": ") {
			t.Errorf("%s: %s", p.Algorithm, text)
		}
	}
	exact := policies()[0]
	held := exact.Bound(window.Holding{Units: 2, Replicas: 3, Hold: time.Second})
	if held.Over != 0 || held.Held != 6 || held.TooLong != time.Second || held.Sustained > 0.92 || held.Sustained < 0.9 {
		t.Errorf("with leases: %+v", held)
	}
}
