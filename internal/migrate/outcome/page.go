package outcome

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// pageSamples is the most samples of a page that are kept.
const pageSamples = 200_000

// A sample is one line of a metrics page.
type sample struct {
	name   string
	labels map[string]string
	value  float64
}

// parsePage reads the text format of Prometheus, also with OpenMetrics' additions. Lines that are none are left out:
// a page is somebody else's.
func parsePage(text string) []sample {
	var out []sample
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, labels, rest, err := parseSeries(line)
		if err != nil {
			continue
		}
		fields := strings.Fields(rest)
		if len(fields) == 0 {
			continue
		}
		value, err := strconv.ParseFloat(fields[0], 64)
		if err != nil || math.IsNaN(value) {
			continue
		}
		if out = append(out, sample{name, labels, value}); len(out) == pageSamples {
			break
		}
	}
	return out
}

// parseSeries reads name{label="value",…} and returns what follows.
func parseSeries(text string) (name string, labels map[string]string, rest string, err error) {
	end := strings.IndexAny(text, "{ \t")
	if end < 0 {
		end = len(text)
	}
	name, rest = text[:end], text[end:]
	if name == "" || strings.ContainsAny(name, `"=},`) {
		return "", nil, "", fmt.Errorf("got %q, want the name of a series", text)
	}
	labels = map[string]string{}
	if !strings.HasPrefix(rest, "{") {
		return name, labels, rest, nil
	}
	rest = rest[1:]
	for {
		rest = strings.TrimLeft(rest, " ,\t")
		if strings.HasPrefix(rest, "}") {
			return name, labels, rest[1:], nil
		}
		label, after, ok := strings.Cut(rest, "=")
		if !ok {
			return "", nil, "", errors.New("labels without an end")
		}
		after = strings.TrimLeft(after, " \t")
		value, left, err := quoted(after)
		if err != nil {
			return "", nil, "", err
		}
		labels[strings.TrimSpace(label)], rest = value, left
	}
}

// quoted reads a text in double quotes, in which a backslash keeps what follows.
func quoted(text string) (value, rest string, err error) {
	if !strings.HasPrefix(text, `"`) {
		return "", "", fmt.Errorf("got %q, want a label's value in quotes", text)
	}
	var b strings.Builder
	for i := 1; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			return b.String(), text[i+1:], nil
		case c == '\\' && i+1 < len(text):
			i++
			if text[i] == 'n' {
				b.WriteByte('\n')
			} else {
				b.WriteByte(text[i])
			}
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("a label's value without an end")
}

// A selector chooses series by name and by the labels that it names.
type selector struct {
	name   string
	labels map[string]string
	text   string // as it was written
}

func (s selector) String() string { return s.text }

func parseSelector(text string) (selector, error) {
	name, labels, rest, err := parseSeries(strings.TrimSpace(text))
	if err != nil {
		return selector{}, err
	}
	if strings.TrimSpace(rest) != "" {
		return selector{}, fmt.Errorf("got %q after the series", strings.TrimSpace(rest))
	}
	return selector{name, labels, text}, nil
}

// has is true when x is called name and has the selector's labels.
func (s selector) has(x sample, name string) bool {
	if x.name != name {
		return false
	}
	for label, value := range s.labels {
		if x.labels[label] != value {
			return false
		}
	}
	return true
}

// sum adds all series that s chooses.
func (s selector) sum(all []sample) (float64, bool) {
	sum, found := 0.0, false
	for _, x := range all {
		if s.has(x, s.name) {
			sum, found = sum+x.value, true
		}
	}
	return sum, found
}

// largest is the largest of the series that s chooses; of a summary that is asked for without a quantile, the
// one of 0.95.
func (s selector) largest(all []sample) (float64, bool) {
	most, found := 0.0, false
	for _, x := range all {
		if !s.has(x, s.name) || x.labels["quantile"] != "" && s.labels["quantile"] == "" && x.labels["quantile"] != "0.95" {
			continue
		}
		most, found = max(most, x.value), true
	}
	return most, found
}

// buckets are the cumulative counts of the histogram s by upper bound, none when it is no histogram.
func (s selector) buckets(all []sample) map[float64]float64 {
	out := map[float64]float64{}
	for _, x := range all {
		if !s.has(x, s.name+"_bucket") {
			continue
		}
		if bound, err := strconv.ParseFloat(x.labels["le"], 64); err == nil {
			out[bound] += x.value
		}
	}
	return out
}

// found is true when the page has s in any form.
func (s selector) found(all []sample) bool {
	_, plain := s.largest(all)
	return plain || len(s.buckets(all)) > 0
}
