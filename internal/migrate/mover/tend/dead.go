package tend

import (
	"cmp"
	"context"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// DeadOptions say how to look at failed jobs.
type DeadOptions struct {
	// Filter is what a job must meet.
	Filter Filter

	// Limit is how many jobs are listed. Default 20; negative: none.
	Limit int

	// Scan is the most jobs to look at, the newest first. Default 10,000.
	Scan int

	// Now is the time that ages are measured from. Default time.Now.
	Now time.Time
}

// A Reason is why jobs failed, with what differs from one to the next left out.
type Reason struct {
	Reason   string `json:"reason"`
	Jobs     int64  `json:"jobs"`
	NewestMS int64  `json:"newest_ms,omitempty"`
	Example  string `json:"example"` // the id of the newest
}

// maxReasons is how many different reasons are told apart; the rest are counted together.
const maxReasons = 200

// OtherReasons is the reason of jobs beyond the first 200 different ones.
const OtherReasons = "(others)"

// A Dead is the failed jobs of a queue.
type Dead struct {
	Jobs    []Job    `json:"jobs"`      // newest first
	Matched int64    `json:"matched"`   // how many of those looked at meet the filter
	Looked  int64    `json:"looked_at"` // how many were looked at
	Total   int64    `json:"total"`     // how many there are
	Reasons []Reason `json:"reasons"`   // most jobs first
}

// Dead lists the jobs that failed for good, newest first, and counts why. Of asynq's bands each is
// newest first by itself. Price: one command for every 200 jobs looked at, and one for each.
func (q *Queue) Dead(ctx context.Context, o DeadOptions) (Dead, error) {
	if o.Limit == 0 {
		o.Limit = 20
	}
	if o.Scan <= 0 {
		o.Scan = 10000
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	d := Dead{Jobs: []Job{}, Reasons: []Reason{}}
	all, err := q.containers(ctx, []mover.State{mover.Failed})
	if err != nil {
		return d, err
	}
	if d.Total, err = q.total(ctx, all); err != nil {
		return d, err
	}
	counted := map[string]*Reason{}
	want := o.Filter.needs()
	want.hash = true
	for _, c := range all {
		for rank := int64(0); d.Looked < int64(o.Scan); {
			n := min(pageSize, int64(o.Scan)-d.Looked)
			ids, err := q.window(ctx, c, rank, n, true)
			if err != nil {
				return d, err
			}
			jobs, err := q.read(ctx, c, ids, want)
			if err != nil {
				return d, err
			}
			rank += int64(len(ids))
			for i := range jobs {
				d.Looked++
				j := jobs[i].Job
				if !o.Filter.Match(&j, o.Now) {
					continue
				}
				d.Matched++
				j.Data, j.DataBase64 = nil, nil
				count(counted, &j)
				if len(d.Jobs) < o.Limit {
					d.Jobs = append(d.Jobs, j)
				}
			}
			if int64(len(ids)) < n {
				break
			}
		}
	}
	for _, r := range counted {
		d.Reasons = append(d.Reasons, *r)
	}
	slices.SortFunc(d.Reasons, func(a, b Reason) int {
		return cmp.Or(cmp.Compare(b.Jobs, a.Jobs), strings.Compare(a.Reason, b.Reason))
	})
	return d, nil
}

func count(counted map[string]*Reason, j *Job) {
	name := Kind(j.Reason)
	r, ok := counted[name]
	if !ok && len(counted) >= maxReasons {
		name = OtherReasons
		r, ok = counted[name]
	}
	if !ok {
		r = &Reason{Reason: name}
		counted[name] = r
	}
	r.Jobs++
	if r.Example == "" || j.FinishedMS > r.NewestMS {
		r.Example, r.NewestMS = j.ID, j.FinishedMS
	}
}

// longestKind is how much of a reason tells it from others.
const longestKind = 120

var varying = regexp.MustCompile(`[0-9a-fA-F]{8}-[0-9a-fA-F-]{27}|\b[0-9a-fA-F]{16,}\b|\d+(\.\d+)*`)

// Kind is a reason without what differs from job to job: the first line, with numbers and ids as #.
func Kind(reason string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(reason), "\n")
	if line = strings.TrimSpace(line); line == "" {
		return "(none given)"
	}
	line = varying.ReplaceAllString(line, "#")
	if runes := []rune(line); len(runes) > longestKind {
		line = string(runes[:longestKind]) + "…"
	}
	return line
}
