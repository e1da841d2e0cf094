package governor

import (
	"math/rand/v2"
	"time"
)

// A turn is a queue that dequeues are worth sending for.
type turn struct {
	q    *queue
	left int // how many
}

// turnsOf are the turns of a group at now, each with no more than most dequeues; when there is none, next is
// when there will be, and zero means never. The mutex is held.
func (g *Governor) turnsOf(own *group, now time.Time, most int) (all []turn, next time.Time) {
	for _, q := range own.queues {
		at := q.next(now)
		switch {
		case at.IsZero():
		case !now.Before(at):
			left := 1
			if most > 1 {
				shared := q.weight
				if g.opts.Separate {
					shared = 1 // each costs as much as a job that is there; by one script all that a queue lacks cost 1
				}
				left = q.likely(now, most, shared, g.bell.peers > 0)
			}
			all = append(all, turn{q, left})
		case next.IsZero() || at.Before(next):
			next = at
		}
	}
	return all, next
}

// pick takes turns at random by the weights of the queues, as asynq does, up to most and as far as Admit lets it.
// The same queue can be picked again.
func (g *Governor) pick(turns []turn, most int) []*queue {
	var picked []*queue
	var ahead []string
	total := 0
	for _, t := range turns {
		total += t.q.weight
	}
	for len(picked) < most && len(turns) > 0 {
		i := 0
		for at := rand.N(total); at >= turns[i].q.weight; i++ { //nolint:gosec // it shares turns and keeps no secret
			at -= turns[i].q.weight
		}
		t := &turns[i]
		admitted := g.opts.Admit(t.q.name, ahead)
		if admitted {
			picked, ahead = append(picked, t.q), append(ahead, t.q.name)
			t.left--
		} else if len(picked) == 0 {
			g.refuse(t.q)
		}
		if !admitted || t.left == 0 {
			total -= t.q.weight
			turns[i] = turns[len(turns)-1]
			turns = turns[:len(turns)-1]
		}
	}
	return picked
}

// refuse notes that Admit said no.
func (g *Governor) refuse(q *queue) {
	g.mu.Lock()
	defer g.mu.Unlock()
	q.held = time.Now().Add(g.opts.Nap)
	g.stats.Refused++
}
