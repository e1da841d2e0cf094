package migrate_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

func TestAnEmergencyIsRememberedUntilTheJournalKnowsOfIt(t *testing.T) {
	dir := t.TempDir()
	last := func(upstream string) *migrate.Emergency {
		t.Helper()
		e, err := migrate.LastEmergency(dir, "phase1", upstream)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if got := last("db:6379"); got != nil {
		t.Errorf("without any: %v", got)
	}
	if err := migrate.ReconcileEmergency(dir, "phase1", "db:6379"); err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	path, err := migrate.NoteEmergency(dir, migrate.Emergency{
		Phase: "phase1", Upstream: "db:6379", At: at, Reason: "the Redis is down",
		Replicas: []migrate.EmergencyReplica{{URL: "http://a", Done: true}, {URL: "http://b", Error: "no reply"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	got := last("db:6379")
	if got == nil || !got.At.Equal(at) || got.By == "" || got.Missed() != 1 {
		t.Fatalf("LastEmergency = %+v, want what was noted", got)
	}
	for _, want := range []string{"2026-11-29T03:00:00Z", "1 of 2 replicas", "the Redis is down"} {
		if !strings.Contains(got.String(), want) {
			t.Errorf("String = %q, want %q in it", got.String(), want)
		}
	}
	if other := last("other:6379"); other != nil {
		t.Errorf("of another Redis: %v", other)
	}

	// A line that was cut short spoils only itself.
	file, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteString(`{"schema":1,"phase":"pha`); err != nil {
		t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if got := last("db:6379"); got == nil || got.Reason != "the Redis is down" {
		t.Errorf("after a line that was cut: %v, want the one before", got)
	}
	if err := migrate.ReconcileEmergency(dir, "phase1", "db:6379"); err != nil {
		t.Fatal(err)
	}
	if got := last("db:6379"); got != nil {
		t.Errorf("reconciled, and still there: %v", got)
	}
	if _, err := migrate.NoteEmergency(dir, migrate.Emergency{Phase: "phase1", Upstream: "db:6379", Reason: "again"}); err != nil {
		t.Fatal(err)
	}
	if got := last("db:6379"); got == nil || got.Reason != "again" {
		t.Errorf("the next one: %v", got)
	}
	if err := os.WriteFile(path, []byte(`{"schema":9,"phase":"phase1","upstream":"db:6379"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := migrate.LastEmergency(dir, "phase1", "db:6379"); err == nil || !strings.Contains(err.Error(), "schema 9") {
		t.Errorf("of a newer version: %v, want it refused", err)
	}
}
