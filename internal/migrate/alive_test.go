package migrate

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestTheLeaseOfAProcessThatWasKilledIsTakenOverByWhoeverSharesItsDirectory(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	here := SessionOptions{Target: Target{Phase: "phase3", Prefix: "bull", Queue: "mail"}, StateDir: t.TempDir(), Owner: "ann@alpha 100"}
	first, err := OpenSession(t.Context(), client, here)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := OpenSession(t.Context(), client, here); !isHeld(err) {
		t.Fatalf("while it lives: %v, want a HeldError", err)
	}
	if look, err := Look(t.Context(), client, here); err != nil || look.Holder == nil {
		t.Fatalf("while it lives: %+v, %v, want its holder", look.Holder, err)
	}
	if err := first.alive.file.Close(); err != nil { // as the kernel does for a killed process
		t.Fatal(err)
	}
	there := here
	there.StateDir = t.TempDir()
	if _, err := OpenSession(t.Context(), client, there); !isHeld(err) {
		t.Errorf("from another directory: %v, want a HeldError", err)
	}
	if look, err := Look(t.Context(), client, here); err != nil || look.Holder != nil {
		t.Errorf("when it is gone: %+v, %v, want nobody", look.Holder, err)
	}
	second, err := OpenSession(t.Context(), client, here)
	if err != nil || second.Lease.Fence() <= first.Lease.Fence() {
		t.Fatalf("OpenSession = %v, want it with a greater fence", err)
	}
	if err := first.Lease.Hold(t.Context(), func(ctx context.Context) error {
		first.Lease.Poke()
		<-ctx.Done()
		return ctx.Err()
	}); !errors.Is(err, ErrLeaseLost) {
		t.Errorf("the first, if it lives after all: %v, want ErrLeaseLost", err)
	}
	if err := second.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
}

func isHeld(err error) bool {
	_, ok := errors.AsType[*HeldError](err)
	return ok
}

func TestAFileThatNamesAnotherLeaseProvesNothing(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	if gone(path, "1 secret ann") {
		t.Error("no file at all proves that the holder is gone")
	}
	for _, content := range []string{"", "2 other bob", "1 secret an"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if gone(path, "1 secret ann") {
			t.Errorf("%q proves that the holder is gone", content)
		}
	}
	a, err := sayAlive(t.Context(), path, "1 secret ann")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := sayAlive(t.Context(), path, "3 third eve"); !errors.Is(err, errAlive) {
		t.Errorf("a second process: %v, want errAlive", err)
	}
	if gone(path, "1 secret ann") {
		t.Error("a process that lives is gone")
	}
	if err := a.close(); err != nil {
		t.Fatal(err)
	}
	// It may have been unable to give the lease back, when no Redis answered.
	if !gone(path, "1 secret ann") {
		t.Error("a process that has closed its file does not look gone")
	}
}

func TestWhoeverOnlyLooksDoesNotKeepTheHolderFromSayingThatItLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lease")
	// looking has the file as gone has it, until the returned function is called.
	looking := func(t *testing.T) func() {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err == nil {
			err = lockAlive(f, false)
		}
		if err != nil {
			t.Fatal(err)
		}
		return func() {
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	t.Run("a moment is waited for", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			enough := looking(t)
			time.AfterFunc(20*time.Millisecond, enough)
			a, err := sayAlive(t.Context(), path, "1 secret ann")
			if err != nil {
				t.Fatalf("sayAlive = %v, want it to wait for the one who looks", err)
			}
			if err := a.close(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("more is not", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			defer looking(t)()
			began := time.Now()
			if _, err := sayAlive(t.Context(), path, "1 secret ann"); !errors.Is(err, errAlive) || time.Since(began) != aliveAfter {
				t.Errorf("sayAlive = %v after %s, want errAlive after %s", err, time.Since(began), aliveAfter)
			}
		})
	})
	t.Run("and none at all when it is told to end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			defer looking(t)()
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			began := time.Now()
			if _, err := sayAlive(ctx, path, "1 secret ann"); !errors.Is(err, context.Canceled) || time.Since(began) != 0 {
				t.Errorf("sayAlive = %v after %s, want it to end at once", err, time.Since(began))
			}
		})
	})
}
