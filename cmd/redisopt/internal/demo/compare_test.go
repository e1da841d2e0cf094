package demo

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
)

func TestExplainTellsWhatMustDifferFromWhatMustNot(t *testing.T) {
	live := liveQueue()
	job := func(id string, n string) capture.Key {
		return capture.Key{Name: live.key(id), Type: "hash", Value: map[string]string{"data": n, "timestamp": "1"}, TTL: -1}
	}
	text := func(suffix, value string, ttl time.Duration) capture.Key {
		return capture.Key{Name: live.key(suffix), Type: "string", Value: value, TTL: ttl}
	}
	wait := func(ids ...string) capture.Key {
		return capture.Key{Name: live.key("wait"), Type: "list", Value: ids, TTL: -1}
	}
	was := []capture.Key{job("1", "a"), job("2", "b"), wait("2", "1"), text("id", "2", -1), text("2:lock", "x", time.Second), text("limiter", "3", time.Second)}
	for _, tc := range []struct {
		name        string
		is          []capture.Key
		added       []string
		kinds       []string
		unexplained []string
	}{
		{"nothing changed", was, nil, nil, nil},
		{
			"locks, counters and live jobs",
			[]capture.Key{job("1", "a"), job("2", "b"), job("3", "c"), wait("3", "2", "1"), text("id", "1000", -1), text("stalled-check", "1", time.Second)},
			[]string{"3"},
			[]string{"lock", "limiter", "stalled-check", "id", "live"},
			nil,
		},
		{"a job is gone", []capture.Key{job("1", "a"), wait("1"), was[3], was[4], was[5]}, nil, nil, []string{":2:", ":wait:"}},
		{"a job's data changed", []capture.Key{job("1", "a"), job("2", "c"), was[2], was[3], was[4], was[5]}, nil, nil, []string{":2.data:"}},
		{"the order changed", []capture.Key{was[0], was[1], wait("1", "2"), was[3], was[4], was[5]}, nil, nil, []string{":wait:"}},
		{"a live job is lost", append(slices.Clone(was), job("3", "c")), []string{"3"}, []string{"live"}, []string{"(3 is missing)"}},
		{
			"a live job is doubled",
			[]capture.Key{was[0], was[1], job("3", "c"), wait("3", "3", "2", "1"), was[3], was[4], was[5]},
			[]string{"3"},
			[]string{"live"},
			[]string{":wait:"},
		},
		{"a key nobody knows", append(slices.Clone(was), text("surprise", "1", -1)), nil, nil, []string{":surprise:"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := explain(was, tc.is, live, tc.added)
			var kinds []string
			for _, e := range got.Expected {
				kinds = append(kinds, e.Kind)
				if e.Why == "" {
					t.Errorf("kind %q has no reason", e.Kind)
				}
			}
			if diff := cmp.Diff(tc.kinds, kinds); diff != "" {
				t.Errorf("kinds (-want +got):\n%s", diff)
			}
			if len(got.Unexplained) != len(tc.unexplained) {
				t.Fatalf("unexplained = %q, want %d", got.Unexplained, len(tc.unexplained))
			}
			for i, want := range tc.unexplained {
				if !strings.Contains(got.Unexplained[i], want) {
					t.Errorf("unexplained[%d] = %q, want it to contain %q", i, got.Unexplained[i], want)
				}
			}
		})
	}
}

func TestTheCaptureHasFortyFourJobs(t *testing.T) {
	keys, err := capture.Bull()
	if err != nil {
		t.Fatal(err)
	}
	if got := countJobs(keys); got != 44 {
		t.Errorf("countJobs = %d, want 44", got)
	}
}
