package bench

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// An Assertion is one promise about a result: a percentile, or a share of the operations.
type Assertion struct {
	// Scenario is the scenario it is about, by name or by its first word; empty means every one.
	Scenario string

	// Metric is what is compared: a percentile (p50, p95, p99.9), mean, max, errors, limited (shares from
	// 0 to 1), rate (operations a second) or commands (commands for each operation).
	Metric string

	// AtMost is true for < and <=, false for > and >=; Strict for < and >.
	AtMost, Strict bool

	// Limit is what Metric is compared with: nanoseconds, a share, a rate or a number of commands.
	Limit float64
}

// assertionText is [SCENARIO.]METRIC OP VALUE.
var assertionText = regexp.MustCompile(`^(?:([a-z][a-z0-9-]*)\.)?(p[0-9]+(?:\.[0-9]+)?|mean|max|errors|limited|rate|commands)\s*(<=|>=|<|>)\s*(\S+)$`)

// ParseAssertion reads "p99<200ms", "cache.p95<=100ms", "errors<0.1%", "rate>=500", "commands<=4".
func ParseAssertion(text string) (Assertion, error) {
	m := assertionText.FindStringSubmatch(strings.TrimSpace(text))
	if m == nil {
		return Assertion{}, fmt.Errorf("assertion %q: want [SCENARIO.]METRIC and a limit, such as p99<200ms, cache.p95<100ms, errors<0.1%%, rate>=50 or commands<=4", text)
	}
	a := Assertion{Scenario: m[1], Metric: m[2], AtMost: m[3][0] == '<', Strict: len(m[3]) == 1}
	var err error
	switch a.unit() {
	case unitDuration:
		var d time.Duration
		if d, err = time.ParseDuration(m[4]); err == nil && d <= 0 {
			err = errors.New("want more than 0s")
		}
		a.Limit = float64(d)
	case unitShare:
		number, percent := strings.CutSuffix(m[4], "%")
		if a.Limit, err = strconv.ParseFloat(number, 64); percent {
			a.Limit /= 100
		}
		if err == nil && !(a.Limit >= 0 && a.Limit <= 1) {
			err = errors.New("want a share from 0% to 100%")
		}
	case unitNumber:
		if a.Limit, err = strconv.ParseFloat(m[4], 64); err == nil && !(a.Limit >= 0 && a.Limit < 1e12) {
			err = errors.New("want 0 or more")
		}
	}
	if err != nil {
		return Assertion{}, fmt.Errorf("assertion %q: limit %s: %w", text, m[4], err)
	}
	if p, ok := a.percentile(); ok && !(p > 0 && p < 1) {
		return Assertion{}, fmt.Errorf("assertion %q: %s is no percentile, want more than p0 and less than p100", text, a.Metric)
	}
	return a, nil
}

type unit int

const (
	unitDuration unit = iota
	unitShare
	unitNumber
)

func (a Assertion) unit() unit {
	switch a.Metric {
	case "errors", "limited":
		return unitShare
	case "rate", "commands":
		return unitNumber
	}
	return unitDuration
}

// percentile is the share of a percentile.
func (a Assertion) percentile() (float64, bool) {
	number, ok := strings.CutPrefix(a.Metric, "p")
	if !ok {
		return 0, false
	}
	p, err := strconv.ParseFloat(number, 64)
	return p / 100, err == nil
}

// About is whether a is about the scenario of that name: "cache" is about "cache-get" too.
func (a Assertion) About(scenario string) bool {
	first, _, _ := strings.Cut(scenario, "-")
	return a.Scenario == "" || a.Scenario == scenario || a.Scenario == first
}

// String is a as ParseAssertion reads it.
func (a Assertion) String() string {
	text := a.Metric
	if a.Scenario != "" {
		text = a.Scenario + "." + text
	}
	switch {
	case a.AtMost && a.Strict:
		text += "<"
	case a.AtMost:
		text += "<="
	case a.Strict:
		text += ">"
	default:
		text += ">="
	}
	return text + a.Show(a.Limit)
}

// Show is value in the metric's unit, as people write it.
func (a Assertion) Show(value float64) string {
	switch a.unit() {
	case unitDuration:
		d := time.Duration(value)
		for _, round := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
			if d >= round {
				return d.Round(round / 100).String()
			}
		}
		return d.String()
	case unitShare:
		return strconv.FormatFloat(value*100, 'g', 4, 64) + "%"
	case unitNumber:
	}
	return strconv.FormatFloat(value, 'g', 4, 64)
}

// holds is whether value is within the limit.
func (a Assertion) holds(value float64) bool {
	switch {
	case a.AtMost && a.Strict:
		return value < a.Limit
	case a.AtMost:
		return value <= a.Limit
	case a.Strict:
		return value > a.Limit
	}
	return value >= a.Limit
}
