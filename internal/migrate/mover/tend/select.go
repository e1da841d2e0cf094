package tend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// Bounds of what one change acts on.
const (
	defaultMaxJobs = 100000
	maxIDs         = 1000
)

// Criteria say which jobs a change is about: those in States that meet Filter, or those of IDs that
// are in States and meet Filter.
type Criteria struct {
	States []mover.State
	Filter Filter

	// IDs names the jobs. At most 1,000.
	IDs []string

	// MaxJobs is the most jobs to select; more of them are left for another run. Default 100,000.
	MaxJobs int

	// Schedules selects the pending runs of schedules as well, which are left out otherwise.
	Schedules bool

	// Now is the time that ages are measured from. Default time.Now.
	Now time.Time

	// OnProgress, when not nil, is told after every page how many jobs were looked at, of how many.
	OnProgress func(looked, total int64)
}

// A Selection is the jobs that a change is about, as they were seen.
type Selection struct {
	// Jobs is how many there are, and ByState where they are.
	Jobs    int64
	ByState map[mover.State]int64

	// Looked is how many jobs were looked at to find them.
	Looked int64

	// Schedules is how many pending runs of schedules were left out.
	Schedules int64

	// Named says that the jobs were named, by Criteria.IDs.
	Named bool

	// Missing are those of Criteria.IDs that are not there in these states.
	Missing []string

	// More is true when MaxJobs was reached before the end.
	More bool

	lots  []lot
	names []string // the fields that seals were made of
}

// A lot is what was selected of one container, in the order in which it shall be acted on.
type lot struct {
	c      container
	claims []claim
}

// A claim is one selected job, with the seal of what made the filter match; empty when nothing did.
type claim struct{ id, seal string }

// Select reads which jobs are meant. It writes nothing. Price: one command for every 200 jobs in the
// states, and one for each where the filter asks for more than the id; of named jobs about two for each
// state, and one.
func (q *Queue) Select(ctx context.Context, k Criteria) (*Selection, error) {
	if k.Now.IsZero() {
		k.Now = time.Now()
	}
	if k.MaxJobs == 0 {
		k.MaxJobs = defaultMaxJobs
	}
	if k.MaxJobs < 0 || len(k.IDs) > maxIDs {
		return nil, fmt.Errorf("select: got %d ids and at most %d jobs, want at most %d ids and 1 job or more", len(k.IDs), k.MaxJobs, maxIDs)
	}
	all, err := q.containers(ctx, k.States)
	if err != nil {
		return nil, err
	}
	s := &Selection{ByState: map[mover.State]int64{}, Missing: []string{}, Named: len(k.IDs) > 0}
	want := k.Filter.needs()
	if want.hash || want.data {
		s.names = q.sealed(k.Filter)
	}
	pending, err := q.pendingRuns(ctx, k)
	if err != nil {
		return nil, err
	}
	pick := picker{q: q, k: k, s: s, want: want, pending: pending}
	if len(k.IDs) > 0 {
		return s, pick.named(ctx, all)
	}
	return s, pick.walk(ctx, all)
}

