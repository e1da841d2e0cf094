package step

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// brokenStep is a step that cannot be made.
type brokenStep struct {
	name string
	err  error
}

func (b *brokenStep) Name() string                   { return b.name }
func (b *brokenStep) Apply(context.Context) error    { return b.err }
func (b *brokenStep) Verify(context.Context) error   { return migrate.ErrNotApplied }
func (b *brokenStep) Rollback(context.Context) error { return nil }

// A NotFollowedError reports replicas that did not take over a change in time.
type NotFollowedError struct {
	After    time.Duration
	Replicas []string // each with what it said
}

func (e *NotFollowedError) Error() string {
	return fmt.Sprintf("%d of the replicas did not follow within %s: %s", len(e.Replicas), e.After, strings.Join(e.Replicas, "; "))
}

// ErrKilled means that somebody threw the kill switch of a route that is to be ramped up.
var ErrKilled = errors.New("the kill switch of a route is thrown")

// set changes percentages of the control document for all replicas, and waits until those that are known
// have them in force. Price: one change of the document, and 1 command for the lease.
func (p *Phase1) set(ctx context.Context, why string, change map[string]float64, remove ...string) error {
	if err := holdsLease(ctx, p.client, p.env); err != nil {
		return err
	}
	if err := p.control.Update(ctx, func(d *control.Document) error {
		ramps := maps.Clone(d.Ramps)
		if ramps == nil {
			ramps = map[string]float64{}
		}
		maps.Copy(ramps, change)
		for _, name := range remove {
			delete(ramps, name)
		}
		d.Ramps, d.By, d.Reason = ramps, migrate.Owner(), why
		return nil
	}); err != nil {
		return err
	}
	return p.followed(ctx, p.control.Current())
}

// followed waits until every replica that is known has d in force.
func (p *Phase1) followed(ctx context.Context, d control.Document) error {
	if len(p.Fleet.URLs) == 0 {
		return nil
	}
	// A replica that is being asked when the time is over has its own time to answer: what it says counts.
	until := time.NewTimer(p.Follow)
	defer until.Stop()
	for {
		var behind []string
		for _, a := range p.Fleet.Ramps(ctx) {
			switch {
			case a.Err != nil:
				behind = append(behind, a.Err.Error())
			case a.Said.Epoch < d.Epoch:
				behind = append(behind, fmt.Sprintf("%s has epoch %d, want %d", a.URL, a.Said.Epoch, d.Epoch))
			}
		}
		if len(behind) == 0 {
			return nil
		}
		timer := time.NewTimer(50 * time.Millisecond)
		select {
		case <-ctx.Done():
			timer.Stop()
			return context.Cause(ctx)
		case <-until.C:
			timer.Stop()
			return &NotFollowedError{After: p.Follow, Replicas: behind}
		case <-timer.C:
		}
	}
}

// current is the control document as it is in the Redis. Price: 1 command.
func (p *Phase1) current(ctx context.Context) (control.Document, error) {
	if err := p.control.Read(ctx); err != nil {
		return control.Document{}, err
	}
	return p.control.Current(), nil
}

// A phase1Shadowing has keys written on both sides, and reads and decisions of limits compared. No caller is
// answered by the new side yet.
type phase1Shadowing struct{ phase *Phase1 }

func (s *phase1Shadowing) Name() string { return phase1Shadow }

func (s *phase1Shadowing) Apply(ctx context.Context) error {
	change := map[string]float64{}
	for _, route := range s.phase.plan.Routes {
		change[route] = 0
		change[ramp.Shadow(route)] = s.phase.plan.ShadowPercent
		if s.phase.plan.SameDatabase {
			continue
		}
		change[ramp.Mirror(route)] = 100
		if route == ramp.Limit {
			change[ramp.Mirror(route)] = 0 // the shares carry what they move
		}
	}
	return s.phase.set(ctx, "phase1: keys are written on both sides, and reads compared", change)
}

func (s *phase1Shadowing) Verify(ctx context.Context) error {
	d, err := s.phase.current(ctx)
	if err != nil {
		return err
	}
	for _, route := range s.phase.plan.Routes {
		if _, ok := d.Ramps[route]; !ok || route != ramp.Limit && !s.phase.plan.SameDatabase && d.Ramps[ramp.Mirror(route)] < 100 {
			return migrate.ErrNotApplied
		}
	}
	return nil
}

// Rollback takes the routes out of the document. By then no key is on the new side.
func (s *phase1Shadowing) Rollback(ctx context.Context) error {
	var remove []string
	for _, route := range s.phase.plan.Routes {
		remove = append(remove, route, ramp.Mirror(route), ramp.Shadow(route))
	}
	d, err := s.phase.current(ctx)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(remove, func(name string) bool { _, ok := d.Ramps[name]; return ok }) {
		return nil
	}
	return unlessGone(s.phase.set(ctx, "phase1 was rolled back", nil, remove...))
}

// unlessGone lets a way back succeed although some replicas cannot be asked whether they followed: the
// document says so, and they read it before they serve again.
func unlessGone(err error) error {
	if late, ok := errors.AsType[*NotFollowedError](err); ok && !slices.ContainsFunc(late.Replicas, func(r string) bool { return strings.Contains(r, " has epoch ") }) {
		return nil
	}
	return err
}

// A phase1Share moves a share of the keys.
type phase1Share struct {
	phase   *Phase1
	percent float64
}

func (s *phase1Share) Name() string { return "phase1.ramp-" + shareName(s.percent) }

// A shareNote is what the first share keeps of the time before it.
type shareNote struct {
	// P95MS is what callers waited while everything was on the old side, by route; Samples how many.
	P95MS   map[string]float64 `json:"p95_ms"`
	Samples map[string]int64   `json:"samples"`
}

