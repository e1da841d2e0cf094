package mover

import (
	"context"
	"fmt"
)

// A lane is one way from a container of the source to a container of the target.
type lane struct {
	state    State
	from, to string // container names; for lists the target is wait, paused or not
	how      byte   // the end that is taken first: R, L (lists), Z, H (sorted sets, low or high)
	put      byte   // l, r: pushed left or right; f: in front, behind those returned before; z: added with its score
	edit     bool   // nothing leaves the container: hashes are converted where they are
	band     int    // of a source that is asynq's
}

func (l lane) isList() bool { return l.how == 'R' || l.how == 'L' }

// takeLeft and takeRight are the ends of a list; workers of both libraries pop on the right.
const (
	takeRight byte = 'R'
	takeLeft  byte = 'L'
	takeLow   byte = 'Z'
	takeHigh  byte = 'H'
	putLeft   byte = 'l'
	putRight  byte = 'r'
	putFront  byte = 'f'
	putScored byte = 'z'
)

// activeLane takes the oldest active job last, so that it ends rightmost and runs first.
func activeLane() lane { return lane{Active, "active", "wait", takeLeft, putRight, false, 0} }

// activeLanes are those of the jobs that run, or were running when their worker died.
func (m *Mover) activeLanes() []lane {
	switch {
	case m.opts.To.Layout == Asynq:
		return []lane{{Active, "active", "pending", takeLeft, putRight, false, 0}}
	case m.opts.From.Layout == Asynq:
		var all []lane
		for _, band := range []int{bandLow, bandNormal, bandHigh} {
			all = append(all, lane{Active, "active", "wait", takeLeft, putRight, false, band})
		}
		return all
	}
	return []lane{activeLane()}
}

// lanes are the ways of one pass, in order. Active jobs are apart, since they have conditions.
func (m *Mover) lanes(first bool) []lane {
	switch {
	case m.opts.To.Layout == Asynq:
		return m.enterLanes(first)
	case m.opts.From.Layout == Asynq:
		return m.leaveLanes(first)
	case m.inPlace():
		return m.inPlaceLanes()
	}
	return append(m.waitingLanes(first), scoredLanes(false)...)
}

func scoredLanes(edit bool) []lane {
	return []lane{
		{Delayed, "delayed", "delayed", takeLow, putScored, edit, 0},
		{Completed, "completed", "completed", takeLow, putScored, edit, 0},
		{Failed, "failed", "failed", takeLow, putScored, edit, 0},
	}
}

// waitingLanes order the jobs that wait. Forward, the next to run is taken first and pushed behind
// what the target has. Returned jobs are older than what was added meanwhile and go in front: the
// next to run first, put behind those that came before it; where that would be slow, the last to run first. What
// is added while that goes on is newer again and goes behind in the passes that follow.
func (m *Mover) waitingLanes(first bool) []lane {
	if m.opts.Reverse && first && !m.inOrder {
		lanes := []lane{
			{Waiting, "wait", "wait", takeLeft, putRight, false, 0},
			{Paused, "paused", "wait", takeLeft, putRight, false, 0},
		}
		switch {
		case m.opts.From.Layout != BullMQ:
		case m.opts.To.Layout == BullMQ:
			lanes = append(lanes, lane{Prioritized, "prioritized", "prioritized", takeLow, putScored, false, 0})
		default:
			lanes = append(lanes, lane{Prioritized, "prioritized", "wait", takeHigh, putRight, false, 0})
		}
		return lanes
	}
	put := putLeft
	if m.opts.Reverse && first {
		put = putFront
	}
	var lanes []lane
	if m.opts.To.Layout == BullMQ && m.opts.From.Layout == BullMQ {
		lanes = append(lanes, lane{Prioritized, "prioritized", "prioritized", takeLow, putScored, false, 0})
	} else if m.opts.From.Layout == BullMQ { // Bull runs these before plain jobs
		lanes = append(lanes, lane{Prioritized, "prioritized", "wait", takeLow, put, false, 0})
	}
	return append(lanes,
		lane{Paused, "paused", "wait", takeRight, put, false, 0},
		lane{Waiting, "wait", "wait", takeRight, put, false, 0},
	)
}

// maxBehind is how many jobs may wait at the target for returned ones to be put in front of them in their
// order: each is looked for from the other end of the list.
const maxBehind = 1000

// returnsInOrder says whether the jobs that are returned can be taken in the order in which they are to run, as the
// target's workers must find them. A way back that was begun so goes on so.
func (m *Mover) returnsInOrder(ctx context.Context) (bool, error) {
	if !m.opts.Reverse || m.inPlace() || m.opts.To.Layout == Asynq {
		return false, nil
	}
	p := m.client.Pipeline()
	begun := p.HExists(ctx, m.ledgerKey("counts"), "front")
	waiting, paused := p.LLen(ctx, m.opts.To.Key("wait")), p.LLen(ctx, m.opts.To.Key("paused"))
	if _, err := p.Exec(ctx); err != nil {
		return false, fmt.Errorf("count what waits at %s: %w", m.opts.To, err)
	}
	return begun.Val() || waiting.Val()+paused.Val() <= maxBehind, nil
}

// inPlaceLanes convert hashes where they are. Only what the target keeps elsewhere is moved; the
// list of waiting jobs is never rebuilt.
func (m *Mover) inPlaceLanes() []lane {
	lanes := []lane{
		{Waiting, "wait", "wait", takeRight, putRight, true, 0},
		{Paused, "paused", "paused", takeRight, putRight, true, 0},
	}
	if m.opts.From.Layout == BullMQ {
		lanes = append(lanes, lane{Prioritized, "prioritized", "wait", takeHigh, putRight, false, 0})
	}
	return append(lanes, scoredLanes(true)...)
}
