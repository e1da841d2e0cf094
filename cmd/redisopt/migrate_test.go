package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// An operator has a redis-server with the capture in it, and an operator at a state directory.
type operator struct {
	t      *testing.T
	url    string
	client *redis.Client
	dir    string
}

func newOperator(t *testing.T) operator {
	t.Helper()
	s := redistest.Start(t)
	o := operator{t: t, url: s.URL(), client: s.Client(t), dir: filepath.Join(t.TempDir(), "state")}
	fresh(t, o.client)
	return o
}

// types runs one command line in this process and returns its exit code and what it printed.
func (o operator) types(args ...string) (code int, out, errs string) {
	o.t.Helper()
	return o.typesUnder(o.t.Context(), args...)
}

// typesUnder is types that ends with ctx, as if it were interrupted.
func (o operator) typesUnder(ctx context.Context, args ...string) (code int, out, errs string) {
	var r recorder
	s := r.streams()
	s.env = func(name string) (string, bool) {
		switch name {
		case "REDIS_URL":
			return o.url, true
		case "XDG_STATE_HOME":
			return o.dir, true
		}
		return "", false
	}
	code = run(ctx, args, s)
	return code, r.out.String(), r.err.String()
}

// wants runs one command line that ends with code, and returns all it printed.
func (o operator) wants(code int, args ...string) string {
	o.t.Helper()
	got, out, errs := o.types(args...)
	if got != code {
		o.t.Fatalf("redisopt %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, out, errs)
	}
	return out + errs
}

func (o operator) mixed() journey { return queues()[0] }

// journalFile is the only journal in the operator's state directory.
func (o operator) journalFile() string {
	o.t.Helper()
	files, err := filepath.Glob(filepath.Join(o.dir, "redisopt", "migrations", "*", "*.journal"))
	if err != nil || len(files) != 1 {
		o.t.Fatalf("journals: %q, %v, want one", files, err)
	}
	return files[0]
}

func contains(t *testing.T, text string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			t.Errorf("got:\n%s\nwant it to contain %q", text, part)
		}
	}
}

// readCommands are what --dry-run may send.
func readCommands() []string {
	return []string{
		"auth", "client|setname", "hello", "ping", "info", "get", "exists", "hget", "hgetall", "hmget", "hexists", "hlen",
		"lrange", "llen", "lindex", "zrange", "zrangebyscore", "zcard", "zscore", "smembers", "scard", "type", "scan", "time",
		"client|id", "client|list", "pubsub|numsub", "pubsub|channels", "pttl", "strlen", "config|get", "config|resetstat", "flushall", "script|flush",
	}
}

