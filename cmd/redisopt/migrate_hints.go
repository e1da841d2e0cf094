package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
)

// migrationHint adds to err what to type next about the migration of t. Nil stays nil, and so does
// whatever already has a hint of its own.
func (a *app) migrationHint(err error, t migrate.Target) error {
	var has hinter
	if err == nil || errors.As(err, &has) {
		return err
	}
	if hint := migrationNext(err, t); hint != "" {
		return withHint(err, hint)
	}
	return err
}

// migrationNext is the next thing to type after err, empty when the error's class says it better.
func migrationNext(err error, t migrate.Target) string {
	var (
		resume  = "redisopt migrate resume" + targetArgs(t)
		back    = "redisopt rollback " + t.Phase + queueFlagArgs(t)
		ended   *migrate.FinishedError
		gate    *migrate.GateError
		went    *migrate.RolledBackError
		file    *migrate.PlanFileError
		refused *migrate.RefusedError
		held    *migrate.HeldError
		stage   *migrate.StageError
		plan    *migrate.PlanError
		jobs    *step.HeldJobsError
		blocked *step.BlockedError
		differ  *step.MismatchError
		unknown *step.UnknownQueueError
		major   *step.MajorError
		layout  *step.LayoutError
		live    *mover.AttachedError
		at      *migrate.StepError
	)
	switch {
	case errors.As(err, &held):
		return fmt.Sprintf("wait until %s, or if that process is gone: redisopt migrate --force-unlock%s",
			held.Expires.UTC().Format(time.RFC3339), unlockArgs(t))
	case errors.As(err, &ended):
		return "only a new migration in the opposite direction leads back" + opposite(t) +
			"; redisopt migrate history" + targetArgs(t) + " shows what was done"
	case errors.As(err, &went):
		return "redisopt migrate history" + targetArgs(t) + " has the reason; when that is solved, begin again"
	case errors.As(err, &gate):
		return "redisopt migrate report" + targetArgs(t) + " shows the evidence; go back: " + back + "; or, when that is solved: " + resume
	case errors.As(err, &file):
		return "make a new plan: redisopt migrate plan --out FILE"
	case errors.As(err, &refused):
		return refusedNext(refused)
	case errors.Is(err, migrate.ErrLeaseLost), errors.Is(err, journal.ErrFenced):
		return "redisopt migrate status shows who holds the lease; when it is free: " + resume
	case errors.As(err, &jobs):
		return "stop the workers of this queue, then " + resume
	case errors.As(err, &plan):
		return "go on with the plan that was begun: " + resume + "; or undo it first: " + back
	case errors.As(err, &stage):
		return resume
	case errors.As(err, &differ):
		return "nothing was deleted; redisopt migrate history" + targetArgs(t) + " shows what was done, " + back + " goes back"
	case errors.As(err, &live):
		return "stop every process of this queue and run the same command again, or move to another prefix, without --in-place"
	case errors.As(err, &blocked):
		return blockedNext(blocked)
	case errors.As(err, &major):
		return "add --bullmq-major 5 or --bullmq-major 6"
	case errors.As(err, &layout):
		return "redisopt queue ls shows the layout of every queue; redisopt migrate status which were moved"
	case errors.As(err, &unknown):
		return "redisopt queue ls lists every queue under every prefix"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EFBIG):
		// The very first entry may be what found no room, and then there is nothing to resume.
		return "nothing is lost; free space in the state directory, then run the same command again"
	case errors.Is(err, context.Canceled):
		return "nothing is lost; go on: " + resume + "; or go back: " + back
	case errors.As(err, &at):
		return "nothing is lost; when that is solved: " + resume + "; or go back: " + back
	}
	return journalNext(err, resume)
}

