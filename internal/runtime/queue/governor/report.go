package governor

import "time"

// Added says that jobs of a queue became pending by a command that did not pass the hook, and that it
// succeeded. With their ids it is exact, so that no dequeue is sent in vain; without any it costs one dequeue
// more, as Wake does. Other replicas are told as of any job. It costs what announcing costs: nothing when
// there is nobody to tell, and otherwise at most one PUBLISH for each Options.Window.
func (g *Governor) Added(queue string, ids ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[queue]
	if q == nil {
		return
	}
	if len(ids) == 0 {
		g.suspected(q)
	} else {
		for _, id := range ids {
			q.pushes.landed(id)
		}
		g.added(q, ids...)
	}
	g.rouse(q)
}

// Due says the same of a delayed job: when it is due, in Unix seconds, and whether it waits to be tried
// again rather than for its first time.
func (g *Governor) Due(queue string, retry bool, unix int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[queue]
	if q == nil {
		return
	}
	d := &q.scheduled
	if retry {
		d = &q.retry
	}
	if d.note(unix) {
		g.announceDue(q, retry, unix)
	}
	g.signal(q)
}

// Own says that jobs are about to be changed by a command that does not pass the hook, so that what the
// server pushes of them is known to be of this replica. Without it such a push costs a dequeue. It does
// nothing where the server does not push.
func (g *Governor) Own(queue string, ids ...string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := g.queues[queue]
	if q == nil || g.bell.mode != tracks {
		return
	}
	now := time.Now()
	for _, id := range ids {
		q.pushes.mine(id, addedIt|tookIt, now)
	}
}

// Released says that a job that was taken here was finished, or put back, by a command that did not pass
// the hook: its lease is gone.
func (g *Governor) Released(queue, id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.queues[queue]; q != nil {
		delete(q.own, id)
	}
}

// Completed says that a completed job is kept until then, in Unix seconds, by a command that did not pass
// the hook.
func (g *Governor) Completed(queue string, until int64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if q := g.queues[queue]; q != nil {
		q.completed.note(until)
	}
}
