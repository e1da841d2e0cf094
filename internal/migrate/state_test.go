package migrate_test

import (
	"encoding/json"
	"testing"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
)

func mustJSON(v any) json.RawMessage {
	out, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return out
}

// history makes entries of kinds over the plan of the one step "a".
func history(kinds ...journal.Kind) []journal.Entry {
	out := []journal.Entry{}
	for i, k := range kinds {
		rec := journal.Record{Kind: k}
		switch k {
		case journal.Begin:
			rec.Detail = map[string]any{"plan": "p", "steps": []string{"a"}}
		case journal.Intent, journal.Done, journal.Checkpoint, journal.Undo, journal.Undone, journal.Stopped:
			rec.Step = "a"
		case journal.Back:
			rec.Detail = map[string]string{"reason": "slow"}
		case journal.Complete, journal.RolledBack, journal.Finish, journal.Finished, journal.Sign, journal.Window:
		}
		out = append(out, entry(int64(i)+1, rec))
	}
	return out
}

func TestTheStageFollowsFromTheEntries(t *testing.T) {
	const (
		b, i, d, c     = journal.Begin, journal.Intent, journal.Done, journal.Complete
		bk, u, un, rbk = journal.Back, journal.Undo, journal.Undone, journal.RolledBack
		stop           = journal.Stopped
	)
	for name, tt := range map[string]struct {
		kinds []journal.Kind
		stage migrate.Stage
		mark  migrate.Mark
	}{
		"nothing happened":          {nil, migrate.NotStarted, ""},
		"begun":                     {[]journal.Kind{b}, migrate.Forward, migrate.Pending},
		"about to apply":            {[]journal.Kind{b, i}, migrate.Forward, migrate.Applying},
		"stopped while applying":    {[]journal.Kind{b, i, stop}, migrate.Forward, migrate.Applying},
		"applied":                   {[]journal.Kind{b, i, d}, migrate.Forward, migrate.Applied},
		"complete":                  {[]journal.Kind{b, i, d, c}, migrate.Complete, migrate.Applied},
		"second pass":               {[]journal.Kind{b, i, d, c, b}, migrate.Forward, migrate.Pending},
		"back from the middle":      {[]journal.Kind{b, i, bk}, migrate.Backward, migrate.Applying},
		"about to undo":             {[]journal.Kind{b, i, d, c, bk, u}, migrate.Backward, migrate.Undoing},
		"undone":                    {[]journal.Kind{b, i, d, c, bk, u, un}, migrate.Backward, migrate.Undone},
		"rolled back":               {[]journal.Kind{b, i, d, c, bk, u, un, rbk}, migrate.RolledBack, migrate.Undone},
		"begun again after rolling": {[]journal.Kind{b, i, d, c, bk, u, un, rbk, b}, migrate.Forward, migrate.Pending},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := migrate.ReadState(history(tt.kinds...))
			if err != nil || s.Stage != tt.stage {
				t.Fatalf("ReadState = %s, %v, want %s", s.Stage, err, tt.stage)
			}
			if len(s.Steps) > 0 && s.Steps[0].Mark != tt.mark {
				t.Errorf("mark = %s, want %s", s.Steps[0].Mark, tt.mark)
			}
		})
	}
}

func TestEntriesThatCannotFollowOneAnotherAreRefused(t *testing.T) {
	for name, kinds := range map[string][]journal.Kind{
		"an intent before a plan":         {journal.Intent},
		"a way back from nothing":         {journal.Back},
		"complete from nothing":           {journal.Complete},
		"begun twice":                     {journal.Begin, journal.Begin},
		"undone on the way forward":       {journal.Begin, journal.Undone},
		"an intent on the way back":       {journal.Begin, journal.Back, journal.Intent},
		"rolled back without a way back":  {journal.Begin, journal.RolledBack},
		"a kind that nobody wrote before": {"frobnicate"},
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := migrate.ReadState(history(kinds...)); err == nil {
				t.Errorf("ReadState = %+v, want an error", s)
			}
		})
	}
}

func TestOnlyWhatWasBegunAndNeitherUndoneNorCompletedHasAWayBack(t *testing.T) {
	for stage, want := range map[migrate.Stage]bool{
		migrate.NotStarted: false, migrate.Forward: true, migrate.Complete: true, migrate.Backward: true,
		migrate.RolledBack: false, migrate.Finishing: false, migrate.Finished: false,
	} {
		if got := stage.Undoable(); got != want {
			t.Errorf("%s: Undoable = %t, want %t", stage, got, want)
		}
	}
}