// journalNext says what to do about a journal that cannot be opened.
func journalNext(err error, resume string) string {
	var (
		fork    *journal.ForkError
		damaged *journal.DamagedError
		newer   *journal.SchemaError
	)
	switch {
	case errors.As(err, &newer):
		return "use the version of redisopt that began this migration, or a later one"
	case errors.As(err, &fork):
		return fmt.Sprintf("the copy in Redis counts: move %s out of the way, then %s", fork.Path, resume)
	case isPathError(err):
		return "the journal is kept in the state directory, choose another with --state-dir"
	case errors.As(err, &damaged):
		return damagedNext(damaged, resume)
	}
	return ""
}

// damagedNext says what to do about a damaged copy of a journal: it may be given up only where the other copy has
// all it had.
func damagedNext(e *journal.DamagedError, resume string) string {
	other := "the copy at " + e.Other
	switch {
	case e.Replaceable():
		return fmt.Sprintf("move %s out of the way (RENAME, if it is a Redis key): %s completes it, then %s", e.Where, other, resume)
	case e.OtherErr != nil && !isA[*journal.DamagedError](e.OtherErr):
		return "whether " + other + " completes it could not be looked at: keep both, solve that, and run the same command again"
	case e.OtherErr != nil:
		return "keep both copies; " + elsewhere(e.Where+" or "+e.Other, resume)
	case e.OtherLen > 0:
		return fmt.Sprintf("keep both copies, since %s has only %d of about %d entries; %s", other, e.OtherLen, e.Lines, elsewhere(e.Where, resume))
	}
	return fmt.Sprintf("keep %s, there is no copy at %s; %s", e.Where, e.Other, elsewhere(e.Where, resume))
}

// elsewhere says where a journal can still be whole.
func elsewhere(where, resume string) string {
	return fmt.Sprintf("another host that worked on this migration has one in its state directory (%s there, or --state-dir); else put %s back from a backup",
		resume, where)
}

func isPathError(err error) bool {
	_, ok := errors.AsType[*fs.PathError](err)
	return ok
}

// blockedNext says how to solve the problems of a plan.
func blockedNext(e *step.BlockedError) string {
	has := func(rule string) bool {
		return slices.ContainsFunc(e.Problems, func(p mover.Problem) bool { return p.Rule == rule })
	}
	switch {
	case has("live-worker"):
		return "stop every process of this queue and run the same command again, or move to another prefix, without --in-place"
	case has("scheduler-id-colon"), has("unknown-repeatable"):
		return "name the repeatable with --scheduler-id KEY=ID; the plan of --dry-run shows the keys"
	case has("colliding-prefix"):
		return "choose another prefix with --to-prefix; redisopt queue ls shows who has which"
	case has("unknown-version"):
		return "use a version of redisopt that knows it; nothing was changed"
	case has("missing-hash"), has("malformed-opts"), has("malformed-field"), has("collision"):
		return "redisopt queue show tells the job; or move to another prefix, without --in-place: what cannot be converted then stays at the source"
	}
	return "solve that and run the same command again; --dry-run shows the whole plan"
}

// refusedNext says how to solve the first problem of a plan that says so itself.
func refusedNext(e *migrate.RefusedError) string {
	for _, p := range e.Problems {
		if p.Fix != "" {
			return p.Fix
		}
	}
	return "solve that and run the same command again; --dry-run shows the whole plan"
}

// opposite is how the migration that leads back after t was completed is begun, for phase 3 and 1.
func opposite(t migrate.Target) string {
	switch t.Phase {
	case step.Phase1Name:
		return ": redisopt migrate phase1 with upstream and ramp exchanged"
	case step.Phase3Name:
		if t.Prefix == "bull" {
			return ": redisopt migrate phase3 --engine bull --queue " + t.Queue + " --prefix PREFIX, which is where it is now"
		}
		return ": redisopt migrate phase3 --queue " + t.Queue + " with the engine it had, and --prefix for where it is now"
	default:
		return ""
	}
}

// unlockArgs are what --force-unlock needs to find the lease of t, with a space before it.
func unlockArgs(t migrate.Target) string {
	if t.Whole() {
		return " --phase " + t.Phase
	}
	return " " + queueArgs(t)
}
