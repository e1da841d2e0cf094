package step_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/backup"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// leftovers fills a Redis with what is left of two queues, keys of neither, and one queue that is used.
func leftovers(t *testing.T, client *redis.Client) {
	t.Helper()
	ctx := t.Context()
	for _, q := range []string{"mail", "sms.eu"} {
		e := endpoint(mover.Bull, 4, "bull", q)
		for i := range 120 {
			id := fmt.Sprint(i + 1)
			addJob(t, client, e.Key(id), "finishedOn", "1795380456459")
			client.ZAdd(ctx, e.Key("completed"), redis.Z{Score: float64(1795380456459 + i), Member: id})
		}
		client.Set(ctx, e.Key("id"), 120, 0)
		client.RPush(ctx, e.Key("1:logs"), "\x00\xff")
	}
	used := endpoint(mover.Bull, 4, "bull", "mailings")
	addJob(t, client, used.Key("1"))
	push(t, client, used.Key("wait"), "1")
	client.Set(ctx, "cache:user:1", "x", 0)
}

func phase4Plan(t *testing.T) step.Phase4Plan {
	t.Helper()
	return step.Phase4Plan{Prefixes: []string{"bull:mail:", "bull:sms.eu:"}, File: filepath.Join(t.TempDir(), "left.backup")}
}

func TestCleaningUpDiedAtAnyWriteOfTheJournalIsResumedAndTakenBack(t *testing.T) {
	client := redistest.Start(t).Client(t)
	leftovers(t, client)
	target := migrate.Target{Phase: step.Phase4Name}
	was := dump(t, client, "*")
	left := slices.DeleteFunc(slices.Clone(was), func(k capture.Key) bool {
		return strings.HasPrefix(k.Name, "bull:mail:") || strings.HasPrefix(k.Name, "bull:sms.eu:")
	})
	d := &diary{dieAt: -1}
	plan := phase4Plan(t)
	if err := engineFor(t, client, target, plan, d).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := capture.Compare(left, dump(t, client, "*")); len(diff) > 0 {
		t.Fatalf("cleaned up, this differs from what should be left:\n%v", diff)
	}
	there := d.writes
	if err := engineFor(t, client, target, plan, d).Rollback(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := capture.Compare(was, dump(t, client, "*")); len(diff) > 0 {
		t.Fatalf("taken back, this differs from before:\n%v", diff)
	}
	for at := range d.writes {
		plan := phase4Plan(t)
		d := &diary{dieAt: at, after: at%2 == 0}
		err := engineFor(t, client, target, plan, d).Start(t.Context())
		if at < there {
			if !errors.Is(err, errDied) {
				t.Fatalf("write %d: start = %v, want the death", at, err)
			}
			d.dieAt, d.dead = -1, false
			if err := engineFor(t, client, target, plan, d).Start(t.Context()); err != nil {
				t.Fatalf("write %d: resume = %v", at, err)
			}
			if diff := capture.Compare(left, dump(t, client, "*")); len(diff) > 0 {
				t.Fatalf("write %d: resumed differs:\n%v", at, diff)
			}
		}
		err = engineFor(t, client, target, plan, d).Rollback(t.Context(), nil)
		if errors.Is(err, errDied) {
			d.dieAt, d.dead = -1, false
			if err = engineFor(t, client, target, plan, d).Rollback(t.Context(), nil); errors.Is(err, migrate.ErrNothingToRollBack) {
				err = nil
			}
		}
		if err != nil {
			t.Fatalf("write %d: way back = %v", at, err)
		}
		if diff := capture.Compare(was, dump(t, client, "*")); len(diff) > 0 {
			t.Fatalf("write %d: taken back differs:\n%v", at, diff)
		}
	}
}

func TestCleaningUpStoppedBeforeAnyCommandIsGoneOnWith(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	leftovers(t, client)
	target := migrate.Target{Phase: step.Phase4Name}
	was := dump(t, client, "*")
	for _, at := range []int{1, 10, 40, 45, 48, 50, 52, 55} {
		plan := phase4Plan(t)
		d := &diary{dieAt: -1}
		ctx, cancel := context.WithCancel(t.Context())
		other := server.Client(t)
		n := 0
		other.AddHook(beforeCommand(func(redis.Cmder) {
			if n++; n == at {
				cancel()
			}
		}))
		err := engineFor(t, other, target, plan, d).Start(ctx)
		cancel()
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Fatalf("stopped before command %d: %v", at, err)
		}
		if err := engineFor(t, client, target, plan, d).Start(t.Context()); err != nil {
			t.Fatalf("stopped before command %d, gone on with: %v", at, err)
		}
		if got := dump(t, client, "bull:mail:*"); len(got) > 0 {
			t.Errorf("stopped before command %d: %d keys are left", at, len(got))
		}
		if err := engineFor(t, client, target, plan, d).Rollback(t.Context(), nil); err != nil {
			t.Fatal(err)
		}
		if diff := capture.Compare(was, dump(t, client, "*")); len(diff) > 0 {
			t.Fatalf("stopped before command %d, taken back differs:\n%v", at, diff)
		}
	}
}

