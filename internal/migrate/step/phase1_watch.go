package step

import (
	"context"
	"fmt"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// noIncrease is a difference in milliseconds below which nobody waits noticeably longer.
const noIncrease = 1.0

// A phase1Watch measures what only the replicas know, and leaves the rest to another Watch.
type phase1Watch struct {
	phase *Phase1
	inner migrate.Watch // may be nil
}

// Read measures one KPI between two times. It sends no command to a Redis for those that replicas know.
func (w *phase1Watch) Read(ctx context.Context, kpi string, from, to time.Time) (migrate.Evidence, error) {
	switch kpi {
	case kpiNewErrors, migrate.KPIMismatches, kpiDecisions, migrate.KPIHitRate, kpiP95Increase:
	default:
		if w.inner == nil {
			return missing(from, to, "nothing here measures "+kpi), nil
		}
		e, err := w.inner.Read(ctx, kpi, from, to)
		var note checkNote
		w.phase.env.Recall(phase1Preflight, &note)
		return note.Against(kpi, e), err
	}
	if len(w.phase.Fleet.URLs) == 0 {
		return missing(from, to, "no replica is known: name them in serve.replicas"), nil
	}
	e := migrate.Evidence{
		Known: true, From: from, To: to, Coverage: 1, Missing: []string{},
		Source: fmt.Sprintf("GET /v1/ramp/stats of %d replicas", len(w.phase.Fleet.URLs)),
	}
	var said []replica.Stats
	for _, a := range w.phase.Fleet.Stats(ctx, from, to) {
		if a.Err != nil {
			return missing(from, to, a.Err.Error()), nil //nolint:nilerr // what one replica alone saw is unknown, which a gate waits for
		}
		e.Coverage = min(e.Coverage, a.Said.Covered)
		said = append(said, a.Said)
	}
	switch kpi {
	case kpiNewErrors:
		w.errors(&e, said)
	case migrate.KPIMismatches:
		w.differences(&e, said, false)
	case kpiDecisions:
		w.differences(&e, said, true)
	case migrate.KPIHitRate:
		w.hitRate(&e, said)
	case kpiP95Increase:
		w.increase(&e, said)
	}
	if e.Samples == 0 && len(e.Missing) == 0 {
		e.Missing = []string{fmt.Sprintf("no traffic of %v was seen on the replicas", w.phase.plan.Routes)}
		e.Known = false
	}
	return e, nil
}

func missing(from, to time.Time, why string) migrate.Evidence {
	return migrate.Evidence{From: from, To: to, Missing: []string{why}}
}

// each calls f with what each replica counted of each route of the plan.
func (w *phase1Watch) each(said []replica.Stats, f func(route string, c replica.Counts)) {
	for _, s := range said {
		for _, route := range w.phase.plan.Routes {
			f(route, s.Route(route))
		}
	}
}

func (w *phase1Watch) errors(e *migrate.Evidence, said []replica.Stats) {
	w.each(said, func(_ string, c replica.Counts) {
		e.Value += float64(c.New.Errors)
		e.Samples += c.New.Calls
	})
}

// differences are those of reads, or of decisions about limits.
func (w *phase1Watch) differences(e *migrate.Evidence, said []replica.Stats, limits bool) {
	w.each(said, func(route string, c replica.Counts) {
		if limits != (route == ramp.Limit) {
			return
		}
		e.Value += float64(c.Differences)
		for class, n := range c.Compared {
			if class != string(ramp.Dropped) && class != string(ramp.Failed) {
				e.Samples += n
			}
		}
	})
}

// hitRate is what callers found: on the new side, or on the old one in its place.
func (w *phase1Watch) hitRate(e *migrate.Evidence, said []replica.Stats) {
	var hits, reads int64
	w.each(said, func(route string, c replica.Counts) {
		if route == ramp.Limit {
			return
		}
		hits += c.Old.Hits + c.New.Hits
		// A read that was filled from the old side counts there, and its miss on the new one does not.
		reads += c.Old.Hits + c.Old.Misses + c.New.Hits + max(0, c.New.Misses-c.New.Filled)
	})
	e.Samples = reads
	if reads > 0 {
		e.Value = 100 * float64(hits) / float64(reads)
	}
}

// increase is by how much longer callers wait than before, on the replica and route where it is worst.
func (w *phase1Watch) increase(e *migrate.Evidence, said []replica.Stats) {
	var before shareNote
	first := phase1Share{w.phase, w.phase.plan.Percentages[0]}
	if !w.phase.env.Recall(first.Name(), &before) || len(before.P95MS) == 0 {
		e.Known, e.Missing = false, []string{"what callers waited before the first share was not measured: no replica could be asked then"}
		return
	}
	w.each(said, func(route string, c replica.Counts) {
		base := before.P95MS[route]
		if c.Answers == 0 || base <= 0 {
			return
		}
		e.Samples += c.Answers
		if more := c.AnswersP95 - base; more >= noIncrease {
			e.Value = max(e.Value, 100*more/base)
		}
	})
	if e.Samples == 0 {
		e.Known, e.Missing = false, []string{fmt.Sprintf("no caller of %v was seen both before and now", w.phase.plan.Routes)}
	}
}
