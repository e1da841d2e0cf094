// Package simulate replays requests against every way to limit them, without a Redis: how many each
// admits, how far over the limit the worst window is, how many legal requests it denies, and what it is
// billed. It has the sequence of four separate commands that many applications use, as "legacy", so that
// its faults can be seen beside.
package simulate

import (
	"bufio"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"time"
)

// An Event is one request of a trace.
type Event struct {
	At   int64  // microseconds since 1970, or since the trace began
	Key  string // who asks
	Cost int64  // 1 or more
}

// MaxEvents is the most requests of one trace.
const MaxEvents = 5_000_000

// Read reads a trace of lines: CSV "time,key[,cost]" with or without a line of names, or one JSON object a
// line with time, key and cost. A time is seconds, with a fraction if needed, or RFC 3339. The events
// are sorted by time.
func Read(r io.Reader) ([]Event, error) {
	in := bufio.NewReader(r)
	first, err := in.Peek(1)
	for err == nil && strings.ContainsRune(" \t\r\n", rune(first[0])) {
		_, _ = in.Discard(1)
		first, err = in.Peek(1)
	}
	if errors.Is(err, io.EOF) {
		return nil, errors.New("the trace is empty")
	}
	if err != nil {
		return nil, err
	}
	var events []Event
	if first[0] == '{' {
		events, err = readJSON(in)
	} else {
		events, err = readCSV(in)
	}
	if err != nil {
		return nil, err
	}
	if len(events) == 0 {
		return nil, errors.New("the trace is empty")
	}
	return Sorted(events), nil
}

// Sorted sorts events by time, in place; those of one time keep their order.
func Sorted(events []Event) []Event {
	slices.SortStableFunc(events, func(a, b Event) int { return cmp.Compare(a.At, b.At) })
	return events
}

func readCSV(r io.Reader) ([]Event, error) {
	lines := csv.NewReader(r)
	lines.FieldsPerRecord = -1
	lines.TrimLeadingSpace = true
	lines.Comment = '#'
	lines.ReuseRecord = true
	var events []Event
	for {
		fields, err := lines.Read()
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, err
		}
		line, _ := lines.FieldPos(0)
		if line == 1 && len(fields) > 1 && fields[0] == "time" {
			continue
		}
		if len(fields) < 2 || len(fields) > 3 {
			return nil, fmt.Errorf("line %d: got %d fields, want time,key[,cost]", line, len(fields))
		}
		cost := "1"
		if len(fields) == 3 {
			cost = fields[2]
		}
		e, err := event(fields[0], fields[1], cost)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		if events = append(events, e); len(events) > MaxEvents {
			return nil, fmt.Errorf("line %d: more than %d requests", line, MaxEvents)
		}
	}
}

func readJSON(r io.Reader) ([]Event, error) {
	var events []Event
	dec := json.NewDecoder(r)
	for n := 1; ; n++ {
		var in struct {
			Time json.RawMessage `json:"time"`
			Key  string          `json:"key"`
			Cost *json.Number    `json:"cost"`
		}
		err := dec.Decode(&in)
		if errors.Is(err, io.EOF) {
			return events, nil
		}
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", n, err)
		}
		cost := "1"
		if in.Cost != nil {
			cost = in.Cost.String()
		}
		e, err := event(strings.Trim(string(in.Time), `"`), in.Key, cost)
		if err != nil {
			return nil, fmt.Errorf("object %d: %w", n, err)
		}
		if events = append(events, e); len(events) > MaxEvents {
			return nil, fmt.Errorf("object %d: more than %d requests", n, MaxEvents)
		}
	}
}

// latest is the last time that a trace may have: the year 2200.
const latest = 7_258_118_400

