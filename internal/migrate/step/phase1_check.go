package step

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// A phase1Check looks whether phase 1 may begin, and finds out whether both sides are one database.
type phase1Check struct{ phase *Phase1 }

func (c *phase1Check) Name() string { return phase1Preflight }

// A checkNote says that preflight passed, when, and how it was then.
type checkNote struct {
	Passed time.Time `json:"passed"`
	migrate.BaselineNote
}

// Apply costs about 11 commands, up to 200 SCANs of the new side, and 15 scripts there where limits move.
func (c *phase1Check) Apply(ctx context.Context) error {
	p := c.phase
	problems, err := p.problems(ctx)
	if err != nil {
		return err
	}
	if err := (migrate.Outline{Target: p.Target(), Problems: problems}).Refused(); err != nil {
		return err
	}
	if p.New != nil {
		same, err := p.sameDatabase(ctx)
		if err != nil {
			return err
		}
		if same != p.plan.SameDatabase {
			problems = append(problems, differentDatabases(same))
		}
		if slices.Contains(p.plan.Routes, ramp.Limit) {
			problems = append(problems, p.limitProblems(ctx)...)
		}
	}
	if err := (migrate.Outline{Target: p.Target(), Problems: problems}).Refused(); err != nil {
		return err
	}
	note := checkNote{Passed: time.Now().UTC()}
	note.At, note.Evidence = note.Passed, migrate.Before(ctx, p.client, p.env.Watch, note.Passed)
	return p.env.Note(ctx, phase1Preflight, note)
}

func (c *phase1Check) Verify(context.Context) error {
	var note checkNote
	if c.phase.env.Checkpoint == nil || c.phase.env.Recall(phase1Preflight, &note) {
		return nil // without a journal it has just been applied
	}
	return migrate.ErrNotApplied
}

func (c *phase1Check) Rollback(context.Context) error { return nil }

// sameDatabase writes a key for ten seconds on the old side and looks for it on the new one.
func (p *Phase1) sameDatabase(ctx context.Context) (bool, error) {
	key := probePrefix + rand.Text()
	if err := p.client.Set(ctx, key, "1", 10*time.Second).Err(); err != nil {
		return false, fmt.Errorf("write %s on the old side: %w", key, err)
	}
	n, err := p.New.Exists(ctx, key).Result()
	if err != nil {
		return false, fmt.Errorf("look for %s on the new side: %w", key, err)
	}
	return n == 1, nil
}

func differentDatabases(same bool) migrate.Problem {
	if same {
		return migrate.Problem{
			Rule: "same-database", Message: "both sides are one database, and the plan says they are two", Blocking: true,
			Fix: "set ramp.same_database: true in the configuration of every replica, and plan again",
		}
	}
	return migrate.Problem{
		Rule: "same-database", Message: "the sides are two databases, and the plan says they are one", Blocking: true,
		Fix: "remove ramp.same_database from the configuration of every replica, and plan again",
	}
}

// problems are what keeps phase 1 from beginning, as far as can be told by reading. Price: up to 200 SCANs of
// the new side, 2 commands there, and 2 on the old side.
func (p *Phase1) problems(ctx context.Context) ([]migrate.Problem, error) {
	out := p.replicaProblems(ctx)
	serves := slices.ContainsFunc(p.plan.Routes, own)
	switch {
	case p.plan.New == "" && serves:
		return append(out, migrate.Problem{
			Rule: "no-new-side", Message: "no second upstream is configured", Blocking: true,
			Fix: "set ramp.rest_url and ramp.rest_token, or ramp.url, on every replica of redisopt serve and here",
		}), nil
	case p.New == nil && serves:
		return append(out, migrate.Problem{
			Rule: "no-new-side", Message: "the new side " + p.plan.New + " cannot be reached from here without its credentials", Blocking: true,
			Fix: "set REDISOPT_RAMP_URL, or REDISOPT_RAMP_REST_URL and REDISOPT_RAMP_REST_TOKEN",
		}), nil
	case p.New == nil:
		return out, nil
	}
	if err := p.New.Ping(ctx).Err(); err != nil {
		return append(out, migrate.Problem{ //nolint:nilerr // it is one of the problems that are told together
			Rule: "new-side-unreachable", Subject: p.plan.New, Message: "the new side does not answer: " + err.Error(), Blocking: true,
			Fix: "see that it is up and that the credentials are right; redisopt audit connections --errors LOG says more",
		}), nil
	}
	if slices.Contains(p.plan.Routes, ramp.Limit) && !p.plan.SameDatabase {
		out = append(out, p.clockProblems(ctx)...)
	}
	d, err := p.current(ctx)
	if err != nil {
		return out, err
	}
	begun := slices.ContainsFunc(p.plan.Routes, func(r string) bool { _, ok := d.Ramps[r]; return ok })
	if begun || p.plan.SameDatabase {
		return out, nil
	}
	leftover, err := p.leftover(ctx)
	if err != nil {
		return out, err
	}
	return append(out, leftover...), nil
}

