package step

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
)

// Phase2Facts are what audits know about the connections of the queues that are paused.
type Phase2Facts struct {
	Connections int64 // of the application, ours not counted
	Limit       int64 // 0 when not known

	// Queues are the facts of each queue, by its label.
	Queues map[string]QueueFacts
}

// QueueFacts are what audits know about one queue.
type QueueFacts struct {
	Connections int64
	Workers     int64
	Processes   []string // that run its workers: "pid 4711 (node)"

	// AddedPerDay is how many jobs are added a day at the rate that was measured; nil when it was not.
	AddedPerDay *float64
}

// Measured costs of Bull's and BullMQ's workers with the libraries' defaults: an idle one asks twice in 5
// seconds and looks for stalled jobs every 30; a BullMQ worker with something delayed asks twice in 10.
const (
	monthSeconds    = 30 * 24 * 3600
	idlePerSecond   = 2.0/5 + 1.0/30
	pinnedPerSecond = 2.0/10 + 1.0/30
)

// A paused queue's numbers.
type pausedNow struct {
	was                      bool
	waiting, delayed, repeat int64
}

func (p *Phase2) now(ctx context.Context, q PausedQueue) (pausedNow, error) {
	var n pausedNow
	var err error
	if n.was, err = p.paused(ctx, q); err != nil {
		return n, err
	}
	if n.waiting, err = p.backlog(ctx, q); err != nil {
		return n, err
	}
	left, err := p.at(q).Left(ctx, []mover.State{mover.Delayed})
	if err != nil {
		return n, err
	}
	n.delayed = left[mover.Delayed]
	if q.Queue.Layout == tend.Asynq {
		return n, nil
	}
	if n.repeat, err = p.client.ZCard(ctx, q.Queue.Key("repeat")).Result(); err != nil {
		return n, fmt.Errorf("read %s: %w", q.Queue.Key("repeat"), err)
	}
	return n, nil
}

// Plan tells what pausing would do. It writes nothing. Price: about 6 commands a queue.
func (p *Phase2) Plan(ctx context.Context) (migrate.Outline, error) {
	o := migrate.Outline{
		Target: p.Target(),
		Settings: []migrate.Setting{
			{Name: "queues", Value: fmt.Sprint(len(p.plan.Queues))},
			{Name: "hold", Value: p.holds()},
			{Name: "staged resume", Value: (time.Duration(p.plan.StageMS) * time.Millisecond).String()},
		},
		Problems:        slices.Clone(p.Left),
		PointOfNoReturn: "",
	}
	if p.plan.ConnectionLimit > 0 {
		o.Settings = append(o.Settings, migrate.Setting{Name: "connection limit", Value: fmt.Sprint(p.plan.ConnectionLimit)})
	}
	idle := 0.0
	schedules := int64(0)
	for i, q := range p.plan.Queues {
		now, err := p.now(ctx, q)
		if err != nil {
			return o, err
		}
		o.Steps = append(o.Steps, migrate.OutlineStep{
			Name: pauseName(i, q), Summary: p.summary(q, now), Commands: 9, InScript: 11, Writes: true,
		})
		if now.was {
			o.Problems = append(o.Problems, migrate.Problem{
				Rule: "already-paused", Subject: q.Label(), Message: q.Label() + " is paused already, and stays so on the way back",
			})
		}
		schedules += now.repeat
		idle += p.idle(q, now)
		o.Losses = append(o.Losses, catchUpLoss(q, now)...)
		if q.CatchUp == Staged && q.Queue.Layout == tend.Asynq && !q.Ours {
			o.Problems = append(o.Problems, migrate.Problem{
				Rule: "no-staged-resume", Subject: q.Label(),
				Message: "asynq has no way to begin slowly: " + q.Label() + " goes on at full speed unless redisopt serve runs it",
			})
		}
	}
	o.LossesTotal = int64(len(o.Losses))
	for _, s := range p.Steps() {
		if _, holds := s.(*Hold); holds {
			o.Steps = append(o.Steps, migrate.OutlineStep{Name: s.Name(), Summary: "look after the paused queues " + p.holds(), Writes: true})
		}
	}
	if s := p.plan.Soak; s != nil {
		o.Steps = s.outline(o.Steps, phase2Baseline, phase2Soak, len(s.Watched))
		o.Settings = append(o.Settings, s.setting()...)
	}
	o.Problems = append(o.Problems, p.boundProblems()...)
	p.saving(&o, idle)
	o.Application = p.application(schedules)
	return o.Normal(), nil
}

