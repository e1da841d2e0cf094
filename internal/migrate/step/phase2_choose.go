package step

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
)

// A Candidate is one queue and what the configuration, which alone says so, knows of its importance.
type Candidate struct {
	// Name is the queue's name, and Queue where it is; nil where Redis has no key of it.
	Name  string
	Queue *mover.Endpoint

	Listed   bool // the configuration knows it
	Ours     bool // `redisopt serve` runs it
	Critical bool

	// Guards are the critical queues that depend on it, and Safe is whether it may be paused in spite of
	// them, for MaxPause.
	Guards   []string
	Safe     bool
	MaxPause time.Duration

	// Order is its place in a migration, safest first; 0 comes last.
	Order int

	BacklogLimit int64
	CatchUp      CatchUp
}

// A PauseChoice is which candidates shall be paused.
type PauseChoice struct {
	// Only names the queues; none means all that may be paused without harm.
	Only []string

	// Bounded also pauses those that critical queues depend on, for as long as those do not suffer.
	Bounded bool

	// CatchUp, when not empty, is taken in the place of what each queue has.
	CatchUp CatchUp
}

// ChoosePaused picks the queues that may be paused, safest first, and says of each other one why not. What
// was named but may not be paused is a blocking problem.
func ChoosePaused(all []Candidate, choice PauseChoice) ([]PausedQueue, []migrate.Problem) {
	all = slices.Clone(all)
	slices.SortStableFunc(all, func(a, b Candidate) int {
		return cmp.Or(-cmp.Compare(min(a.Order, 1), min(b.Order, 1)), cmp.Compare(a.Order, b.Order), strings.Compare(a.label(), b.label()))
	})
	var queues []PausedQueue
	problems := []migrate.Problem{}
	for _, name := range choice.Only {
		if !slices.ContainsFunc(all, func(c Candidate) bool { return c.Name == name }) {
			problems = append(problems, migrate.Problem{
				Rule: "unknown-queue", Subject: name, Message: fmt.Sprintf("there is no queue %q", name), Fix: "redisopt queue ls shows which there are", Blocking: true,
			})
		}
	}
	for _, c := range all {
		named := slices.Contains(choice.Only, c.Name)
		if len(choice.Only) > 0 && !named {
			continue
		}
		if why := c.refusal(choice.Bounded); why != nil {
			why.Blocking = named
			problems = append(problems, *why)
			continue
		}
		q := PausedQueue{Ours: c.Ours, BacklogLimit: c.BacklogLimit, CatchUp: cmp.Or(choice.CatchUp, c.CatchUp)}
		if c.Queue != nil {
			q.Queue = *c.Queue
		} else {
			q.Queue = mover.Endpoint{Layout: tend.Asynq, Prefix: "asynq", Queue: c.Name}
		}
		if len(c.Guards) > 0 {
			q.Guards, q.MaxPauseMS = c.Guards, c.MaxPause.Milliseconds()
		}
		queues = append(queues, q)
	}
	return queues, problems
}

func (c Candidate) label() string {
	if c.Queue == nil {
		return c.Name
	}
	return c.Queue.Prefix + ":" + c.Queue.Queue
}

// refusal says why c is not paused, nil when it is.
func (c Candidate) refusal(bounded bool) *migrate.Problem {
	p := &migrate.Problem{Subject: c.label()}
	guards := strings.Join(c.Guards, ", ")
	switch {
	case !c.Listed:
		p.Rule = "unlisted"
		p.Message = p.Subject + " is not paused: the configuration does not know it, so nobody knows what depends on it"
		p.Fix = "add it to queues.list with its criticality and depends_on"
	case c.Critical:
		p.Rule = "critical"
		p.Message = p.Subject + " is not paused: it is critical"
	case len(c.Guards) > 0 && !c.Safe:
		p.Rule = "guards-critical"
		p.Message = fmt.Sprintf("%s is not paused: %s depends on it, and how long it may stand still is not known", p.Subject, guards)
		p.Fix = "set its max_pause, well below what it renews or checks expires after"
	case len(c.Guards) > 0 && !bounded:
		p.Rule = "bounded"
		p.Message = fmt.Sprintf("%s is not paused: %s depends on it, so it may only be for %s", p.Subject, guards, c.MaxPause)
		p.Fix = "add --time-boxed: the command stays and ends the pause in time"
	case c.Queue == nil && !c.Ours:
		p.Rule = "no-keys"
		p.Message = p.Subject + " is not paused: Redis has no key of it"
	default:
		return nil
	}
	return p
}