func TestWhatIsNewOrChangedSinceTheBackupIsNotDeleted(t *testing.T) {
	client := redistest.Start(t).Client(t)
	leftovers(t, client)
	target := migrate.Target{Phase: step.Phase4Name}
	plan := phase4Plan(t)
	d := &diary{dieAt: 3} // the intent of the first deletion: the backup is made
	if err := engineFor(t, client, target, plan, d).Start(t.Context()); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	client.HSet(t.Context(), "bull:mail:7", "progress", "1")
	client.HSet(t.Context(), "bull:mail:new", "name", "x")
	d.dieAt, d.dead = -1, false
	err := engineFor(t, client, target, plan, d).Start(t.Context())
	var stays *step.LeftoversError
	if !errors.As(err, &stays) || stays.Count != 2 {
		t.Fatalf("Start = %v, want a LeftoversError about 2 keys", err)
	}
	if got := client.Exists(t.Context(), "bull:mail:7", "bull:mail:new").Val(); got != 2 {
		t.Errorf("%d of the changed and the new key are there, want both", got)
	}
	// On the way back the changed one is not overwritten, and is named.
	err = engineFor(t, client, target, plan, d).Rollback(t.Context(), nil)
	var differs *step.RestoreError
	if !errors.As(err, &differs) || !slices.Equal(differs.Keys, []string{"bull:mail:7"}) {
		t.Fatalf("Rollback = %v, want a RestoreError about bull:mail:7", err)
	}
	client.Del(t.Context(), "bull:mail:7")
	if err := engineFor(t, client, target, plan, d).Rollback(t.Context(), nil); err != nil {
		t.Errorf("Rollback once that is solved = %v", err)
	}
}

// losing deletes a key behind every pipeline.
type losing struct {
	key string
	by  *redis.Client
}

func (losing) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (losing) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (l losing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		defer l.by.Del(ctx, l.key)
		return next(ctx, cmds)
	}
}

func TestARestoredKeyThatVanishesLongBeforeItsExpiryIsNamed(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	leftovers(t, client)
	client.Expire(t.Context(), "bull:mail:7", time.Hour)
	target := migrate.Target{Phase: step.Phase4Name}
	plan, d := phase4Plan(t), &diary{dieAt: -1}
	if err := engineFor(t, client, target, plan, d).Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	loses := server.Client(t)
	loses.AddHook(losing{"bull:mail:7", client})
	err := engineFor(t, loses, target, plan, d).Rollback(t.Context(), nil)
	var differs *step.RestoreError
	if !errors.As(err, &differs) || !slices.Equal(differs.Keys, []string{"bull:mail:7"}) {
		t.Errorf("Rollback = %v, want a RestoreError about bull:mail:7", err)
	}
}

