package main

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// spoiled flips a bit in the middle of the journal of queue in the operator's state directory and returns its path.
func (o operator) spoiled(queue string) string {
	o.t.Helper()
	files, err := filepath.Glob(filepath.Join(o.dir, "redisopt", "migrations", "*", "phase3-"+queue+"-*.journal"))
	if err != nil || len(files) != 1 {
		o.t.Fatalf("journals of %s: %q, %v, want one", queue, files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		o.t.Fatal(err)
	}
	content[len(content)/2] ^= 1
	if err := os.WriteFile(files[0], content, 0o600); err != nil {
		o.t.Fatal(err)
	}
	return files[0]
}

// conditions are those that migrate status tells of each queue, with what to do about it. It ends with code.
func (o operator) conditions(code int) (condition, hint map[string]string) {
	o.t.Helper()
	got, out, errs := o.types("migrate", "status", "-o", "json")
	if got != code {
		o.t.Fatalf("migrate status: exit %d, want %d\n%s%s", got, code, out, errs)
	}
	var doc struct {
		Data struct {
			Migrations []struct {
				Target          migrate.Target
				Condition, Hint string
			}
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		o.t.Fatalf("%v\n%s", err, out)
	}
	condition, hint = map[string]string{}, map[string]string{}
	for _, m := range doc.Data.Migrations {
		condition[m.Target.Queue], hint[m.Target.Queue] = m.Condition, m.Hint
	}
	return condition, hint
}

func TestADamagedJournalKeepsNobodyFromGoingOnWithTheOtherMigrations(t *testing.T) {
	o := newOperator(t)
	damaged, whole, last := queues()[0], queues()[1], queues()[2]
	for _, j := range []journey{damaged, whole, last} {
		o.wants(0, j.there()...)
	}
	file := o.spoiled(damaged.queue)

	condition, hint := o.conditions(exitBlocked)
	if condition[damaged.queue] != "unreadable" || condition[whole.queue] != "verified" || condition[last.queue] != "verified" {
		t.Errorf("status tells %v", condition)
	}
	contains(t, hint[damaged.queue], "move "+file+" out of the way", "completes it", "redisopt migrate resume --queue "+damaged.queue)
	contains(t, squeezed(o.wants(exitBlocked, "migrate", "status")), "unreadable", "out of the way", "hint: move "+file)
	contains(t, o.wants(exitBlocked, "migrate", "run", "--dry-run"), "unreadable", "verified", damaged.queue+" is left out")
	contains(t, o.wants(exitBlocked, "rollback", "phase3", "--all-queues", "--workers-stopped", "--dry-run"), whole.queue, damaged.queue+" is left out")
	contains(t, squeezed(o.wants(exitBlocked, "migrate", "phase3", "--engine", "bullmq", "--bullmq-major", "6", "--dry-run")),
		"is damaged: line", whole.queue+": verified already", "out of the way (RENAME")

	text := o.wants(exitBlocked, "rollback", "last", "--workers-stopped", "--active-timeout", "-1s", "--yes")
	contains(t, text, "the last one is phase3 of "+last.prefix+":"+last.queue, damaged.queue+" is left out")
	text = o.wants(exitBlocked, "migrate", "run", "--complete", "--yes")
	contains(t, squeezed(text), damaged.queue+" is left out", "completed", "unreadable")
	condition, _ = o.conditions(exitBlocked)
	if condition[damaged.queue] != "unreadable" || condition[whole.queue] != "completed" || condition[last.queue] != "rolled_back" {
		t.Errorf("after run and rollback, status tells %v", condition)
	}

	// The one that is named is an error as ever, and another is none of its business.
	o.wants(exitBlocked, "migrate", "status", "--queue", damaged.queue)
	o.wants(0, "migrate", "status", "--queue", whole.queue)

	if err := os.Rename(file, filepath.Join(t.TempDir(), "aside")); err != nil {
		t.Fatal(err)
	}
	if condition, _ = o.conditions(0); condition[damaged.queue] != "verified" {
		t.Errorf("after the hint was followed, status tells %v", condition)
	}
	o.wants(0, damaged.back()...)
}

func TestTheOnlyCopyOfAJournalIsNotToBeMovedAway(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	o.wants(0, j.there()...)
	key := migrate.Target{Phase: "phase3", Prefix: j.prefix, Queue: j.queue}.JournalKey()
	file := o.spoiled(j.queue)
	if err := o.client.Del(t.Context(), key).Err(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{j.there(), j.back(), j.args("migrate", "resume"), {"migrate", "status"}, {"migrate", "run", "--yes"}} {
		text := squeezed(o.wants(exitBlocked, args...))
		contains(t, text, "hint: keep "+file+", there is no copy at "+key, "from a backup")
		if strings.Contains(text, "out of the way") {
			t.Errorf("redisopt %v says to move the only copy away: %s", args, text)
		}
	}
}

func TestTheHintForADamagedJournalFollowsFromTheOtherCopy(t *testing.T) {
	target := migrate.Target{Phase: "phase2"}
	for name, c := range map[string]struct {
		err  journal.DamagedError
		want []string
	}{
		"whole":           {journal.DamagedError{Lines: 7, OtherLen: 7}, []string{"move /f out of the way", "the copy at KEY completes it", "redisopt migrate resume phase2"}},
		"missing":         {journal.DamagedError{Lines: 7}, []string{"keep /f, there is no copy at KEY", "put /f back from a backup"}},
		"of before":       {journal.DamagedError{Lines: 7, OtherLen: 3}, []string{"keep both copies", "only 3 of about 7 entries", "another host"}},
		"damaged too":     {journal.DamagedError{Lines: 7, OtherErr: &journal.DamagedError{Where: "KEY", Err: errors.New("line 1")}}, []string{"keep both copies", "put /f or KEY back"}},
		"out of reach":    {journal.DamagedError{Lines: 7, OtherErr: context.DeadlineExceeded}, []string{"could not be looked at", "keep both", "run the same command again"}},
		"one short of it": {journal.DamagedError{Lines: 7, OtherLen: 6}, []string{"move /f out of the way"}},
	} {
		t.Run("the other copy is "+name, func(t *testing.T) {
			c.err.Where, c.err.Other, c.err.Err = "/f", "KEY", errors.New("line 2")
			contains(t, hintFor((&app{}).migrationHint(&c.err, target), exitBlocked), c.want...)
		})
	}
}

func TestForceUnlockPicksTheLeaseOfAPhase(t *testing.T) {
	o := newOperator(t)
	o.wants(0, o.mixed().there()...)
	targets := []migrate.Target{{Phase: "phase1"}, {Phase: "phase2"}, {Phase: "phase3", Prefix: "bull", Queue: mixedQueue}}
	for _, target := range targets {
		text, err := json.Marshal(target)
		if err != nil {
			t.Fatal(err)
		}
		if err := o.client.HSet(t.Context(), "redisopt:migrations", target.String(), text).Err(); err != nil {
			t.Fatal(err)
		}
		if err := o.client.Set(t.Context(), target.LeaseKey(), "7 secret ann@alpha 100", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	contains(t, o.wants(exitUsage, "migrate", "--force-unlock", "--yes"),
		"3 leases", "--phase phase1 (ann@alpha 100)", "--phase phase2 (ann@alpha 100)", "--queue "+mixedQueue+" (ann@alpha 100)")
	contains(t, o.wants(exitUsage, "migrate", "--force-unlock", "--phase", "phase7", "--yes"), "--phase", "phase7", "phase4")
	o.wants(exitUsage, "migrate", "--force-unlock", "--phase", "phase2", "--queue", mixedQueue, "--yes")
	contains(t, o.wants(exitBlocked, "migrate", "phase2", "--yes"), "redisopt migrate --force-unlock --phase phase2")
	contains(t, o.wants(0, "migrate", "--force-unlock", "--phase", "phase2", "--yes"), "phase2", "taken away  yes")
	contains(t, o.wants(0, "migrate", "--force-unlock", "--phase", "phase3", "--yes"), mixedQueue, "taken away  yes")
	for i, want := range []int64{1, 0, 0} {
		if n := o.client.Exists(t.Context(), targets[i].LeaseKey()).Val(); n != want {
			t.Errorf("%d leases of %s are left, want %d", n, targets[i], want)
		}
	}
}

func TestAnInterruptedHostIsToldToHostAgain(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	o.wants(0, j.there()...)
	for next, args := range map[string][]string{
		"migrate run\n":                            nil,
		"migrate run phase3\n":                     {"phase3"},
		"migrate run --queue " + mixedQueue + "\n": {"--queue", mixedQueue},
	} {
		ctx, interrupt := context.WithCancelCause(t.Context())
		ended := make(chan string, 1)
		go func() {
			code, out, errs := o.typesUnder(ctx, append([]string{"migrate", "run", "--yes"}, args...)...)
			if code != exitInterrupted {
				out += "not interrupted\n"
			}
			ended <- out + errs
		}()
		key := migrate.Target{Phase: "phase3", Prefix: j.prefix, Queue: j.queue}.LeaseKey()
		deadline := time.After(time.Minute)
		for held := false; !held; held = o.client.Exists(t.Context(), key).Val() == 1 {
			select {
			case <-deadline:
				t.Fatal("nobody took the lease")
			case text := <-ended:
				t.Fatalf("it ended by itself: %s", text)
			case <-time.After(10 * time.Millisecond):
			}
		}
		interrupt(errInterrupted)
		text := <-ended
		contains(t, text, "hint: nothing is lost", "no gate is watched", "with the same flags: redisopt "+next)
		if strings.Contains(text, "migrate resume") || strings.Contains(text, "not interrupted") {
			t.Errorf("migrate run %v: %s", args, text)
		}
	}
}
