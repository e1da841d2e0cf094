package connections

import (
	"cmp"
	"maps"
	"net"
	"slices"
	"strings"
)

// count fills the totals and tables of a report from its connections.
func (a *Auditor) count(r *Report) {
	roles, libraries := make(map[string]int), make(map[string]int)
	processes := make(map[string]*Process)
	for i := range r.Connections {
		c := &r.Connections[i]
		p := processes[c.Process]
		if p == nil {
			_, made := processID(c.client, nil)
			p = &made
			p.ID = c.Process
			if o := a.owners[key{c.Node, c.ID}]; o.pid != 0 {
				host, _, _ := net.SplitHostPort(c.Addr)
				p.Host, p.PID, p.Command = host, o.pid, o.command
			}
			processes[c.Process] = p
		}
		p.Own = p.Own || c.Own
		if c.Own {
			r.Own++
			continue
		}
		r.Total++
		p.Connections++
		if c.Name == "" {
			p.Unnamed++
		}
		roles[string(c.Role)]++
		libraries[cmp.Or(string(c.Library), "none")]++
		if c.Role == RoleUnknown {
			r.Unknown++
		}
	}
	r.Roles, r.Libraries = counts(roles), counts(libraries)
	r.Queues = queuesOf(r.Connections)
	r.Sharing = sharing(r.Connections)
	r.Processes = []Process{}
	for _, id := range slices.Sorted(maps.Keys(processes)) {
		if p := processes[id]; p.Connections > 0 {
			r.Processes = append(r.Processes, *p)
		}
	}
	slices.SortStableFunc(r.Processes, func(a, b Process) int { return cmp.Compare(b.Connections, a.Connections) })
	slices.SortFunc(r.Connections, func(a, b Connection) int {
		return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.ID, b.ID))
	})
	if a.opts.Limit > 0 {
		r.Limit.Connections, r.Limit.Source = a.opts.Limit, "option"
	} else if r.Limit.Connections > 0 {
		r.Limit.Source = "maxclients"
	}
	if r.Limit.Connections > 0 {
		// Ours take room too while we look.
		r.Limit.HeadRoom = r.Limit.Connections - r.Total - r.Own
		r.Limit.UsedPercent = 100 * float64(r.Total) / float64(r.Limit.Connections)
	}
	r.Phases = []Phase{}
	if r.Complete() {
		r.Phases = phases(r, a.opts.Paused)
	}
}

func counts(m map[string]int) []Count {
	out := make([]Count, 0, len(m))
	for name, n := range m {
		out = append(out, Count{name, n})
	}
	slices.SortFunc(out, func(a, b Count) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), strings.Compare(a.Name, b.Name))
	})
	return out
}

func queuesOf(conns []Connection) []Queue {
	type id struct {
		prefix, queue string
		lib           Library
	}
	byQueue := make(map[id]*Queue)
	processes := make(map[id]map[string]bool)
	for _, c := range conns {
		if c.Queue == "" || c.Own {
			continue
		}
		k := id{c.Prefix, c.Queue, c.Library}
		q := byQueue[k]
		if q == nil {
			q = &Queue{Prefix: c.Prefix, Queue: c.Queue, Library: c.Library}
			byQueue[k], processes[k] = q, make(map[string]bool)
		}
		q.Connections++
		if c.Role == RoleWorker {
			q.Workers++
		}
		if c.Role == RoleEvents {
			q.Events++
		}
		processes[k][c.Process] = true
	}
	out := make([]Queue, 0, len(byQueue))
	for k, q := range byQueue {
		q.Processes = len(processes[k])
		out = append(out, *q)
	}
	slices.SortFunc(out, func(a, b Queue) int {
		return cmp.Or(strings.Compare(a.Prefix, b.Prefix), strings.Compare(a.Queue, b.Queue), cmp.Compare(a.Library, b.Library))
	})
	return out
}
