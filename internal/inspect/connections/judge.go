package connections

import (
	"fmt"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// Shares of the limit, in percent.
const (
	nearLimit = 80 // from here on the limit is the likely cause of refused connections
	farLimit  = 50 // below, it is not
)

// judge fills the measures and findings of a report.
func (a *Auditor) judge(r *Report) {
	r.Measures = measures(r)
	r.Findings = []inspect.Finding{}
	add := func(rule string, s inspect.Severity, subject, remedy, format string, args ...any) {
		r.Findings = append(r.Findings, inspect.Finding{
			Rule: rule, Severity: s, Subject: subject, Message: fmt.Sprintf(format, args...), Remedy: remedy,
		})
	}
	if a.opts.Max > 0 && r.Total > a.opts.Max {
		add("connections-over-max", inspect.Critical, "server", "close or share connections; the largest holders are listed by process",
			"%d connections, at most %d allowed", r.Total, a.opts.Max)
	}
	judgeLimit(r, add)
	judgeMixed(r, add)
	for _, s := range r.Sharing {
		if !s.Shared && s.Connections > s.IfShared && s.Connections-s.IfShared > 1 {
			add("connections-not-shared", inspect.Note, s.Process, shareRemedy(s.Library), "%s: %s", s.Library, s.Explain)
		}
	}
	if r.Unknown > 0 {
		add("connections-unattributed", inspect.Note, "server", "name them: connectionName in ioredis, ClientName in go-redis, CLIENT SETNAME elsewhere",
			"%d of %d connections show neither name nor purpose", r.Unknown, r.Total)
	}
	if n, oldest := zombies(r, a.opts.ZombieAfter); n > 0 {
		add("connections-idle", inspect.Note, "server", "close clients that are no longer used, or set a timeout on the server",
			"%d connections that neither block nor subscribe have sent nothing for more than %s, the oldest for %s", n, a.opts.ZombieAfter, oldest)
	}
}

type adder func(rule string, s inspect.Severity, subject, remedy, format string, args ...any)

func judgeLimit(r *Report, add adder) {
	l := r.Limit
	switch {
	case l.Connections == 0:
	case l.UsedPercent >= nearLimit:
		add("connection-limit-near", inspect.Critical, "server", "share connections, or raise the limit before the next deploy doubles them",
			"%d of %d connections are in use (%.1f%%), room for %d more", r.Total, l.Connections, l.UsedPercent, l.HeadRoom)
	case l.UsedPercent < farLimit && r.Total > 0:
		add("connection-limit-far", inspect.Note, "server",
			"for ECONNRESET look at TLS (a plain client on a TLS port) and at idle connections being closed; exhaustion has its own error text",
			"%d of %d connections are in use (%.2f%%): the limit does not explain connection errors", r.Total, l.Connections, l.UsedPercent)
	}
	if l.Rejected > 0 {
		add("connections-rejected", inspect.Warning, "server", "find out when: the counter runs since the server started",
			"the server has refused %d connections at its limit since it started", l.Rejected)
	}
}

// judgeMixed finds queues that Bull and BullMQ both work on: they take each other's jobs and fail them.
func judgeMixed(r *Report, add adder) {
	workers := make(map[string]map[Library]int)
	for _, q := range r.Queues {
		k := q.Prefix + ":" + q.Queue
		if workers[k] == nil {
			workers[k] = make(map[Library]int)
		}
		workers[k][q.Library] += q.Workers
	}
	for _, q := range r.Queues {
		w := workers[q.Prefix+":"+q.Queue]
		if q.Library == LibraryBull && w[LibraryBull] > 0 && w[LibraryBullMQ] > 0 {
			add("queue-two-libraries", inspect.Critical, q.Prefix+":"+q.Queue, "stop one of the two, or give BullMQ another prefix",
				"%d Bull and %d BullMQ workers take jobs from the same queue and fail each other's", w[LibraryBull], w[LibraryBullMQ])
		}
	}
}

func shareRemedy(l Library) string {
	if l == LibraryBull {
		return "createClient: one ioredis for type client, one for subscriber, a new one for each bclient; " +
			"subscriber and bclient with enableReadyCheck: false and maxRetriesPerRequest: null"
	}
	return "pass one ioredis instance with maxRetriesPerRequest: null as connection to every Queue and Worker of the process"
}

func zombies(r *Report, after time.Duration) (n int, oldest time.Duration) {
	for _, c := range r.Connections {
		if c.Own || c.Role == RoleReplica || c.Role == RoleMonitor || c.client.Blocked() || c.client.Subscribed() || c.Idle < after {
			continue
		}
		n++
		oldest = max(oldest, c.Idle)
	}
	return n, oldest
}

func measures(r *Report) []inspect.Measure {
	ev := inspect.Evidence{Source: "CLIENT LIST", Samples: 1, Missing: r.Missing}
	info := inspect.Evidence{Source: "INFO", Samples: 1}
	if !r.Complete() {
		ev.Source = "INFO"
	}
	one := func(name string, v float64, unit string, e inspect.Evidence, labels ...string) inspect.Measure {
		m := inspect.Measure{Name: name, Value: v, Unit: unit, Evidence: e}
		for i := 0; i+1 < len(labels); i += 2 {
			if m.Labels == nil {
				m.Labels = make(map[string]string)
			}
			m.Labels[labels[i]] = labels[i+1]
		}
		return m
	}
	out := []inspect.Measure{one("connections.total", float64(r.Total), "connection", ev)}
	if r.Complete() {
		out = append(out, one("connections.unknown", float64(r.Unknown), "connection", ev))
		for _, c := range r.Roles {
			out = append(out, one("connections.by_role", float64(c.Connections), "connection", ev, "role", c.Name))
		}
		for _, c := range r.Libraries {
			out = append(out, one("connections.by_library", float64(c.Connections), "connection", ev, "library", c.Name))
		}
		for _, q := range r.Queues {
			out = append(out, one("connections.by_queue", float64(q.Connections), "connection", ev,
				"queue", q.Queue, "prefix", q.Prefix, "library", string(q.Library)))
		}
		for _, p := range r.Phases {
			out = append(out, one("connections.after_phase", float64(p.Left), "connection", ev,
				"phase", p.Phase, "target", p.Target))
		}
	}
	if r.Limit.Connections > 0 {
		if strings.HasPrefix(r.Limit.Source, "option") {
			info.Source = "option"
		}
		out = append(out,
			one("connections.limit", float64(r.Limit.Connections), "connection", info),
			one("connections.limit_used", r.Limit.UsedPercent, "percent", ev))
	}
	return out
}
