package cache

import (
	"fmt"
	"testing"
	"time"
)

func TestATimeToLiveIsSuggestedByWhenKeysAreReadAgain(t *testing.T) {
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for name, c := range map[string]struct {
		keys int
		gaps []time.Duration // of every key, one after the other
		want Reuse
	}{
		"keys that are read once say nothing":      {5000, nil, Reuse{}},
		"too few reads say nothing":                {99, []time.Duration{time.Minute}, Reuse{Reads: 99}},
		"every half minute":                        {100, []time.Duration{30 * time.Second}, Reuse{100, 32, 32, 32}},
		"at once":                                  {100, []time.Duration{0, 0}, Reuse{200, 1, 1, 1}},
		"half soon, half after an hour":            {60, []time.Duration{2 * time.Second, time.Hour}, Reuse{120, 2, 4096, 4096}},
		"never more than the configured maximum":   {100, []time.Duration{30 * time.Hour}, Reuse{100, 131072, 131072, 86400}},
		"months later":                             {100, []time.Duration{2000 * time.Hour}, Reuse{100, 262144, 262144, 86400}},
		"a clock that went back counts as at once": {100, []time.Duration{-time.Hour}, Reuse{100, 1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newReuse()
			now := start
			for i := -1; i < len(c.gaps); i++ {
				if i >= 0 {
					now = now.Add(c.gaps[i])
				}
				for k := range c.keys {
					r.read(fmt.Sprint("user:", k), now)
				}
			}
			if got := r.measured(24 * time.Hour); got != c.want {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
		})
	}
}

func TestASampleOfManyKeysStaysSmallAndTellsTheSame(t *testing.T) {
	r := newReuse()
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	for range 3 {
		for k := range 100_000 {
			r.read(fmt.Sprint("user:", k), now)
		}
		now = now.Add(10 * time.Minute)
	}
	if n := len(r.last); n > reuseKeys || n < reuseKeys/8 {
		t.Errorf("%d keys are followed, want up to %d", n, reuseKeys)
	}
	if got := r.measured(24 * time.Hour); got.P50Seconds != 1024 || got.P95Seconds != 1024 {
		t.Errorf("got %+v, want 10 minutes, rounded up to 1024 s", got)
	}
}
