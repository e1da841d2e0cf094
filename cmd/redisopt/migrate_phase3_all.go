package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A queueRun is one queue of a run over all of them.
type queueRun struct {
	standing migrate.Standing
	route    step.Route
}

// A queuesPlan is what a run over all queues would do.
type queuesPlan struct {
	runs     []queueRun         // in their order
	outlines []migrate.Outline  // of runs
	standing []migrate.Standing // those that have nothing to be done
	refused  []refusedPhase
}

// migratePhase3All moves every queue under the prefix, one after the other.
func (a *app) migratePhase3All(ctx context.Context, f phase3Flags, hosting migrate.HostOptions) error {
	return a.withRedis(ctx, writing(), func(up *upstream.Upstream, conf *config.Config) error {
		dir, err := a.migrationDir(conf)
		if err != nil {
			return err
		}
		names, err := f.names(ctx, up, conf)
		if err != nil {
			return err
		}
		request, err := f.configured(ctx, up, conf, a.given)
		if err != nil {
			return err
		}
		p, err := a.planQueues(ctx, up, f, request, names, dir)
		if err != nil {
			return err
		}
		commands := int64(0)
		for _, o := range p.outlines {
			top, inScript := o.Commands()
			commands += top + inScript
		}
		unfit, err := a.preflight(ctx, up, conf, migrate.Standing{}, true, commands, f.commandsLeft)
		if err != nil {
			return err
		}
		doc := outlineDocument(p.outlines, "", p.refused...)
		for _, s := range p.standing {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s: %s already", s.Target, s.Condition()))
		}
		notFit := a.unfit(migrate.Target{Phase: step.Phase3Name}, unfit)
		if a.flags.dryRun {
			return errors.Join(a.print(doc), notFit, refusedVerdict(p.refused))
		}
		if notFit != nil {
			return notFit
		}
		if len(p.runs) == 0 {
			return errors.Join(a.print(queuesRunDocument(p, nil, up.Spent())), refusedVerdict(p.refused))
		}
		if err := a.confirm(ctx, doc, fmt.Sprintf("Move %s, one after the other?", plural(int64(len(p.runs)), "queue"))); err != nil {
			return err
		}
		done := a.runQueues(ctx, up, f, p.runs, dir, hosting)
		errs := []error{a.print(queuesRunDocument(p, done, up.Spent())), refusedVerdict(p.refused)}
		for i, d := range done {
			errs = append(errs, a.migrationHint(d.Err, p.runs[i].standing.Target))
		}
		return errors.Join(errs...)
	})
}

// names are the queues that the run is about, in their order: those of the plan file, or all that can be
// moved, and those that were begun before. Price: that of mover.DetectQueues, and 1 command.
func (f *phase3Flags) names(ctx context.Context, up *upstream.Upstream, conf *config.Config) ([]string, error) {
	var names []string
	if f.plan != "" {
		file, err := readPlan(f.plan)
		if err != nil {
			return nil, err
		}
		for _, p := range file.Phases {
			if p.Target.Phase == step.Phase3Name && p.Target.Prefix == f.prefix {
				names = append(names, p.Target.Queue)
			}
		}
		return names, nil // in the order that was approved
	}
	names, err := movable(ctx, up, f.prefix, mover.Layout(f.engine), f.major)
	if err != nil {
		return nil, err
	}
	begun, err := migrate.Targets(ctx, up.Client())
	if err != nil {
		return nil, err
	}
	for _, t := range begun {
		if t.Phase == step.Phase3Name && t.Prefix == f.prefix && !slices.Contains(names, t.Queue) {
			names = append(names, t.Queue)
		}
	}
	names, err = step.OrderQueues(names, queuePlaces(conf), f.first)
	if err != nil {
		return nil, &usageError{err}
	}
	return names, nil
}

