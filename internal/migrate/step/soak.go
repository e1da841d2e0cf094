package step

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/outcome"
)

// A Soaking is what must have been well for how long before queues count as well off. It is part of the plan that
// a journal keeps.
type Soaking struct {
	// ForMS is how long, in milliseconds; negative: only until the gates pass.
	ForMS int64 `json:"for_ms"`

	// Gates are what must hold; see QueueGates.
	Gates []migrate.Gate `json:"gates"`

	// CoolDownMS is how long after the beginning a failure does not count, in milliseconds, and Failures how many
	// times in a row a gate must fail. Default 0 and 3.
	CoolDownMS int64 `json:"cool_down_ms,omitempty"`
	Failures   int   `json:"failures,omitempty"`

	// Watched are the queues whose jobs are looked at. Phase 3 looks at the queue that it moves.
	Watched []mover.Endpoint `json:"watched,omitempty"`

	// Metrics, when not nil, is where the application says how it is.
	Metrics *MetricsPage `json:"metrics,omitempty"`
}

// A MetricsPage is a page in Prometheus' text format, and which of its series mean what; see
// outcome.MetricsOptions.
type MetricsPage struct {
	URL    string            `json:"url"`
	Series map[string]string `json:"series"`
}

func (s Soaking) validate() error {
	var errs []error
	if s.CoolDownMS < 0 || s.Failures < 0 {
		errs = append(errs, errors.New("soak: cool-down and failures in a row: want 0 or more"))
	}
	if s.Metrics != nil {
		_, err := outcome.NewMetrics(outcome.MetricsOptions{URL: s.Metrics.URL, Series: s.Metrics.Series})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (s Soaking) length() time.Duration { return time.Duration(s.ForMS) * time.Millisecond }

// readEvery is how often jobs and the metrics page are looked at, and askEvery how often gates are asked, which
// costs no command.
func (s Soaking) readEvery() time.Duration {
	if s.ForMS < 0 {
		return time.Second
	}
	return min(max(s.length()/50, 100*time.Millisecond), 15*time.Minute)
}

func (s Soaking) askEvery() time.Duration {
	if s.ForMS < 0 {
		return time.Second
	}
	return min(max(s.length()/10, 100*time.Millisecond), time.Minute)
}

// says is for people.
func (s Soaking) says() string {
	if s.ForMS < 0 {
		return fmt.Sprintf("wait until %d gates pass", len(s.Gates))
	}
	return fmt.Sprintf("wait %s in which %d gates hold", s.length(), len(s.Gates))
}

// outline puts the steps of a soak around those of a phase. queues is how many are looked at.
func (s *Soaking) outline(steps []migrate.OutlineStep, first, last string, queues int) []migrate.OutlineStep {
	if s == nil {
		return steps
	}
	const (
		look   = 12 // commands of one queue at most
		before = 4  // more of one queue, about the day before
		server = 1
	)
	looks := 1 + int64(max(0, s.length())/s.readEvery())
	begin := migrate.OutlineStep{Name: first, Summary: "measure how it is before anything changes", Commands: (look+before)*int64(queues) + server}
	end := migrate.OutlineStep{Name: last, Summary: s.says(), Commands: look * looks * int64(queues)}
	return append(append([]migrate.OutlineStep{begin}, steps...), end)
}

// setting is how a plan shows the gates.
func (s *Soaking) setting() []migrate.Setting {
	if s == nil || len(s.Gates) == 0 {
		return nil
	}
	return []migrate.Setting{{Name: "gates", Value: gatesText(s.Gates)}}
}

// QueueGates are the numbers of the design as defaults; see DefaultQueueGates. A negative number is not judged.
type QueueGates struct {
	Errors         float64 // connection errors at most
	P95            float64 // percent by which the application's p95 may grow; a remark without a metrics page
	CommandsPerDay float64 // of the whole Redis at most; 0: not judged
	JobSuccess     float64 // percent of the jobs that end must end well
	BacklogGrowth  float64 // more jobs that wait at the end than at the beginning, at most
	Connections    float64 // of the whole Redis at most; 0: not judged
	MinJobs        int64   // that must have ended before JobSuccess is judged

	// CommandsDefault and ConnectionsDefault are true where nobody asked for that limit; see commandsGate.
	CommandsDefault, ConnectionsDefault bool
}

// DefaultQueueGates are no connection error, p95 within 10%, 95% of at least 20 jobs, and a backlog that grows by
// no more than 100 jobs.
func DefaultQueueGates() QueueGates {
	return QueueGates{P95: 10, JobSuccess: 95, BacklogGrowth: 100, MinJobs: 20}
}

// Gates are g as a Soaking of some length has them, which is negative where it has none. withP95 says that the
// application's p95 is known.
func (g QueueGates) Gates(withP95 bool, length time.Duration) []migrate.Gate {
	out := []migrate.Gate{}
	if g.Errors >= 0 {
		out = append(out, migrate.Gate{KPI: migrate.KPIConnectionErrors, Unit: "errors", Limit: g.Errors})
	}
	if g.P95 >= 0 {
		out = append(out, migrate.Gate{KPI: migrate.KPILatencyIncrease, Unit: "%", Limit: g.P95, Optional: !withP95})
	}
	if g.CommandsPerDay > 0 {
		out = append(out, commandsGate(g.CommandsPerDay, g.CommandsDefault, length))
	}
	if g.JobSuccess >= 0 {
		out = append(out, migrate.Gate{KPI: migrate.KPIJobSuccess, Unit: "%", AtLeast: true, Limit: g.JobSuccess, MinSamples: g.MinJobs})
	}
	if g.BacklogGrowth >= 0 {
		out = append(out, migrate.Gate{KPI: migrate.KPIBacklogGrowth, Unit: "jobs", Limit: g.BacklogGrowth, MinSamples: 2})
	}
	if g.Connections > 0 {
		out = append(out, connectionsGate(g.Connections, g.ConnectionsDefault, length))
	}
	return out
}

// A baseline is the step that measures how it was before anything changes.
type baseline struct {
	name   string
	soak   Soaking
	env    migrate.Env
	client redis.UniversalClient
	queues []mover.Endpoint
}

// Name is the step's key in the journal.
func (b *baseline) Name() string { return b.name }

// Apply measures. What a queue, the server or the metrics page does not tell is missing in the note and keeps nothing
// from going on; readings that cannot be kept, and a soak that could not be watched either, do. Price: that of a look
// at the queues, 3 commands for each, 1 for the server, and that of the note.
func (b *baseline) Apply(ctx context.Context) error {
	now := time.Now().UTC()
	note := migrate.BaselineNote{At: now, Evidence: migrate.Before(ctx, b.client, b.env.Watch, now)}
	w, err := b.watch(b.queues)
	if err != nil {
		return err
	}
	if w != nil {
		said, err := w.Look(ctx)
		if err != nil {
			return err
		}
		for _, r := range said {
			if v, ok := r.Levels[outcome.P95]; ok {
				note.Evidence[migrate.KPILatencyP95] = migrate.Evidence{
					Value: v, Known: true, Source: r.How, From: now, To: now, Samples: 1, Coverage: 1, Missing: []string{},
				}
			}
		}
	}
	success, err := outcome.LastDay(ctx, b.client, b.queues, now)
	if err != nil {
		success = missing(now.Add(-wholeDay), now, err.Error())
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	note.Evidence[migrate.KPIJobSuccess] = success
	return b.env.Note(ctx, b.name, note)
}

// watch is what looks at queues and the metrics page, and asks the host's own watch for the rest. It is nil where
// nothing is to be looked at, or nothing could be kept.
func (b *baseline) watch(queues []mover.Endpoint) (*outcome.Watch, error) {
	o := outcome.Options{Path: b.env.Readings, Every: b.soak.readEvery(), Inner: b.env.Watch}
	if len(queues) > 0 {
		o.Sources = append(o.Sources, outcome.NewQueues(b.client, queues...))
	}
	if m := b.soak.Metrics; m != nil {
		page, err := outcome.NewMetrics(outcome.MetricsOptions{URL: m.URL, Series: m.Series, Token: b.env.MetricsToken})
		if err != nil {
			return nil, err
		}
		o.Sources = append(o.Sources, page)
	}
	if len(o.Sources) == 0 || o.Path == "" {
		return nil, nil //nolint:nilnil // nothing to look at is no error
	}
	return outcome.Open(o)
}

// Verify is content with a note of this run.
func (b *baseline) Verify(context.Context) error {
	var note migrate.BaselineNote
	if b.env.Checkpoint == nil || b.env.Recall(b.name, &note) && !note.At.IsZero() {
		return nil
	}
	return migrate.ErrNotApplied
}

// Rollback has nothing to undo.
func (b *baseline) Rollback(context.Context) error { return nil }

// A soakStep is a soak that takes readings of jobs and of the metrics page meanwhile, and does what has to be done
// beside.
type soakStep struct {
	name   string
	first  *baseline
	queues []mover.Endpoint
	beside func(ctx context.Context) error // until ctx ends; nil: nothing
}

// Name is the step's key in the journal.
func (s *soakStep) Name() string { return s.name }

// soak is the waiting part, with watch for its evidence.
func (s *soakStep) soak(watch migrate.Watch) (*migrate.Soak, error) {
	env := s.first.env
	env.Watch = &soakWatch{Watch: watch, first: s.first}
	length := s.first.soak.length()
	if length == 0 {
		length = -1
	}
	return migrate.NewSoak(migrate.SoakOptions{
		Name: s.name, For: length, Gates: s.first.soak.Gates, Every: s.first.soak.askEvery(), Failures: s.first.soak.Failures,
		CoolDown: time.Duration(s.first.soak.CoolDownMS) * time.Millisecond, Env: env,
	})
}

// Apply waits until the gates have held for long enough. Price: that of the readings.
func (s *soakStep) Apply(ctx context.Context) error {
	watch, err := s.first.watch(s.queues)
	if err != nil {
		return err
	}
	inner := s.first.env.Watch
	if watch != nil {
		inner = watch
	}
	soak, err := s.soak(inner)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var all sync.WaitGroup
	run := func(f func(context.Context) error) {
		all.Go(func() {
			if err := f(ctx); err != nil {
				cancel(err)
			}
		})
	}
	if watch != nil {
		run(watch.Run)
	}
	if s.beside != nil {
		run(s.beside)
	}
	err = soak.Apply(ctx)
	cancel(nil)
	all.Wait()
	return err
}

// Verify is content when the journal says that the gates passed.
func (s *soakStep) Verify(ctx context.Context) error {
	soak, err := s.soak(nil)
	if err != nil {
		return err
	}
	return soak.Verify(ctx)
}

// Rollback has nothing to undo.
func (s *soakStep) Rollback(context.Context) error { return nil }

// A soakWatch compares what its Watch tells with how it was before anything changed.
type soakWatch struct {
	migrate.Watch
	first *baseline
}

// Read measures one KPI between two times.
func (w *soakWatch) Read(ctx context.Context, kpi string, from, to time.Time) (migrate.Evidence, error) {
	if w.Watch == nil {
		return missing(from, to, "nothing here measures "+kpi), nil
	}
	var note migrate.BaselineNote
	w.first.env.Recall(w.first.name, &note)
	if kpi != migrate.KPILatencyIncrease {
		e, err := w.Watch.Read(ctx, kpi, from, to)
		return note.Against(kpi, e), err
	}
	e, err := w.Watch.Read(ctx, migrate.KPILatencyP95, from, to)
	if err != nil || !e.Known {
		return e, err
	}
	was := note.Evidence[migrate.KPILatencyP95]
	if !was.Known || was.Value <= 0 {
		e.Known, e.Missing = false, []string{"the application's p95 was not known before anything changed"}
		return e, nil
	}
	if more := e.Value - was.Value; more >= noIncrease {
		e.Value = 100 * more / was.Value
	} else {
		e.Value = 0
	}
	e.Source += fmt.Sprintf(", against %.4g ms before", was.Value)
	return e, nil
}
