package gate

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// amount is n with separators of thousands, and decimals where it is small and broken.
func amount(n float64) string {
	switch {
	case math.IsInf(n, 0):
		return "any number"
	case n != math.Trunc(n) && math.Abs(n) < 100:
		return strings.TrimSuffix(strconv.FormatFloat(n, 'f', 2, 64), ".00")
	}
	digits := strconv.FormatFloat(math.Abs(math.Round(n)), 'f', 0, 64)
	var out strings.Builder
	if n <= -0.5 {
		out.WriteByte('-')
	}
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			out.WriteByte(',')
		}
		out.WriteRune(d)
	}
	return out.String()
}

// text is "33", "12 to 33" or "12 or more".
func (s Span) text() string {
	switch {
	case s.Open:
		return amount(s.Min) + " or more"
	case s.Exact():
		return amount(s.Min)
	}
	return amount(s.Min) + " to " + amount(s.Max)
}

// plural is n of a unit: "1 connection", "33 connections".
func plural(s Span, unit string) string {
	if s.Exact() && s.Min == 1 {
		return "1 " + unit
	}
	head, rest, _ := strings.Cut(unit, " ")
	if rest != "" {
		rest = " " + rest
	}
	return s.text() + " " + head + "s" + rest
}

// signed is "2 more", "3 fewer" or "as many".
func signed(d Span) string {
	switch {
	case d.Exact() && d.Min == 0:
		return "as many as"
	case d.Exact() && d.Min < 0:
		return amount(-d.Min) + " fewer than"
	case d.Min >= 0:
		return d.text() + " more than"
	}
	return "between " + bound(d.Min) + " and " + bound(d.most()) + " more than"
}

func bound(n float64) string { return amount(n) }

// percent is d of base, false where base is nothing or not one number.
func percent(d, base Span) (float64, bool) {
	if !base.Exact() || !d.Exact() || base.Min == 0 {
		return 0, false
	}
	return 100 * d.Min / base.Min, true
}

// against is what a judgement says of the baseline; empty without one.
func (j Judgement) against(source string) string {
	if j.Baseline == nil || j.Increase == nil {
		return ""
	}
	out := fmt.Sprintf(", %s %s (%s", signed(*j.Increase), source, j.Baseline.text())
	if p := j.IncreasePercent; p != nil && *p != 0 {
		out += fmt.Sprintf(", %+.1f%%", *p)
	}
	return out + ")"
}
