package commands

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// A snapshot is the counters of one node at one moment.
type snapshot struct {
	at       time.Time
	runID    string
	provider string
	version  string

	hasCalls  bool // the server counts by command
	calls     map[string]int64
	processed int64 // total_commands_processed, scripts' commands included; -1 when absent
	reads     int64 // total_reads_processed: times the server read from a socket; -1 when absent
	received  int64 // connections accepted; -1 when absent
}

func parseSnapshot(info string, at time.Time) snapshot {
	f := connections.InfoFields(info)
	s := connections.ParseServer(info)
	out := snapshot{
		at: at, runID: s.RunID, provider: s.Provider, version: s.Version,
		calls:     ParseCommandStats(info),
		processed: counter(f, "total_commands_processed"),
		reads:     counter(f, "total_reads_processed"),
		received:  counter(f, "total_connections_received"),
	}
	out.hasCalls = len(out.calls) > 0 || strings.Contains(strings.ToLower(info), "# commandstats")
	if s.Provider == "upstash" {
		out.reads = -1 // there it counts reading commands, not reads from a socket
	}
	return out
}

// ParseCommandStats returns the calls by command from the reply of INFO; a subcommand is written
// "client|list". Lines it cannot read are skipped.
func ParseCommandStats(info string) map[string]int64 {
	calls := make(map[string]int64)
	for line := range strings.SplitSeq(info, "\n") {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), "cmdstat_")
		if !ok {
			continue
		}
		name, fields, ok := strings.Cut(rest, ":")
		if !ok || name == "" {
			continue
		}
		for field := range strings.SplitSeq(fields, ",") {
			v, ok := strings.CutPrefix(field, "calls=")
			if !ok {
				continue
			}
			if n, err := strconv.ParseInt(v, 10, 64); err == nil && n >= 0 {
				calls[strings.ToLower(name)] = n
			}
		}
	}
	return calls
}

func counter(f map[string]string, name string) int64 {
	n, err := strconv.ParseInt(f[name], 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

// A ResetError reports that the counters started again inside the window, so their difference says
// nothing.
type ResetError struct {
	Node string // empty unless the server is a cluster
	Why  string
}

func (e *ResetError) Error() string {
	if e.Node != "" {
		return fmt.Sprintf("node %s: %s during the window; measure again", e.Node, e.Why)
	}
	return fmt.Sprintf("%s during the window; measure again", e.Why)
}

// A delta is what one node, or all of them together, did between two snapshots.
type delta struct {
	calls     map[string]int64
	hasCalls  bool
	total     int64
	processed int64 // -1 when not known
	reads     int64 // -1 when not known
}

func difference(node string, a, b snapshot) (delta, error) {
	if a.runID != b.runID {
		return delta{}, &ResetError{node, "the server was restarted or replaced"}
	}
	d := delta{calls: make(map[string]int64), hasCalls: a.hasCalls && b.hasCalls, processed: -1, reads: -1}
	for name, n := range a.calls {
		if b.calls[name] < n {
			return delta{}, &ResetError{node, "the command counters were reset (CONFIG RESETSTAT)"}
		}
	}
	for name, n := range b.calls {
		if n -= a.calls[name]; n > 0 {
			d.calls[name] = n
			d.total += n
		}
	}
	if a.processed >= 0 && b.processed >= 0 {
		if d.processed = b.processed - a.processed; d.processed < 0 {
			return delta{}, &ResetError{node, "the counters were reset"}
		}
	}
	if a.reads >= 0 && b.reads >= a.reads {
		d.reads = b.reads - a.reads
	}
	return d, nil
}

func (d *delta) add(o delta) {
	for name, n := range o.calls {
		d.calls[name] += n
	}
	d.total += o.total
	d.hasCalls = d.hasCalls && o.hasCalls
	d.processed = addKnown(d.processed, o.processed)
	d.reads = addKnown(d.reads, o.reads)
}

func addKnown(a, b int64) int64 {
	if a < 0 || b < 0 {
		return -1
	}
	return a + b
}

// subtract removes our own commands.
func (d *delta) subtract(own map[string]int64) {
	for name, n := range own {
		n = min(n, d.calls[name])
		if d.calls[name] -= n; d.calls[name] == 0 {
			delete(d.calls, name)
		}
		d.total -= n
	}
}

// base is the command of "client|list".
func base(command string) string {
	name, _, _ := strings.Cut(command, "|")
	return name
}
