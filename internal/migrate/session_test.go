package migrate_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

var mail = migrate.Target{Phase: "phase3", Prefix: "bull", Queue: "mail"}

func sessionIn(dir string) migrate.SessionOptions {
	return migrate.SessionOptions{Target: mail, StateDir: dir, Owner: "ann@alpha 100"}
}

// through runs the engine's verb in a session of its own, as one process would.
func through(t *testing.T, opts migrate.SessionOptions, s *redistest.Server, verb func(context.Context, *migrate.Engine) error, steps ...migrate.Step) error {
	t.Helper()
	session, err := migrate.OpenSession(t.Context(), s.Client(t), opts)
	if err != nil {
		return err
	}
	return session.Run(t.Context(), func(ctx context.Context) error {
		return verb(ctx, migrate.NewEngine(session.Journal, steps...))
	})
}

func start(ctx context.Context, e *migrate.Engine) error { return e.Start(ctx) }

func rollback(ctx context.Context, e *migrate.Engine) error { return e.Rollback(ctx, nil) }

func TestLookingWritesNothing(t *testing.T) {
	s := redistest.Start(t)
	client := s.Client(t)
	dir := filepath.Join(t.TempDir(), "state")
	got, err := migrate.Look(t.Context(), client, sessionIn(dir))
	if err != nil || got.State.Stage != migrate.NotStarted || got.Holder != nil {
		t.Errorf("Look = %+v, %v, want not started and held by nobody", got, err)
	}
	if n := client.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys, want 0", n)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("state directory: %v, want it missing", err)
	}
}

func TestAnotherHostGoesOnFromTheCopyInRedis(t *testing.T) {
	s := redistest.Start(t)
	world := map[string]int{}
	here, there := sessionIn(t.TempDir()), sessionIn(t.TempDir())
	steps := marks(world)
	steps[1].(*mark).applyErr = errors.New("this host is broken")
	if err := through(t, here, s, start, steps...); err == nil {
		t.Fatal("the first host succeeded, want its error")
	}
	look, err := migrate.Look(t.Context(), s.Client(t), there)
	if err != nil || look.State.Stage != migrate.Forward || look.State.Current().Name != "b" {
		t.Errorf("the other host sees %+v, %v, want it applying b", look.State, err)
	}
	if err := through(t, there, s, start, marks(world)...); err != nil {
		t.Fatal(err)
	}
	if err := through(t, here, s, rollback, marks(world)...); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(nothing, world); diff != "" {
		t.Errorf("world (-want +got):\n%s", diff)
	}
}

func TestASecondSessionIsRefusedAndLeavesTheJournalAlone(t *testing.T) {
	s := redistest.Start(t)
	dir := t.TempDir()
	first, err := migrate.OpenSession(t.Context(), s.Client(t), sessionIn(dir))
	if err != nil {
		t.Fatal(err)
	}
	var held *migrate.HeldError
	if _, err := migrate.OpenSession(t.Context(), s.Client(t), sessionIn(dir)); !errors.As(err, &held) || held.Owner != "ann@alpha 100" {
		t.Errorf("second session: %v, want a HeldError", err)
	}
	look, err := migrate.Look(t.Context(), s.Client(t), sessionIn(dir))
	if err != nil || look.Holder == nil || look.Holder.Owner != "ann@alpha 100" {
		t.Errorf("Look = %+v, %v, want it to tell the holder", look.Holder, err)
	}
	if err := first.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestAnOperatorWhoLostTheLeaseCanJournalNothingMore(t *testing.T) {
	s := redistest.Start(t)
	first, err := migrate.OpenSession(t.Context(), s.Client(t), sessionIn(t.TempDir()))
	if err != nil {
		t.Fatal(err)
	}
	shown, err := migrate.Holding(t.Context(), s.Client(t), mail.LeaseKey())
	if err != nil || shown == nil {
		t.Fatalf("Holding = %+v, %v, want somebody", shown, err)
	}
	if _, err := migrate.ForceUnlock(t.Context(), s.Client(t), mail.LeaseKey(), *shown); err != nil {
		t.Fatal(err)
	}
	world := map[string]int{}
	if err := through(t, sessionIn(t.TempDir()), s, start, marks(world)...); err != nil {
		t.Fatalf("the one who took over: %v", err)
	}
	err = migrate.NewEngine(first.Journal, marks(map[string]int{})...).Start(t.Context())
	if !errors.Is(err, journal.ErrFenced) {
		t.Errorf("the one who lost it: %v, want ErrFenced", err)
	}
	if n := s.Client(t).LLen(t.Context(), mail.JournalKey()).Val(); n != forwardWrites {
		t.Errorf("%d entries in the mirror, want the %d of the second", n, forwardWrites)
	}
}

func TestAJournalIsNotTakenToAnotherDatabase(t *testing.T) {
	dir := t.TempDir()
	world := map[string]int{}
	if err := through(t, sessionIn(dir), redistest.Start(t), start, marks(world)...); err != nil {
		t.Fatal(err)
	}
	other := redistest.Start(t)
	if err := through(t, sessionIn(dir), other, func(context.Context, *migrate.Engine) error { return nil }); err != nil {
		t.Fatal(err)
	}
	look, err := migrate.Look(t.Context(), other.Client(t), sessionIn(dir))
	if err != nil || look.State.Stage != migrate.NotStarted {
		t.Errorf("in another database: %s, %v, want not started", look.State.Stage, err)
	}
}

func TestEveryMigrationOfADatabaseIsListed(t *testing.T) {
	s := redistest.Start(t)
	dir := t.TempDir()
	for _, queue := range []string{"sms", "mail", "../../etc/passwd", strings.Repeat("long", 100)} {
		opts := sessionIn(dir)
		opts.Target.Queue = queue
		for range 2 {
			if err := through(t, opts, s, start, marks(map[string]int{})...); err != nil {
				t.Fatal(err)
			}
		}
	}
	got, err := migrate.Targets(t.Context(), s.Client(t))
	if err != nil || len(got) != 4 {
		t.Fatalf("Targets = %v, %v, want four", got, err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "migrations", "*", "phase3-*.journal"))
	if err != nil || len(files) != 4 {
		t.Errorf("journals %q, %v, want four inside the state directory", files, err)
	}
}

func TestADatabaseNameThatIsAPathIsRefused(t *testing.T) {
	s := redistest.Start(t)
	if err := s.Client(t).Set(t.Context(), "redisopt:id", "../../x", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := migrate.Look(t.Context(), s.Client(t), sessionIn(t.TempDir())); err == nil {
		t.Error("Look = nil, want an error")
	}
	if err := through(t, sessionIn(t.TempDir()), s, start); err == nil {
		t.Error("OpenSession = nil, want an error")
	}
	if h, err := migrate.Holding(t.Context(), s.Client(t), mail.LeaseKey()); err != nil || h != nil {
		t.Errorf("after the refusal the lease is held by %+v, %v, want nobody", h, err)
	}
}
