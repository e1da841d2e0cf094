package step_test

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// addJob makes the hash of a plain job; what lists it is the test's business.
func addJob(t *testing.T, client *redis.Client, key string, fields ...any) {
	t.Helper()
	hash := append([]any{
		"name", "__default__", "data", "{}", "opts", `{"attempts":1,"delay":0,"timestamp":1795380456459}`,
		"timestamp", "1795380456459", "delay", "0", "priority", "0",
	}, fields...)
	if err := client.HSet(t.Context(), key, hash...).Err(); err != nil {
		t.Fatal(err)
	}
}

func push(t *testing.T, client *redis.Client, key string, ids ...any) {
	t.Helper()
	if err := client.LPush(t.Context(), key, ids...).Err(); err != nil {
		t.Fatal(err)
	}
}

func TestARollbackThatLeavesAJobBehindStaysOpenAndKeepsTheLedger(t *testing.T) {
	client := redistest.Start(t).Client(t)
	bull, bullmq := route().From.Key, route().To.Key
	addJob(t, client, bull("a"), "opts", `{"attempts":1,"timeout":100,"delay":0,"timestamp":1795380456459}`)
	push(t, client, bull("wait"), "a")
	opts := step.RunOptions{StateDir: t.TempDir(), ActiveTimeout: -1, WorkersStopped: true}
	if _, err := step.Start(t.Context(), client, route(), opts); err != nil {
		t.Fatal(err)
	}
	addJob(t, client, bull("a")) // a Bull producer that is still alive adds the same id again
	push(t, client, bull("wait"), "a")
	report, err := step.Rollback(t.Context(), client, look(t, client, opts.StateDir), nil, opts)
	var blocked *step.BlockedError
	if !errors.As(err, &blocked) || report.State.Stage != migrate.Backward {
		t.Fatalf("Rollback = %v at stage %s, want a BlockedError at stage backward", err, report.State.Stage)
	}
	if client.Exists(t.Context(), step.LedgerKey(route().From)+":undo").Val() == 0 {
		t.Error("the ledger is gone, and with it the exact way back of job a")
	}
	client.Del(t.Context(), bull("a"), bull("wait")) // the operator solves it
	report, err = step.Rollback(t.Context(), client, look(t, client, opts.StateDir), nil, opts)
	if err != nil || report.State.Stage != migrate.RolledBack {
		t.Errorf("Rollback once that is solved = %v at stage %s, want rolled-back", err, report.State.Stage)
	}
	if got := client.Exists(t.Context(), bullmq("a")).Val(); got != 0 {
		t.Error("job a is still at the target")
	}
}

// beforeCommand calls itself before each command.
type beforeCommand func(redis.Cmder)

func (beforeCommand) DialHook(next redis.DialHook) redis.DialHook { return next }

func (beforeCommand) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f beforeCommand) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f(cmd)
		return next(ctx, cmd)
	}
}

func TestAPauseBetweenTwoListsDoesNotEndTheMove(t *testing.T) {
	server := redistest.Start(t)
	client, operator := server.Client(t), server.Client(t)
	bull := route().From.Key
	for i := range 500 {
		id := strconv.Itoa(i + 1)
		addJob(t, client, bull(id))
		push(t, client, bull("wait"), id)
	}
	paused := false
	client.AddHook(beforeCommand(func(cmd redis.Cmder) {
		args := cmd.Args() // paused was read and is empty, wait comes next
		if !paused && strings.HasPrefix(cmd.Name(), "eval") && len(args) > 3 && args[3] == bull("wait") {
			paused = true
			operator.Rename(t.Context(), bull("wait"), bull("paused"))
			operator.Set(t.Context(), bull("meta-paused"), 1, 0)
			operator.HSet(t.Context(), bull("meta"), "paused", 1)
		}
	}))
	report, err := step.Start(t.Context(), client, route(), step.RunOptions{StateDir: t.TempDir(), ActiveTimeout: -1, WorkersStopped: true})
	if err != nil || !paused || sum(report.Outcome.Moved) != 500 || sum(report.Outcome.Check.Remaining) != 0 {
		t.Errorf("Start = %v, paused %v, moved %v, remaining %v, want 500 moved", err, paused, report.Outcome.Moved, report.Outcome.Check.Remaining)
	}
}

func TestWhatWasWrongBeforeTheFirstJobMovedDoesNotKeepTheWayBackOpen(t *testing.T) {
	for name, spoil := range map[string]func(client *redis.Client, key func(string) string){
		"an id without a job":        func(c *redis.Client, key func(string) string) { push(t, c, key("wait"), "2") },
		"a job in no container":      func(c *redis.Client, key func(string) string) { addJob(t, c, key("orphan")) },
		"an active id without a job": func(c *redis.Client, key func(string) string) { push(t, c, key("active"), "gone") },
	} {
		for where, e := range map[string]func(string) string{"bull": route().From.Key, "bullmq": route().To.Key} {
			t.Run(name+" at "+where, func(t *testing.T) {
				client := redistest.Start(t).Client(t)
				addJob(t, client, route().From.Key("1"))
				push(t, client, route().From.Key("wait"), "1")
				spoil(client, e)
				opts := step.RunOptions{StateDir: t.TempDir(), ActiveTimeout: -1, WorkersStopped: true}
				if _, err := step.Start(t.Context(), client, route(), opts); err != nil {
					t.Fatalf("Start = %v", err)
				}
				addJob(t, client, route().From.Key("new"))
				_, err := step.Rollback(t.Context(), client, look(t, client, opts.StateDir), nil, opts)
				var mismatch *step.MismatchError
				if !errors.As(err, &mismatch) || len(mismatch.Mismatches) != 1 || mismatch.Mismatches[0].JobID != "new" {
					t.Errorf("Rollback = %v, want a mismatch about the job that is new in no container, and no other", err)
				}
				client.Del(t.Context(), route().From.Key("new"))
				report, err := step.Rollback(t.Context(), client, look(t, client, opts.StateDir), nil, opts)
				if err != nil || report.State.Stage != migrate.RolledBack {
					t.Errorf("Rollback = %v at stage %s, want rolled-back", err, report.State.Stage)
				}
				if left := dump(t, client, "redisopt:ledger:*"); len(left) != 0 {
					t.Errorf("%d keys of the ledger are left, want none", len(left))
				}
			})
		}
	}
}