func event(at, key, cost string) (Event, error) {
	e := Event{Key: strings.Clone(key)}
	if key == "" {
		return e, errors.New("key: got none")
	}
	if seconds, err := strconv.ParseFloat(at, 64); err == nil {
		if !(seconds >= 0 && seconds < latest) {
			return e, fmt.Errorf("time: got %s, want seconds from 0 to %d", at, latest)
		}
		e.At = int64(math.Round(seconds * 1e6))
	} else if t, err := time.Parse(time.RFC3339, at); err == nil && t.Year() >= 1970 && t.Year() < 2200 {
		e.At = t.UnixMicro()
	} else {
		return e, fmt.Errorf("time: got %q, want seconds or RFC 3339", at)
	}
	n, err := strconv.ParseInt(cost, 10, 64)
	if err != nil || n < 1 {
		return e, fmt.Errorf("cost: got %q, want 1 or more", cost)
	}
	e.Cost = n
	return e, nil
}

// A Shape is how the requests of a made up trace are spread.
type Shape string

// The shapes.
const (
	Steady  Shape = "rate"    // at equal distances
	Poisson Shape = "poisson" // independent of each other
	Burst   Shape = "burst"   // all requests of a period at its beginning
)

// A Generator makes a trace up.
type Generator struct {
	// Shape is how requests are spread. Default Steady.
	Shape Shape

	// Rate is how many requests come in each Per. Required; Per defaults to 1 minute.
	Rate float64
	Per  time.Duration

	// For is how long the trace is. Default 1 hour.
	For time.Duration

	// Keys is how many subjects share the requests, in turn. Default 1.
	Keys int

	// Seed makes a random trace the same again. Default 0.
	Seed uint64
}

// Events makes the trace. It reports all problems.
func (g Generator) Events() ([]Event, error) {
	if g.Shape == "" {
		g.Shape = Steady
	}
	if g.Per == 0 {
		g.Per = time.Minute
	}
	if g.For == 0 {
		g.For = time.Hour
	}
	if g.Keys == 0 {
		g.Keys = 1
	}
	if err := g.validate(); err != nil {
		return nil, err
	}
	rng := rand.New(rand.NewPCG(g.Seed, 0))
	step := float64(g.Per.Microseconds()) / g.Rate
	end := float64(g.For.Microseconds())
	var events []Event
	add := func(at float64) {
		events = append(events, Event{At: int64(at), Key: "key" + strconv.Itoa(len(events)%g.Keys), Cost: 1})
	}
	switch g.Shape {
	case Steady:
		// Whole milliseconds, as the clock of an application has them.
		step = max(1000, math.Floor(step/1000)*1000)
		for at := 0.0; at < end; at += step {
			add(at)
		}
	case Poisson:
		for at := rng.ExpFloat64() * step; at < end; at += rng.ExpFloat64() * step {
			add(at)
		}
	case Burst:
		for at := 0.0; at < end; at += float64(g.Per.Microseconds()) {
			for range int(g.Rate) {
				add(at)
			}
		}
	}
	return events, nil
}

func (g Generator) validate() error {
	var errs []error
	switch g.Shape {
	case Steady, Poisson, Burst:
	default:
		errs = append(errs, fmt.Errorf("shape: got %q, want rate, poisson or burst", g.Shape))
	}
	if !(g.Rate > 0 && g.Rate <= 1e9) {
		errs = append(errs, fmt.Errorf("rate: got %v, want more than 0", g.Rate))
	}
	if g.Shape == Burst && g.Rate < 1 {
		errs = append(errs, fmt.Errorf("rate: got %v, want a burst of 1 or more", g.Rate))
	}
	if g.Per < time.Millisecond {
		errs = append(errs, fmt.Errorf("per: got %s, want at least 1ms", g.Per))
	}
	if g.For < time.Millisecond {
		errs = append(errs, fmt.Errorf("for: got %s, want at least 1ms", g.For))
	}
	if g.Keys < 1 {
		errs = append(errs, fmt.Errorf("keys: got %d, want 1 or more", g.Keys))
	}
	if n := g.Rate * g.For.Seconds() / g.Per.Seconds(); n > MaxEvents {
		errs = append(errs, fmt.Errorf("rate, for: %.0f requests, want at most %d", n, MaxEvents))
	}
	return errors.Join(errs...)
}