func TestAFieldInTheMiddleOfALargeKeyKeepsItFromBeingDeleted(t *testing.T) {
	client := redistest.Start(t).Client(t)
	leftovers(t, client)
	for i := range 2500 {
		client.HSet(t.Context(), "bull:mail:stats", fmt.Sprint(i), i)
		client.RPush(t.Context(), "bull:mail:1:logs", i)
	}
	target, plan, d := migrate.Target{Phase: step.Phase4Name}, phase4Plan(t), &diary{dieAt: 3}
	was := dump(t, client, "*")
	if err := engineFor(t, client, target, plan, d).Start(t.Context()); !errors.Is(err, errDied) {
		t.Fatal(err)
	}
	client.HSet(t.Context(), "bull:mail:stats", "1200", "other")
	d.dieAt, d.dead = -1, false
	err := engineFor(t, client, target, plan, d).Start(t.Context())
	var stays *step.LeftoversError
	if !errors.As(err, &stays) || !slices.Equal(stays.Keys, []string{"bull:mail:stats"}) {
		t.Fatalf("Start = %v, want a LeftoversError about bull:mail:stats alone", err)
	}
	client.HSet(t.Context(), "bull:mail:stats", "1200", 1200)
	if err := engineFor(t, client, target, plan, d).Start(t.Context()); err != nil {
		t.Fatalf("Start once it is as it was = %v", err)
	}
	if got := dump(t, client, "bull:mail:*"); len(got) > 0 {
		t.Errorf("%d keys are left", len(got))
	}
	if err := engineFor(t, client, target, plan, d).Rollback(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if diff := capture.Compare(was, dump(t, client, "*")); len(diff) > 0 {
		t.Errorf("taken back differs:\n%v", diff)
	}
}

func TestNothingIsDeletedThatADamagedBackupCouldNotGiveBack(t *testing.T) {
	for name, damage := range map[string]func(path string, whole []byte) error{
		"cut":           func(path string, whole []byte) error { return os.WriteFile(path, whole[:len(whole)-20], 0o600) },
		"changed":       func(path string, whole []byte) error { whole[len(whole)/2]++; return os.WriteFile(path, whole, 0o600) },
		"gone":          func(path string, _ []byte) error { return os.Remove(path) },
		"of other keys": func(path string, _ []byte) error { return os.WriteFile(path, otherBackup(t), 0o600) },
	} {
		t.Run(name, func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			leftovers(t, client)
			was := dump(t, client, "*")
			target, plan, d := migrate.Target{Phase: step.Phase4Name}, phase4Plan(t), &diary{dieAt: 3}
			if err := engineFor(t, client, target, plan, d).Start(t.Context()); !errors.Is(err, errDied) {
				t.Fatal(err)
			}
			whole, err := os.ReadFile(plan.File)
			if err != nil {
				t.Fatal(err)
			}
			if err := damage(plan.File, slices.Clone(whole)); err != nil {
				t.Fatal(err)
			}
			d.dieAt, d.dead = -1, false
			if err := engineFor(t, client, target, plan, d).Start(t.Context()); err == nil {
				t.Error("Start with a damaged backup = nil, want an error")
			}
			if diff := capture.Compare(was, dump(t, client, "*")); len(diff) > 0 {
				t.Errorf("something was deleted:\n%v", diff)
			}
			if err := os.WriteFile(plan.File, whole, 0o600); err != nil {
				t.Fatal(err)
			}
			if err := engineFor(t, client, target, plan, d).Start(t.Context()); err != nil {
				t.Errorf("Start with the whole backup again = %v", err)
			}
		})
	}
}

// otherBackup is a whole backup of keys of another database.
func otherBackup(t *testing.T) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := backup.NewWriter(&out, backup.Header{Database: "another", Prefixes: []string{"bull:mail:", "bull:sms.eu:"}})
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// nodes is a client of two servers that hold a Cluster's keys between them, as those of upstream look.
type nodes struct {
	*redis.Client

	all []*redis.Client
}

func (n nodes) ForEachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	for _, node := range n.all {
		if err := fn(ctx, node); err != nil {
			return err
		}
	}
	return nil
}

