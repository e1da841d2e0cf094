package governor

import (
	"maps"
	"math/rand/v2"
	"time"
)

const (
	pushesKept   = 8192             // ids that are remembered of each kind; forgetting costs a command
	pushesMemory = 10 * time.Second // at least, for jobs handled here: a push may come after the reply
)

// With other workers, one that hears of a job of somebody else waits this long, and up to so much more: who
// enqueued it takes it at once, and is heard to.
const (
	politeness       = 2 * time.Millisecond
	politenessSpread = 6 * time.Millisecond
)

// A deed is what was done to a job here, in terms of the keys that change with it.
type deed int

const (
	changedIt deed = 0 // neither of the others
	addedIt   deed = 1 // it became pending, and nothing else of it changed
	tookIt    deed = 2 // it went from pending to active, or back
)

// pushes tells what the server's pushes about one queue mean. Every change of a job changes the key of the
// job besides those of the lists that it is in, so a push names the jobs that it is about, and what was
// done here is known by their ids: it costs nothing. The Governor's mutex guards it.
type pushes struct {
	own      map[string]handled
	others   map[string]whereabouts
	suspects map[string]struct{} // jobs of a push that came while a dequeue was under way, which may be about it
}

// handled is what was done here lately to a job.
type handled struct {
	at     time.Time
	deeds  deed
	flying bool // the reply has not come
}

// whereabouts is what is known of a job of others that is not pending.
type whereabouts int

const (
	unheard whereabouts = iota
	vanished
	active
)

func (p *pushes) init() {
	p.own, p.others, p.suspects = map[string]handled{}, map[string]whereabouts{}, map[string]struct{}{}
}

// mine notes that something is done to a job here.
func (p *pushes) mine(id string, d deed, now time.Time) {
	if len(p.own) >= pushesKept {
		p.prune(now)
	}
	was := p.own[id]
	if now.Sub(was.at) > pushesMemory {
		was.deeds = 0
	}
	p.own[id] = handled{now, was.deeds | d, true}
	delete(p.others, id)
}

// landed notes that the reply to what was done has come.
func (p *pushes) landed(id string) {
	if h, ok := p.own[id]; ok {
		h.flying = false
		p.own[id] = h
	}
}

// gone notes that a job which was pending is not: the push that says so is still to come.
func (p *pushes) gone(id string) { p.others[id] = vanished }

// prune forgets what is too old to matter.
func (p *pushes) prune(now time.Time) {
	maps.DeleteFunc(p.own, func(_ string, h handled) bool { return now.Sub(h.at) > pushesMemory })
	if len(p.own) >= pushesKept {
		clear(p.own)
	}
	if len(p.others) >= pushesKept {
		clear(p.others)
	}
}

// did is whether a push about a job is about what was done here.
func (p *pushes) did(id string, d deed, now time.Time) bool {
	h, ok := p.own[id]
	return ok && now.Sub(h.at) <= pushesMemory && h.deeds&d == d
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
	now := time.Now()
	for q, p := range changes {
		known := q.known
		g.understand(q, p, now)
		if q.known != known {
			g.rouse(q)
		}
	}
}

// understand takes what changed in one queue.
func (g *Governor) understand(q *queue, p *push, now time.Time) {
	if len(q.pushes.others) >= pushesKept {
		q.pushes.prune(now)
	}
	d := changedIt
	switch {
	case p.pending && p.active:
		d = tookIt
	case p.pending:
		d = addedIt
	}
	var foreign []string
	for _, id := range p.ids {
		if !q.pushes.did(id, d, now) && !q.pushes.own[id].flying { // the reply will tell
			foreign = append(foreign, id)
		}
	}
	if p.paused || p.pending && len(p.ids) == 0 {
		q.suspect()
	}
	if p.groups {
		q.groups, q.groupsAt = true, now
	}
	if len(foreign) == 0 {
		return
	}
	if p.lease {
		if q.foreign.suspect(now.Add(g.opts.Lease + g.opts.Grace + time.Second)) {
			g.prod()
		}
	}
	if g.role.sweeper && !p.pending && (p.scheduled || p.retry) {
		q.scheduled.ask = q.scheduled.ask || p.scheduled
		q.retry.ask = q.retry.ask || p.retry
		g.prod()
	}
	switch d {
	case addedIt:
		g.addedByOthers(q, foreign, now)
	case tookIt:
		if p.scheduled || p.retry || p.other {
			q.suspect()
			return
		}
		g.movedByOthers(q, foreign, len(p.ids) == 1, now)
	case changedIt:
		if p.active && p.lease && len(p.ids) == 1 {
			// It ended, so it was taken.
			delete(q.waiting, p.ids[0])
		}
	}
}

// addedByOthers takes jobs that were enqueued, moved when they were due, or run by an operator.
func (g *Governor) addedByOthers(q *queue, ids []string, now time.Time) {
	for _, id := range ids {
		delete(q.pushes.others, id)
	}
	var ready time.Time
	if g.bell.peers > 0 {
		ready = now.Add(politeness + rand.N(politenessSpread))
	}
	q.paused = false
	q.arrived(now, ready, ids...)
}

// movedByOthers takes jobs that went from pending to active, or back. When it is about a single job it is
// plain which; otherwise some may just have been enqueued at the same time.
func (g *Governor) movedByOthers(q *queue, ids []string, single bool, now time.Time) {
	for _, id := range ids {
		waits, known := q.waiting[id]
		was := q.pushes.others[id]
		switch {
		case known && single:
			delete(q.waiting, id)
			q.pushes.others[id] = active
		case known:
			// Taken or enqueued. Its end tells, or a dequeue.
			if !waits.ready.IsZero() {
				waits.ready = now.Add(4 * politeness)
				q.waiting[id] = waits
			}
		case was == vanished:
			q.pushes.others[id] = active
		case was == active && single:
			delete(q.pushes.others, id)
			q.arrived(now, time.Time{}, id)
		case was == unheard && q.asking > 0:
			q.pushes.suspects[id] = struct{}{}
		default:
			q.pushes.others[id] = active
			q.suspect()
		}
	}
}

// settle looks again at what may have been about a dequeue, once no dequeue is under way. The mutex is held.
func (g *Governor) settle(q *queue) {
	if q.asking > 0 || len(q.pushes.suspects) == 0 {
		return
	}
	now := time.Now()
	for id := range q.pushes.suspects {
		if !q.pushes.did(id, tookIt, now) {
			q.suspect()
			g.rouse(q)
			break
		}
	}
	clear(q.pushes.suspects)
}
