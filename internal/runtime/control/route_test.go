package control

import (
	"encoding/json"
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
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

var rewrite = flag.Bool("update", false, "write testdata/ramp/vectors.json")

// A vector is where one key is; testdata/ramp has them for every program that follows a ramp.
type vector struct {
	Route  string          `json:"route"`
	Key    string          `json:"key"`
	Bucket uint64          `json:"bucket"`
	New    map[string]bool `json:"new"` // by percentage
}

func TestEveryProgramFindsAKeyInTheSamePlace(t *testing.T) {
	t.Parallel()
	var all []vector
	for _, route := range []string{"cache", "app-cache", "Grüße"} {
		for _, key := range []string{"", "a", "user:42:profile", "user:43:profile", "cache:contacts:7", "日本語:1", "emoji:😀", strings.Repeat("long", 100), "with space", "{tag}:1"} {
			v := vector{Route: route, Key: key, Bucket: bucket(route, key), New: map[string]bool{}}
			for _, percent := range []float64{0, 0.01, 1, 5, 12.345, 25, 50, 99.99, 100} {
				v.New[fmt.Sprint(percent)] = Route(Document{Ramps: map[string]float64{route: percent}}, route, key)
			}
			all = append(all, v)
		}
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("..", "..", "..", "testdata", "ramp", "vectors.json")
	if *rewrite {
		if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(text)+"\n"); diff != "" {
		t.Errorf("keys have moved, which must never happen (-want +got):\n%s", diff)
	}
}