func TestKeysOfEveryNodeOfAClusterAreCounted(t *testing.T) {
	a, b := redistest.Start(t).Client(t), redistest.Start(t).Client(t)
	for i := range 7 {
		a.Set(t.Context(), fmt.Sprint("old:a", i), i, 0)
		b.Set(t.Context(), fmt.Sprint("old:b", i), i, 0)
	}
	phase, err := step.NewPhase4(nodes{a, []*redis.Client{a, b}}, step.Phase4Plan{Prefixes: []string{"old:"}, File: filepath.Join(t.TempDir(), "b")}, migrate.Env{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := phase.Plan(t.Context())
	if err != nil || o.Steps[0].Summary != "save 14 keys to the backup" {
		t.Errorf("Plan = %+v, %v, want 14 keys", o.Steps, err)
	}
}

func TestKeysThatAreUsedAreNotDeleted(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	leftovers(t, client)
	worker := server.Client(t)
	name := "bull:" + base64.StdEncoding.EncodeToString([]byte("sms.eu"))
	if err := worker.Do(t.Context(), "client", "setname", name).Err(); err != nil {
		t.Fatal(err)
	}
	all, err := step.FindLeftovers(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	prefixes, problems := step.ChooseLeftovers(all, []mover.Layout{mover.Bull}, nil)
	if diff := cmp.Diff([]string{"bull:mail:"}, prefixes); diff != "" {
		t.Errorf("chosen (-want +got):\n%s", diff)
	}
	if len(problems) != 2 || problems[0].Blocking || !strings.Contains(problems[0].Message, "mailings") || !strings.Contains(problems[1].Message, "1 workers") {
		t.Errorf("problems = %+v, want the queue with a job and the one with a worker", problems)
	}
	for prefix, why := range map[string]string{"bull:sms.eu:": "1 workers", "bull:mailings:": "1 jobs", "bull:": "have not ended", "bull:sms.eu:1": "1 workers"} {
		_, problems := step.ChooseLeftovers(all, nil, []string{prefix})
		if len(problems) != 1 || !problems[0].Blocking || !strings.Contains(problems[0].Message, why) {
			t.Errorf("%s: problems = %+v, want one that blocks, with %q", prefix, problems, why)
		}
		plan := step.Phase4Plan{Prefixes: []string{prefix}, File: filepath.Join(t.TempDir(), "b")}
		phase, err := step.NewPhase4(client, plan, migrate.Env{})
		if err != nil {
			t.Fatal(err)
		}
		if o, err := phase.Plan(t.Context()); err != nil || o.Refused() == nil {
			t.Errorf("%s: planned without being refused: %v", prefix, err)
		}
		var used *step.InUseError
		if err := engineFor(t, client, migrate.Target{Phase: step.Phase4Name}, plan, &diary{dieAt: -1}).Start(t.Context()); !errors.As(err, &used) {
			t.Errorf("%s: Start = %v, want an InUseError", prefix, err)
		}
		if _, err := os.Stat(plan.File); err == nil {
			t.Errorf("%s: a backup was made all the same", prefix)
		}
	}
}

func TestPlanningPhase4WritesNothing(t *testing.T) {
	client := redistest.Start(t).Client(t)
	leftovers(t, client)
	plan := phase4Plan(t)
	phase, err := step.NewPhase4(client, plan, migrate.Env{})
	if err != nil {
		t.Fatal(err)
	}
	phase.Facts = &step.Phase4Facts{Packages: []string{"bull 4.16.5 in package.json"}, Env: []string{"REDIS_HOST"}, Connections: []string{"bull:mail"}}
	was := dump(t, client, "*")
	o, err := phase.Plan(t.Context())
	if err != nil || o.Refused() != nil {
		t.Fatalf("Plan = %v, refused %v", err, o.Refused())
	}
	if diff := capture.Compare(was, dump(t, client, "*")); len(diff) > 0 {
		t.Errorf("planning wrote:\n%v", diff)
	}
	if got := []string{o.Steps[0].Summary, o.Steps[1].Summary, o.Steps[2].Summary}; !slices.Equal(got, []string{
		"save 246 keys to the backup", "delete 123 keys of bull:mail:", "delete 123 keys of bull:sms.eu:",
	}) {
		t.Errorf("steps = %q", got)
	}
	if len(o.Application) != 3 || o.Steps[1].Name != "phase4.delete-01-bull:mail:" || o.Steps[2].Name != "phase4.delete-02-bull:sms_eu:" {
		t.Errorf("application %q, steps %+v", o.Application, o.Steps)
	}
	if entries, _ := os.ReadDir(filepath.Dir(plan.File)); len(entries) > 0 {
		t.Errorf("planning made files: %v", entries)
	}
	if err := os.WriteFile(plan.File, []byte("something else"), 0o600); err != nil {
		t.Fatal(err)
	}
	if o, err := phase.Plan(t.Context()); err != nil || o.Refused() == nil {
		t.Errorf("a file that is no backup: refused %v, %v, want it refused", o.Refused(), err)
	}
}

func TestAServerThatDoesNotListItsClientsIsSaidToHideWorkers(t *testing.T) {
	client := redistest.Start(t).Client(t)
	leftovers(t, client)
	if err := client.Do(t.Context(), "acl", "setuser", "default", "-client|list").Err(); err != nil {
		t.Fatal(err)
	}
	phase, err := step.NewPhase4(client, phase4Plan(t), migrate.Env{})
	if err != nil {
		t.Fatal(err)
	}
	o, err := phase.Plan(t.Context())
	if err != nil || !slices.ContainsFunc(o.Problems, func(q migrate.Problem) bool { return q.Rule == "workers-unknown" && !q.Blocking }) {
		t.Errorf("Plan = %+v, %v, want it said that workers are unknown", o.Problems, err)
	}
}

func TestAPrefixThatMeansMoreThanItSaysIsRefused(t *testing.T) {
	for name, prefixes := range map[string][]string{
		"none": nil, "everything": {""}, "a pattern": {"bull:*"}, "redisopt's own": {"redisopt:ledger:"},
		"what covers redisopt's own": {"red"}, "one within another": {"bull:", "bull:mail:"}, "one twice": {"a:", "a:"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := (step.Phase4Plan{Prefixes: prefixes, File: "/tmp/x"}).Validate(); err == nil {
				t.Error("Validate = nil, want an error")
			}
		})
	}
	if err := (step.Phase4Plan{Prefixes: []string{"a:"}, File: "x"}).Validate(); err == nil {
		t.Error("a relative path: Validate = nil, want an error, as the next process may run elsewhere")
	}
}
