package config

import (
	"maps"
	"reflect"
	"slices"
)

// A Change is one value that differs between two configurations, as it may be shown.
type Change struct {
	Key string

	// Old and New are the values with secrets masked, so that a secret that was replaced shows the
	// same mask twice; empty where the key was not, or is not any more, set.
	Old, New string
}

// Diff is what differs in next, by key in the order of the reference page, what next lacks last.
func (c *Config) Diff(next *Config) []Change {
	before := map[string]reflect.Value{}
	for _, l := range leaves(c) {
		before[l.key] = l.value
	}
	var all []Change
	for _, l := range leaves(next) {
		old, known := before[l.key]
		delete(before, l.key)
		switch {
		case !known:
			if shown := text(l.value); shown != "" {
				all = append(all, Change{Key: l.key, New: shown})
			}
		case !reflect.DeepEqual(old.Interface(), l.value.Interface()) && !bothEmpty(old, l.value):
			all = append(all, Change{Key: l.key, Old: text(old), New: text(l.value)})
		}
	}
	for _, key := range slices.Sorted(maps.Keys(before)) {
		if shown := text(before[key]); shown != "" {
			all = append(all, Change{Key: key, Old: shown})
		}
	}
	return all
}

// bothEmpty is whether two lists have nothing in them, be they nil or not.
func bothEmpty(a, b reflect.Value) bool {
	return a.Kind() == reflect.Slice && b.Kind() == reflect.Slice && a.Len() == 0 && b.Len() == 0
}
