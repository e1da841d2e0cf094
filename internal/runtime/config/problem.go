package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// A Problem is one thing that is wrong with the configuration, or worth a warning. Its text never
// holds a secret.
type Problem struct { //nolint:errname // it is also a warning, which is no error
	// Key is the key it is about, such as cache.max_ttl; empty when the whole file is meant.
	Key string

	// Origin is where the wrong value was set; its zero value means that nothing was set.
	Origin Origin

	// Message is what is wrong and what to do about it, without the place.
	Message string
}

// Error is the place and what is wrong there: "redisopt.yaml:3:7: cache.max_ttl: …".
func (p *Problem) Error() string {
	var b strings.Builder
	if where := p.Origin.place(); where != "" {
		b.WriteString(where + ": ")
	}
	if p.Key != "" {
		b.WriteString(p.Key + ": ")
	}
	b.WriteString(p.Message)
	return b.String()
}

// Problems are all problems in err, in the order in which they were found; none when err has none.
func Problems(err error) []*Problem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Problem
		for _, e := range joined.Unwrap() {
			all = append(all, Problems(e)...)
		}
		return all
	}
	if p, ok := errors.AsType[*Problem](err); ok {
		return []*Problem{p}
	}
	return nil
}

// joined is all problems as one error, or nil. Those in the file come first, by line.
func joined(problems []*Problem) error {
	slices.SortStableFunc(problems, func(a, b *Problem) int {
		if a.Origin.Line == 0 || b.Origin.Line == 0 {
			return min(1, b.Origin.Line) - min(1, a.Origin.Line)
		}
		if a.Origin.Line != b.Origin.Line {
			return a.Origin.Line - b.Origin.Line
		}
		return a.Origin.Column - b.Origin.Column
	})
	errs := make([]error, len(problems))
	for i, p := range problems {
		errs[i] = p
	}
	return errors.Join(errs...)
}

// suggest is the known name that was probably meant by got, or "".
func suggest(got string, known []string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
	}
	best, distance := "", max(2, len(got)/3)+1
	for _, name := range known {
		if d := editDistance(plain(got), plain(name)); d < distance {
			best, distance = name, d
		}
	}
	return best
}

// editDistance is how many letters must be inserted, removed or replaced to make b of a. Names
// longer than 64 bytes are nobody's typing error.
func editDistance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}

func meant(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf("; did you mean %s?", name)
}
