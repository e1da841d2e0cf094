package config

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"time"
)

// A Value is one configured value as it may be shown.
type Value struct {
	// Key is its place in the file: cache.default_ttl, queues.list[3].name.
	Key string

	// Value is the value, with secrets masked; empty when it is not set.
	Value string

	// Origin is where it came from.
	Origin Origin
}

// Values are all values in the order of the reference page, map entries by name. Nothing in them is
// secret.
func (c *Config) Values() []Value {
	all := leaves(c)
	values := make([]Value, 0, len(all))
	for _, f := range all {
		values = append(values, Value{Key: f.key, Value: text(f.value), Origin: c.origins[f.key]})
	}
	return values
}

// Origin is where the value of key came from.
func (c *Config) Origin(key string) Origin { return c.origins[key] }

// originNear is the origin of key, or of the nearest section around it that stands in the file.
func (c *Config) originNear(key string) Origin {
	for at := key; at != ""; at = at[:max(0, strings.LastIndexAny(at, ".["))] {
		if o, ok := c.origins[at]; ok {
			return o
		}
	}
	return Origin{}
}

// text is v as it stands in the file, secrets masked.
func text(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return durationText(x)
	case fmt.Stringer: // Secret and URL
		return x.String()
	}
	switch v.Kind() { //nolint:exhaustive // the rest print as they are
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = text(v.Index(i))
		}
		return strings.Join(items, ", ")
	case reflect.Float64:
		return strconv.FormatFloat(v.Float(), 'g', -1, 64)
	default:
		return fmt.Sprint(v.Interface())
	}
}
