package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// How long an intent holds that its command gives no time for.
const (
	pauseHolds = 24 * time.Hour
	askedHolds = time.Hour
)

// asking is what commands want that work beside the host of a migration.
func asking() redisUse {
	use := writing()
	use.intents = true
	return use
}

// verb makes the command of one verb about one migration.
func (a *app) verb(cmd *cobra.Command, f func(ctx context.Context, which whichMigration) error) *cobra.Command {
	var which whichMigration
	cmd.Args = cobra.MaximumNArgs(1)
	cmd.RunE = a.action(func(ctx context.Context, args []string) error {
		if err := which.set(args); err != nil {
			return err
		}
		if !which.named() {
			return usagef("name the migration: a phase, or with --queue one queue of phase 3")
		}
		return f(ctx, which)
	})
	which.register(cmd)
	return cmd
}

func (a *app) migratePauseCommand() *cobra.Command {
	var (
		holds  time.Duration
		reason string
	)
	cmd := a.verb(&cobra.Command{
		Use:   "pause [phase]",
		Short: "Let a migration wait at its next safe point",
		Example: `  redisopt migrate pause --queue mail --reason 'the sale begins'
  redisopt migrate pause phase1 --for 2h`,
	}, func(ctx context.Context, which whichMigration) error {
		return a.migratePause(ctx, which.target(), migrate.Intent{Verb: migrate.IntentPause, Reason: reason}, holds)
	})
	cmd.Flags().DurationVar(&holds, "for", pauseHolds, "go on after so long, whatever happens")
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the others")
	return cmd
}

func (a *app) migratePause(ctx context.Context, t migrate.Target, i migrate.Intent, holds time.Duration) error {
	if holds < time.Second {
		return usagef("--for: got %s, want at least 1s", holds)
	}
	return a.withMigration(ctx, asking(), t, func(up *upstream.Upstream, s migrate.Standing, _ string) error {
		if s.State.Stage != migrate.Forward {
			return withHint(verdictf(exitBlocked, "%s cannot be paused: it is %s", t, s.Condition()), "redisopt migrate status")
		}
		return a.ask(ctx, up, s, i, holds)
	})
}

// ask leaves an intent and tells what becomes of it.
func (a *app) ask(ctx context.Context, up *upstream.Upstream, s migrate.Standing, i migrate.Intent, holds time.Duration) error {
	if a.flags.dryRun {
		return a.print(intentDocument(s, i, false))
	}
	asked, err := migrate.Ask(ctx, up.Client(), s.Target, i, holds)
	if err != nil {
		return err
	}
	if asked.Heard == 0 && s.Holder != nil {
		a.note("nobody heard it at once: %s follows it within a minute if it has no bell; if it is gone: redisopt migrate --force-unlock%s, then this again",
			s.Holder.Owner, unlockArgs(s.Target))
	}
	return a.print(intentDocument(s, asked.Intent, true))
}

// intentData is the contract of migrate.intent/v1.
type intentData struct {
	Target migrate.Target  `json:"target"`
	Intent migrate.Intent  `json:"intent"`
	Asked  bool            `json:"asked"`  // false for a dry run
	Holder *migrate.Holder `json:"holder"` // who will follow it; nil when nobody hosts the migration now
}

// intentDocument is migrate.intent/v1: what was asked of the host.
func intentDocument(s migrate.Standing, i migrate.Intent, asked bool) report.Document {
	who := "whoever hosts it next"
	if s.Holder != nil {
		who = s.Holder.Owner
	}
	doc := report.Document{
		Kind: "migrate.intent/v1", Title: s.Target.String(),
		Data: intentData{Target: s.Target, Intent: i, Asked: asked, Holder: s.Holder},
		Sections: []report.Section{{Fields: []report.Field{
			{Name: "asked for", Value: string(i.Verb)}, {Name: "of", Value: who},
		}}},
	}
	if asked {
		doc.Sections[0].Fields = append(doc.Sections[0].Fields, report.Field{Name: "until", Value: i.Expires.UTC().Format(time.RFC3339)})
		doc.Notes = append(doc.Notes, "redisopt migrate status"+targetArgs(s.Target)+" shows when it is followed")
	}
	return doc
}

