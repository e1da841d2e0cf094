package cron

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"regexp"
	"strconv"
	"time"
)

// A Misfire says what is made up for when ticks were missed.
type Misfire string

// What can be made up for.
const (
	// Once runs the latest of what was missed and is due; the others are skipped. The default.
	Once Misfire = "once"

	// Skip runs nothing that was missed.
	Skip Misfire = "skip"

	// All runs the latest MisfireMax of what was missed, the oldest first.
	All Misfire = "all"
)

// Limits of a Schedule.
const (
	maxJob        = 1 << 20         // bytes; the queue's own limit is lower
	maxJitter     = time.Hour       // and less than Every
	maxMisfires   = 1000            // MisfireMax
	maxEvery      = 366 * 24 * 3600 // seconds
	defaultMisses = 10              // MisfireMax
	minEvery      = time.Second     // and whole seconds
	longestZone   = 64              // bytes
	idPrefix      = "cron:"         // of a tick's id
	layoutOfName  = `^[\w.:/@-]{1,128}$`
)

// A Schedule is a job that is enqueued again and again. One of Cron and Every is required, and Name and
// Queue.
type Schedule struct {
	// Name identifies it in the fleet: 1 to 128 of a-z A-Z 0-9 _ . : / @ -.
	Name string `json:"name"`

	// Cron are five fields, or a name such as @daily.
	Cron string `json:"cron,omitempty"`

	// Every is a period in whole seconds, at least 1s and at most 366 days, counted from the Unix epoch.
	Every time.Duration `json:"-"`

	// Zone is the time zone of Cron, such as Europe/Berlin. Default UTC.
	Zone string `json:"zone,omitempty"`

	// Misfire says what is made up for after ticks were missed. Default Once.
	Misfire Misfire `json:"misfire,omitempty"`

	// MisfireMax is the most that Misfire All makes up for. Default 10, at most 1000.
	MisfireMax int `json:"misfire_max,omitempty"`

	// Jitter delays each tick by something between nothing and Jitter, the same in every replica and
	// for every attempt. Default none; at most 1h, and less than Every.
	Jitter time.Duration `json:"-"`

	// Queue is where the job goes.
	Queue string `json:"queue"`

	// Job is what is enqueued, for Enqueue to read; at most 1 MiB of JSON. May be nil.
	Job json.RawMessage `json:"job,omitempty"`

	// Paused schedules have no ticks. What fell into the pause was not missed.
	Paused bool `json:"paused,omitempty"`

	// Origin is who declared it; empty for one that was added at run time. See Declare.
	Origin string `json:"origin,omitempty"`

	// Since is when its ticks begin: when it was added, its times were changed, or a pause ended. It is
	// set by this package.
	Since time.Time `json:"since,omitzero"`
}

// stored has the durations of a Schedule in JSON.
type stored struct {
	plain

	EverySeconds  int64 `json:"every_s,omitempty"`
	JitterSeconds int64 `json:"jitter_ms,omitempty"`
}

// plain has the fields of Schedule without its methods, so that encoding does not call itself.
type plain Schedule

