package cron

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// ErrUnknown means that there is no schedule of that name.
var ErrUnknown = errors.New("there is no such schedule")

// A Cron keeps the schedules of the fleet and fires them in Run. Its methods may be called from several
// goroutines, with or without Run.
type Cron struct {
	opts    Options
	changed chan struct{} // a change was written here

	mu       sync.Mutex
	entries  map[string]*entry // what Run knows
	revision int64
	readErr  error
	stats    Stats
}

// Stats count what Run did in this process.
type Stats struct {
	Schedules  int    // known, paused ones included
	Fired      uint64 // ticks that this replica enqueued
	Duplicates uint64 // ticks that another one had enqueued
	Refused    uint64 // ticks whose job was not valid
	Missed     uint64 // ticks that were missed and not made up for
	Failed     uint64 // attempts that failed and are repeated

	// Err is why the last reading of the schedules failed, nil when it did not. What was known before
	// stays in force.
	Err error
}

// New checks opts. It sends nothing.
func New(opts Options) (*Cron, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("cron: %w", err)
	}
	return &Cron{opts: opts, changed: make(chan struct{}, 1), entries: map[string]*entry{}}, nil
}

func (c *Cron) channel() string { return c.opts.Key + ":changed" }

// Stats are the counts until now. They cost no command.
func (c *Cron) Stats() Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.stats
	s.Schedules, s.Err = len(c.entries), c.readErr
	return s
}

// An Entry is a schedule and its state.
type Entry struct {
	Schedule Schedule

	// Next is when it is due next, jitter aside; zero when it is paused or never due.
	Next time.Time

	// Last is the last tick that is known to be enqueued; zero when none is. It is not noted for Misfire
	// Skip, and may be 5 minutes old for Once.
	Last time.Time
}

// Known are the schedules that Run knows, by name. It costs no command.
func (c *Cron) Known() []Entry {
	now := wallNow()
	c.mu.Lock()
	defer c.mu.Unlock()
	list := make([]Entry, 0, len(c.entries))
	for _, name := range slices.Sorted(maps.Keys(c.entries)) {
		e := c.entries[name]
		list = append(list, newEntry(e.plan, e.last, now))
	}
	return list
}

// List reads the schedules, by name; 1 command. Those that are damaged are left out and joined in the
// error, beside the list.
func (c *Cron) List(ctx context.Context) ([]Entry, error) {
	t, err := c.read(ctx)
	if err != nil {
		return nil, err
	}
	now := wallNow()
	list := make([]Entry, 0, len(t.plans))
	for _, name := range slices.Sorted(maps.Keys(t.plans)) {
		list = append(list, newEntry(t.plans[name], t.marks[name], now))
	}
	return list, errors.Join(t.damaged...)
}

func newEntry(p *plan, last, now time.Time) Entry {
	e := Entry{Schedule: p.Schedule, Last: last}
	if !p.Paused {
		e.Next = p.table.Next(later(now, p.Since))
	}
	return e
}

// Add adds a schedule, or replaces the one of that name. Its ticks begin now, unless it replaces one
// that has the same times. It costs 6 or 7 commands, 1 when nothing is new.
func (c *Cron) Add(ctx context.Context, s Schedule) error {
	if _, err := s.Timetable(); err != nil {
		return fmt.Errorf("cron: schedule %q: %w", s.Name, err)
	}
	return c.write(ctx, func(t table) (edit, error) {
		e := edit{set: map[string]string{}}
		return e, t.put(&e, s)
	})
}

// Remove removes a schedule; ErrUnknown when there is none. It costs 7 commands.
func (c *Cron) Remove(ctx context.Context, name string) error {
	return c.write(ctx, func(t table) (edit, error) {
		if _, ok := t.raw[name]; !ok {
			return edit{}, fmt.Errorf("cron: schedule %q: %w", name, ErrUnknown)
		}
		return edit{del: []string{scheduleField + name, markField + name}}, nil
	})
}