func (a *app) migrateCompleteCommand() *cobra.Command {
	return a.verb(&cobra.Command{
		Use:   "complete [phase]",
		Short: "Keep a migration for good, which gives up its way back",
		Long: `complete says exactly what becomes irreversible, asks, and lets go of what the way back needs. After it
only a new migration in the opposite direction leads back.`,
		Example: `  redisopt migrate complete --queue mail --dry-run
  redisopt migrate complete phase1 --yes`,
	}, func(ctx context.Context, which whichMigration) error { return a.migrateComplete(ctx, which.target()) })
}

func (a *app) migrateComplete(ctx context.Context, t migrate.Target) error {
	return a.withMigration(ctx, asking(), t, func(up *upstream.Upstream, s migrate.Standing, dir string) error {
		switch s.State.Stage {
		case migrate.Finished:
			a.note("%s is completed already", t)
			return a.print(statusDocument([]migrate.Standing{s}))
		case migrate.Complete, migrate.Finishing:
		case migrate.Forward:
			if s.Holder == nil {
				return &migrate.StageError{Verb: "complete", Stage: s.State.Stage}
			}
		case migrate.NotStarted, migrate.Backward, migrate.RolledBack:
			return &migrate.StageError{Verb: "complete", Stage: s.State.Stage}
		}
		if err := afterEmergency(s); err != nil {
			return err
		}
		phase, err := a.openPhase(up, t, s.State.Options, migrate.Env{})
		if err != nil {
			return err
		}
		var gone []string
		if f, ok := phase.(migrate.Finisher); ok {
			if gone, err = f.Irreversible(ctx); err != nil {
				return err
			}
		}
		doc := completeDocument(s, gone)
		if a.flags.dryRun {
			return a.print(doc)
		}
		if err := a.confirm(ctx, doc, "Complete it for good?"); err != nil {
			return err
		}
		if s.Holder != nil {
			return a.ask(ctx, up, s, migrate.Intent{Verb: migrate.IntentComplete}, askedHolds)
		}
		return a.hostPhase(ctx, up, t, dir, 0, migrate.HostOptions{Complete: true}, s.State.Options)
	})
}

// completeData is the contract of migrate.complete/v1.
type completeData struct {
	Target       migrate.Target    `json:"target"`
	Condition    migrate.Condition `json:"condition"`
	Irreversible []string          `json:"irreversible"`
}

// completeDocument is migrate.complete/v1: what completing would make irreversible.
func completeDocument(s migrate.Standing, gone []string) report.Document {
	doc := report.Document{
		Kind: "migrate.complete/v1", Title: "complete " + s.Target.String(),
		Data:     completeData{Target: s.Target, Condition: s.Condition(), Irreversible: append([]string{}, gone...)},
		Sections: []report.Section{{Fields: []report.Field{{Name: "state", Value: string(s.Condition())}}}},
		Notes:    []string{"after it redisopt rollback has nothing to go back with; only a new migration in the opposite direction leads back"},
	}
	if len(gone) > 0 {
		doc.Sections = append(doc.Sections, sentences("what becomes irreversible", gone))
	}
	return doc
}

func (a *app) migrateAbortCommand() *cobra.Command {
	var reason string
	cmd := a.verb(&cobra.Command{
		Use:   "abort [phase]",
		Short: "Stop a migration that is under way and roll it back",
		Example: `  redisopt migrate abort --queue mail --reason 'the new workers crash'
  redisopt migrate abort phase1 --yes`,
	}, func(ctx context.Context, which whichMigration) error {
		return a.migrateAbort(ctx, which.target(), reason)
	})
	cmd.Flags().StringVar(&reason, "reason", "", "why, for the journal")
	return cmd
}

