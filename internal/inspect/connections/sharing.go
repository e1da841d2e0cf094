package connections

import (
	"cmp"
	"fmt"
	"slices"
)

// sharing describes each process's queue connections, and what sharing would make of them.
func sharing(conns []Connection) []Sharing {
	var out []Sharing
	for _, g := range groups(conns) {
		for _, lib := range []Library{LibraryBull, LibraryBullMQ} {
			if s, ok := sharingOf(g, lib); ok {
				out = append(out, s)
			}
		}
	}
	slices.SortFunc(out, func(a, b Sharing) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Process, b.Process), cmp.Compare(a.Library, b.Library))
	})
	return out
}

func sharingOf(g *group, lib Library) (Sharing, bool) {
	s := Sharing{Process: g.where, Library: lib}
	perQueue := make(map[string]int)
	queues := make(map[string]bool)
	shared, subscribers, clients := 0, 0, 0
	for _, c := range g.all {
		if c.Library != lib {
			continue
		}
		s.Connections++
		if c.Queue != "" {
			queues[c.Prefix+":"+c.Queue] = true
		}
		switch c.Role {
		case RoleWorker:
			s.Workers++
			perQueue[c.Prefix+":"+c.Queue]++
		case RoleEvents:
			s.Events++
		case RoleShared:
			shared++
		case RoleSubscriber:
			subscribers++
		case RoleQueueClient, RoleWorkerClient:
			clients++
		case RoleCache, RoleLimiter, RoleSMS, RolePool, RolePubSub, RoleApp, RoleReplica, RoleMonitor, RoleUnknown:
		}
	}
	if s.Connections == 0 {
		return s, false
	}
	s.Queues = max(len(queues), min(clients, s.Connections-s.Workers-s.Events))
	if len(queues) > 0 {
		s.Queues = len(queues)
	}
	s.Shared = shared > 0
	// One process has at most one worker connection per queue unless it opened a queue twice.
	s.processes = 1
	for _, n := range perQueue {
		s.processes = max(s.processes, n)
	}
	s.explain(subscribers)
	return s, true
}

func (s *Sharing) explain(subscribers int) {
	p := s.processes
	if s.Library == LibraryBull {
		subs := min(p, subscribers)
		s.IfShared = p + subs + s.Workers
		want := fmt.Sprintf("%d client + %d subscriber + %d blocking = %d", p, subs, s.Workers, s.IfShared)
		switch {
		case s.Shared && s.Connections <= s.IfShared:
			s.Explain = "shared as far as Bull allows: " + want + "; each worker needs its own blocking connection"
		case s.Shared:
			s.Explain = fmt.Sprintf("partly shared: %d, fully shared it would be %s", s.Connections, want)
		case s.Workers == 0:
			s.Explain = fmt.Sprintf("not shared: one client for each of %d producers; one client would do", s.Connections)
		default:
			s.Explain = fmt.Sprintf("not shared: client, subscriber and blocking connection for each of %d workers = %d; with createClient %s", s.Workers, s.Connections, want)
		}
		return
	}
	s.IfShared = p + s.Workers + s.Events
	want := fmt.Sprintf("%d instance + %d workers", p, s.Workers)
	if s.Events > 0 {
		want += fmt.Sprintf(" + %d QueueEvents", s.Events)
	}
	want += fmt.Sprintf(" = %d", s.IfShared)
	switch {
	case s.Shared && s.Connections <= s.IfShared:
		s.Explain = "shared as far as BullMQ allows: " + want + "; each Worker and QueueEvents duplicates the instance"
	case s.Shared:
		s.Explain = fmt.Sprintf("partly shared: %d, fully shared it would be %s", s.Connections, want)
	case s.Connections <= s.IfShared:
		s.Explain = fmt.Sprintf("%d connections, nothing to gain from sharing", s.Connections)
	default:
		s.Explain = fmt.Sprintf("not shared: %d connections; with one instance passed to every Queue and Worker %s", s.Connections, want)
	}
}