// replicaProblems are those of the replicas. They are asked over HTTP, which costs no command but 2 for who
// else there is.
func (p *Phase1) replicaProblems(ctx context.Context) []migrate.Problem {
	var out []migrate.Problem
	if len(p.Fleet.URLs) == 0 {
		return []migrate.Problem{{
			Rule: "no-replica", Message: "no replica of redisopt serve is known, so nothing can be measured and no emergency reaches them", Blocking: true,
			Fix: "name the API of every replica in serve.replicas, or REDISOPT_REPLICAS",
		}}
	}
	staying, former := map[string]string{}, map[string]string{}
	for _, a := range p.Fleet.Ramps(ctx) {
		switch {
		case a.Err != nil:
			out = append(out, migrate.Problem{
				Rule: "replica-unreachable", Subject: a.URL, Message: "a replica does not answer: " + a.Err.Error(), Blocking: true,
				Fix: "see that serve.replicas is right, that it runs, and that REDISOPT_TOKEN is its own",
			})
		case !a.Said.Configured && slices.ContainsFunc(p.plan.Routes, own):
			out = append(out, migrate.Problem{
				Rule: "replica-without-ramp", Subject: a.URL, Message: "the replica has no second upstream, so its keys would not move", Blocking: true,
				Fix: "configure ramp on it as here, and restart it",
			})
		case a.Said.Configured && a.Said.SameDatabase != p.plan.SameDatabase && slices.ContainsFunc(p.plan.Routes, own):
			out = append(out, migrate.Problem{
				Rule: "same-database", Subject: a.URL, Message: "the replica has another ramp.same_database than the plan", Blocking: true,
				Fix: "configure ramp on it as here, and restart it",
			})
		}
		for _, s := range a.Said.Staying {
			staying[s.Rule] = s.Why
		}
		for _, s := range a.Said.Former {
			former[s.Rule] = s.Why
		}
	}
	if names, err := p.Fleet.Members(ctx); err == nil && len(names) > len(p.Fleet.URLs) {
		out = append(out, migrate.Problem{
			Rule: "replica-not-named", Subject: strings.Join(names, ", "),
			Message: fmt.Sprintf("%d replicas hold connections and %d are named; the others follow, but nothing is known of what they see, and no emergency reaches them", len(names), len(p.Fleet.URLs)),
			Fix:     "name the API of every replica in serve.replicas, or REDISOPT_REPLICAS",
		})
	}
	if slices.Contains(p.plan.Routes, ramp.Limit) {
		for _, rule := range slices.Sorted(maps.Keys(staying)) {
			out = append(out, migrate.Problem{
				Rule: "rule-stays", Subject: rule, Message: "the limit " + rule + " stays on the old side: " + staying[rule],
				Fix: "checks of several limits at once, all or none, must not mix it with others after phase 1 is complete",
			})
		}
		for _, rule := range slices.Sorted(maps.Keys(former)) {
			out = append(out, migrate.Problem{
				Rule: "rule-reads-old-side", Subject: rule, Message: "the limit " + rule + " moves, and " + former[rule],
				Fix: "end the former limiter and take legacy out of the configuration, one period later, before ramp becomes upstream",
			})
		}
	}
	return out
}

// Bounds of looking through the new side.
const (
	clearScans = 200
	clearPage  = 1000
)