func (a *app) migrateAbort(ctx context.Context, t migrate.Target, reason string) error {
	return a.withMigration(ctx, asking(), t, func(up *upstream.Upstream, s migrate.Standing, dir string) error {
		if s.State.Stage != migrate.Forward {
			err := verdictf(exitBlocked, "%s cannot be aborted: it is %s", t, s.Condition())
			if s.State.Stage == migrate.Complete {
				return withHint(err, "redisopt rollback "+t.Phase+queueFlagArgs(t))
			}
			return withHint(err, "redisopt migrate status")
		}
		doc := intentDocument(s, migrate.Intent{Verb: migrate.IntentAbort, Reason: reason}, false)
		doc.Notes = append(doc.Notes, "what was done so far is undone, last step first")
		if a.flags.dryRun {
			return a.print(doc)
		}
		if err := a.confirm(ctx, doc, "Abort it?"); err != nil {
			return err
		}
		if s.Holder != nil {
			return a.ask(ctx, up, s, migrate.Intent{Verb: migrate.IntentAbort, Reason: reason}, askedHolds)
		}
		cause := errors.New("aborted by " + migrate.Owner())
		if reason != "" {
			cause = fmt.Errorf("%w: %s", cause, reason)
		}
		return a.hostPhase(ctx, up, t, dir, 0, migrate.HostOptions{Back: true, Cause: cause}, s.State.Options)
	})
}

func (a *app) migrateVerifyCommand() *cobra.Command {
	return a.verb(&cobra.Command{
		Use:   "verify [phase]",
		Short: "Look whether what a migration did is still in place",
		Example: `  redisopt migrate verify --queue mail
  redisopt migrate verify phase2 -o json`,
	}, func(ctx context.Context, which whichMigration) error { return a.migrateVerify(ctx, which.target()) })
}

// verifyData is the contract of migrate.verify/v1.
type verifyData struct {
	Target    migrate.Target    `json:"target"`
	Condition migrate.Condition `json:"condition"`
	Steps     []verifiedStep    `json:"steps"`
}

type verifiedStep struct {
	Name    string         `json:"name"`
	Mark    migrate.Mark   `json:"mark"`
	Verdict report.Verdict `json:"verdict"`
	Why     string         `json:"why"` // empty when it is in place
}

// migrateVerify asks every step that was applied. It takes no lease and writes nothing.
func (a *app) migrateVerify(ctx context.Context, t migrate.Target) error {
	return a.withMigration(ctx, reading(), t, func(up *upstream.Upstream, s migrate.Standing, _ string) error {
		if s.State.Stage == migrate.NotStarted {
			return withHint(verdictf(exitBlocked, "%s was never begun", t), "redisopt migrate plan")
		}
		phase, err := a.openPhase(up, t, s.State.Options, migrate.Env{Last: s.Checkpoint})
		if err != nil {
			return err
		}
		data := verifyData{Target: t, Condition: s.Condition(), Steps: []verifiedStep{}}
		var failures []error
		for _, one := range phase.Steps() {
			v := verifiedStep{Name: one.Name(), Mark: s.Mark(one.Name()), Verdict: report.Pass}
			if v.Mark != migrate.Applied {
				v.Verdict, v.Why = report.Inconclusive, "it is "+string(v.Mark)
			} else if err := one.Verify(ctx); err != nil {
				if ctx.Err() != nil {
					return err
				}
				v.Verdict, v.Why = report.Fail, err.Error()
				failures = append(failures, fmt.Errorf("%s: %w", v.Name, err))
			}
			data.Steps = append(data.Steps, v)
		}
		if err := a.print(verifyDocument(data)); err != nil {
			return err
		}
		err = errors.Join(failures...)
		if errors.Is(err, migrate.ErrNotApplied) {
			return errors.Join(verdictf(exitMismatch, "%s is not in place any more", t), err)
		}
		return err
	})
}

// verifyDocument is migrate.verify/v1: which steps are still in place.
func verifyDocument(data verifyData) report.Document {
	doc := report.Document{Kind: "migrate.verify/v1", Title: "verify " + data.Target.String(), Data: data}
	for _, v := range data.Steps {
		doc.Checks = append(doc.Checks, report.Check{Group: data.Target.String(), Name: v.Name, Verdict: v.Verdict, Message: v.Why})
	}
	return doc
}
