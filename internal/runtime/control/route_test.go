package control

import (
	"fmt"
	"math"
	"testing"
)

func TestRouteIsTheSameInEveryVersion(t *testing.T) {
	// These are a contract: a change of the hash would move keys between routes while they are in use.
	for _, x := range []struct {
		route, key string
		want       uint64
	}{
		{"phase1", "user:1", 4743},
		{"phase1", "user:2", 6425},
		{"phase2", "user:1", 5214},
		{"", "", 2133},
		{"phase1", "日本", 359},
	} {
		if got := bucket(x.route, x.key); got != x.want {
			t.Errorf("bucket(%q, %q) = %d, want %d", x.route, x.key, got, x.want)
		}
	}
}

func TestRouteTakesTheShareAndOnlyAddsKeysAsItRises(t *testing.T) {
	const keys = 20_000
	was := make([]bool, keys)
	for _, percent := range []float64{0, 0.01, 1, 5, 25, 50, 99.99, 100} {
		d := Document{Ramps: map[string]float64{"phase1": percent}}
		taken := 0
		for i := range keys {
			now := Route(d, "phase1", fmt.Sprintf("user:%d", i))
			if was[i] && !now {
				t.Fatalf("at %v%% key %d leaves the route", percent, i)
			}
			if was[i] = now; now {
				taken++
			}
		}
		want := percent / 100 * keys
		if slack := 4*math.Sqrt(want) + 1; math.Abs(float64(taken)-want) > slack {
			t.Errorf("at %v%%: %d of %d keys, want %.0f", percent, taken, keys, want)
		}
	}
}

func TestTwoRoutesDivideKeysIndependently(t *testing.T) {
	d := Document{Ramps: map[string]float64{"a": 50, "b": 50}}
	both := 0
	for i := range 10_000 {
		if key := fmt.Sprint(i); Route(d, "a", key) && Route(d, "b", key) {
			both++
		}
	}
	if both < 2300 || both > 2700 {
		t.Errorf("%d of 10000 keys take both routes, want about 2500", both)
	}
}

func TestAKillSwitchTakesAllKeysAway(t *testing.T) {
	d := Document{Ramps: map[string]float64{"a": 100, "b": 100}, Kill: []string{"a"}}
	if Route(d, "a", "x") || !Route(d, "b", "x") || Route(d, "c", "x") || Route(Document{}, "a", "x") {
		t.Error("only b has its keys")
	}
}