// leftover are keys that the new side has already under the names of what moves: of a former attempt, whose
// values are out of date, or somebody else's.
func (p *Phase1) leftover(ctx context.Context) ([]migrate.Problem, error) {
	var out []migrate.Problem
	for _, prefix := range p.plan.KeyPrefixes {
		n, whole, err := p.count(ctx, prefix)
		if err != nil {
			return nil, err
		}
		switch {
		case n > 0 && !p.plan.ClearNew:
			out = append(out, migrate.Problem{
				Rule: "new-side-not-empty", Subject: prefix, Blocking: true,
				Message: fmt.Sprintf("the new side has %d keys or more under %s already; of a former attempt they are out of date", n, prefix),
				Fix:     "see what they are, and have them removed with --clear-new",
			})
		case n == 0 && !whole:
			out = append(out, migrate.Problem{
				Rule: "new-side-not-looked-through", Subject: prefix,
				Message: fmt.Sprintf("the new side has too many keys to look through with %d SCANs; none under %s was among them", clearScans, prefix),
			})
		}
	}
	return out, nil
}

// count is how many keys the new side has under a prefix, as far as clearScans shows, and whether that is all.
func (p *Phase1) count(ctx context.Context, prefix string) (n int, whole bool, err error) {
	var cursor uint64
	for range clearScans {
		var keys []string
		if keys, cursor, err = p.New.Scan(ctx, cursor, globLiteral(prefix)+"*", clearPage).Result(); err != nil {
			return n, false, fmt.Errorf("look through the new side: %w", err)
		}
		if n += len(keys); cursor == 0 || n > 0 {
			return n, cursor == 0, nil
		}
	}
	return n, false, nil
}

// globLiteral makes every character stand for itself.
func globLiteral(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

// A phase1Clearing removes what the new side has under the names of what moves.
type phase1Clearing struct{ phase *Phase1 }

func (c *phase1Clearing) Name() string { return phase1Clear }

var errNoNewSide = errors.New("the new side cannot be reached from here: set REDISOPT_RAMP_URL, or REDISOPT_RAMP_REST_URL with its token")

// Apply costs a SCAN for each 1,000 keys of the new side, and an UNLINK for each page that has some.
func (c *phase1Clearing) Apply(ctx context.Context) error {
	p := c.phase
	if p.New == nil {
		return errNoNewSide
	}
	d, err := p.current(ctx)
	if err != nil {
		return err
	}
	for _, route := range p.plan.Routes {
		if _, begun := d.Ramps[route]; begun {
			return fmt.Errorf("route %s is in the control document already, so the new side may be in use; roll back first", route)
		}
	}
	if same, err := p.sameDatabase(ctx); err != nil || same {
		return errors.Join(err, errSameCleared(same))
	}
	removed := int64(0)
	for _, prefix := range p.plan.KeyPrefixes {
		var cursor uint64
		for {
			if err := p.env.Pace.Wait(ctx, 1); err != nil {
				return err
			}
			if err := holdsLease(ctx, p.client, p.env); err != nil {
				return err
			}
			keys, next, err := p.New.Scan(ctx, cursor, globLiteral(prefix)+"*", clearPage).Result()
			if err == nil && len(keys) > 0 {
				err = p.New.Unlink(ctx, keys...).Err()
			}
			if err != nil {
				return fmt.Errorf("clear %s on the new side: %w", prefix, err)
			}
			removed += int64(len(keys))
			p.env.Tell(migrate.Progress{Step: phase1Clear, Part: prefix, Done: removed, Unit: "keys"})
			if cursor = next; cursor == 0 {
				break
			}
		}
	}
	return nil
}

func errSameCleared(same bool) error {
	if !same {
		return nil
	}
	return errors.New("both sides are one database: clearing the new one would clear the old one")
}

func (c *phase1Clearing) Verify(ctx context.Context) error {
	if c.phase.New == nil {
		return errNoNewSide
	}
	d, err := c.phase.current(ctx)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(c.phase.plan.Routes, func(r string) bool { _, ok := d.Ramps[r]; return ok }) {
		return nil // what is there by now was written by what came after
	}
	for _, prefix := range c.phase.plan.KeyPrefixes {
		n, _, err := c.phase.count(ctx, prefix)
		if err != nil {
			return err
		}
		if n > 0 {
			return migrate.ErrNotApplied
		}
	}
	return nil
}

// Rollback cannot bring back what was out of date.
func (c *phase1Clearing) Rollback(context.Context) error { return nil }
