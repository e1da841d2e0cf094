package governor

import (
	"maps"
	"time"
)

const (
	pushesKept   = 8192             // ids that are remembered of each kind; forgetting costs a command
	pushesMemory = 10 * time.Second // at least, for jobs handled here: a push may come after the reply
)

// pushes tells what the server's pushes about one queue mean. Every change of a job changes the key of the
// job besides those of the lists that it is in, so a push names the jobs that it is about, and what was
// done here is known by their ids: it costs nothing. The Governor's mutex guards it.
type pushes struct {
	own      map[string]time.Time // jobs that were handled here, and when
	seen     map[string]bool      // those of others: whether they are active
	suspects map[string]struct{}  // those of a push that came while a dequeue was under way, which may be about it
}

func (p *pushes) init() {
	p.own, p.seen, p.suspects = map[string]time.Time{}, map[string]bool{}, map[string]struct{}{}
}

// mine notes that a job is handled here.
func (p *pushes) mine(id string, now time.Time) {
	if len(p.own) >= pushesKept {
		p.prune(now)
	}
	p.own[id] = now
	delete(p.seen, id)
}

// prune forgets what is too old to matter.
func (p *pushes) prune(now time.Time) {
	maps.DeleteFunc(p.own, func(_ string, at time.Time) bool { return now.Sub(at) > pushesMemory })
	if len(p.own) >= pushesKept {
		clear(p.own)
	}
	if len(p.seen) >= pushesKept {
		clear(p.seen)
	}
}

// A push is what changed in one queue at one time.
type push struct {
	pending, active, lease, scheduled, retry, other, paused, groups bool

	ids []string
}

func (p *push) add(part string) {
	if id, ok := taskOf(part); ok {
		p.ids = append(p.ids, id)
		return
	}
	switch part {
	case pendingPart:
		p.pending = true
	case activePart:
		p.active = true
	case leasePart:
		p.lease = true
	case scheduledPart:
		p.scheduled = true
	case retryPart:
		p.retry = true
	case archivedPart, completedPart:
		p.other = true
	case pausedPart:
		p.paused = true
	case groupsPart, setsPart:
		p.groups = true
	}
}

// pushed takes the keys that have changed.
func (g *Governor) pushed(keys []string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.stats.Pushes++
	if len(keys) == 0 {
		for _, q := range g.queues {
			q.suspect()
		}
		g.signal()
		return
	}
	changes := map[*queue]*push{}
	for _, k := range keys {
		name, part, _ := takeApart(k)
		q := g.queues[name]
		if q == nil {
			continue
		}
		if changes[q] == nil {
			changes[q] = &push{}
		}
		changes[q].add(part)
	}
	for q, p := range changes {
		g.understand(q, p)
	}
}

// understand takes what changed in one queue.
func (g *Governor) understand(q *queue, p *push) {
	gen := q.gen
	var foreign []string
	for _, id := range p.ids {
		if _, own := q.pushes.own[id]; !own {
			foreign = append(foreign, id)
		}
	}
	if p.paused || p.pending && len(p.ids) == 0 {
		q.suspect()
	}
	if p.groups {
		q.groups, q.groupsAt = true, time.Now()
	}
	if len(foreign) > 0 {
		g.foreignPush(q, p, foreign)
	}
	if q.gen != gen {
		g.signal()
	}
}

// foreignPush takes a change that is not, or not only, of what is done here.
func (g *Governor) foreignPush(q *queue, p *push, ids []string) {
	if len(q.pushes.seen) >= pushesKept {
		q.pushes.prune(time.Now())
	}
	if p.lease {
		q.foreign.suspect(time.Now().Add(g.opts.Lease + g.opts.Grace + time.Second))
		g.prod()
	}
	if g.role.sweeper && !p.pending && (p.scheduled || p.retry) {
		q.scheduled.ask = q.scheduled.ask || p.scheduled
		q.retry.ask = q.retry.ask || p.retry
		g.prod()
	}
	switch {
	case !p.pending:
	case !p.active:
		// Jobs were enqueued, moved when they were due, or run by an operator.
		for _, id := range ids {
			q.pushes.seen[id] = false
		}
		q.paused = false
		q.credit(int64(len(ids)))
	case p.scheduled || p.retry || p.other:
		q.suspect()
	default:
		g.movedByOthers(q, ids)
	}
}

// movedByOthers takes jobs that went from pending to active, or back.
func (g *Governor) movedByOthers(q *queue, ids []string) {
	for _, id := range ids {
		active, known := q.pushes.seen[id]
		q.pushes.seen[id] = !known || !active
		switch {
		case known && !active:
			// Another worker took it.
		case !known && q.asking > 0:
			q.pushes.suspects[id] = struct{}{}
		default:
			// It was put back, or it was enqueued and taken at once: perhaps another with it.
			q.suspect()
		}
	}
}

// settle looks again at what may have been about a dequeue, once no dequeue is under way. The mutex is held.
func (g *Governor) settle(q *queue) {
	if q.asking > 0 || len(q.pushes.suspects) == 0 {
		return
	}
	for id := range q.pushes.suspects {
		if _, own := q.pushes.own[id]; !own {
			q.suspect()
			g.signal()
			break
		}
	}
	clear(q.pushes.suspects)
}