// Pause stops a schedule until Resume; ErrUnknown when there is none. It costs 6 commands, 1 when it is
// paused already.
func (c *Cron) Pause(ctx context.Context, name string) error { return c.pause(ctx, name, true) }

// Resume lets a paused schedule go on: its ticks begin now. As Pause.
func (c *Cron) Resume(ctx context.Context, name string) error { return c.pause(ctx, name, false) }

func (c *Cron) pause(ctx context.Context, name string, paused bool) error {
	return c.write(ctx, func(t table) (edit, error) {
		p, ok := t.plans[name]
		switch {
		case !ok:
			return edit{}, fmt.Errorf("cron: schedule %q: %w", name, ErrUnknown)
		case p.Paused == paused:
			return edit{}, nil
		}
		// Fields that a newer program of the same schema added are kept.
		var fields map[string]any
		decoder := json.NewDecoder(strings.NewReader(t.raw[name]))
		decoder.UseNumber()
		if err := decoder.Decode(&fields); err != nil {
			return edit{}, err
		}
		delete(fields, "paused")
		if fields["since"] = wallNow().UTC(); paused {
			fields["paused"] = true
		}
		text, err := json.Marshal(fields)
		return edit{set: map[string]string{scheduleField + name: string(text)}}, err
	})
}

// Declare makes the schedules of one origin exactly these: it adds what is missing, replaces what
// differs and removes what is not listed. Schedules of other origins are not touched, and one of theirs
// that has a name of these is an error. A pause is kept. It costs 1 command when nothing differs, 6 or
// 7 otherwise.
func (c *Cron) Declare(ctx context.Context, origin string, list []Schedule) error {
	var errs []error
	if origin == "" {
		errs = append(errs, errors.New("origin: missing"))
	}
	names := map[string]bool{}
	for _, s := range list {
		if _, err := s.Timetable(); err != nil {
			errs = append(errs, fmt.Errorf("schedule %q: %w", s.Name, err))
		} else if names[s.Name] {
			errs = append(errs, fmt.Errorf("schedule %q: listed twice", s.Name))
		}
		names[s.Name] = true
	}
	if len(errs) > 0 {
		return fmt.Errorf("cron: %w", errors.Join(errs...))
	}
	return c.write(ctx, func(t table) (edit, error) {
		e := edit{set: map[string]string{}}
		for name, p := range t.plans {
			if p.Origin == origin && !names[name] {
				e.del = append(e.del, scheduleField+name, markField+name)
			}
		}
		for _, s := range list {
			s.Origin = origin
			if old, ok := t.plans[s.Name]; ok {
				if old.Origin != origin {
					return edit{}, fmt.Errorf("cron: schedule %q: there is one of that name of origin %q", s.Name, old.Origin)
				}
				s.Paused = s.Paused || old.Paused
			}
			if err := t.put(&e, s); err != nil {
				return edit{}, err
			}
		}
		return e, nil
	})
}

// put adds a schedule to an edit, unless it is stored as it is.
func (t table) put(e *edit, s Schedule) error {
	old, ok := t.plans[s.Name]
	if ok && old.same(s) {
		return nil
	}
	if _, there := t.raw[s.Name]; !there && len(t.raw)+len(e.set) >= maxSchedules {
		return fmt.Errorf("cron: there are %d schedules, want at most %d", maxSchedules, maxSchedules)
	}
	s.Since = wallNow().UTC()
	if ok && old.sameTimes(s) && (s.Paused || !old.Paused) {
		s.Since = old.Since
	} else {
		e.del = append(e.del, markField+s.Name)
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	e.set[scheduleField+s.Name] = string(text)
	return nil
}

// wallNow is the time of the clock on the wall, which may be set: without the monotonic reading that
// comparisons of two times would use instead.
func wallNow() time.Time { return time.Now().Round(0) }
