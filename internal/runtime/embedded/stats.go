package embedded

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// stats are the counters behind INFO stats and INFO commandstats. A command counts where Redis counts
// it: when it ran, at the top level or inside a script, and a blocking one when it began.
type stats struct {
	connections atomic.Int64 // received since start, refused ones too
	refused     atomic.Int64 // by the connection cap
	netIn       atomic.Int64 // bytes
	netOut      atomic.Int64 // bytes
	reads       atomic.Int64 // times a socket was read from, its end included
	writes      atomic.Int64 // times a socket was written to
	inScript    atomic.Int64 // commands that scripts ran; never reset

	mu       sync.Mutex
	commands map[string]*commandStat
	total    int64
	errors   int64
}

// A commandStat is one line of INFO commandstats.
type commandStat struct {
	calls, rejected, failed int64
	spent                   time.Duration
}

// An outcome is how a command ended.
type outcome int

const (
	succeeded outcome = iota
	failed            // ran and answered an error
	rejected          // refused before it ran: wrong number of arguments, a spent quota
)

func newStats() *stats { return &stats{commands: map[string]*commandStat{}} }

// count adds one call of the command with the given full name, lower case, "client|list".
func (s *stats) count(name string, how outcome, spent time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.commands[name]
	if c == nil {
		c = &commandStat{}
		s.commands[name] = c
	}
	switch how {
	case rejected:
		c.rejected++
		s.errors++
		return
	case failed:
		c.failed++
		s.errors++
	case succeeded:
	}
	c.calls++
	c.spent += spent
	s.total++
}

// fail marks a call that was counted when it began as failed.
func (s *stats) fail(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.errors++
	if c := s.commands[name]; c != nil {
		c.failed++
	}
}

func (s *stats) totals() (commands, errorReplies int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total, s.errors
}

// reset is CONFIG RESETSTAT.
func (s *stats) reset() {
	for _, c := range []*atomic.Int64{&s.connections, &s.refused, &s.netIn, &s.netOut, &s.reads, &s.writes} {
		c.Store(0)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.commands = map[string]*commandStat{}
	s.total, s.errors = 0, 0
}

// lines are the lines of INFO commandstats, by name.
func (s *stats) lines() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	lines := make([]string, 0, len(s.commands))
	for name, c := range s.commands {
		usec := c.spent.Microseconds()
		per := 0.0
		if c.calls > 0 {
			per = float64(usec) / float64(c.calls)
		}
		lines = append(lines, fmt.Sprintf("cmdstat_%s:calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=%d,failed_calls=%d",
			strings.ReplaceAll(name, ":", "_"), c.calls, usec, per, c.rejected, c.failed))
	}
	slices.Sort(lines)
	return lines
}