// Apply first has what is to move carried, so that no replica counts it on one side alone, and then moves it.
func (s *phase1Share) Apply(ctx context.Context) error {
	p := s.phase
	d, err := p.current(ctx)
	if err != nil {
		return err
	}
	for _, route := range p.plan.Routes {
		if d.Killed(route) {
			return fmt.Errorf("%w: %s, by %s: %s", ErrKilled, route, d.By, d.Reason)
		}
	}
	if s.percent == p.plan.Percentages[0] {
		if err := p.env.Note(ctx, s.Name(), p.baseline(ctx)); err != nil {
			return err
		}
	}
	why := fmt.Sprintf("phase1: %s%% of the keys", percentages([]float64{s.percent}))
	if slices.Contains(p.plan.Routes, ramp.Limit) && !p.plan.SameDatabase && d.Ramps[ramp.Mirror(ramp.Limit)] < s.percent {
		if err := p.set(ctx, why+" are about to move", map[string]float64{ramp.Mirror(ramp.Limit): s.percent}); err != nil {
			return err
		}
	}
	change := map[string]float64{}
	for _, route := range p.plan.Routes {
		change[route] = s.percent
	}
	return p.set(ctx, why, change)
}

func (s *phase1Share) Verify(ctx context.Context) error {
	d, err := s.phase.current(ctx)
	if err != nil {
		return err
	}
	for _, route := range s.phase.plan.Routes {
		if d.Ramps[route] < s.percent || d.Killed(route) {
			return migrate.ErrNotApplied
		}
	}
	return nil
}

// Rollback takes all keys back at once, whichever share this is.
func (s *phase1Share) Rollback(ctx context.Context) error {
	d, err := s.phase.current(ctx)
	if err != nil {
		return err
	}
	change := map[string]float64{}
	for _, route := range s.phase.plan.Routes {
		if d.Ramps[route] > 0 {
			change[route] = 0
		}
	}
	if len(change) == 0 {
		return nil
	}
	return unlessGone(s.phase.set(ctx, "phase1 is rolled back", change))
}

// baseline is what callers waited during the shadow, as far as replicas can say.
func (p *Phase1) baseline(ctx context.Context) shareNote {
	note := shareNote{P95MS: map[string]float64{}, Samples: map[string]int64{}}
	now := time.Now()
	var shadow migrate.SoakNote
	from := now.Add(-time.Hour)
	if p.env.Recall(phase1Compare, &shadow) && !shadow.Since.IsZero() {
		from = shadow.Since
	}
	for _, a := range p.Fleet.Stats(ctx, from, now) {
		if a.Err != nil {
			continue
		}
		for _, route := range p.plan.Routes {
			c := a.Said.Route(route)
			note.P95MS[route] = max(note.P95MS[route], c.AnswersP95)
			note.Samples[route] += c.Answers
		}
	}
	return note
}

// Complete ends the writing on both sides: from now on only the new one is kept. It is refused while a replica
// still has something to bring there.
func (p *Phase1) Complete(ctx context.Context) error {
	d, err := p.current(ctx)
	if err != nil {
		return err
	}
	var remove []string
	for _, route := range p.plan.Routes {
		if d.Ramps[route] < 100 || d.Killed(route) {
			return fmt.Errorf("route %s is at %s%% and not at 100%%, or killed; what is written on the old side alone would be lost", route, percentages([]float64{d.Ramps[route]}))
		}
		remove = append(remove, ramp.Mirror(route), ramp.Shadow(route))
	}
	now := time.Now()
	for _, a := range p.Fleet.Stats(ctx, now.Add(-time.Minute), now) { // who is not there has nothing that waits
		if b := a.Said.Backlogs; b != nil && b.New.Writes > 0 {
			return fmt.Errorf("replica %s still has %d writes to bring to the new side; wait until redisopt_ramp_backlog_writes{side=\"new\"} is 0, then try again", a.URL, b.New.Writes)
		}
	}
	return p.set(ctx, "phase1 is complete", nil, remove...)
}

// Irreversible says what Complete ends.
func (p *Phase1) Irreversible(ctx context.Context) ([]string, error) {
	if p.plan.SameDatabase {
		return []string{"nothing is lost: both sides are one database; going back is a new plan"}, nil
	}
	out := []string{
		"keys are no longer written on the old side: what changes from then on is only on the new one",
		"units of limits that are counted on the new side are no longer seen from the old one",
	}
	if slices.Contains(p.plan.Routes, ramp.Limit) {
		for _, rule := range slices.Sorted(maps.Keys(p.staying(ctx))) {
			out = append(out, "the limit "+rule+" is counted on the old side until ramp becomes upstream in the configuration, and begins anew then")
		}
	}
	return out, nil
}

// staying are the rules of limits that stay on the old side, and why, as the replicas have it. It costs no
// command.
func (p *Phase1) staying(ctx context.Context) map[string]string {
	out := map[string]string{}
	for _, a := range p.Fleet.Ramps(ctx) {
		for _, s := range a.Said.Staying {
			out[s.Rule] = s.Why
		}
	}
	return out
}

// Emergency takes the keys of all routes back to the old side on every replica by itself, at once and also
// while the Redis is down, and says of each whether it did. It needs no plan and no journal. The override
// holds until a change of the document: redisopt rollback phase1.
func Emergency(ctx context.Context, fleet replica.Fleet, reason string) []replica.Answer[replica.Ramp] {
	return fleet.Override(ctx, replica.Override{Back: true, Reason: reason})
}
