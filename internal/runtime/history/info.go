package history

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// Counters are what INFO says about a whole server since it started. A field that the server does
// not tell is Unknown.
type Counters struct {
	// RunID changes when the server restarts; empty where the server has none.
	RunID string

	// Uptime is how long the server has been running; negative when it does not say.
	Uptime time.Duration

	// Commands is total_commands_processed, in which Redis counts the commands inside scripts too.
	Commands int64

	// Writes is total_writes_processed of Upstash. Redis has a field of that name too, which counts
	// something else: how often it wrote to a socket.
	Writes int64

	// Errors is total_error_replies.
	Errors int64

	// Connections is connected_clients, Connections at their present number.
	Connections int64

	// MemoryBytes is total_data_size where there is one (Upstash), else used_memory.
	MemoryBytes int64
}

// ParseInfo reads the reply of INFO. INFO is free on Upstash and one command elsewhere; the sections
// server, clients, memory and stats are enough.
func ParseInfo(text string) (Counters, error) {
	values := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			values[name] = value
		}
	}
	if _, upstash := values["upstash_version"]; !upstash {
		delete(values, "total_writes_processed")
	}
	number := func(names ...string) int64 {
		for _, name := range names {
			if n, err := strconv.ParseInt(values[name], 10, 64); err == nil && n >= 0 {
				return n
			}
		}
		return Unknown
	}
	c := Counters{
		RunID:       values["run_id"],
		Uptime:      -1,
		Commands:    number("total_commands_processed"),
		Writes:      number("total_writes_processed"),
		Errors:      number("total_error_replies"),
		Connections: number("connected_clients"),
		MemoryBytes: number("total_data_size", "used_memory"),
	}
	// Longer than a century is no uptime, and would overflow a Duration.
	if s := number("uptime_in_seconds"); s >= 0 && s < 100*366*24*3600 {
		c.Uptime = time.Duration(s) * time.Second
	}
	if c.Commands < 0 {
		return c, errors.New("INFO has no total_commands_processed; the server does not count its commands, or the reply lacks the section stats")
	}
	return c, nil
}

// restartedSince is whether the server began to count anew between before and c: it restarted, another
// one took over, or somebody sent CONFIG RESETSTAT.
func (c Counters) restartedSince(before Counters) bool {
	return c.RunID != before.RunID || c.Commands < before.Commands
}

// Since is the sample of the span that ended at now, from the counters at its beginning. After a
// restart the counts are those since the restart, and the sample says that some were missed.
func (c Counters) Since(before Counters, span time.Duration, now time.Time) Sample {
	s := Sample{
		Time: now, Span: span, Source: FromInfo,
		InScript: Unknown, Connections: c.Connections, MemoryBytes: c.MemoryBytes,
	}
	restarted := c.restartedSince(before)
	if restarted {
		s.Source |= Restarted
	}
	delta := func(now, then int64) int64 {
		switch {
		case now < 0:
			return Unknown
		case restarted:
			return now
		case then < 0 || now < then:
			return Unknown
		default:
			return now - then
		}
	}
	s.Commands = delta(c.Commands, before.Commands)
	s.Writes = delta(c.Writes, before.Writes)
	s.Errors = delta(c.Errors, before.Errors)
	return s
}