func TestDryRunWritesNothing(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	o.wants(0, j.there()...)
	for name, args := range map[string][]string{
		"of a migration":              append(journey{queue: "token-refresh", prefix: "{bull}"}.there(), "--dry-run"),
		"of a migration, second pass": append(j.there(), "--dry-run"),
		"of a way back":               append(j.back(), "--dry-run"),
		"of resume":                   append(j.args("migrate", "resume"), "--dry-run"),
		"of force-unlock":             append(j.args("migrate", "--force-unlock"), "--dry-run"),
	} {
		t.Run(name, func(t *testing.T) {
			was, err := capture.Dump(t.Context(), o.client, "*")
			if err != nil {
				t.Fatal(err)
			}
			elsewhere := operator{t: t, url: o.url, client: o.client, dir: filepath.Join(t.TempDir(), "none")}
			if err := o.client.ConfigResetStat(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			text := elsewhere.wants(0, args...)
			stats := o.client.Info(t.Context(), "commandstats").Val()
			for line := range strings.Lines(stats) {
				command, _, found := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
				if found && !slices.Contains(readCommands(), command) {
					t.Errorf("it sent %s", command)
				}
			}
			contains(t, text, ", 0 writes")
			is, err := capture.Dump(t.Context(), o.client, "*")
			if err != nil {
				t.Fatal(err)
			}
			if diff := capture.Compare(was, is); len(diff) > 0 {
				t.Errorf("it changed:\n%v", diff)
			}
			if _, err := os.Stat(elsewhere.dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("state directory: %v, want it missing", err)
			}
		})
	}
}

func TestDryRunPrintsThePlanThatWouldRun(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	code, dry, _ := o.types(append(j.there(), "--dry-run")...)
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	code, _, shown := o.types(j.there()...)
	if code != 0 {
		t.Fatalf("exit %d", code)
	}
	contains(t, shown, dry)
}

func TestTheResultSaysWhatWasMovedAndHowToUndoIt(t *testing.T) {
	o := newOperator(t)
	_, out, _ := o.types(append(o.mixed().there(), "-o", "json")...)
	var doc struct {
		Kind string
		Data resultData
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil || doc.Kind != "migrate.result/v1" {
		t.Fatalf("stdout is %q: %v", out, err)
	}
	got := doc.Data
	if got.Stage != migrate.Complete || sum(got.Moved) != 30 || sum(got.MovedTotal) != 30 || sum(got.TargetNow) != 30 || sum(got.Remaining) != 0 {
		t.Errorf("result = %+v, want 30 jobs moved, all at the target, none left", got)
	}
	if got.Cost.Commands == 0 || got.TookMS < 0 || got.Held == nil || got.Skipped == nil {
		t.Errorf("result = %+v, want its cost, and lists that are not null", got)
	}
	text := o.wants(0, o.mixed().back()...)
	contains(t, text, "rolled_back", "30 jobs")
	contains(t, o.wants(0, o.mixed().back()...), "nothing to roll back")
}

func TestRollingBackWhatNeverHappenedSaysSo(t *testing.T) {
	o := newOperator(t)
	contains(t, o.wants(0, o.mixed().back()...), "nothing to roll back: the migration is not-started", "0 writes")
}

func TestASecondOperatorIsRefusedWithTheOwnerAndTheWayOut(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	target := migrate.Target{Phase: "phase3", Prefix: "bull", Queue: mixedQueue}
	if err := o.client.Set(t.Context(), target.LeaseKey(), "7 secret ann@alpha 100", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	text := o.wants(exitBlocked, j.there()...)
	// It is refused before a plan costs a command for each job.
	contains(t, text, "ann@alpha 100", "redisopt migrate --force-unlock --queue "+mixedQueue, "cost: 5 commands, 0 writes")
	if strings.Contains(text, "secret") {
		t.Error("it printed the holder's token")
	}
	contains(t, o.wants(0, "migrate", "status", "--queue", mixedQueue), "ann@alpha 100")
	contains(t, o.wants(exitBlocked, append(j.args("migrate", "resume"), "--window", "none")...),
		"ann@alpha 100", "a host takes its windows when it begins", "0 writes")
	contains(t, o.wants(0, j.args("migrate", "--force-unlock")...), "ann@alpha 100", "taken away  yes")
	o.wants(0, j.there()...)
}

func TestForceUnlockWithoutAQueueTakesTheOnlyLease(t *testing.T) {
	o := newOperator(t)
	for _, j := range queues()[:2] {
		o.wants(0, j.there()...)
	}
	held := func(queue string) {
		key := migrate.Target{Phase: "phase3", Prefix: "bull", Queue: queue}.LeaseKey()
		if err := o.client.Set(t.Context(), key, "7 secret ann@alpha 100", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
	}
	contains(t, o.wants(0, "migrate", "--force-unlock", "--yes"), "no lease is held")
	held(mixedQueue)
	held("calendar-sync")
	contains(t, o.wants(exitUsage, "migrate", "--force-unlock", "--yes"), "2 leases", mixedQueue, "calendar-sync")
	o.wants(0, "migrate", "--force-unlock", "--yes", "--queue", mixedQueue)
	contains(t, o.wants(0, "migrate", "--force-unlock", "--yes"), "calendar-sync")
}

func TestAChangedPlanIsRefused(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	o.wants(0, j.there()...)
	for _, change := range [][]string{{"--to-prefix", "other"}, {"--order", "zset"}, {"--scheduler-id", "name"}, {"--bullmq-major", "5"}} {
		text := o.wants(exitBlocked, append(j.there(), change...)...)
		contains(t, text, "plan has changed", "redisopt rollback phase3 --queue "+mixedQueue)
	}
}

func TestTheMajorThatWasPlannedForStays(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	without := append(j.tuned("migrate", "phase3"), "--engine", "bullmq")
	o.wants(0, without...)
	// Meanwhile a BullMQ 5 opened its Queue at the target.
	if err := o.client.HSet(t.Context(), "bullmq:"+mixedQueue+":meta", "version", "bullmq:5.81.5").Err(); err != nil {
		t.Fatal(err)
	}
	o.wants(0, without...)
}

func TestADamagedJournalAndAForkAreRefusedAndTheHintMendsThem(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, o operator){
		"damaged": func(t *testing.T, o operator) {
			content, err := os.ReadFile(o.journalFile())
			if err != nil {
				t.Fatal(err)
			}
			content[len(content)/2] ^= 1
			if err := os.WriteFile(o.journalFile(), content, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"differ": func(t *testing.T, o operator) {
			key := migrate.Target{Phase: "phase3", Prefix: "bull", Queue: mixedQueue}.JournalKey()
			content, err := os.ReadFile(o.journalFile())
			if err != nil {
				t.Fatal(err)
			}
			file := o.journalFile()
			if err := os.Remove(file); err != nil {
				t.Fatal(err)
			}
			// Another host rolled back meanwhile, while this one had come further.
			o.wants(0, o.mixed().back()...)
			last := o.client.LRange(t.Context(), key, 0, -1).Val()
			if !strings.HasPrefix(strings.Join(last, "\n"), strings.TrimSpace(string(content))) {
				t.Fatal("the copy in Redis does not go on from the file")
			}
			if err := o.client.LTrim(t.Context(), key, 0, 0).Err(); err != nil {
				t.Fatal(err)
			}
			o2 := operator{t: t, url: o.url, client: o.client, dir: t.TempDir()}
			o2.wants(0, o2.mixed().there()...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newOperator(t)
			j := o.mixed()
			o.wants(0, j.there()...)
			spoil(t, o)
			was := world(t, o.client)
			for _, args := range [][]string{j.there(), j.back(), j.args("migrate", "resume"), {"migrate", "status"}} {
				text := o.wants(exitBlocked, args...)
				contains(t, text, name, "move "+o.journalFile()+" out of the way")
			}
			if diff := capture.Compare(was, world(t, o.client)); len(diff) > 0 {
				t.Errorf("a refused command changed:\n%v", diff)
			}
			if err := os.Rename(o.journalFile(), filepath.Join(t.TempDir(), "aside")); err != nil {
				t.Fatal(err)
			}
			contains(t, o.wants(0, "migrate", "status"), "verified")
			o.wants(0, j.back()...)
		})
	}
}

func TestAJournalOfALaterVersionIsRefused(t *testing.T) {
	o := newOperator(t)
	o.wants(0, o.mixed().there()...)
	if err := os.WriteFile(o.journalFile(), []byte(`{"schema":2}`+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	contains(t, o.wants(exitBlocked, "migrate", "status"), "schema 2", "a later one")
}

func TestAStateDirectoryThatIsNoneIsRefusedBeforeAnythingMoves(t *testing.T) {
	o := newOperator(t)
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	was := world(t, o.client)
	contains(t, o.wants(exitFailure, append(o.mixed().there(), "--state-dir", file)...), "--state-dir")
	if diff := capture.Compare(was, world(t, o.client)); len(diff) > 0 {
		t.Errorf("it changed:\n%v", diff)
	}
	if n := o.client.Exists(t.Context(), migrate.Target{Phase: "phase3", Prefix: "bull", Queue: mixedQueue}.LeaseKey()).Val(); n != 0 {
		t.Error("the lease was not given back")
	}
}

func TestAFullDiskUnderTheJournalSaysWhatToDo(t *testing.T) {
	target := migrate.Target{Phase: "phase3", Prefix: "bull", Queue: "mail"}
	err := (&app{}).migrationHint(fmt.Errorf("write journal /x: %w", &os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}), target)
	if got := hintFor(err, exitFailure); !strings.Contains(got, "free space") || !strings.Contains(got, "the same command again") {
		t.Errorf("hint = %q, want to free space and try again", got)
	}
}

// TestALiveWorkerStopsAMoveInPlace has a worker as Bull names its blocking connection.
func TestALiveWorkerStopsAMoveInPlace(t *testing.T) {
	o := newOperator(t)
	opts, err := redis.ParseURL(o.url)
	if err != nil {
		t.Fatal(err)
	}
	opts.ClientName = "bull:c3VnZ2VzdGlvbi1nZW5lcmF0aW9u"
	worker := redis.NewClient(opts)
	t.Cleanup(func() { _ = worker.Close() })
	if err := worker.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	in := []string{"migrate", "phase3", "--queue", mixedQueue, "--engine", "bullmq", "--in-place", "--yes"}
	was := world(t, o.client)
	for _, args := range [][]string{append(in, "--dry-run"), in} {
		contains(t, o.wants(exitBlocked, args...), "attached", "stop every process of this queue")
	}
	if diff := capture.Compare(was, world(t, o.client)); len(diff) > 0 {
		t.Errorf("a refused move changed:\n%v", diff)
	}
	_ = worker.Close()
	deadline := time.Now().Add(time.Minute)
	for strings.Contains(o.client.ClientList(t.Context()).Val(), opts.ClientName) { // a server sees it a moment later
		if time.Now().After(deadline) {
			t.Fatal("the worker that has gone is still listed")
		}
	}
	contains(t, o.wants(0, append(in, "--active-timeout", "-1s")...), "verified")
	o.wants(0, "rollback", "phase3", "--queue", mixedQueue, "--yes")
}

func TestTheWrongStageIsRefusedWithTheWayOn(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	contains(t, o.wants(exitBlocked, j.args("migrate", "resume")...), "was never begun", "migrate phase3 --queue "+mixedQueue)
	o.wants(0, j.there()...)
	// A worker of the target holds a job, so that the way back stays open.
	ids := o.client.LRange(t.Context(), "bullmq:"+mixedQueue+":wait", -1, -1).Val()
	o.client.LMove(t.Context(), "bullmq:"+mixedQueue+":wait", "bullmq:"+mixedQueue+":active", "RIGHT", "LEFT")
	lock := "bullmq:" + mixedQueue + ":" + ids[0] + ":lock"
	o.client.Set(t.Context(), lock, "token:1", time.Hour)
	contains(t, o.wants(exitBlocked, j.back()...), ids[0], "migrate resume --queue "+mixedQueue)
	contains(t, o.wants(exitBlocked, j.there()...), "backward", "redisopt migrate resume --queue "+mixedQueue)
	contains(t, o.wants(0, "migrate", "status"), "failed_resumable", "redisopt migrate resume --queue")
	o.client.Del(t.Context(), lock)
	contains(t, o.wants(0, j.tuned("migrate", "resume")...), "rolled_back")
}

func TestAnUnknownQueueListsTheNearNames(t *testing.T) {
	o := newOperator(t)
	text := o.wants(exitUsage, "migrate", "phase3", "--queue", "calender-sync", "--engine", "bullmq")
	contains(t, text, `no queue "calender-sync"`, "calendar-sync, suggestion-generation", "redisopt queue ls")
}

func TestAQueueThatIsBullMQAlreadyIsRefused(t *testing.T) {
	o := newOperator(t)
	o.wants(0, o.mixed().there()...)
	text := o.wants(exitBlocked, "migrate", "phase3", "--queue", mixedQueue, "--prefix", "bullmq", "--to-prefix", "x", "--engine", "bullmq")
	contains(t, text, "bullmq layout")
}

func TestAPausedQueueAsksWhichBullMQUnlessTheTargetTells(t *testing.T) {
	o := newOperator(t)
	args := []string{"migrate", "phase3", "--queue", "calendar-sync", "--engine", "bullmq", "--dry-run"}
	contains(t, o.wants(exitUsage, args...), "paused", "--bullmq-major 5")
	for _, version := range []string{"5.81.5", "6.7.0"} {
		if err := o.client.HSet(t.Context(), "bullmq:calendar-sync:meta", "version", "bullmq:"+version).Err(); err != nil {
			t.Fatal(err)
		}
		contains(t, o.wants(0, args...), "BullMQ "+version[:1])
	}
}

func TestAnEngineMustBeNamedAndKnown(t *testing.T) {
	o := newOperator(t)
	contains(t, o.wants(exitUsage, "migrate", "phase3", "--queue", "mail"), "at least one of the flags in the group [engine plan] is required")
	contains(t, o.wants(exitUsage, "migrate", "phase3", "--queue", "mail", "--engine", "asynq"), `no queue "mail"`)
	contains(t, o.wants(exitUsage, "migrate", "phase3", "--queue", "mail", "--engine", "sidekiq"), "want bullmq", "asynq")
	contains(t, o.wants(exitUsage, "migrate", "phase3", "--engine", "bullmq", "--queue", "mail", "--queue-order", "mail"), "want it without --queue")
	contains(t, o.wants(exitUsage, "migrate", "phase3", "--queue", "mail", "--engine", "bullmq", "--in-place", "--to-prefix", "x", "--bullmq-major", "7"),
		"in place", "bullmq major: got 7")
}

func TestAReadOnlyUserIsRefusedAndNothingIsLost(t *testing.T) {
	o := newOperator(t)
	if err := o.client.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">pw", "~*", "&*", "+@read", "+@connection", "+client|list", "+info", "+pubsub|numsub", "+time").Err(); err != nil {
		t.Fatal(err)
	}
	reader := o
	reader.url = strings.Replace(o.url, "redis://", "redis://reader:pw@", 1)
	was := world(t, o.client)
	contains(t, reader.wants(exitDenied, o.mixed().there()...), "rights")
	if diff := capture.Compare(was, world(t, o.client)); len(diff) > 0 {
		t.Errorf("it changed:\n%v", diff)
	}
	reader.wants(0, append(o.mixed().there(), "--dry-run")...)
}

func TestNobodyToAskIsExitTwoAndNothingMoves(t *testing.T) {
	o := newOperator(t)
	was, err := capture.Dump(t.Context(), o.client, "*")
	if err != nil {
		t.Fatal(err)
	}
	contains(t, o.wants(exitUsage, "migrate", "phase3", "--queue", mixedQueue, "--engine", "bullmq"), "--yes")
	is, err := capture.Dump(t.Context(), o.client, "*")
	if diff := capture.Compare(was, is); err != nil || len(diff) > 0 {
		t.Errorf("it changed (%v):\n%v", err, diff)
	}
}

func TestInterruptPausesAtASafePointAndPrintsTheResumeLine(t *testing.T) {
	o := newOperator(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	var r recorder
	s := r.streams()
	s.env = func(name string) (string, bool) {
		if name == "REDIS_URL" {
			return o.url, true
		}
		return "", false
	}
	s.err = &trigger{recorder: &r, word: "move waiting", pull: func() { cancel(errInterrupted) }}
	code := run(ctx, append(o.mixed().there(), "--state-dir", o.dir, "--max-rate", "20"), s)
	if code != exitInterrupted {
		t.Errorf("exit %d, want %d\n%s", code, exitInterrupted, r.err.String())
	}
	contains(t, r.err.String(), "redisopt migrate resume --queue "+mixedQueue)
	contains(t, o.wants(0, append(o.mixed().tuned("migrate", "resume"), "--state-dir", o.dir)...), "verified")
}

// A trigger pulls once when word has been written.
type trigger struct {
	*recorder
	word string
	pull func()
}

func (w *trigger) Write(p []byte) (int, error) {
	n, err := w.err.Write(p)
	if w.pull != nil && strings.Contains(w.err.String(), w.word) {
		w.pull()
		w.pull = nil
	}
	return n, err
}

func TestHistoryTellsEveryStepAndWhy(t *testing.T) {
	o := newOperator(t)
	j := o.mixed()
	contains(t, o.wants(0, "migrate", "history", "--queue", mixedQueue), "nothing was ever done")
	contains(t, o.wants(0, "migrate", "status"), "no migration was ever begun")
	o.wants(0, j.there()...)
	o.wants(0, append(j.back(), "--reason", "new workers crash")...)
	_, out, _ := o.types("migrate", "history", "--queue", mixedQueue, "-o", "json")
	var doc struct {
		Data struct {
			Entries []struct{ Kind, Step string }
		}
	}
	if err := json.Unmarshal([]byte(out), &doc); err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range doc.Data.Entries {
		got = append(got, strings.TrimSpace(e.Kind+" "+e.Step))
	}
	want := []string{
		"begin", "intent phase3.ledger", "done phase3.ledger", "intent phase3.move", "done phase3.move", "complete",
		"back", "undo phase3.move", "undone phase3.move", "undo phase3.ledger", "undone phase3.ledger", "rolled-back",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("history (-want +got):\n%s", diff)
	}
	contains(t, o.wants(0, "migrate", "history", "--queue", mixedQueue), "new workers crash", "order keep")
}
