package config

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A leaf is one value that can be set, with its key and the tags of its field.
type leaf struct {
	key   string
	value reflect.Value
	tag   reflect.StructTag
}

// leaves are all leaves of c in the order of the struct, map entries by name. Those inside maps
// cannot be set.
func leaves(c *Config) []leaf {
	return appendLeaves(nil, "", reflect.ValueOf(c).Elem(), "")
}

func appendLeaves(all []leaf, key string, v reflect.Value, tag reflect.StructTag) []leaf {
	switch v.Kind() { //nolint:exhaustive // the kinds that hold others; the rest are leaves
	case reflect.Struct:
		for _, f := range fields(v.Type()) {
			all = appendLeaves(all, join(key, f.name), v.Field(f.index), f.tag)
		}
	case reflect.Map:
		for _, name := range slices.Sorted(maps.Keys(mapKeys(v))) {
			all = appendLeaves(all, join(key, name), v.MapIndex(reflect.ValueOf(name)), tag)
		}
	case reflect.Slice:
		if v.Type().Elem().Kind() != reflect.Struct {
			return append(all, leaf{key, v, tag})
		}
		for i := range v.Len() {
			all = appendLeaves(all, fmt.Sprintf("%s[%d]", key, i), v.Index(i), tag)
		}
	default:
		all = append(all, leaf{key, v, tag})
	}
	return all
}

func mapKeys(v reflect.Value) map[string]struct{} {
	keys := make(map[string]struct{}, v.Len())
	for _, k := range v.MapKeys() {
		keys[k.String()] = struct{}{}
	}
	return keys
}

// A field is one field of a struct that the file can name.
type field struct {
	name  string
	index int
	tag   reflect.StructTag
}

func fields(t reflect.Type) []field {
	var all []field
	for i := range t.NumField() {
		f := t.Field(i)
		if name := f.Tag.Get("yaml"); name != "" {
			all = append(all, field{name, i, f.Tag})
		}
	}
	return all
}

func names(fs []field) []string {
	all := make([]string, len(fs))
	for i, f := range fs {
		all[i] = f.name
	}
	return all
}

func join(key, name string) string {
	if key == "" {
		return name
	}
	return key + "." + name
}

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[Secret]()
	urlType      = reflect.TypeFor[URL]()
)

// set parses text into v under the limits that tag names. Its errors do not hold text when v is a
// secret, and do not name the key.
func set(v reflect.Value, text string, tag reflect.StructTag) error {
	switch {
	case v.Type() == durationType:
		return setDuration(v, text, tag)
	case v.Type() == secretType:
		v.SetString(text)
		return quoted(text)
	case v.Type() == urlType:
		text = strings.TrimSpace(text)
		v.SetString(text)
		return quoted(text)
	}
	switch v.Kind() { //nolint:exhaustive // the kinds in Config
	case reflect.String:
		text = strings.TrimSpace(text)
		v.SetString(text)
		return checkString(text, limits(tag))
	case reflect.Bool:
		b, err := parseBool(text)
		v.SetBool(b)
		return err
	case reflect.Int, reflect.Int64:
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return fmt.Errorf("got %s, want a whole number", quote(text))
		}
		v.SetInt(n)
		return checkNumber(float64(n), limits(tag))
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("got %s, want a number", quote(text))
		}
		v.SetFloat(f)
		return checkNumber(f, limits(tag))
	case reflect.Slice: // of texts, separated by commas
		var list []string
		for part := range strings.SplitSeq(text, ",") {
			if part = strings.TrimSpace(part); part != "" {
				list = append(list, part)
			}
		}
		v.Set(reflect.ValueOf(list))
		return nil
	default:
		return fmt.Errorf("a value of kind %s cannot be set from text", v.Kind())
	}
}

// quoted refuses a value with quotation marks around it. Shells drop them, but the env files of
// containers keep them, and the server then refuses the credentials.
func quoted(text string) error {
	if n := len(text); n >= 2 && (text[0] == '"' || text[0] == '\'') && text[n-1] == text[0] {
		return fmt.Errorf("the value has quotation marks (%c) around it, which are taken literally here; remove them", text[0])
	}
	return nil
}

func setDuration(v reflect.Value, text string, tag reflect.StructTag) error {
	d, err := time.ParseDuration(strings.TrimSpace(text))
	if err != nil {
		if _, numeric := strconv.ParseFloat(text, 64); numeric == nil {
			return fmt.Errorf("got %s without a unit; write %[1]ss for seconds or %[1]sms for milliseconds", printable(text))
		}
		return fmt.Errorf("got %s, want a duration such as 1h30m, 300s or 50ms", quote(text))
	}
	v.SetInt(int64(d))
	if low, err := time.ParseDuration(tag.Get("min")); err == nil && d < low {
		return fmt.Errorf("got %s, want at least %s", durationText(d), durationText(low))
	}
	if high, err := time.ParseDuration(tag.Get("max")); err == nil && d > high {
		return fmt.Errorf("got %s, want at most %s", durationText(d), durationText(high))
	}
	return nil
}

func parseBool(text string) (bool, error) {
	switch strings.ToLower(strings.TrimSpace(text)) {
	case "true", "1", "yes", "on":
		return true, nil
	case "false", "0", "no", "off":
		return false, nil
	default:
		return false, fmt.Errorf("got %s, want true or false", quote(text))
	}
}

// A limit is one rule of a jsonschema tag, such as minimum=1. The same tag makes the schema, so the
// two cannot differ.
type limit struct{ rule, value string }

func limits(tag reflect.StructTag) []limit {
	var all []limit
	for part := range strings.SplitSeq(tag.Get("jsonschema"), ",") {
		if rule, value, ok := strings.Cut(part, "="); ok {
			all = append(all, limit{rule, value})
		}
	}
	return all
}

func checkNumber(n float64, ls []limit) error {
	var errs []error
	for _, l := range ls {
		bound, err := strconv.ParseFloat(l.value, 64)
		if err != nil {
			continue
		}
		switch {
		case l.rule == "minimum" && n < bound:
			errs = append(errs, fmt.Errorf("got %v, want at least %s", n, l.value))
		case l.rule == "exclusiveMinimum" && n <= bound:
			errs = append(errs, fmt.Errorf("got %v, want more than %s", n, l.value))
		case l.rule == "maximum" && n > bound:
			errs = append(errs, fmt.Errorf("got %v, want at most %s", n, l.value))
		}
	}
	return errors.Join(errs...)
}

func checkString(text string, ls []limit) error {
	var choices []string
	for _, l := range ls {
		switch l.rule {
		case "enum":
			choices = append(choices, l.value)
		case "minLength":
			if text == "" {
				return errors.New("is empty")
			}
		case "pattern":
			if ok, err := regexp.MatchString(l.value, text); err == nil && !ok {
				return fmt.Errorf("got %s, want the form %s", quote(text), l.value)
			}
		}
	}
	if len(choices) > 0 && !slices.Contains(choices, text) {
		return fmt.Errorf("got %s, want %s", quote(text), oneOf(choices))
	}
	return nil
}

func oneOf(choices []string) string {
	if len(choices) == 1 {
		return choices[0]
	}
	last := len(choices) - 1
	return strings.Join(choices[:last], ", ") + " or " + choices[last]
}

// durationText is d as people write it: 1h rather than 1h0m0s.
func durationText(d time.Duration) string {
	s := d.String()
	if d == 0 {
		return "0s"
	}
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
