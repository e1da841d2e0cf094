package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

func TestAnEmergencyIsToldUntilTheWayBackHasTakenItIntoTheJournal(t *testing.T) {
	o := newOperator(t)
	config := filepath.Join(t.TempDir(), "redisopt.yaml")
	text := "version: 1\nserve:\n  replicas: [\"http://127.0.0.1:1\"]\nramp:\n  url: redis://127.0.0.1:2\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	with := func(args ...string) []string { return append(args, "--config", config) }
	notes := func() []string {
		files, err := filepath.Glob(filepath.Join(o.dir, "redisopt", "emergencies", "*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	o.wants(exitOK, with("rollback", "phase1", "--emergency", "--dry-run")...)
	if got := notes(); len(got) > 0 {
		t.Errorf("a dry run left %v", got)
	}
	// Nobody was reached, which is remembered too: the operator may have stopped the replicas by hand.
	out := o.wants(exitUnreachable, with("rollback", "phase1", "--emergency", "--reason", "the Redis is down", "--yes", "-o", "json")...)
	var doc struct{ Data emergencyData }
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&doc); err != nil {
		t.Fatal(err)
	}
	if got := notes(); len(got) != 1 || doc.Data.Note != got[0] {
		t.Fatalf("notes %v, told %q, want one and the same", got, doc.Data.Note)
	}
	status := o.wants(exitOK, with("migrate", "status", "phase1", "-o", "json")...)
	contains(t, status, `"emergency": {`, `"reason": "the Redis is down"`, `"done": false`)
	table := o.wants(exitOK, with("migrate", "status", "phase1")...)
	table = strings.Join(strings.Fields(table), " ") // where its lines end depends on the process's number
	contains(t, table, "keys back on 0 of 1 replicas, without the Redis: the Redis is down; when", "redisopt rollback phase1")
	contains(t, o.wants(exitBlocked, with("migrate", "phase1", "--yes")...), "an emergency at", "hint: when the emergency is over: redisopt rollback phase1")
	contains(t, o.wants(exitBlocked, with("migrate", "report", "phase1")...), "warning: an emergency at")

	contains(t, o.wants(exitOK, with("rollback", "phase1", "--yes")...), "the emergency is over")
	if after := o.wants(exitOK, with("migrate", "status", "phase1")...); strings.Contains(after, "emergency at") {
		t.Errorf("after the way back the status still tells of it:\n%s", after)
	}
	if got := o.wants(exitBlocked, with("migrate", "phase1", "--yes")...); strings.Contains(got, "an emergency at") {
		t.Errorf("phase 1 is still refused because of it:\n%s", got)
	}
}

func TestTheJournalSaysOfAWayBackThatAnEmergencyCameBefore(t *testing.T) {
	e := &migrate.Emergency{At: time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC), By: "ann@web 7", Reason: "the Redis is down"}
	const told = "an emergency at 2026-11-29T03:00:00Z by ann@web 7 took all keys back on 0 of 0 replicas, without the Redis: the Redis is down"
	for name, tt := range map[string]struct {
		e      *migrate.Emergency
		reason string
		want   error
	}{
		"neither":   {},
		"a reason":  {nil, "users wait", errors.New("users wait")},
		"emergency": {e, "", errors.New(told)},
		"both":      {e, "users wait", errors.New("users wait; " + told)},
	} {
		t.Run(name, func(t *testing.T) {
			got := whyBack(migrate.Standing{Emergency: tt.e}, tt.reason)
			if (got == nil) != (tt.want == nil) || got != nil && got.Error() != tt.want.Error() {
				t.Errorf("whyBack = %v, want %v", got, tt.want)
			}
		})
	}
}
