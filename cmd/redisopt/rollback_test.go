package main

import (
	"testing"

	"github.com/redisopt/redisopt/internal/migrate"
)

func TestTheLastMigrationIsTheOneWhoseJournalWasWrittenLast(t *testing.T) {
	at := func(stage migrate.Stage, queue, when string) migrate.Standing {
		s := migrate.Standing{Target: migrate.Target{Phase: "phase3", Prefix: "bull", Queue: queue}}
		s.State.Stage = stage
		if err := s.State.Last.UnmarshalText([]byte(when)); err != nil {
			t.Fatal(err)
		}
		return s
	}
	all := []migrate.Standing{
		at(migrate.Complete, "a", "2026-11-28T00:00:00Z"), at(migrate.Forward, "b", "2026-11-29T00:00:00Z"),
		at(migrate.Finished, "c", "2026-11-30T00:00:00Z"), at(migrate.RolledBack, "d", "2026-12-01T00:00:00Z"),
	}
	if got := lastUndoable(all); got == nil || got.Target.Queue != "b" {
		t.Errorf("lastUndoable = %v, want b", got)
	}
	if got := lastUndoable(all[2:]); got != nil {
		t.Errorf("lastUndoable = %v, want none", got.Target)
	}
}
