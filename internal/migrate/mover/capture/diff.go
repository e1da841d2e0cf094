package capture

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A Difference is one key, or one field of one hash, that differs between two dumps.
type Difference struct {
	// Key is the key's name, and Field the hash's field; Field is empty when the whole key differs.
	Key, Field string

	// Was and Is are the two values as text; a missing one is the empty string.
	Was, Is string
}

// String is the difference on one line.
func (d Difference) String() string {
	name := d.Key
	if d.Field != "" {
		name += "." + d.Field
	}
	return fmt.Sprintf("%s: %s -> %s", name, orNothing(d.Was), orNothing(d.Is))
}

func orNothing(s string) string {
	if s == "" {
		return "(nothing)"
	}
	return s
}

// Compare lists what differs between two dumps, sorted by key. It compares names, types and content,
// and of the TTL only whether there is one, since a remaining time is different whenever it is read.
func Compare(was, is []Key) []Difference {
	before, after := byName(was), byName(is)
	names := make([]string, 0, len(before)+len(after))
	for name := range before {
		names = append(names, name)
	}
	for name := range after {
		if _, both := before[name]; !both {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	diffs := []Difference{}
	for _, name := range names {
		a, hadA := before[name]
		b, hadB := after[name]
		switch {
		case !hadA:
			diffs = append(diffs, Difference{Key: name, Is: text(b)})
		case !hadB:
			diffs = append(diffs, Difference{Key: name, Was: text(a)})
		default:
			diffs = append(diffs, compareKey(a, b)...)
		}
	}
	return diffs
}

func compareKey(a, b Key) []Difference {
	if (a.TTL > 0) != (b.TTL > 0) {
		return []Difference{{Key: a.Name, Field: "ttl", Was: a.TTL.String(), Is: b.TTL.String()}}
	}
	if a.Type == b.Type && reflect.DeepEqual(a.Value, b.Value) {
		return nil
	}
	was, isHash := a.Value.(map[string]string)
	is, alsoHash := b.Value.(map[string]string)
	if !isHash || !alsoHash {
		return []Difference{{Key: a.Name, Was: text(a), Is: text(b)}}
	}
	var diffs []Difference
	for _, field := range unionFields(was, is) {
		if v, ok := was[field]; ok != has(is, field) || v != is[field] {
			diffs = append(diffs, Difference{Key: a.Name, Field: field, Was: v, Is: is[field]})
		}
	}
	return diffs
}

func has(m map[string]string, field string) bool {
	_, ok := m[field]
	return ok
}

func unionFields(a, b map[string]string) []string {
	fields := sortedFields(a)
	for field := range b {
		if !has(a, field) {
			fields = append(fields, field)
		}
	}
	slices.Sort(fields)
	return fields
}

func sortedFields(m map[string]string) []string {
	fields := make([]string, 0, len(m))
	for field := range m {
		fields = append(fields, field)
	}
	slices.Sort(fields)
	return fields
}

func byName(keys []Key) map[string]Key {
	m := make(map[string]Key, len(keys))
	for _, k := range keys {
		m[k.Name] = k
	}
	return m
}

func text(k Key) string {
	switch v := k.Value.(type) {
	case string:
		return strconv.Quote(v)
	case map[string]string:
		parts := make([]string, 0, len(v))
		for _, field := range sortedFields(v) {
			parts = append(parts, field+"="+v[field])
		}
		return "{" + strings.Join(parts, " ") + "}"
	case []redis.XMessage:
		return fmt.Sprintf("stream of %d", len(v))
	default:
		return fmt.Sprint(v)
	}
}

func anys(list []string) []any {
	out := make([]any, len(list))
	for i, s := range list {
		out[i] = s
	}
	return out
}

// formatScore writes a score as Redis does for the integers queues use: no exponent.
func formatScore(score float64) string { return strconv.FormatFloat(score, 'f', -1, 64) }
