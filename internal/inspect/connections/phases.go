package connections

import (
	"fmt"
	"slices"
)

// roleCounts are the numbers that phases are computed from.
type roleCounts struct {
	total, cache, limiter, sms, pool int
	bull, bullmq                     int // connections of each library
	bullWorkers, bullProducers       int
	mqWorkers, mqEvents              int
	bullProcesses, mqProcesses       int
}

// phases computes what each move leaves from the measured roles, never from a target: queue objects
// keep their connections until they are closed, and BullMQ with an options object per queue opens as
// many as Bull does.
func phases(r *Report, paused []string) []Phase {
	n := countRoles(r)
	now := Phase{
		Phase: "now", Target: "as measured", Left: n.total, Inputs: map[string]int{"total": n.total},
		Formula: fmt.Sprintf("%d connections, ours not counted", n.total),
	}
	http := n.cache + n.limiter + n.sms + n.pool
	after1 := n.total - http
	p1 := Phase{
		Phase: "phase1", Target: "cache, limiters and pool over HTTP", Left: after1,
		Formula: fmt.Sprintf("%d - (cache %d + limiter %d + sms limiter %d + pool %d) = %d", n.total, n.cache, n.limiter, n.sms, n.pool, after1),
		Inputs:  map[string]int{"total": n.total, "cache": n.cache, "limiter": n.limiter, "sms_limiter": n.sms, "pool": n.pool},
	}
	out := []Phase{now, p1, pausedPhase(r, after1, paused)}

	others := after1 - n.bull - n.bullmq
	plain := 3*n.bullWorkers + n.bullProducers
	left := others + plain + n.bullmq
	out = append(out, Phase{
		Phase: "phase3", Target: "BullMQ, connection options per queue", Left: left,
		Formula: fmt.Sprintf("%d others + 3 x %d workers + %d producers + %d already BullMQ = %d", others, n.bullWorkers, n.bullProducers, n.bullmq, left),
		Inputs: map[string]int{
			"others": others, "workers": n.bullWorkers, "producers": n.bullProducers, "bullmq_now": n.bullmq,
		},
	})
	procs, workers := n.bullProcesses+n.mqProcesses, n.bullWorkers+n.mqWorkers
	left = others + procs + workers + n.mqEvents
	out = append(out, Phase{
		Phase: "phase3", Target: "BullMQ, one shared instance per process", Left: left,
		Formula: fmt.Sprintf("%d others + %d shared, one per process + %d workers + %d QueueEvents = %d", others, procs, workers, n.mqEvents, left),
		Inputs:  map[string]int{"others": others, "processes": procs, "workers": workers, "queue_events": n.mqEvents},
	})
	for i := range out {
		out[i].Removed = n.total - out[i].Left
		if n.total > 0 {
			out[i].LessPercent = 100 * float64(out[i].Removed) / float64(n.total)
		}
	}
	return out
}

func pausedPhase(r *Report, after1 int, paused []string) Phase {
	if len(paused) == 0 {
		return Phase{
			Phase: "phase2", Target: "queues paused", Left: after1,
			Formula: fmt.Sprintf("%d: a pause closes no connection, and no queues to close were named", after1),
			Inputs:  map[string]int{"after_phase1": after1, "closed": 0},
		}
	}
	closed := 0
	for _, c := range r.Connections {
		if !c.Own && c.Queue != "" && slices.Contains(paused, c.Queue) {
			closed++
		}
	}
	return Phase{
		Phase: "phase2", Target: fmt.Sprintf("%d queues paused and their objects closed", len(paused)), Left: after1 - closed,
		Formula: fmt.Sprintf("%d - %d connections of %d paused queues = %d; a pause alone closes none", after1, closed, len(paused), after1-closed),
		Inputs:  map[string]int{"after_phase1": after1, "closed": closed, "queues": len(paused)},
	}
}

func countRoles(r *Report) roleCounts {
	n := roleCounts{total: r.Total}
	bullClients := 0
	for _, c := range r.Connections {
		if c.Own {
			continue
		}
		switch c.Library {
		case LibraryBull:
			n.bull++
		case LibraryBullMQ:
			n.bullmq++
		case LibraryEither, LibraryNone:
		}
		switch c.Role {
		case RoleCache:
			n.cache++
		case RoleLimiter:
			n.limiter++
		case RoleSMS:
			n.sms++
		case RolePool:
			n.pool++
		case RoleWorker:
			switch c.Library {
			case LibraryBull:
				n.bullWorkers++
			case LibraryBullMQ:
				n.mqWorkers++
			case LibraryEither, LibraryNone:
			}
		case RoleEvents:
			n.mqEvents++
		case RoleQueueClient:
			if c.Library == LibraryBull {
				bullClients++
			}
		case RoleWorkerClient, RoleSubscriber, RoleShared, RolePubSub, RoleApp, RoleReplica, RoleMonitor, RoleUnknown:
		}
	}
	n.bullProducers = max(bullClients-n.bullWorkers, 0)
	for _, s := range r.Sharing {
		if s.Library == LibraryBull {
			n.bullProcesses += s.processes
		} else {
			n.mqProcesses += s.processes
		}
	}
	return n
}
