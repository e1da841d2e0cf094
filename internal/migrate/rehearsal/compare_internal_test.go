package rehearsal

import (
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
)

func list(name string, ids ...string) capture.Key {
	return capture.Key{Name: name, Type: "list", Value: ids, TTL: -1}
}

func hash(name, field, value string) capture.Key {
	return capture.Key{Name: name, Type: "hash", Value: map[string]string{field: value}, TTL: -1}
}

func TestDifferencesThatMustBeAreTellableFromThoseThatMustNot(t *testing.T) {
	short := hash("session:1", "user", "1")
	short.TTL = time.Second
	for name, tt := range map[string]struct {
		was, is []capture.Key
		losses  []migrate.Loss
		kinds   string
		differ  int
	}{
		"nothing differs":                        {was: []capture.Key{list("bull:q:wait", "1")}, is: []capture.Key{list("bull:q:wait", "1")}},
		"an active job is next":                  {was: []capture.Key{list("bull:q:wait", "2"), list("bull:q:active", "1")}, is: []capture.Key{list("bull:q:wait", "2", "1")}, kinds: "active"},
		"an active job of a queue that was idle": {was: []capture.Key{list("bull:q:active", "1")}, is: []capture.Key{list("bull:q:wait", "1")}, kinds: "active"},
		"an active job is lost":                  {was: []capture.Key{list("bull:q:wait", "2"), list("bull:q:active", "1")}, is: []capture.Key{list("bull:q:wait", "2")}, kinds: "active", differ: 1},
		"an active job is there twice":           {was: []capture.Key{list("bull:q:wait", "2"), list("bull:q:active", "1")}, is: []capture.Key{list("bull:q:wait", "2", "1", "1")}, kinds: "active", differ: 1},
		"the order is another one":               {was: []capture.Key{list("bull:q:wait", "1", "2")}, is: []capture.Key{list("bull:q:wait", "2", "1")}, differ: 1},
		"a payload is another one":               {was: []capture.Key{hash("bull:q:1", "data", "{}")}, is: []capture.Key{hash("bull:q:1", "data", "{ }")}, differ: 1},
		"its time was over":                      {was: []capture.Key{short}, kinds: "ended"},
		"it was removed":                         {was: []capture.Key{hash("session:1", "user", "1")}, differ: 1},
		"a loss that comes back did not":         {was: []capture.Key{hash("bull:q:1", "x", "1")}, is: []capture.Key{hash("bull:q:1", "y", "1")}, losses: []migrate.Loss{{Subject: "1", Field: "x", Reversible: true}}, differ: 2},
		"a loss that does not come back":         {was: []capture.Key{hash("bull:q:1", "x", "1")}, is: []capture.Key{hash("bull:q:1", "x", "2")}, losses: []migrate.Loss{{Subject: "1", Field: "x"}}, kinds: "loss"},
		"the target keeps its counter":           {is: []capture.Key{{Name: "mq:q:id", Type: "string", Value: "7", TTL: -1}}, kinds: "target"},
		"a job is left at the target":            {is: []capture.Key{hash("mq:q:7", "data", "{}")}, differ: 1},
	} {
		t.Run(name, func(t *testing.T) {
			got := explain(tt.was, tt.is, reason{losses: tt.losses, target: []string{"mq:q:"}})
			var kinds []string
			for _, e := range got.Explained {
				kinds = append(kinds, e.Kind)
			}
			if strings.Join(kinds, " ") != tt.kinds || got.Differing != tt.differ || len(got.Unexplained) != tt.differ {
				t.Errorf("explain = %q and %d differences %+v, want %q and %d", kinds, got.Differing, got.Unexplained, tt.kinds, tt.differ)
			}
			for _, d := range got.Unexplained {
				if strings.Contains(d.Was+d.Is, "{") {
					t.Errorf("%+v shows a value", d)
				}
			}
		})
	}
}

func TestAFormatIsToldFromTheValueAlone(t *testing.T) {
	for value, want := range map[string]string{
		"": "empty", "{}": "object", "[1]": "array", `"x"`: "text in quotes", "12.5": "number", "true": "true, false or null", "on": "text",
		"\xff": "binary", "01": "text",
	} {
		if got := formatOf(value); got != want {
			t.Errorf("formatOf(%q) = %q, want %q", value, got, want)
		}
	}
}

func TestAnApplicationsNamesAreNotShown(t *testing.T) {
	for name, want := range map[string]string{"user:ann": "user", "ann@example.com:1": "", "4711:x": "", "plain": "", "rate_limit:9": "rate_limit"} {
		if got := wordOf(name); got != want {
			t.Errorf("wordOf(%q) = %q, want %q", name, got, want)
		}
	}
}