// holds says how long Hold stays.
func (p *Phase2) holds() string {
	hold := time.Duration(p.plan.HoldMS) * time.Millisecond
	for _, q := range p.plan.Queues {
		hold = max(hold, q.maxPause())
	}
	if hold == 0 {
		return "not: pauses last until rollback"
	}
	return "for " + hold.String()
}

// summary says what pausing one queue does.
func (p *Phase2) summary(q PausedQueue, now pausedNow) string {
	how := "as " + string(q.Queue.Layout) + " does it"
	if q.Ours {
		how = "in the control document"
	}
	s := fmt.Sprintf("pause %s %s; %d wait, %d delayed, %d schedules; resume %s", q.Label(), how, now.waiting, now.delayed, now.repeat, q.CatchUp)
	if q.MaxPauseMS > 0 {
		s += fmt.Sprintf("; at most %s, for %s", q.maxPause(), strings.Join(q.Guards, ", "))
	}
	return s
}

// idle is what the queue's workers cost while they have nothing to do, in commands a month: by how many
// there are where that was measured, else of one.
func (p *Phase2) idle(q PausedQueue, now pausedNow) float64 {
	if q.Queue.Layout == tend.Asynq {
		return 0 // the governor of redisopt serve answers for it
	}
	workers := 1.0
	if p.Facts != nil {
		workers = float64(p.Facts.Queues[q.Label()].Workers)
	}
	if q.Queue.Layout == mover.BullMQ && now.delayed+now.repeat > 0 {
		return workers * pinnedPerSecond * monthSeconds
	}
	return workers * idlePerSecond * monthSeconds
}

// catchUpLoss is what a resume with newest or none deletes.
func catchUpLoss(q PausedQueue, now pausedNow) []migrate.Loss {
	if now.repeat == 0 || q.CatchUp != Newest && q.CatchUp != None || q.Queue.Layout == tend.Asynq {
		return nil
	}
	return []migrate.Loss{{
		Subject: q.Label(), Field: "runs of schedules that were missed", Becomes: "one for each schedule",
		Why: "catch up " + string(q.CatchUp) + " deletes the others when the queue is resumed",
	}}
}

// boundProblems says who ends a pause that is bounded.
func (p *Phase2) boundProblems() []migrate.Problem {
	var out []migrate.Problem
	if p.plan.bounded() {
		out = append(out, migrate.Problem{
			Rule:    "bounded-pause",
			Message: "a pause in Redis has no end of its own: the bounded ones end only while this command, or migrate run, stays",
			Fix:     "keep it running, or go on with redisopt migrate resume before their time is over",
		})
	}
	limited := slices.ContainsFunc(p.plan.Queues, func(q PausedQueue) bool { return q.BacklogLimit > 0 && !q.Ours })
	if limited && p.plan.HoldMS == 0 && !p.plan.bounded() {
		out = append(out, migrate.Problem{
			Rule:    "backlog-unwatched",
			Message: "nobody refuses what Bull and BullMQ producers add: the backlog limit ends a pause only while this command stays",
			Fix:     "add --hold 48h, or watch the queues with redisopt queue ls",
		})
	}
	return out
}

// saving fills in what pausing saves, and what it does not.
func (p *Phase2) saving(o *migrate.Outline, idle float64) {
	zero := 0.0
	o.KPIs = append(o.KPIs, migrate.KPI{
		Name: "idle_commands_per_month", Unit: "commands/month", Before: &idle, After: &idle,
		Method: "measured formula with the libraries' defaults: (2/5 + 1/30) a second for each worker; a paused worker asks as before",
	}, migrate.KPI{
		Name: "idle_commands_after_restart", Unit: "commands/month", Before: &idle, After: &zero,
		Method: "the same, once the processes were restarted without these workers",
	})
	o.Claims = append(o.Claims, migrate.Claim{
		Target: "20-30% fewer commands by pausing alone", Reachable: false,
		Why: fmt.Sprintf("a paused worker goes on asking for jobs: none of its %.2f million idle commands a month is saved before its process is restarted without it, and jobs are put off, not saved", idle/1e6),
	})
	if p.Facts == nil {
		o.KPIs = append(o.KPIs, migrate.KPI{Name: migrate.KPIConnections, Unit: "connections", Method: "not measured"})
		o.Claims = append(o.Claims, migrate.Claim{
			Target: "33 to 9 connections", Reachable: false, Why: "connections were not measured, and a pause closes none",
		})
		return
	}
	now := float64(p.Facts.Connections)
	closable, processes := p.closable()
	after := now - float64(closable)
	o.KPIs = append(o.KPIs, migrate.KPI{
		Name: migrate.KPIConnections, Unit: "connections", Before: &now, After: &now, Method: "CLIENT LIST; a pause closes no connection",
	}, migrate.KPI{
		Name: migrate.KPIConnections + "_after_restart", Unit: "connections", Before: &now, After: &after,
		Method: "CLIENT LIST, less those of the paused queues",
	})
	restart := fmt.Sprintf("needs a restart of these %d processes: %s; a pause alone closes none", len(processes), strings.Join(processes, ", "))
	if len(processes) == 0 {
		restart = "no worker of a paused queue is connected"
	}
	o.Claims = append(o.Claims, migrate.Claim{
		Target: fmt.Sprintf("%.0f to %.0f connections", now, after), Reachable: true, Why: restart,
	})
	const designed = 9
	if now > designed && after != designed {
		o.Claims = append(o.Claims, migrate.Claim{
			Target: "9 connections, as designed", Reachable: after <= designed,
			Why: fmt.Sprintf("%.0f are open and %d of them belong to the %d queues that may be paused", now, closable, len(p.plan.Queues)),
		})
	}
	var added float64
	known := true
	for _, q := range p.plan.Queues {
		rate := p.Facts.Queues[q.Label()].AddedPerDay
		if rate == nil {
			known = false
			break
		}
		added += *rate
	}
	if known {
		o.KPIs = append(o.KPIs, migrate.KPI{
			Name: "backlog_growth_per_day", Unit: "jobs/day", Before: &zero, After: &added, Method: "the queues' own counters of jobs, twice",
		})
	}
}

