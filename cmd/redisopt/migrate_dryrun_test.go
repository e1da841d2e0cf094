package main

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A dryRow is one command line that must not write.
type dryRow struct {
	name string
	code int
	args []string
}

// A dryScene is what is there while its rows are typed.
type dryScene struct {
	operator
	target  *redistest.Server // of copies and of phase 1
	file    string            // a configuration with queues
	another *redis.Client     // of target
	seen    [][]string        // what was typed
}

// types runs every row under MONITOR of both servers.
func (s *dryScene) types(t *testing.T, rows []dryRow) {
	for _, row := range rows {
		s.seen = append(s.seen, row.args)
		t.Run(row.name, func(t *testing.T) {
			o := s.operator
			o.t = t
			var source []string
			target := monitored(t, s.another, func() {
				source = monitored(t, o.client, func() { o.wants(row.code, row.args...) })
			})
			// What a dry run need not ask a server, it does not: a backup's file tells the whole plan.
			for client, words := range map[*redis.Client][]string{o.client: source, s.another: target} {
				if len(words) > 0 {
					wantNoWrites(t, client, words)
				}
			}
		})
	}
}

// interrupted begins the migration of j and interrupts it once it is on its way.
func (o operator) interrupted(j journey) {
	o.t.Helper()
	ctx, cancel := context.WithCancel(o.t.Context())
	defer cancel()
	target := migrate.Target{Phase: "phase3", Prefix: j.prefix, Queue: j.queue}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		o.typesUnder(ctx, append(j.there(), "--max-rate", "1")...)
	}()
	for deadline := time.Now().Add(time.Minute); ; {
		s, err := migrate.Look(o.t.Context(), o.client, migrate.SessionOptions{Target: target, StateDir: filepath.Join(o.dir, "redisopt")})
		if err == nil && s.State.Stage == migrate.Forward {
			break
		}
		if time.Now().After(deadline) {
			o.t.Fatalf("it is not on its way: %s, %v", s.State.Stage, err)
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	<-ended
}

// TestEveryMigrationCommandWritesNothingInADryRun types every command of migrate and rollback with --dry-run, and
// those that only read without, against servers that are watched by MONITOR.
func TestEveryMigrationCommandWritesNothingInADryRun(t *testing.T) {
	s := &dryScene{operator: newOperator(t), target: redistest.Start(t), file: filepath.Join(t.TempDir(), "redisopt.yaml")}
	s.another = s.target.Client(t)
	text := "version: 1\nqueues:\n  list:\n    - name: suggestion-generation\n    - name: calendar-sync\n      criticality: critical\n" +
		"ramp:\n  url: " + s.target.URL() + "\n"
	if err := os.WriteFile(s.file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	backup := s.finishedQueue()
	mixed, paused, repeats := queues()[0], queues()[1], queues()[2]
	configured := func(words ...string) []string { return append(words, "--config", s.file) }
	dry := func(words ...string) []string { return append(words, "--dry-run") }
	out := filepath.Join(t.TempDir(), "plan.json")

	s.types(t, []dryRow{
		{"the plan of everything", 0, configured("migrate", "plan", "all", "--engine", "bullmq", "--bullmq-major", "6", "--out", out)},
		{"the plan of phase 1", 0, configured("migrate", "plan", "phase1")},
		{"the plan of phase 4", 0, configured("migrate", "plan", "phase4")},
		{"phase 1", exitBlocked, configured(dry("migrate", "phase1")...)}, // no replica is known
		{"phase 2", 0, configured(dry("migrate", "phase2")...)},
		{"phase 3", 0, dry(mixed.there()...)},
		{"phase 3 in place", 0, append(dry(mixed.there()...), "--in-place")},
		{"phase 3 to our engine", 0, append(dry(mixed.tuned("migrate", "phase3")...), "--engine", "asynq")},
		{"phase 3 with a full comparison", 0, append(dry(mixed.there()...), "--compare")},
		{"phase 4", 0, dry("migrate", "phase4")},
		{"a copy", 0, dry("migrate", "copy", "--to", s.target.URL())},
		{"a restore", 0, dry("migrate", "restore", backup)},
		{"hosting nothing", 0, dry("migrate", "run")},
		{"no status", 0, []string{"migrate", "status"}},
		{"a rehearsal", 0, []string{"rollback", "phase3", "--rehearse", "--engine", "bullmq", "--bullmq-major", "6", "--queue", mixed.queue}},
		{"the price of a rehearsal", 0, dry("rollback", "phase3", "--rehearse", "--engine", "bullmq", "--bullmq-major", "6", "--queue", mixed.queue)},
		{"the way back of phase 1, never begun", 0, dry("rollback", "phase1")},
		{"the way back of phase 2, never begun", 0, dry("rollback", "phase2")},
		{"the way back of phase 4, which was completed", exitBlocked, dry("rollback", "phase4")},
		{"no lease to take away", 0, dry("migrate", "--force-unlock")},
	})

	s.wants(0, mixed.there()...)
	s.interrupted(repeats)
	s.types(t, []dryRow{
		{"phase 3 once more", 0, dry(mixed.there()...)},
		{"the way back", 0, dry(mixed.back()...)},
		{"the last way back", 0, dry("rollback", "last")},
		{"completing", 0, dry(mixed.args("migrate", "complete")...)},
		{"verifying", 0, []string{"migrate", "verify", "--queue", mixed.queue}},
		{"the history", 0, []string{"migrate", "history", "--queue", mixed.queue}},
		{"the report", 0, []string{"migrate", "report", "phase3", "--queue", mixed.queue}},
		{"vouching", 0, dry("migrate", "report", "phase3", "--queue", mixed.queue, "--sign", "users", "--by", "Ann", "--note", "asked")},
		{"the status of two", 0, []string{"migrate", "status"}},
		{"hosting what is open", 0, dry("migrate", "run")},
		{"the plan while some are open", 0, configured("migrate", "plan", "all", "--engine", "bullmq", "--bullmq-major", "6")},
		{"pausing", 0, dry("migrate", "pause", "--queue", repeats.queue, "--prefix", repeats.prefix)},
		{"resuming", 0, dry(repeats.tuned("migrate", "resume")...)},
		{"aborting", 0, dry("migrate", "abort", "--queue", repeats.queue, "--prefix", repeats.prefix)},
		{"the way back from half-way", 0, dry(repeats.back()...)},
	})

	session, err := migrate.OpenSession(t.Context(), s.client, migrate.SessionOptions{
		Target: migrate.Target{Phase: "phase3", Prefix: repeats.prefix, Queue: repeats.queue}, StateDir: t.TempDir(), Owner: "ann@alpha 100",
		LeaseTTL: time.Hour, // which nobody renews meanwhile
	})
	if err != nil {
		t.Fatal(err)
	}
	s.types(t, []dryRow{
		{"pausing what somebody hosts", 0, dry("migrate", "pause", "--queue", repeats.queue, "--prefix", repeats.prefix)},
		{"another rate for what somebody hosts", 0, dry(append(repeats.args("migrate", "resume"), "--max-rate", "5")...)},
		{"aborting what somebody hosts", 0, dry("migrate", "abort", "--queue", repeats.queue, "--prefix", repeats.prefix)},
		{"completing what somebody hosts", 0, dry("migrate", "complete", "--queue", repeats.queue, "--prefix", repeats.prefix)},
		{"taking the lease away", 0, dry("migrate", "--force-unlock", "--queue", repeats.queue, "--prefix", repeats.prefix)},
		{"a queue that somebody hosts", exitBlocked, dry(repeats.there()...)},
		{"another queue meanwhile", 0, append(dry(paused.there()...), "--config", s.file)},
	})
	if err := session.Run(t.Context(), func(context.Context) error { return nil }); err != nil {
		t.Error(err)
	}
	s.wantAll(t)
}

// finishedQueue adds a queue without work, and returns a backup of it made by phase 4.
func (s *dryScene) finishedQueue() (backup string) {
	s.t.Helper()
	add := func() {
		ctx := s.t.Context()
		for _, err := range []error{
			s.client.HSet(ctx, "bull:done:1", "name", "x", "data", "{}", "opts", "{}", "timestamp", "1795000000000", "finishedOn", "1795000000001").Err(),
			s.client.ZAdd(ctx, "bull:done:completed", redis.Z{Score: 1795000000001, Member: "1"}).Err(),
			s.client.Set(ctx, "bull:done:id", "1", 0).Err(),
		} {
			if err != nil {
				s.t.Fatal(err)
			}
		}
	}
	add()
	backup = filepath.Join(s.t.TempDir(), "done.backup")
	s.wants(0, "migrate", "phase4", "--prefix", "bull:done:", "--confirm-prefix", "bull:done:", "--backup", backup, "--yes", "--complete")
	add()
	return backup
}

// wantAll fails for a command of migrate or rollback that no row typed.
func (s *dryScene) wantAll(t *testing.T) {
	t.Helper()
	a := &app{}
	var walk func(cmd *cobra.Command, path []string)
	walk = func(cmd *cobra.Command, path []string) {
		path = append(slices.Clone(path), cmd.Name())
		for _, child := range cmd.Commands() {
			walk(child, path)
		}
		if cmd.HasSubCommands() {
			return
		}
		if !slices.ContainsFunc(s.seen, func(args []string) bool {
			return len(args) >= len(path) && slices.Equal(args[:len(path)], path)
		}) {
			t.Errorf("no row types redisopt %s", strings.Join(path, " "))
		}
	}
	walk(a.migrateCommand(), nil)
	walk(a.rollbackCommand(), nil)
}
