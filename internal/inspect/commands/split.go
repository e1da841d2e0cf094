package commands

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// readsTolerance is how much more often than the certain top-level commands the server may have read
// from sockets before some of the rest must have been top-level too.
const readsTolerance = 1.03

// crowd is what the client lists before and after the window say about who could have sent what.
type crowd struct {
	known     bool // both lists were read
	libraries bool // Bull or BullMQ is connected
	events    int  // BullMQ QueueEvents
	others    int  // connections that are neither a queue library's nor ours
	opened    int  // seen only after
	closed    int  // seen only before
	shorts    int  // came and went unseen; -1 when not known

	ownReads int64 // reads from our own sockets inside the window

	counted  bool  // the server counts commands by connection
	commands int64 // sent by others during the window, as far as their connections still stand
}

func crowdOf(before, after *connections.Report, received int64) crowd {
	c := crowd{known: before != nil && after != nil, shorts: -1}
	if !c.known {
		return c
	}
	was := make(map[string]int64)
	for _, x := range before.Connections {
		if !x.Own {
			was[id(x)] = x.Commands()
		}
	}
	is := make(map[string]bool)
	c.counted = len(after.Connections) > 0
	ownNew := 0
	wasOwn := make(map[string]bool)
	for _, x := range before.Connections {
		if x.Own {
			wasOwn[id(x)] = true
		}
	}
	for _, x := range after.Connections {
		if x.Own {
			if !wasOwn[id(x)] {
				ownNew++
			}
			continue
		}
		is[id(x)] = true
		n := x.Commands()
		c.counted = c.counted && n >= 0
		if start, old := was[id(x)]; old {
			n -= start
		} else {
			c.opened++
		}
		c.commands += n
		switch x.Library {
		case connections.LibraryBull, connections.LibraryBullMQ, connections.LibraryEither:
			c.libraries = true
			if x.Role == connections.RoleEvents {
				c.events++
			}
		case connections.LibraryNone:
			if x.Role != connections.RoleReplica {
				c.others++
			}
		}
	}
	for x := range was {
		if !is[x] {
			c.closed++
		}
	}
	if received >= 0 {
		c.shorts = max(int(received)-c.opened-ownNew, 0)
	}
	return c
}

func id(c connections.Connection) string { return fmt.Sprint(c.Node, " ", c.ID) }

// levelOf says where a command ran by its name alone. Both means that it may have run in a script.
func levelOf(command string, c crowd) Level {
	switch base(command) {
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro", "script", "function",
		"client", "auth", "hello", "config", "info", "monitor", "multi", "exec", "discard", "watch", "unwatch",
		"subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe", "quit", "reset",
		"blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop",
		"acl", "slowlog", "latency", "memory", "cluster", "replconf", "psync", "sync", "wait", "shutdown",
		"save", "bgsave", "bgrewriteaof", "failover", "readonly", "readwrite", "asking", "pubsub", "debug":
		return Top
	case "xread", "xreadgroup":
		if c.events > 0 {
			return Top
		}
	}
	return Both
}

// scriptCalls counts the scripts that clients started.
func scriptCalls(calls map[string]int64) int64 {
	var n int64
	for _, name := range []string{"eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro"} {
		n += calls[name]
	}
	return n
}

// splitOf divides the calls of a window; see Split for the rules.
func splitOf(d delta, c crowd) Split {
	s := Split{All: d.total}
	var certain int64
	for name, n := range d.calls {
		if levelOf(name, c) == Top {
			certain += n
		}
	}
	scripts := scriptCalls(d.calls)
	set := func(top, low, high int64, exact bool, format string, args ...any) Split {
		s.Top, s.Low, s.High, s.Exact, s.Method = top, low, high, exact, fmt.Sprintf(format, args...)
		s.InScript = s.All - s.Top
		return s
	}
	maybe := d.total - certain
	switch {
	case scripts == 0:
		return set(d.total, d.total, d.total, true, "no script ran in the window")
	case maybe == 0:
		return set(d.total, d.total, d.total, true, "nothing ran that a script could have run")
	}
	// A connection that stood the whole window counted itself.
	if c.known && c.counted && c.closed == 0 && c.shorts == 0 {
		top := min(max(c.commands, certain), d.total)
		return set(top, top, top, true, "the server's own counters by connection (tot-cmds)")
	}
	high := max(d.total-scripts, certain) // each script of these libraries runs at least one command
	if !c.libraries {
		high = d.total
	}
	wire := wireCommands(d, c)
	libraryOnly := c.known && c.libraries && c.others == 0 && c.shorts <= 0
	switch {
	case libraryOnly && wire >= 0 && float64(wire) <= readsTolerance*float64(certain):
		return set(certain, certain, max(certain, wire), false,
			"only Bull and BullMQ are connected, whose other commands run in scripts; %d reads from sockets confirm %d top-level", wire, certain)
	case wire >= 0:
		top := min(max(wire, certain), high)
		return set(top, certain, high, false,
			"%d commands are top-level for certain, %d could be either; the server read %d times from sockets, one per command unless pipelined", certain, maybe, wire)
	case libraryOnly:
		return set(certain, certain, high, false, "only Bull and BullMQ are connected, whose other commands run in scripts; nothing confirms it")
	default:
		return set(certain, certain, high, false, "%d commands are top-level for certain, %d could be either, and the server does not count its reads", certain, maybe)
	}
}

// wireCommands is how many commands came over the wire when each came in a read of its own: the reads,
// less ours, less the end of each connection that closed. -1 when not known.
func wireCommands(d delta, c crowd) int64 {
	if d.reads < 0 || !c.known {
		return -1
	}
	return max(d.reads-c.ownReads-int64(c.closed)-int64(max(c.shorts, 0)), 0)
}
