package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/step"
)

// Options say how legs are walked. The zero value works.
type Options struct {
	// Progress, when not nil, is told which migration begins to go which way.
	Progress func(target migrate.Target, way string)

	// Timeout bounds one migration in one direction. Default 2 minutes.
	Timeout time.Duration

	// Only, when not nil, chooses by their names the keys that are compared. Default: all but those that
	// redisopt keeps for itself while it migrates.
	Only func(name string) bool
}

// errRehearsed is the reason of the way back in the diary.
var errRehearsed = errors.New("it is a rehearsal")

// Rehearse walks every leg on a fresh copy of the sample. An error means that the stage failed to work; what
// goes wrong with a migration is in its Walk.
func Rehearse(ctx context.Context, stage *Stage, sample *Sample, legs []Leg, opts Options) (*Result, error) {
	out := &Result{Sample: sample, Walks: []Walk{}}
	for _, leg := range legs {
		if err := stage.load(ctx, sample.Keys, time.Since(sample.Read)); err != nil {
			return nil, err
		}
		w := newWalker(stage, leg, sample.Keys, opts)
		if err := w.walk(ctx); err != nil {
			return nil, err
		}
		out.Walks = append(out.Walks, *w.out)
	}
	return out, nil
}

// A walker is one leg on its way.
type walker struct {
	stage   *Stage
	leg     Leg
	keys    []capture.Key
	opts    Options
	diary   *diary
	phase   migrate.Phase
	engine  *migrate.Engine
	traffic *traffic // of phase 1
	control string   // key of the control document that phase 1 turns; empty: it is another phase
	before  []capture.Key
	arrived int // keys that the new side had as they should be
	loaded  time.Time
	out     *Walk
}

func newWalker(stage *Stage, leg Leg, keys []capture.Key, opts Options) *walker {
	if opts.Timeout == 0 {
		opts.Timeout = 2 * time.Minute
	}
	if opts.Progress == nil {
		opts.Progress = func(migrate.Target, string) {}
	}
	return &walker{
		stage: stage, leg: leg, keys: keys, opts: opts, diary: &diary{entries: slices.Clone(leg.Begun)},
		out: &Walk{
			Target: leg.Target, OnlyBack: len(leg.Begun) > 0, Adapted: []string{}, Losses: []migrate.Loss{}, Problems: []migrate.Problem{},
			There:      Passage{Steps: []string{}, Moved: map[string]int64{}},
			Back:       Passage{Steps: []string{}, Moved: map[string]int64{}},
			Comparison: Comparison{Explained: []Explanation{}, Unexplained: []Difference{}},
			Verdict:    Passed,
		},
	}
}

// walk goes there and back and compares.
func (w *walker) walk(ctx context.Context) error {
	t := Trip{w}
	err := w.prepare(ctx)
	if err == nil && !w.out.OnlyBack {
		err = t.There(ctx)
	}
	if err == nil {
		err = t.Back(ctx)
	}
	return errors.Join(err, t.Close())
}

// A Trip is one migration that goes there and back on somebody else's stage, with other things between the
// two. It is for one goroutine.
type Trip struct{ w *walker }