// closable is how many connections belong to the queues that are paused, and the processes that hold them.
func (p *Phase2) closable() (int64, []string) {
	n := int64(0)
	var processes []string
	for _, q := range p.plan.Queues {
		facts := p.Facts.Queues[q.Label()]
		n += facts.Connections
		processes = append(processes, facts.Processes...)
	}
	slices.Sort(processes)
	return n, slices.Compact(processes)
}

// application says what the application's people have to know and do.
func (p *Phase2) application(schedules int64) []string {
	names := make([]string, len(p.plan.Queues))
	for i, q := range p.plan.Queues {
		names[i] = q.Queue.Queue
	}
	out := []string{
		"producers go on adding: their jobs wait, and jobs that were delayed wait once they are due; running jobs end",
		"to close the connections of paused queues, restart the processes without the workers of: " + strings.Join(names, ", "),
	}
	if schedules > 0 {
		out = append(out, fmt.Sprintf(
			"%d schedules: of each the run that is due next waits, and as both libraries add a run when the one before is started, none is added after it; a run that was missed is not made up for", schedules))
	}
	return out
}

// PlanBack tells what resuming would do. It writes nothing. Price: about 8 commands a queue.
func (p *Phase2) PlanBack(ctx context.Context) (migrate.Outline, error) {
	o := migrate.Outline{Target: p.Target(), Settings: []migrate.Setting{{Name: "queues", Value: fmt.Sprint(len(p.plan.Queues))}}}
	used, limit, err := p.connections(ctx)
	if err != nil {
		return o, err
	}
	for i, q := range slices.Backward(p.plan.Queues) {
		note, err := p.note(ctx, q)
		if err != nil {
			return o, err
		}
		s := migrate.OutlineStep{Name: pauseName(i, q), Summary: q.Label() + " goes on already"}
		switch {
		case note == nil:
		case note.was:
			s.Summary, s.Commands, s.Writes = q.Label()+" was paused before, and stays so", 3, true
		default:
			backlog, err := p.backlog(ctx, q)
			if err != nil {
				return o, err
			}
			need, err := p.missing(ctx, q, note)
			if err != nil {
				return o, err
			}
			s.Summary = fmt.Sprintf("resume %s, %s, with %d jobs waiting", q.Label(), q.CatchUp, backlog)
			s.Commands, s.InScript, s.Writes = 10, 11, true
			if q.CatchUp == Staged && backlog > smallBacklog && !q.Ours && q.Queue.Layout != tend.Asynq {
				s.Commands += p.plan.StageMS / 500
				s.InScript += p.plan.StageMS/500 + backlog
			}
			if need > 0 {
				s.Summary += fmt.Sprintf("; its workers are not connected and will open %d connections", need)
			}
			used += need
			if limit > 0 && used > limit {
				o.Problems = append(o.Problems, migrate.Problem{
					Rule: "head-room", Subject: q.Label(), Blocking: true,
					Message: fmt.Sprintf("with the workers of %s there would be %d connections, and the limit is %d", q.Label(), used, limit),
					Fix:     "close others first, let the workers share connections, or raise the limit",
				})
				used -= need
			}
		}
		o.Steps = append(o.Steps, s)
	}
	o.Application = []string{"start the workers of a queue again only when it was resumed: queues are resumed one after the other, the most important first"}
	return o.Normal(), nil
}
