package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
