package cron

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	robfig "github.com/robfig/cron/v3"
)

// An expression is five cron fields, asked about clock times without a zone: what it is given and what
// it answers are in UTC and mean what a clock on the wall shows.
type expression struct {
	spec *robfig.SpecSchedule

	// steady is whether the minute or the hour begins with *, which decides what happens when clocks
	// are changed.
	steady bool
}

// A field is one of the five, with its limits.
type field struct {
	name     string
	min, max int
	names    string // three letters each, from min on
}

func fields() [5]field {
	return [5]field{
		{"minute", 0, 59, ""},
		{"hour", 0, 23, ""},
		{"day of month", 1, 31, ""},
		{"month", 1, 12, "janfebmaraprmayjunjulaugsepoctnovdec"},
		{"day of week", 0, 7, "sunmontuewedthufrisat"},
	}
}

// maxExpression bounds the text. The longest that says anything lists 60 minutes, 24 hours, 31 days.
const maxExpression = 1000

// parseExpression reads five fields or one of the names that stand for them.
func parseExpression(text string) (expression, error) {
	if len(text) > maxExpression {
		return expression{}, fmt.Errorf("%d bytes long, want at most %d", len(text), maxExpression)
	}
	text = strings.TrimSpace(text)
	if strings.HasPrefix(text, "@") {
		var err error
		if text, err = descriptor(text); err != nil {
			return expression{}, err
		}
	}
	words := strings.Fields(text)
	if len(words) > 0 && strings.Contains(words[0], "=") {
		return expression{}, errors.New("the time zone is a field of its own, not part of the expression")
	}
	if len(words) != 5 {
		return expression{}, fmt.Errorf("got %d fields, want 5: minute, hour, day of month, month, day of week", len(words))
	}
	var errs []error
	steady := strings.ContainsAny(words[0][:1]+words[1][:1], "*?")
	for i, f := range fields() {
		var err error
		if words[i], err = f.read(words[i]); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", f.name, err))
		}
	}
	if len(errs) > 0 {
		return expression{}, errors.Join(errs...)
	}
	parsed, err := robfig.NewParser(robfig.Minute | robfig.Hour | robfig.Dom | robfig.Month | robfig.Dow).
		Parse(strings.Join(words, " "))
	if err != nil {
		return expression{}, err
	}
	spec, ok := parsed.(*robfig.SpecSchedule)
	if !ok {
		return expression{}, fmt.Errorf("the parser answered with a %T", parsed)
	}
	spec.Location = time.UTC
	return expression{spec, steady}, nil
}

func descriptor(text string) (string, error) {
	switch text {
	case "@hourly":
		return "0 * * * *", nil
	case "@daily", "@midnight":
		return "0 0 * * *", nil
	case "@weekly":
		return "0 0 * * 0", nil
	case "@monthly":
		return "0 0 1 * *", nil
	case "@yearly", "@annually":
		return "0 0 1 1 *", nil
	}
	if strings.HasPrefix(text, "@every") {
		return "", errors.New("@every is the field every: a duration such as 90m")
	}
	return "", fmt.Errorf("got %q, want five fields or @hourly, @daily, @weekly, @monthly or @yearly", text)
}

// read checks one field more strictly than the parser does, which takes empty lists, "*-5" and steps
// that never step, and rewrites what the parser does not know: 7 as Sunday.
func (f field) read(text string) (string, error) {
	items := strings.Split(text, ",")
	for i, item := range items {
		var err error
		if items[i], err = f.item(item); err != nil {
			return "", err
		}
	}
	return strings.Join(items, ","), nil
}

func (f field) item(text string) (string, error) {
	span, stepText, stepped := strings.Cut(text, "/")
	step := 1
	if stepped {
		var err error
		if step, err = number(stepText); err != nil || step < 1 || step > f.max-f.min {
			return "", fmt.Errorf("got step %q, want 1 to %d; for longer periods use every", stepText, f.max-f.min)
		}
	}
	if span == "*" || span == "?" {
		return text, nil
	}
	lowText, highText, ranged := strings.Cut(span, "-")
	low, err := f.value(lowText)
	if err != nil {
		return "", err
	}
	high := low
	switch {
	case ranged:
		if high, err = f.value(highText); err != nil {
			return "", err
		}
	case stepped:
		high = f.max
		if f.max == 7 {
			high = 6
		}
	}
	if low > high {
		return "", fmt.Errorf("got %q, which begins after its end", text)
	}
	if f.max != 7 || high != 7 {
		return text, nil
	}
	days := make([]string, 0, 8)
	for day := low; day <= high; day += step {
		days = append(days, strconv.Itoa(day%7))
	}
	return strings.Join(days, ","), nil
}

// value is a number or a name of the field.
func (f field) value(text string) (int, error) {
	if len(text) == 3 && f.names != "" {
		if at := strings.Index(f.names, strings.ToLower(text)); at >= 0 && at%3 == 0 {
			return f.min + at/3, nil
		}
	}
	n, err := number(text)
	if err != nil || n < f.min || n > f.max {
		return 0, fmt.Errorf("got %q, want %d to %d", text, f.min, f.max)
	}
	return n, nil
}

// number reads one or two digits, without the sign that strconv takes.
func number(text string) (int, error) {
	if len(text) < 1 || len(text) > 2 || strings.Trim(text, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.Atoi(text)
}

// next is the first clock time after wall, or zero when there is none within ten years.
func (e expression) next(wall time.Time) time.Time {
	at := e.spec.Next(wall)
	if at.IsZero() {
		// The parser's schedule looks five years ahead; 29 February can be eight years away.
		at = e.spec.Next(wall.AddDate(5, 0, 0))
	}
	return at
}