// sealed are the fields of a hash that f looks at.
func (q *Queue) sealed(f Filter) []string {
	if q.at.Layout == Asynq {
		return []string{"msg"}
	}
	names := []string{}
	for i := range f.terms {
		switch f.terms[i].field {
		case "name":
			names = append(names, "name")
		case "reason":
			names = append(names, "failedReason")
		case "age":
			names = append(names, "timestamp")
		case "finished":
			names = append(names, "finishedOn")
		case "attempts":
			names = append(names, map[mover.Layout]string{mover.Bull: "attemptsMade", mover.BullMQ: "atm"}[q.at.Layout])
		case "priority":
			names = append(names, "priority")
		case "data":
			names = append(names, "data")
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// pendingRuns are the ends of the ids of runs that schedules wait for: ":1797972456522".
func (q *Queue) pendingRuns(ctx context.Context, k Criteria) (map[string]bool, error) {
	if q.at.Layout == Asynq || k.Schedules {
		return nil, nil
	}
	next, err := q.client.ZRangeWithScores(ctx, q.at.Key("repeat"), 0, defaultMaxJobs).Result()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", q.at.Key("repeat"), wrongType(err, q.at.Key("repeat")))
	}
	pending := map[string]bool{}
	for _, z := range next {
		pending[fmt.Sprintf(":%.0f", z.Score)] = true
	}
	return pending, nil
}

// A picker collects what shall be acted on.
type picker struct {
	q       *Queue
	k       Criteria
	s       *Selection
	want    needs
	pending map[string]bool
	taken   map[string]bool // of this container: what is added meanwhile shifts jobs past the reader again
}

// scheduled says whether id is the pending run of a schedule. The scripts ask the schedule itself.
func (p *picker) scheduled(id string) bool {
	return strings.HasPrefix(id, "repeat:") && p.pending[id[strings.LastIndexByte(id, ':'):]]
}

func (p *picker) walk(ctx context.Context, all []container) error {
	total, err := p.q.total(ctx, all)
	if err != nil {
		return err
	}
	for _, c := range all {
		p.taken = map[string]bool{}
		for from := int64(0); ; {
			ids, err := p.q.window(ctx, c, from, pageSize, false)
			if err != nil {
				return err
			}
			from += int64(len(ids))
			jobs, err := p.q.read(ctx, c, ids, p.want)
			if err != nil {
				return err
			}
			for i := range jobs {
				if p.take(c, &jobs[i]); p.s.More {
					return nil
				}
			}
			if p.k.OnProgress != nil {
				p.k.OnProgress(p.s.Looked, total)
			}
			if len(ids) < pageSize {
				break
			}
		}
	}
	return nil
}

// take adds a job to the selection if it is meant.
func (p *picker) take(c container, j *found) {
	p.s.Looked++
	if !p.k.Filter.Match(&j.Job, p.k.Now) {
		return
	}
	if p.scheduled(j.ID) {
		p.s.Schedules++
		return
	}
	if p.s.Jobs >= int64(p.k.MaxJobs) {
		p.s.More = true
		return
	}
	if p.taken != nil {
		if p.taken[j.ID] {
			return
		}
		p.taken[j.ID] = true
	}
	one := claim{id: j.ID}
	if len(p.s.names) > 0 {
		one.seal = seal(p.s.names, j.fields)
	}
	lots := p.s.lots
	if len(lots) == 0 || lots[len(lots)-1].c != c {
		p.s.lots = append(p.s.lots, lot{c: c})
	}
	last := &p.s.lots[len(p.s.lots)-1]
	last.claims = append(last.claims, one)
	p.s.Jobs++
	p.s.ByState[c.state]++
}

// total is how many jobs the containers hold: one command for each.
func (q *Queue) total(ctx context.Context, all []container) (int64, error) {
	sizes, err := q.sizes(ctx, all)
	total := int64(0)
	for _, n := range sizes {
		total += n
	}
	return total, err
}

// sizes counts the jobs of each container.
func (q *Queue) sizes(ctx context.Context, all []container) ([]int64, error) {
	if len(all) == 0 {
		return nil, nil
	}
	replies := make([]*redis.IntCmd, len(all))
	_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range all {
			if c.list {
				replies[i] = p.LLen(ctx, c.key)
			} else {
				replies[i] = p.ZCard(ctx, c.key)
			}
		}
		return nil
	})
	if err := onlyReplies(err); err != nil {
		return nil, fmt.Errorf("count jobs: %w", err)
	}
	sizes := make([]int64, len(all))
	for i, c := range all {
		if err := replies[i].Err(); err != nil {
			return nil, fmt.Errorf("count %q: %w", c.key, wrongType(err, c.key))
		}
		sizes[i] = replies[i].Val()
	}
	return sizes, nil
}

// named looks for the jobs that were named.
func (p *picker) named(ctx context.Context, all []container) error {
	ids := slices.Compact(slices.Sorted(slices.Values(p.k.IDs)))
	left := map[string]bool{}
	for _, id := range ids {
		left[id] = true
	}
	for _, c := range all {
		here, err := p.q.within(ctx, c, ids)
		if err != nil {
			return err
		}
		here = slices.DeleteFunc(here, func(at placed) bool { return !left[at.id] })
		jobs, err := p.q.read(ctx, c, here, p.want)
		if err != nil {
			return err
		}
		for i := range jobs {
			delete(left, jobs[i].ID)
			p.take(c, &jobs[i])
		}
	}
	for _, id := range ids {
		if left[id] {
			p.s.Missing = append(p.s.Missing, id)
		}
	}
	return nil
}

// within is which of ids are in c: one command for each.
func (q *Queue) within(ctx context.Context, c container, ids []string) ([]placed, error) {
	scores := make([]*redis.FloatCmd, len(ids))
	ranks := make([]*redis.IntCmd, len(ids))
	_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			if c.list {
				ranks[i] = p.LPos(ctx, c.key, id, redis.LPosArgs{})
			} else {
				scores[i] = p.ZScore(ctx, c.key, id)
			}
		}
		return nil
	})
	if err := onlyReplies(err); err != nil {
		return nil, fmt.Errorf("look for jobs in %q: %w", c.key, err)
	}
	here := []placed{}
	for i, id := range ids {
		at := placed{id: id}
		if c.list {
			err = ranks[i].Err()
		} else {
			at.score, err = scores[i].Result()
		}
		switch {
		case err == nil:
			here = append(here, at)
		case !errors.Is(err, redis.Nil):
			return nil, fmt.Errorf("look for %q in %q: %w", id, c.key, wrongType(err, c.key))
		}
	}
	return here, nil
}
