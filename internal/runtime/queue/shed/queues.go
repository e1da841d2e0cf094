package shed

import (
	"fmt"
	"slices"
	"time"
)

// A Queue is what matters of a queue here.
type Queue struct {
	// Name is its name.
	Name string

	// Critical is whether it must run to the end of the budget.
	Critical bool

	// DependsOn are the queues without which this one is no good.
	DependsOn []string
}

func checkQueues(queues []Queue) []error {
	var errs []error
	names := map[string]bool{}
	for _, q := range queues {
		if q.Name == "" || names[q.Name] {
			errs = append(errs, fmt.Errorf("queues: the name %q is empty or there twice", q.Name))
		}
		names[q.Name] = true
	}
	for _, q := range queues {
		for _, on := range q.DependsOn {
			if !names[on] {
				errs = append(errs, fmt.Errorf("queues: %s depends on %q, which is not there", q.Name, on))
			}
		}
	}
	return errs
}

// An Action is what happens to a queue.
type Action string

// The actions.
const (
	Run   Action = "run"   // as ever
	Batch Action = "batch" // drained every Every, resting in between
	Pause Action = "pause" // at rest; jobs can be added
)

// A QueuePlan is what happens to one queue, and why.
type QueuePlan struct {
	Name   string        `json:"name"`
	Action Action        `json:"action"`
	Every  time.Duration `json:"-"` // Batch only
	Why    string        `json:"why"`

	// For is the critical queue that depends on this one, when that is why it is treated as critical.
	For string `json:"for,omitempty"`
}

// guards says of each queue that is not critical which critical one depends on it, directly or through
// others; the first in the alphabet where several do.
func guards(queues []Queue) map[string]string {
	byName := map[string]Queue{}
	for _, q := range queues {
		byName[q.Name] = q
	}
	guard := map[string]string{}
	var mark func(name, dependant string, seen map[string]bool)
	mark = func(name, dependant string, seen map[string]bool) {
		for _, on := range byName[name].DependsOn {
			if seen[on] { // also in a circle
				continue
			}
			seen[on] = true
			if old, ok := guard[on]; !byName[on].Critical && (!ok || dependant < old) {
				guard[on] = dependant
			}
			mark(on, dependant, seen)
		}
	}
	for _, q := range queues {
		if q.Critical {
			mark(q.Name, q.Name, map[string]bool{q.Name: true})
		}
	}
	return guard
}

// dependantsFirst is the queues in an order in which none comes before one that depends on it, else as they
// were given. A circle is broken anywhere.
func dependantsFirst(queues []Queue) []Queue {
	const (
		open = 1 + iota
		done
	)
	state := map[string]int{}
	var order []Queue
	var visit func(q Queue)
	visit = func(q Queue) {
		if state[q.Name] != 0 {
			return
		}
		state[q.Name] = open
		for _, other := range queues {
			if slices.Contains(other.DependsOn, q.Name) {
				visit(other)
			}
		}
		state[q.Name] = done
		order = append(order, q)
	}
	for _, q := range queues {
		visit(q)
	}
	return order
}

// plan is what happens to each queue at a level, those first that are shed first.
func (p *Planner) plan(l Level) []QueuePlan {
	out := make([]QueuePlan, 0, len(p.queues))
	for _, essential := range []bool{false, true} {
		for _, q := range p.queues {
			guarded, ok := p.guards[q.Name]
			if (q.Critical || ok) == essential {
				out = append(out, p.treat(q.Name, q.Critical, guarded, l))
			}
		}
	}
	return out
}

func (p *Planner) treat(name string, critical bool, guarded string, l Level) QueuePlan {
	plan := QueuePlan{Name: name, Action: Run, For: guarded}
	why := "not critical"
	switch {
	case critical:
		why = "critical"
	case guarded != "":
		why = guarded + ", which is critical, depends on it"
	}
	switch essential := critical || guarded != ""; {
	case l == Normal || essential && (l < Exhausted || p.opts.Overspend):
		plan.Why = why + ": runs"
	case l == Frugal:
		plan.Action, plan.Every = Batch, p.opts.BatchEvery
		plan.Why = fmt.Sprintf("%s: drained every %s", why, p.opts.BatchEvery)
	case l == Tight:
		plan.Action, plan.Why = Pause, why+": rests so that critical queues can go on"
	default:
		plan.Action, plan.Why = Pause, why+": rests because the budget is spent"
	}
	return plan
}
