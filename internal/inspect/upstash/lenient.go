package upstash

import (
	"bytes"
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"time"
)

// absurd is more than anything that can be counted here, and keeps sums finite.
const absurd = 1e30

// A number is a JSON number, or one in a string. Null, and what is no number, is not known.
type number struct {
	value float64
	known bool
}

// UnmarshalJSON takes anything: one odd field must not hide the others.
func (n *number) UnmarshalJSON(raw []byte) error {
	*n = number{}
	s := strings.TrimSpace(string(raw))
	if len(s) > 1 && s[0] == '"' {
		var inner text
		_ = inner.UnmarshalJSON(raw) // which takes anything
		s = strings.TrimSpace(string(inner))
	}
	v, err := strconv.ParseFloat(s, 64)
	if err == nil && math.Abs(v) < absurd { // not a number, and infinite, are not less
		*n = number{v, true}
	}
	return nil
}

// pointer is nil for what is not known.
func (n number) pointer() *float64 {
	if !n.known {
		return nil
	}
	return &n.value
}

// A flag is true, false, or one of them in a string.
type flag bool

// UnmarshalJSON takes anything; what is not true is false.
func (f *flag) UnmarshalJSON(text []byte) error {
	*f = flag(strings.EqualFold(strings.Trim(string(text), `" `), "true"))
	return nil
}

// A text is a string; anything else is empty.
type text string

// UnmarshalJSON takes anything.
func (t *text) UnmarshalJSON(raw []byte) error {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		s = ""
	}
	*t = text(s)
	return nil
}

// A list is an array of T whose odd elements are left out. Null, or anything else, is empty.
type list[T any] []T

// UnmarshalJSON takes anything.
func (l *list[T]) UnmarshalJSON(raw []byte) error {
	*l = nil
	var all []json.RawMessage
	_ = json.Unmarshal(raw, &all) // of what is no list nothing is kept
	for _, one := range all {
		var v T
		if bytes.Equal(bytes.TrimSpace(one), []byte("null")) || json.Unmarshal(one, &v) != nil {
			continue
		}
		*l = append(*l, v)
	}
	return nil
}

// A Point is one value of a series.
type Point struct {
	At    time.Time
	Value float64
}

// A Series is values in the order of the API, those without a time or a value left out.
type Series []Point

// UnmarshalJSON reads [{"x": time, "y": number}, …] leniently.
func (s *Series) UnmarshalJSON(raw []byte) error {
	*s = nil
	var all list[struct {
		X text   `json:"x"`
		Y number `json:"y"`
	}]
	if err := all.UnmarshalJSON(raw); err != nil {
		return err
	}
	for _, p := range all {
		if at, ok := parseTime(string(p.X)); ok && p.Y.known {
			*s = append(*s, Point{at, p.Y.value})
		}
	}
	return nil
}

// Max is the largest value, and whether there is one.
func (s Series) Max() (float64, bool) {
	if len(s) == 0 {
		return 0, false
	}
	most := s[0].Value
	for _, p := range s {
		most = max(most, p.Value)
	}
	return most, true
}

// parseTime reads the layout of Go's time.String, with any number of digits in the fraction and without
// the monotonic clock, and RFC 3339.
func parseTime(s string) (time.Time, bool) {
	s, _, _ = strings.Cut(strings.TrimSpace(s), " m=")
	// A fraction behind the seconds is parsed although the layout has none.
	for _, layout := range []string{"2006-01-02 15:04:05 -0700 MST", "2006-01-02 15:04:05 -0700", time.RFC3339, "2006-01-02 15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.UTC(), true
		}
	}
	return time.Time{}, false
}