// Begin plans a migration on the stage as it is. keys are those from which callers of phase 1 choose. Whether
// the migration may begin is in the Walk. Close ends it.
func Begin(ctx context.Context, stage *Stage, leg Leg, keys []capture.Key, opts Options) (*Trip, error) {
	t := &Trip{newWalker(stage, leg, keys, opts)}
	if err := t.w.prepare(ctx); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// There applies every step, unless the migration may not begin. Callers of phase 1 go on until Back.
func (t *Trip) There(ctx context.Context) error {
	if t.w.out.Verdict != Passed {
		return nil
	}
	t.w.call(ctx)
	return t.w.forward(ctx)
}

// Back rolls every step back and compares, unless something went wrong before.
func (t *Trip) Back(ctx context.Context) error {
	if t.w.out.Verdict != Passed {
		return nil
	}
	t.w.call(ctx)
	if err := t.w.backward(ctx); err != nil || t.w.out.Verdict != Passed {
		return err
	}
	return t.w.compare(ctx)
}

// Walk is how it went so far.
func (t *Trip) Walk() Walk { return *t.w.out }

// Close ends callers that are still there.
func (t *Trip) Close() error {
	if t.w.traffic == nil {
		return nil
	}
	return t.w.traffic.close()
}

// call starts the callers of phase 1, once.
func (w *walker) call(ctx context.Context) {
	if w.traffic != nil && w.traffic.stop == nil {
		w.traffic.begin(ctx)
	}
}

// without is keys but for the control document, which phase 1 writes and which has the name that the plan says.
func (w *walker) without(keys []capture.Key) []capture.Key {
	return slices.DeleteFunc(slices.Clone(keys), func(k capture.Key) bool { return w.control != "" && k.Name == w.control })
}

// dump is what is compared.
func (w *walker) dump(ctx context.Context) ([]capture.Key, error) {
	keys, err := w.stage.dump(ctx)
	keys = w.without(keys)
	if only := w.opts.Only; only != nil {
		keys = slices.DeleteFunc(keys, func(k capture.Key) bool { return !only(k.Name) })
	}
	return keys, err
}

// prepare makes the phase, looks what is there, and plans.
func (w *walker) prepare(ctx context.Context) error {
	phase, told, err := w.makePhase(ctx, w.leg)
	if err != nil {
		return w.refused(ctx, err)
	}
	w.phase, w.out.Adapted = phase, told
	w.engine = migrate.NewEngine(w.diary, phase.Steps()...)
	w.engine.Options, w.engine.OnEvent = phase.Options(), w.event
	if w.out.OnlyBack {
		plan, err := w.engine.Plan()
		if err == nil {
			err = w.diary.replan(plan, phase.Options())
		}
		if err != nil {
			return fmt.Errorf("journal of %s: %w", w.leg.Target, err)
		}
	}
	if w.before, err = w.dump(ctx); err != nil {
		return err
	}
	w.loaded = time.Now()
	w.out.Jobs.Before = countJobs(w.before)
	if w.out.OnlyBack {
		return nil
	}
	outline, err := phase.Plan(ctx)
	if err != nil {
		return w.refused(ctx, err)
	}
	outline = outline.Normal()
	w.out.Losses, w.out.LossesTotal, w.out.Problems = outline.Losses, outline.LossesTotal, outline.Problems
	if err := outline.Refused(); err != nil {
		w.refuse(err)
	}
	return nil
}

// refused takes err for the result of the walk, unless it comes of an end that somebody asked for or of a stage
// that does not answer. Price: 1 command on the stage.
func (w *walker) refused(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	client, _ := w.stage.callers() // asking is no part of what a migration costs
	if gone := client.Ping(ctx).Err(); gone != nil {
		return fmt.Errorf("the stage does not answer: %w", gone)
	}
	w.refuse(err)
	return nil
}

func (w *walker) refuse(err error) {
	w.out.Verdict, w.out.Why, w.out.Err = Refused, err.Error(), err
}

func (w *walker) stuck(way string, err error) {
	w.out.Verdict, w.out.Why, w.out.Err = Stuck, way+": "+err.Error(), err
}

// event notes the steps as they are done.
func (w *walker) event(e migrate.Event) {
	switch e.Kind { //nolint:exhaustive // the others are beginnings
	case migrate.StepDone:
		w.out.There.Steps = append(w.out.There.Steps, e.Step)
	case migrate.UndoDone:
		w.out.Back.Steps = append(w.out.Back.Steps, e.Step)
	}
}

// passage measures one direction.
func (w *walker) passage(ctx context.Context, p *Passage, way string, do func(context.Context) error) error {
	w.opts.Progress(w.leg.Target, way)
	ctx, cancel := context.WithTimeoutCause(ctx, w.opts.Timeout, fmt.Errorf("it did not end within %s", w.opts.Timeout))
	defer cancel()
	began, old, next := time.Now(), w.stage.Old.Spent(), w.stage.New.Spent()
	err := do(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = fmt.Errorf("%w: %w", cause, err)
	}
	p.Took = time.Since(began)
	p.TookMS = p.Took.Milliseconds()
	p.Cost = w.stage.Old.Spent().Minus(old).Plus(w.stage.New.Spent().Minus(next))
	return err
}

// forward applies every step and asks each once more whether it is in place.
func (w *walker) forward(ctx context.Context) error {
	err := w.passage(ctx, &w.out.There, "there", w.engine.Start)
	if err == nil {
		for _, s := range w.phase.Steps() {
			if err = s.Verify(ctx); err != nil {
				err = fmt.Errorf("verify %s: %w", s.Name(), err)
				break
			}
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		w.stuck("there", err)
		return nil
	}
	there, err := w.dump(ctx)
	if err != nil {
		return err
	}
	w.out.Jobs.There = countJobs(there)
	w.moved(&w.out.There)
	if w.traffic != nil {
		w.arrived, err = w.traffic.arrived(ctx)
	}
	return err
}

// backward rolls every step back.
func (w *walker) backward(ctx context.Context) error {
	if w.traffic != nil {
		w.traffic.back()
	}
	err := w.passage(ctx, &w.out.Back, "back", func(ctx context.Context) error { return w.engine.Rollback(ctx, errRehearsed) })
	if w.traffic != nil {
		w.traffic.round(ctx, 0) // callers go on after the way back
		w.traffic.end()
		w.out.Traffic = &Traffic{
			Keys: len(w.traffic.values), Reads: w.traffic.reads, Writes: w.traffic.writes, Checks: w.traffic.checks,
			Again: w.traffic.again, Arrived: w.arrived, Wrong: append([]string{}, w.traffic.wrong...), NotCarried: notCarried(w.keys),
		}
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(err, migrate.ErrNothingToRollBack) {
		w.out.Why = err.Error()
		return nil
	}
	if err != nil {
		w.stuck("back", err)
		return nil
	}
	w.moved(&w.out.Back)
	return nil
}

// moved says what a passage did in numbers.
func (w *walker) moved(p *Passage) {
	switch phase := w.phase.(type) {
	case step.QueuePhase:
		for _, n := range phase.Outcome().Moved {
			p.Moved["jobs"] += n
		}
	case *step.Phase1:
		if w.traffic != nil {
			p.Moved["keys"] = int64(len(w.traffic.values))
		}
	case *step.Phase2:
		p.Moved["queues"] = int64(len(p.Steps))
	case *step.Phase4:
		p.Moved["prefixes"] = int64(max(0, len(p.Steps)-1))
	}
}

// compare judges what there is after the way back.
func (w *walker) compare(ctx context.Context) error {
	after, err := w.dump(ctx)
	if err != nil {
		return err
	}
	w.out.Jobs.After = countJobs(after)
	if t := w.out.Traffic; t != nil && len(t.Wrong) > 0 {
		w.out.Verdict, w.out.Why = Differs, t.Wrong[0]
		return nil
	}
	if w.out.OnlyBack {
		w.judgeBack()
		return nil
	}
	w.out.Comparison = explain(w.before, after, reason{losses: w.out.Losses, took: time.Since(w.loaded), target: w.targets()})
	t := w.out.Traffic
	switch c := w.out.Comparison; {
	case c.Differing > 0:
		w.out.Verdict, w.out.Why = Differs, fmt.Sprintf("%d of the keys and fields differ, and nothing explains it", c.Differing)
	case w.out.Jobs.After != w.out.Jobs.Before:
		w.out.Verdict, w.out.Why = Differs, fmt.Sprintf("%d jobs before and %d after", w.out.Jobs.Before, w.out.Jobs.After)
	case t != nil && t.Arrived < t.Keys-ended(w.traffic.values, time.Since(w.loaded)):
		w.out.Verdict, w.out.Why = Differs, fmt.Sprintf("the new side had %d of %d keys", t.Arrived, t.Keys)
	}
	return nil
}

// targets are what the keys begin with that phase 3 made.
func (w *walker) targets() []string {
	p, ok := w.phase.(step.QueuePhase)
	if !ok {
		return nil
	}
	route, ok := p.Options().(step.Route)
	if !ok || route.InPlace() {
		return nil
	}
	return []string{route.To.Key("")}
}

// ended is how many keys may have ended meanwhile.
func ended(keys []capture.Key, after time.Duration) int {
	n := 0
	for _, k := range keys {
		if k.TTL > 0 && k.TTL <= after+2*time.Second {
			n++
		}
	}
	return n
}

// judgeBack judges the way back of a migration that was begun on the real Redis: what it was before is not
// known here, so that nothing is lost is told by the number of jobs.
func (w *walker) judgeBack() {
	state, err := migrate.ReadState(w.diary.Entries())
	if err != nil {
		w.stuck("back", err)
		return
	}
	deleted := w.leg.Target.Phase == step.Phase4Name // and come back now
	switch {
	case state.Stage != migrate.RolledBack:
		w.out.Verdict, w.out.Why = Stuck, fmt.Sprintf("back: it ended %s", state.Stage)
	case w.out.Jobs.After != w.out.Jobs.Before && !deleted:
		w.out.Verdict, w.out.Why = Differs, fmt.Sprintf("%d jobs before and %d after", w.out.Jobs.Before, w.out.Jobs.After)
	}
}