// MarshalJSON writes durations as every_s and jitter_ms.
func (s Schedule) MarshalJSON() ([]byte, error) {
	return json.Marshal(stored{plain(s), int64(s.Every / time.Second), s.Jitter.Milliseconds()})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (s *Schedule) UnmarshalJSON(text []byte) error {
	var d stored
	if err := json.Unmarshal(text, &d); err != nil {
		return err
	}
	if d.EverySeconds < 0 || d.EverySeconds > maxEvery || d.JitterSeconds < 0 || d.JitterSeconds > maxJitter.Milliseconds() {
		return errors.New("every_s or jitter_ms is out of range")
	}
	*s = Schedule(d.plain)
	s.Every = time.Duration(d.EverySeconds) * time.Second
	s.Jitter = time.Duration(d.JitterSeconds) * time.Millisecond
	return nil
}

func (s Schedule) withDefaults() Schedule {
	if s.Zone == "" {
		s.Zone = "UTC"
	}
	if s.Misfire == "" {
		s.Misfire = Once
	}
	if s.MisfireMax == 0 && s.Misfire == All {
		s.MisfireMax = defaultMisses
	}
	return s
}

// Timetable checks the schedule, reports all problems, and says when it is due.
func (s Schedule) Timetable() (*Timetable, error) {
	s = s.withDefaults()
	errs := s.problems()
	t := &Timetable{every: s.Every}
	var err error
	if s.Cron != "" {
		if t.cron, err = parseExpression(s.Cron); err != nil {
			errs = append(errs, fmt.Errorf("cron: %w", err))
		}
	}
	if t.zone, err = zone(s.Zone); err != nil {
		errs = append(errs, fmt.Errorf("zone: %w", err))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if t.Next(time.Now()).IsZero() {
		return nil, fmt.Errorf("cron: %q has no tick within ten years", s.Cron)
	}
	return t, nil
}

func (s Schedule) problems() []error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if err := checkName(s.Name); err != nil {
		errs = append(errs, err)
	}
	if s.Queue == "" || len(s.Queue) > 256 {
		bad("queue: a name of %d bytes, want 1 to 256", len(s.Queue))
	}
	switch {
	case s.Cron == "" && s.Every == 0, s.Cron != "" && s.Every != 0:
		bad("cron, every: want one of them")
	case s.Cron == "" && (s.Every < minEvery || s.Every > maxEvery*time.Second || s.Every%time.Second != 0):
		bad("every: got %s, want whole seconds from 1s to %s", s.Every, maxEvery*time.Second)
	case s.Cron == "" && s.Jitter >= s.Every:
		bad("jitter: got %s, want less than every", s.Jitter)
	}
	if s.Jitter < 0 || s.Jitter > maxJitter || s.Jitter%time.Millisecond != 0 {
		bad("jitter: got %s, want whole milliseconds up to %s", s.Jitter, maxJitter)
	}
	switch s.Misfire {
	case Once, Skip, All:
	default:
		bad("misfire: got %q, want skip, once or all", s.Misfire)
	}
	if s.MisfireMax < 0 || s.MisfireMax > maxMisfires {
		bad("misfire_max: got %d, want 1 to %d", s.MisfireMax, maxMisfires)
	}
	if len(s.Job) > maxJob {
		bad("job: %d bytes, want at most %d", len(s.Job), maxJob)
	} else if len(s.Job) > 0 && !json.Valid(s.Job) {
		bad("job: not JSON")
	}
	if len(s.Origin) > 128 {
		bad("origin: %d bytes, want at most 128", len(s.Origin))
	}
	return errs
}

func checkName(name string) error {
	if ok, err := regexp.MatchString(layoutOfName, name); err != nil || !ok {
		return fmt.Errorf("name: got %q, want 1 to 128 of a-z A-Z 0-9 _ . : / @ -", name)
	}
	return nil
}

func zone(name string) (*time.Location, error) {
	if name == "Local" || len(name) > longestZone {
		return nil, errors.New("want a name such as Europe/Berlin, which means the same in every replica")
	}
	return time.LoadLocation(name)
}

// sameTimes is whether two schedules are due at the same instants.
func (s Schedule) sameTimes(o Schedule) bool {
	s, o = s.withDefaults(), o.withDefaults()
	return s.Cron == o.Cron && s.Every == o.Every && s.Zone == o.Zone
}

// same is whether two schedules say the same.
func (s Schedule) same(o Schedule) bool {
	s, o = s.withDefaults(), o.withDefaults()
	s.Since, o.Since = time.Time{}, time.Time{}
	a, errA := json.Marshal(s)
	b, errB := json.Marshal(o)
	return errA == nil && errB == nil && string(a) == string(b)
}

// id names the tick at an instant in every replica.
func (s Schedule) id(at time.Time) string {
	return idPrefix + s.Name + ":" + strconv.FormatInt(at.Unix(), 10)
}

// fireAt is when the tick at an instant is enqueued.
func (s Schedule) fireAt(at time.Time) time.Time {
	if s.Jitter == 0 {
		return at
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(s.id(at)))
	ms := h.Sum64() % uint64(s.Jitter.Milliseconds()+1) //nolint:gosec // a jitter is not negative
	return at.Add(time.Duration(ms) * time.Millisecond) //nolint:gosec // at most an hour
}
