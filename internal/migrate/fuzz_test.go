package migrate_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// FuzzRuns: whatever an operator asks for, in whatever order, and wherever each of the processes dies,
// one more resume leads to all steps in place once or to none, and to nothing in between. Each byte is
// one process: two bits say what it is asked, one how it dies, the rest at which of its writes.
func FuzzRuns(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{0x08, 0x11, 0x1a, 0x03})
	f.Add([]byte{0xff, 0x2c, 0x00, 0x01, 0x3e})
	f.Fuzz(func(t *testing.T, processes []byte) {
		world := map[string]int{}
		log := &memLog{failAt: -1}
		for _, b := range processes[:min(len(processes), 64)] {
			log = &memLog{entries: log.entries, failAt: int(b >> 3), lost: b&4 != 0}
			e := migrate.NewEngine(log, marks(world)...)
			var err error
			switch b & 3 {
			case 0:
				err = e.Start(t.Context())
			case 1:
				err = e.Rollback(t.Context(), nil)
			default:
				err = e.Resume(t.Context())
			}
			if err != nil && !errors.Is(err, errCrash) && !errors.Is(err, migrate.ErrNothingToRollBack) && !isStage(err) {
				t.Fatalf("process %#x: %v", b, err)
			}
			for name, n := range world {
				if n > 1 {
					t.Fatalf("process %#x: step %s is in place %d times", b, name, n)
				}
			}
		}
		e := migrate.NewEngine(log.reopen(), marks(world)...)
		if err := e.Resume(t.Context()); err != nil {
			t.Fatalf("resume at the end: %v", err)
		}
		s, err := e.State()
		if err != nil {
			t.Fatal(err)
		}
		want := map[migrate.Stage]map[string]int{migrate.Complete: inPlace, migrate.RolledBack: nothing}[s.Stage]
		if want == nil {
			t.Fatalf("it ends %s, want complete or rolled back", s.Stage)
		}
		if diff := cmp.Diff(want, world); diff != "" {
			t.Errorf("it is %s, and the world (-want +got):\n%s", s.Stage, diff)
		}
	})
}

// FuzzReadState: entries of any kind in any order are a state or an error.
func FuzzReadState(f *testing.F) {
	kinds := []journal.Kind{
		journal.Begin, journal.Intent, journal.Checkpoint, journal.Done, journal.Complete,
		journal.Stopped, journal.Back, journal.Undo, journal.Undone, journal.RolledBack, "else",
	}
	f.Add([]byte{0, 1, 3, 4, 6, 7, 8, 9})
	f.Add([]byte{0, 6, 5, 0})
	f.Fuzz(func(t *testing.T, picks []byte) {
		var chosen []journal.Kind
		for _, b := range picks {
			chosen = append(chosen, kinds[int(b)%len(kinds)])
		}
		s, err := migrate.ReadState(history(chosen...))
		if err != nil {
			return
		}
		if s.Stage.Open() != (s.Stage == migrate.Forward || s.Stage == migrate.Backward) {
			t.Errorf("stage %s is open: %v", s.Stage, s.Stage.Open())
		}
		if s.Stage == migrate.RolledBack {
			for _, st := range s.Steps {
				if st.Touched {
					t.Errorf("rolled back, and step %s is touched", st.Name)
				}
			}
		}
	})
}
