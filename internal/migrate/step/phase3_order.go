package step

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// safestFirst are the queues of the design in the order in which it moves them: those that users would miss
// first come last.
func safestFirst() []string {
	return []string{
		"webhook-health-check", "notification-reminder", "token-health-reminder", "adaptive-sync", "webhook-renewal",
		"suggestion-regeneration", "batch-notifications", "suggestion-generation", "token-refresh", "calendar-sync",
		"google-contacts-sync",
	}
}

// OrderQueues sorts names into the order in which they are moved: first those of first, as they are there, then
// those that have a place in the configuration (places, from 1), then those of the design in its own order, then
// the others by name. A name in first that is not among names, or is there twice, is an error.
func OrderQueues(names []string, places map[string]int, first []string) ([]string, error) {
	for i, name := range first {
		switch {
		case !slices.Contains(names, name):
			return nil, fmt.Errorf("queue order: there is no queue %q to move", name)
		case slices.Contains(first[:i], name):
			return nil, fmt.Errorf("queue order: queue %q is there twice", name)
		}
	}
	design := safestFirst()
	rank := func(name string) (group, place int) {
		if i := slices.Index(first, name); i >= 0 {
			return 0, i
		}
		if places[name] > 0 {
			return 1, places[name]
		}
		if i := slices.Index(design, name); i >= 0 {
			return 2, i
		}
		return 3, 0
	}
	out := slices.Clone(names)
	slices.SortFunc(out, func(a, b string) int {
		ga, pa := rank(a)
		gb, pb := rank(b)
		return cmp.Or(cmp.Compare(ga, gb), cmp.Compare(pa, pb), strings.Compare(a, b))
	})
	return slices.Compact(out), nil
}
