package commands

import (
	"cmp"
	"math"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// A tally adds up rows under names.
type tally map[string]*Row

func (t tally) row(name string) *Row {
	r := t[name]
	if r == nil {
		r = &Row{Name: name}
		t[name] = r
	}
	return r
}

func (t tally) sorted() []Row {
	out := make([]Row, 0, len(t))
	for _, r := range t {
		r.All = r.Top + r.InScript
		out = append(out, *r)
	}
	slices.SortFunc(out, func(a, b Row) int {
		return cmp.Or(cmp.Compare(b.All, a.All), cmp.Compare(b.PerMonth, a.PerMonth), strings.Compare(a.Name, b.Name))
	})
	return out
}

// byCommand makes the row of every command. Where the split found more top-level commands than the
// certain ones, the excess is spread over those that could be either.
func byCommand(d delta, s Split, c crowd, factors map[string]float64, window float64, p Provider) []Row {
	var certain int64
	for name, n := range d.calls {
		if levelOf(name, c) == Top {
			certain += n
		}
	}
	maybe := d.total - certain
	excess := 0.0
	if maybe > 0 {
		excess = float64(s.Top-certain) / float64(maybe)
	}
	rows := make(tally)
	for name, n := range d.calls {
		r := rows.row(name)
		r.Level = levelOf(name, c)
		switch {
		case r.Level == Top || excess >= 1:
			r.Level, r.Top = Top, n
		case excess <= 0 && s.High == s.Low, excess <= 0 && c.others == 0:
			r.Level, r.InScript = Script, n
		default:
			r.Top = int64(math.Round(excess * float64(n)))
			r.InScript = n - r.Top
		}
		f := cmp.Or(factors[name], 1) / window * secondsInMonth
		r.PerMonth, r.TopPerMonth = float64(n)*f, float64(r.Top)*f
		if p.bills(name) {
			r.BilledPerMonth = r.TopPerMonth
			if p.BillsScripts {
				r.BilledPerMonth = r.PerMonth
			}
		}
	}
	return rows.sorted()
}

// byComponent groups commands by who sends such a command. Without names this is a reading of the
// commands themselves, except that scripts belong to a queue library when one is connected.
func byComponent(commands []Row, c crowd) []Row {
	rows := make(tally)
	for _, r := range commands {
		name := componentOf(r, c)
		row := rows.row(name)
		row.add(r)
	}
	return rows.sorted()
}

func (r *Row) add(o Row) {
	r.Top += o.Top
	r.InScript += o.InScript
	r.PerMonth += o.PerMonth
	r.TopPerMonth += o.TopPerMonth
	r.BilledPerMonth += o.BilledPerMonth
}

func componentOf(r Row, c crowd) string {
	name := base(r.Name)
	switch name {
	case "hello", "auth", "select", "client", "ping", "info", "command", "quit", "reset", "echo", "readonly":
		return "connection"
	case "brpoplpush", "bzpopmin":
		return "queue"
	case "subscribe", "psubscribe", "unsubscribe", "punsubscribe", "pubsub":
		return "pubsub"
	case "config", "slowlog", "latency", "memory", "acl", "cluster", "dbsize", "monitor", "debug", "keys", "scan":
		return "operations"
	case "replconf", "psync", "sync", "wait":
		return "replication"
	}
	if c.libraries && (r.Level == Script || name == "xread" || scriptCalls(map[string]int64{name: 1}) > 0 || name == "script") {
		return "queue"
	}
	switch name {
	case "get", "set", "setex", "psetex", "setnx", "getex", "getdel", "mget", "mset", "del", "unlink", "exists", "ttl", "pttl", "touch":
		return "cache"
	case "zadd", "zcard", "zcount", "zremrangebyscore", "incr", "incrby", "expire", "pexpire":
		return "ratelimit"
	}
	if r.Level == Script || strings.HasPrefix(name, "eval") || strings.HasPrefix(name, "fcall") {
		return "scripts"
	}
	return "other"
}

// A weight is the share of a queue or client in what the libraries do.
type weight struct {
	bull, mq, events int
}

// byWorkers divides what the queue libraries did over queues, or over processes, by the number of
// workers each has: idle polling is per worker, and the counters know no queues.
func byWorkers(commands []Row, after *connections.Report, c crowd, name func(connections.Connection) string) []Row {
	rows := make(tally)
	if after == nil {
		return rows.sorted()
	}
	weights := make(map[string]*weight)
	var sum weight
	for _, x := range after.Connections {
		if x.Own || (x.Role != connections.RoleWorker && x.Role != connections.RoleEvents) {
			continue
		}
		n := name(x)
		w := weights[n]
		if w == nil {
			w = &weight{}
			weights[n] = w
		}
		switch {
		case x.Role == connections.RoleEvents:
			w.events++
			sum.events++
		case x.Library == connections.LibraryBull:
			w.bull++
			sum.bull++
		default:
			w.mq++
			sum.mq++
		}
	}
	both := sum.bull + sum.mq
	for n, w := range weights {
		row := rows.row(n)
		row.Method = "by number of workers"
		for _, r := range commands {
			part, of := w.bull+w.mq, both
			switch {
			case r.Name == "brpoplpush":
				part, of = w.bull, sum.bull
			case r.Name == "bzpopmin":
				part, of = w.mq, sum.mq
			case r.Name == "xread" && sum.events > 0:
				part, of = w.events, sum.events
			case componentOf(r, c) != "queue":
				continue
			}
			if of > 0 && part > 0 {
				row.add(r.scaled(float64(part) / float64(of)))
			}
		}
	}
	return rows.sorted()
}

func (r Row) scaled(f float64) Row {
	return Row{
		Top: int64(math.Round(float64(r.Top) * f)), InScript: int64(math.Round(float64(r.InScript) * f)),
		PerMonth: r.PerMonth * f, TopPerMonth: r.TopPerMonth * f, BilledPerMonth: r.BilledPerMonth * f,
	}
}

// byConnection is exact: the server counts by connection. In-script commands stay unattributed.
func byConnection(before, after *connections.Report, window float64) []Row {
	rows := make(tally)
	was := make(map[string]int64)
	for _, x := range before.Connections {
		was[id(x)] = x.Commands()
	}
	for _, x := range after.Connections {
		if x.Own {
			continue
		}
		row := rows.row(x.Process)
		row.Method = "counted by connection; what its scripts ran is not divided"
		n := max(x.Commands()-was[id(x)], 0)
		row.Top += n
		row.TopPerMonth += float64(n) / window * secondsInMonth
		row.PerMonth = row.TopPerMonth
	}
	return rows.sorted()
}
