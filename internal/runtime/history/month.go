package history

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A MonthToDate is what was spent in a calendar month so far.
type MonthToDate struct {
	// Start is the beginning of the month, UTC.
	Start time.Time

	// Replicas are the commands that each replica sent, as of its last flush.
	Replicas map[string]int64

	// Fleet is the sum of Replicas.
	Fleet int64

	// Server is the number of commands the whole server processed, ours and those of everybody else;
	// Unknown when INFO was never read.
	Server int64

	// Since is from when Server is counted: Start, or later when nobody looked earlier. Zero when
	// Server is Unknown.
	Since time.Time

	// Incomplete is true when a run of the server ended unseen, so that Server is too low.
	Incomplete bool
}

// Commands is the best known number of commands in the month: the server's count, or the fleet's where
// that is higher, because nobody counted at the server then.
func (m MonthToDate) Commands() int64 { return max(m.Fleet, m.Server) }

// Others is how many commands came from outside the fleet; Unknown when the server's count is, or
// when it does not cover the whole month.
func (m MonthToDate) Others() int64 {
	if m.Server < 0 || m.Since.After(m.Start) || m.Incomplete {
		return Unknown
	}
	return max(0, m.Server-m.Fleet)
}

// MonthToDate reads what was spent in the month of now. It costs one command, and counts the server
// up to the last Observe. It adds what this replica has not written yet.
func (s *Spend) MonthToDate(ctx context.Context, now time.Time) (MonthToDate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := month(now)
	h, err := s.read(ctx, current)
	if err != nil {
		return MonthToDate{}, err
	}
	m := MonthToDate{Start: monthStart(now), Replicas: h.replicas, Server: Unknown}
	if s.month == "" || s.month == current {
		if unwritten := s.pending; unwritten > 0 {
			m.Replicas[s.Replica] += unwritten
		}
	}
	for _, n := range m.Replicas {
		m.Fleet += n
	}
	if len(h.runs) == 0 {
		return m, nil
	}
	m.Server, m.Since = 0, h.since
	for id, run := range h.runs {
		end := run.end
		if end < 0 && id == s.run && month(s.lastTime) == current {
			end = s.last.Commands
		}
		if end < 0 {
			m.Incomplete = true
			continue
		}
		m.Server += max(0, end-run.base)
	}
	return m, nil
}

// Observe takes a reading of the server's counters. It writes only when something is new: it reads the
// month with one command and writes at most 4 the first time, writes at most 5 when a month begins and
// 2 when the server has restarted, and nothing otherwise.
func (s *Spend) Observe(ctx context.Context, c Counters, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Commands < 0 {
		return nil
	}
	var err error
	switch {
	case s.run == "":
		err = s.join(ctx, c, now)
	case month(s.lastTime) != month(now):
		err = s.roll(ctx, c, now)
	case c.restartedSince(s.last):
		err = s.restart(ctx, c, now)
	}
	if err != nil {
		return fmt.Errorf("month-to-date: %w", err)
	}
	s.last, s.lastTime = c, now
	return nil
}

// join finds the server's run in the month, or begins it.
func (s *Spend) join(ctx context.Context, c Counters, now time.Time) error {
	h, err := s.read(ctx, month(now))
	if err != nil {
		return err
	}
	n, run := h.newest(c.RunID)
	if n > 0 && run.end < 0 && c.Commands >= run.base {
		s.run = runName(c.RunID, n)
		return nil
	}
	base, since := c.Commands, now
	switch started := now.Add(-c.Uptime); {
	case n > 0: // it was seen this month, so it began to count anew after that
		base = 0
	case c.Uptime < 0: // nothing is known of before
	case !started.Before(monthStart(now)): // all that it counted belongs to this month
		base, since = 0, started
	}
	return s.begin(ctx, runName(c.RunID, n+1), base, since, now)
}

// roll ends the run's count in the old month and begins it in the new one, each at what the counter
// was at midnight if commands came evenly.
func (s *Spend) roll(ctx context.Context, c Counters, now time.Time) error {
	old := month(s.lastTime)
	anew := c.restartedSince(s.last)
	at := func(midnight time.Time) int64 {
		if anew {
			return s.last.Commands
		}
		return s.last.Commands + proportion(c.Commands-s.last.Commands, s.lastTime, now, midnight)
	}
	if now.Sub(monthStart(s.lastTime)) < keptFor {
		if err := s.setOnce(ctx, old, "run:"+s.run+":end", at(monthStart(s.lastTime).AddDate(0, 1, 0))); err != nil {
			return err
		}
	}
	if anew {
		return s.join(ctx, c, now)
	}
	return s.begin(ctx, s.run, at(monthStart(now)), monthStart(now), now)
}

