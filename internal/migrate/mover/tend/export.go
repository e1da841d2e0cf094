package tend

import (
	"context"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// ExportOptions say which jobs to write.
type ExportOptions struct {
	// States are the states to read; none means all.
	States []mover.State

	// Filter is what a job must meet.
	Filter Filter

	// Now is the time that ages are measured from. Default time.Now.
	Now time.Time

	// OnProgress, when not nil, is told after every page how many jobs were looked at, of how many.
	OnProgress func(looked, total int64)
}

// An Exported is how much Export read.
type Exported struct {
	Jobs    int64                 `json:"jobs"`
	Looked  int64                 `json:"looked_at"`
	ByState map[mover.State]int64 `json:"by_state"`
}

// Export calls write for every job with all of its fields, by states in the order a job passes through
// them, so that a job that moves on meanwhile is read twice, with its later state last, rather than not
// at all. It holds 200 jobs in memory. What write returns ends it. Price: one command for every 200
// jobs, and one for each.
func (q *Queue) Export(ctx context.Context, o ExportOptions, write func(*Job) error) (Exported, error) {
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	if len(o.States) == 0 {
		o.States = q.States()
	}
	done := Exported{ByState: map[mover.State]int64{}}
	all, err := q.containers(ctx, o.States)
	if err != nil {
		return done, err
	}
	total, err := q.total(ctx, all)
	if err != nil {
		return done, err
	}
	for _, c := range all {
		for from := int64(0); ; {
			if err := ctx.Err(); err != nil {
				return done, err
			}
			ids, err := q.window(ctx, c, from, pageSize, false)
			if err != nil {
				return done, err
			}
			jobs, err := q.read(ctx, c, ids, needs{hash: true, data: true, all: true})
			if err != nil {
				return done, err
			}
			from += int64(len(ids))
			for i := range jobs {
				done.Looked++
				j := &jobs[i].Job
				if !o.Filter.Match(j, o.Now) {
					continue
				}
				if err := write(j); err != nil {
					return done, err
				}
				done.Jobs++
				done.ByState[j.State]++
			}
			if o.OnProgress != nil {
				o.OnProgress(done.Looked, total)
			}
			if len(ids) < pageSize {
				break
			}
		}
	}
	return done, nil
}