// movable are the names of the queues under prefix that engine, and for BullMQ its major version where it is
// asked for, could be given.
func movable(ctx context.Context, up *upstream.Upstream, prefix string, engine mover.Layout, major int) ([]string, error) {
	found, err := mover.DetectQueues(ctx, up.Client(), mover.ListOptions{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, e := range found {
		other := e.Layout != engine || engine == mover.BullMQ && major != 0 && e.Major != major
		if other && e.Layout != mover.Asynq {
			names = append(names, e.Queue)
		}
	}
	return names, nil
}

// queuePlaces are the places that the configuration gives queues in a migration.
func queuePlaces(conf *config.Config) map[string]int {
	places := map[string]int{}
	for _, q := range conf.Queues.List {
		if q.MigrationOrder > 0 {
			places[q.Name] = q.MigrationOrder
		}
	}
	return places
}

// planQueues plans each queue. One that cannot be moved is refused by itself, and the others are planned.
func (a *app) planQueues(
	ctx context.Context, up *upstream.Upstream, f phase3Flags, request step.Request, names []string, dir string,
) (queuesPlan, error) {
	var p queuesPlan
	facts := phase3Facts(ctx, up, f.prefix, names, nil, nil)
	for _, name := range names {
		one := request
		one.Queue = name
		s, err := migrate.Look(ctx, up.Client(), migrate.SessionOptions{Target: one.Target(), StateDir: dir})
		if err = a.migrationHint(err, one.Target()); err != nil && ctx.Err() == nil && ofOneJournal(err) {
			p.refused = append(p.refused, refusalOf(one.Target(), err))
			continue
		}
		if err != nil {
			return p, err
		}
		back, err := backAgain(ctx, up, s, dir)
		if err != nil {
			return p, err
		}
		if s.State.Stage == migrate.Complete || s.State.Stage == migrate.Finishing || s.State.Stage == migrate.Finished && !back {
			p.standing = append(p.standing, s)
			continue
		}
		outline, route, err := a.planQueue(ctx, up, f, one, s, facts[name])
		switch {
		case refusable(err):
			p.refused = append(p.refused, refusalOf(one.Target(), a.migrationHint(err, one.Target())))
		case err != nil:
			return p, fmt.Errorf("%s: %w", one.Target(), a.migrationHint(err, one.Target()))
		default:
			p.runs = append(p.runs, queueRun{standing: s, route: route})
			p.outlines = append(p.outlines, outline)
		}
	}
	return p, nil
}

// planQueue is what would be done with one queue. What keeps it from beginning is an error.
func (a *app) planQueue(
	ctx context.Context, up *upstream.Upstream, f phase3Flags, request step.Request, s migrate.Standing, facts *step.Phase3Facts,
) (migrate.Outline, step.Route, error) {
	if err := s.Held(); err != nil {
		return migrate.Outline{}, step.Route{}, err
	}
	if s.State.Stage == migrate.Backward {
		return migrate.Outline{}, step.Route{}, &migrate.StageError{Verb: "start", Stage: s.State.Stage}
	}
	route, err := f.route(ctx, up, request, s)
	if err != nil {
		return migrate.Outline{}, route, err
	}
	phase, err := step.NewQueuePhase(up.Client(), step.Phase3Options{Route: route, WorkersStopped: f.workersStopped, AllJobs: f.allJobs}, migrate.Env{})
	if err != nil {
		return migrate.Outline{}, route, err
	}
	phase.Facts = facts
	if err := changedPlan(s, phase); err != nil {
		return migrate.Outline{}, route, err
	}
	outline, err := phase.Plan(ctx)
	if err != nil {
		return outline, route, err
	}
	return outline.Normal(), route, outline.Refused()
}

// runQueues hosts the runs one after the other, each with its own journal, lease and gates.
func (a *app) runQueues(
	ctx context.Context, up *upstream.Upstream, f phase3Flags, runs []queueRun, dir string, hosting migrate.HostOptions,
) []migrate.Sequenced {
	var mu sync.Mutex // of what tells the user: queues that soak go on beside the one that is moved
	all := make([]migrate.HostOptions, len(runs))
	for i, r := range runs {
		o, _ := a.hosting(up, hosting)
		o.Begin, o.Rate = true, float64(f.maxRate)
		o.Session = migrate.SessionOptions{Target: r.standing.Target, StateDir: dir}
		o.Open = func(_ context.Context, _ migrate.State, env migrate.Env) (migrate.Phase, error) {
			return step.NewQueuePhase(up.Client(), step.Phase3Options{
				Route: r.route, Compare: f.compare, WorkersStopped: f.workersStopped, ActiveTimeout: f.activeTimeout,
			}, env)
		}
		name := fmt.Sprintf("queue %d of %d, %s", i+1, len(runs), r.standing.Target.Queue)
		tell := a.tellPulses()
		o.OnEvent = func(e migrate.Event) {
			mu.Lock()
			defer mu.Unlock()
			a.note("%s: step %d of %d, %s: %s", name, e.Index+1, e.Of, e.Step, e.Kind)
		}
		o.OnProgress = toldEvery(5*time.Second, func(p migrate.Progress) {
			mu.Lock()
			defer mu.Unlock()
			a.note("%s: %s %d of %d %s", name, p.Part, p.Done, p.Total, p.Unit)
		})
		o.OnPulse = func(p migrate.Pulse) {
			mu.Lock()
			defer mu.Unlock()
			tell(p)
		}
		all[i] = o
	}
	return migrate.HostInOrder(ctx, all)
}

// toldEvery passes on what is told at most that often. It is for one goroutine.
func toldEvery(every time.Duration, tell func(migrate.Progress)) func(migrate.Progress) {
	last := time.Now()
	return func(p migrate.Progress) {
		if time.Since(last) >= every {
			last = time.Now()
			tell(p)
		}
	}
}

// queuesRunData is the contract of migrate.queues/v1.
type queuesRunData struct {
	Queues   []queueRunEntry `json:"queues"`
	Refused  []refusedPhase  `json:"refused"`
	Cost     upstream.Cost   `json:"cost"`
	Moved    int64           `json:"moved"`    // jobs, by this run
	InPlace  int             `json:"in_place"` // queues that are where they should be
	NotBegun int             `json:"not_begun"`
}

// A queueRunEntry is one queue of a run.
type queueRunEntry struct {
	Target    migrate.Target        `json:"target"`
	Condition migrate.Condition     `json:"condition"`
	Stage     migrate.Stage         `json:"stage"`
	Begun     bool                  `json:"begun"` // by this run
	Moved     map[mover.State]int64 `json:"moved"` // by this run
	TargetNow map[mover.State]int64 `json:"target_now"`
	Remaining map[mover.State]int64 `json:"remaining"`
	Skipped   []mover.Problem       `json:"skipped"`
	Compared  *mover.Comparison     `json:"compared,omitempty"`
	TookMS    int64                 `json:"took_ms"`
	Error     string                `json:"error"` // empty when all went well
	Next      string                `json:"next"`  // the command to type next about it, empty when there is none
}

// queuesRunDocument is migrate.queues/v1: where each queue stands after a run over all of them.
func queuesRunDocument(p queuesPlan, done []migrate.Sequenced, cost upstream.Cost) report.Document {
	data := queuesRunData{Queues: []queueRunEntry{}, Refused: append([]refusedPhase{}, p.refused...), Cost: cost}
	doc := report.Document{Kind: "migrate.queues/v1", Title: "phase3 of all queues"}
	table := &report.Table{Columns: []report.Column{
		{Name: "queue"}, {Name: "state"}, {Name: "moved", Right: true}, {Name: "left", Right: true}, {Name: "what", Elastic: true},
	}}
	add := func(e queueRunEntry) {
		data.Queues = append(data.Queues, e)
		data.Moved += sum(e.Moved)
		if e.Stage == migrate.Complete || e.Stage == migrate.Finished {
			data.InPlace++
		}
		what := e.Error
		if !e.Begun && what == "" && e.Stage != migrate.Complete && e.Stage != migrate.Finished {
			data.NotBegun++
			what = "its turn did not come"
		}
		table.Rows = append(table.Rows, []string{
			e.Target.Prefix + ":" + e.Target.Queue, string(e.Condition), fmt.Sprint(sum(e.Moved)), fmt.Sprint(sum(e.Remaining)), what,
		})
	}
	for _, s := range p.standing {
		add(standingEntry(s))
	}
	for i, d := range done {
		e := entryOf(p.runs[i].standing.Target, d)
		add(e)
		if e.Error == "" && e.Begun {
			doc.Checks = append(doc.Checks, report.Check{
				Group: "queue " + e.Target.Queue, Name: "every job is in exactly one place", Verdict: report.Pass,
				Message: fmt.Sprintf("source, target and ledger agree, %s at the target", plural(sum(e.TargetNow), "job")),
			})
		}
	}
	doc.Data = data
	doc.Findings = refusedFindings(p.refused)
	doc.Sections = []report.Section{{Table: table}}
	if len(table.Rows) == 0 {
		doc.Sections = []report.Section{{Text: "no queue was moved"}}
	}
	if data.InPlace > 0 {
		doc.Notes = append(doc.Notes, "undo one: redisopt rollback phase3 --queue NAME; all of them: redisopt rollback phase3 --all-queues")
	}
	return doc
}

// standingEntry is a queue with which nothing was done.
func standingEntry(s migrate.Standing) queueRunEntry {
	return queueRunEntry{
		Target: s.Target, Condition: s.Condition(), Stage: s.State.Stage, Next: next(s), Skipped: []mover.Problem{},
		Moved: counts(nil), TargetNow: counts(nil), Remaining: counts(nil),
	}
}

// entryOf is a queue after its turn.
func entryOf(t migrate.Target, d migrate.Sequenced) queueRunEntry {
	s := migrate.Standing{Target: t, State: d.State}
	e := standingEntry(s)
	e.Begun, e.TookMS = d.Begun, d.Took.Milliseconds()
	if d.Err != nil {
		e.Error = d.Err.Error()
	}
	if phase, ok := d.Phase.(step.QueuePhase); ok {
		o := phase.Outcome()
		e.Moved, e.TargetNow, e.Remaining = counts(o.Moved), counts(o.Check.Target), counts(o.Check.Remaining)
		e.Skipped, e.Compared = append(e.Skipped, o.Skipped...), o.Compared
	}
	return e
}

// A refusedPhase is a migration that cannot be planned as things are, or that has nothing to do, while others can.
type refusedPhase struct {
	Target migrate.Target `json:"target"`
	Why    string         `json:"why"`
	Fix    string         `json:"fix"` // what to type next; may be empty
}

// says is the reason with what to do about it, on one line.
func (r refusedPhase) says() string {
	if r.Fix == "" {
		return r.Why
	}
	return r.Why + "; " + r.Fix
}

// refusable is true for an error that is about one queue alone and keeps no other from being planned.
func refusable(err error) bool {
	if err == nil {
		return false
	}
	var (
		major   *step.MajorError
		layout  *step.LayoutError
		unknown *step.UnknownQueueError
		blocked *step.BlockedError
		refused *migrate.RefusedError
		held    *migrate.HeldError
		stage   *migrate.StageError
		plan    *migrate.PlanError
	)
	return errors.As(err, &major) || errors.As(err, &layout) || errors.As(err, &unknown) || errors.As(err, &blocked) ||
		errors.As(err, &refused) || errors.As(err, &held) || errors.As(err, &stage) || errors.As(err, &plan)
}

// refusalOf is err about one migration.
func refusalOf(t migrate.Target, err error) refusedPhase {
	r := refusedPhase{Target: t, Why: err.Error()}
	var has hinter
	if errors.As(err, &has) {
		r.Fix = has.hint()
	}
	return r
}

// refusedFindings shows what was refused.
func refusedFindings(refused []refusedPhase) []report.Finding {
	var out []report.Finding
	for _, r := range refused {
		out = append(out, report.Finding{
			Rule: "refused", Severity: report.SeverityCritical, Subject: targetQueue(r.Target),
			Message: r.Why, Remedy: r.Fix,
		})
	}
	return out
}

// refusedVerdict says by the exit code that some queues were left out.
func refusedVerdict(refused []refusedPhase) error {
	if len(refused) == 0 {
		return nil
	}
	names := make([]string, len(refused))
	for i, r := range refused {
		names[i] = r.Target.Queue
	}
	return withHint(verdictf(exitBlocked, "%s cannot be moved: %s", plural(int64(len(refused)), "queue"), strings.Join(names, ", ")),
		"each says why above; solve that and run the same command again")
}