// restart ends the run that was last seen and begins the one that counts now.
func (s *Spend) restart(ctx context.Context, c Counters, now time.Time) error {
	current := month(now)
	if err := s.setOnce(ctx, current, "run:"+s.run+":end", s.last.Commands); err != nil {
		return err
	}
	id, n := splitRun(s.run)
	if id != c.RunID {
		id, n = c.RunID, 0
	}
	base := int64(0)
	if c.Uptime >= 0 && now.Add(-c.Uptime).Before(s.lastTime.Add(-time.Minute)) && n == 0 {
		base = c.Commands // another server took over, which had been running all the time
	}
	name := runName(id, n+1)
	if err := s.setOnce(ctx, current, "run:"+name+":base", base); err != nil {
		return err
	}
	s.run = name
	return nil
}

func (s *Spend) begin(ctx context.Context, name string, base int64, since, now time.Time) error {
	current := month(now)
	for _, f := range []struct {
		name  string
		value int64
	}{{"schema", spendSchema}, {"since", since.Unix()}, {"run:" + name + ":base", base}} {
		if err := s.setOnce(ctx, current, f.name, f.value); err != nil {
			return err
		}
	}
	s.run = name
	return s.expire(ctx, current)
}

// setOnce writes a field that no replica has written yet: the first one's word counts.
func (s *Spend) setOnce(ctx context.Context, current, name string, value int64) error {
	return s.Client.HSetNX(ctx, s.key(current), name, value).Err()
}

// A hash is a month as it is stored.
type hash struct {
	replicas map[string]int64
	runs     map[string]serverRun
	since    time.Time
}

// A serverRun is the time from one start of the server to the next.
type serverRun struct {
	base, end int64 // end is Unknown while it goes on
}

// newest is the highest number under which the server id has counted this month, and that run; 0 when
// it has not.
func (h hash) newest(id string) (int, serverRun) {
	best, found := 0, serverRun{}
	for name, run := range h.runs {
		if of, n := splitRun(name); of == id && n > best {
			best, found = n, run
		}
	}
	return best, found
}

// runName is the server's own id, which may be empty, and a number from 1 that grows when its counter
// begins anew without a new id.
func runName(id string, n int) string { return id + "/" + strconv.Itoa(n) }

func splitRun(name string) (id string, n int) {
	i := strings.LastIndexByte(name, '/')
	if i < 0 {
		return name, 0
	}
	n, _ = strconv.Atoi(name[i+1:])
	return name[:i], n
}

// read reads the month with one command. Fields it does not know are left alone.
func (s *Spend) read(ctx context.Context, current string) (hash, error) {
	raw, err := s.Client.HGetAll(ctx, s.key(current)).Result()
	if err != nil {
		return hash{}, fmt.Errorf("month-to-date: %w", err)
	}
	h := hash{replicas: map[string]int64{}, runs: map[string]serverRun{}}
	// "base" sorts before "end", so that a run is there when its end is read.
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		n, ok := parseCount(raw[name])
		if !ok {
			return hash{}, fmt.Errorf("month-to-date: field %q of %s is not a number; delete the key to begin anew", name, s.key(current))
		}
		switch kind, rest, _ := strings.Cut(name, ":"); kind {
		case "schema":
			if n > spendSchema {
				return hash{}, &SchemaError{s.key(current), n, spendSchema}
			}
		case "since":
			h.since = time.Unix(n, 0).UTC()
		case "replica":
			h.replicas[rest] = n
		case "run":
			if id, ok := strings.CutSuffix(rest, ":base"); ok {
				h.runs[id] = serverRun{base: n, end: Unknown}
			} else if id, ok := strings.CutSuffix(rest, ":end"); ok {
				if run, begun := h.runs[id]; begun {
					run.end = n
					h.runs[id] = run
				}
			}
		}
	}
	return h, nil
}
