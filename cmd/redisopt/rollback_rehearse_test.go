package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// rehearsals are a rehearsal before and after it, with one migration of every kind of result.
func rehearsals() map[string]rehearsalData {
	price := rehearsal.Price{Keys: 1200, Commands: 5300, Seconds: 2.4, Database: 48_000}
	mail := migrate.Target{Phase: step.Phase3Name, Prefix: "bull", Queue: "mail"}
	sms := migrate.Target{Phase: step.Phase3Name, Prefix: "bull", Queue: "sms"}
	planned := []plannedWalk{{Target: migrate.Target{Phase: step.Phase1Name}}, {Target: mail}, {Target: sms, OnlyBack: true}}
	passage := func(commands, ms int64, what string, n int64, steps ...string) rehearsal.Passage {
		return rehearsal.Passage{Steps: steps, Moved: map[string]int64{what: n}, Cost: upstream.Cost{Commands: commands, Writes: commands / 2}, TookMS: ms}
	}
	none := rehearsal.Comparison{Explained: []rehearsal.Explanation{}, Unexplained: []rehearsal.Difference{}}
	return map[string]rehearsalData{
		"rollback.rehearsal.dry": {DryRun: true, Price: price, Cost: upstream.Cost{Commands: 40}, Planned: planned},
		"rollback.rehearsal": {
			Price: price, Cost: upstream.Cost{Commands: 1840}, Planned: planned,
			Sample: &rehearsal.Sample{
				Queues: []rehearsal.QueueCopy{{
					Queue: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"},
					There: map[string]int64{"wait": 5000, "failed": 2}, Copied: map[string]int64{"wait": 100, "failed": 2}, Hollow: 1,
				}},
				Shapes:  []rehearsal.Shape{{Prefix: "user", Type: "string", Expires: true, Format: "object", Copied: 50}, {Type: "hash", Copied: 3}},
				Scanned: 48_000, Walked: true, Left: []rehearsal.LeftOut{{Why: "keys that are like copied ones", Keys: 40_000}},
			},
			Walks: []rehearsal.Walk{
				{
					Target: planned[0].Target, Verdict: rehearsal.Passed, Adapted: []string{"shares and the soak last until their gates pass; latency and hit rate are not judged"},
					Losses: []migrate.Loss{}, Problems: []migrate.Problem{},
					There: passage(309, 213, "keys", 50, "phase1.preflight", "phase1.ramp-100"), Back: passage(14, 37, "keys", 50, "phase1.ramp-100", "phase1.preflight"),
					Traffic:    &rehearsal.Traffic{Keys: 50, Reads: 320, Writes: 182, Checks: 73, Arrived: 50, Wrong: []string{}, NotCarried: map[string]int64{"hash": 3}},
					Comparison: rehearsal.Comparison{Keys: 160, Identical: 160, Explained: []rehearsal.Explanation{}, Unexplained: []rehearsal.Difference{}},
				},
				{
					Target: mail, Verdict: rehearsal.Differs, Why: "1 of the keys and fields differ, and nothing explains it",
					Adapted:     []string{"no worker runs, so jobs that are active move as those of a worker that died"},
					Losses:      []migrate.Loss{{Subject: "7", Field: "opts.timeout", Was: "5000", Why: "BullMQ has no timeout of a job", Reversible: true}},
					LossesTotal: 1, Problems: []migrate.Problem{{Rule: "missing-hash", Subject: "9", Message: "the id is in its container, but its hash is gone"}},
					There: passage(248, 31, "jobs", 102, "phase3.ledger", "phase3.move"), Back: passage(116, 12, "jobs", 102, "phase3.move", "phase3.ledger"),
					Jobs: rehearsal.Jobs{Before: 102, There: 102, After: 102},
					Comparison: rehearsal.Comparison{
						Keys: 160, Identical: 157, Differing: 1,
						Explained:   []rehearsal.Explanation{{Kind: "id", Why: "the counter of job ids covers every id that is in use", Keys: []string{"bull:mail:id"}, Of: 1}},
						Unexplained: []rehearsal.Difference{{Key: "bull:mail:7", Field: "progress", Was: "2 bytes #1a2b3c4d", Is: "nothing"}},
					},
				},
				{
					Target: sms, OnlyBack: true, Verdict: rehearsal.Stuck, Why: "back: step phase3.move: roll back: the ledger is gone", Err: errors.New("the ledger is gone"),
					Adapted: []string{}, Losses: []migrate.Loss{}, Problems: []migrate.Problem{}, There: passage(0, 0, "jobs", 0), Back: passage(20, 3, "jobs", 4),
					Jobs: rehearsal.Jobs{Before: 12}, Comparison: none,
				},
			},
		},
		"rollback.rehearsal.nothing": {Planned: []plannedWalk{}},
	}
}

func TestRehearsalsLookAsRecordedInEveryFormat(t *testing.T) {
	for name, d := range rehearsals() {
		for _, format := range report.Formats() {
			t.Run(name+"."+string(format), func(t *testing.T) { wantGolden(t, name, format, rehearsalDocument(d)) })
		}
	}
}

func TestTheExitCodeOfARehearsalNamesTheCause(t *testing.T) {
	walks := rehearsals()["rollback.rehearsal"].Walks
	for name, tt := range map[string]struct {
		walks []rehearsal.Walk
		want  int
	}{
		"all came back":                  {walks[:1], exitOK},
		"something differs":              {walks[:2], exitMismatch},
		"a step does not work":           {walks, exitBlocked},
		"one may not begin":              {[]rehearsal.Walk{{Verdict: rehearsal.Refused}}, exitBlocked},
		"stuck wins over what differs":   {[]rehearsal.Walk{walks[2], walks[1]}, exitBlocked},
		"nothing was there to rehearse ": {nil, exitOK},
	} {
		t.Run(name, func(t *testing.T) {
			got := exitOK
			if err := rehearsalVerdict(&rehearsal.Result{Walks: tt.walks}); err != nil {
				var v *verdictError
				if !errors.As(err, &v) {
					t.Fatalf("rehearsalVerdict = %v, want a verdict", err)
				}
				got = v.code
			}
			if got != tt.want {
				t.Errorf("exit code %d, want %d", got, tt.want)
			}
		})
	}
}

// rehearsed runs a rehearsal and reads what it says.
func (o operator) rehearsed(args ...string) rehearsalData {
	o.t.Helper()
	var doc struct{ Data rehearsalData }
	out := o.wants(exitOK, append(args, "-o", "json")...)
	if err := json.NewDecoder(strings.NewReader(out)).Decode(&doc); err != nil {
		o.t.Fatalf("%v is not a document: %v", args, err)
	}
	return doc.Data
}

func TestARehearsalSendsNoWriteAndLeavesNoJournal(t *testing.T) {
	o := newOperator(t)
	config := filepath.Join(t.TempDir(), "redisopt.yaml")
	text := "version: 1\nqueues:\n  list:\n    - name: suggestion-generation\n    - name: calendar-sync\n      criticality: critical\nramp:\n  url: redis://127.0.0.1:1\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	all := []string{"rollback", "--rehearse", "--engine", "asynq", "--config", config, "--read-rate", "-1"}
	words := monitored(t, o.client, func() {
		d := o.rehearsed(append(all, "--dry-run")...)
		if !d.DryRun || len(d.Planned) < 3 || len(d.Walks) != 0 {
			t.Errorf("dry run: %d planned, %d walked, want some and none", len(d.Planned), len(d.Walks))
		}
		before := d.Cost.Commands
		d = o.rehearsed(all...)
		if copying := d.Cost.Commands - before; copying > d.Price.Commands || copying <= 0 {
			t.Errorf("copying cost %d commands, priced at %d at most", copying, d.Price.Commands)
		}
		if d.Cost.Writes != 0 || !d.Passed {
			t.Errorf("%d writes, passed %v: %+v", d.Cost.Writes, d.Passed, d.Walks)
		}
		phases := map[string]bool{}
		for _, w := range d.Walks {
			phases[w.Target.Phase] = true
		}
		if !phases["phase1"] || !phases["phase2"] || !phases["phase3"] {
			t.Errorf("walked %v, want phases 1, 2 and 3", phases)
		}
	})
	wantNoWrites(t, o.client, words)
	if left, _ := filepath.Glob(filepath.Join(o.dir, "*")); len(left) > 0 {
		t.Errorf("the state directory has %v, want nothing", left)
	}
}

func TestTheWayBackOfAMigrationInPlaceIsRehearsedFromThere(t *testing.T) {
	o := newOperator(t)
	if d := o.rehearsed("rollback", "last", "--rehearse"); len(d.Planned) != 0 {
		t.Errorf("nothing was begun, and %v would be rehearsed", d.Planned)
	}
	o.wants(exitOK, o.mixed().there()...)
	words := monitored(t, o.client, func() {
		d := o.rehearsed("rollback", "last", "--rehearse")
		if len(d.Walks) != 1 || !d.Walks[0].OnlyBack || d.Walks[0].Back.Moved["jobs"] == 0 || d.Walks[0].Jobs.Before != d.Walks[0].Jobs.After {
			t.Errorf("walks = %+v, want one way back with all its jobs", d.Walks)
		}
		d = o.rehearsed("rollback", "phase3", "--rehearse", "--queue", mixedQueue)
		if len(d.Walks) != 1 || !d.Walks[0].OnlyBack {
			t.Errorf("phase3: walks = %+v, want the way back alone", d.Walks)
		}
	})
	wantNoWrites(t, o.client, words)
	o.wants(exitOK, o.mixed().back()...) // as rehearsed
}

func TestWhatARehearsalCannotDoIsSaidBeforeAnythingIsRead(t *testing.T) {
	o := newOperator(t)
	for name, tt := range map[string]struct {
		args []string
		want string
	}{
		"no engine":                 {[]string{"rollback", "phase3", "--rehearse"}, "--engine"},
		"an engine that is none":    {[]string{"rollback", "--rehearse", "--engine", "sidekiq"}, "sidekiq"},
		"its flags without it":      {[]string{"rollback", "phase2", "--sample-jobs", "5"}, "--sample-jobs: only with --rehearse"},
		"one job":                   {[]string{"rollback", "--rehearse", "--sample-jobs", "1"}, "want 2 to 10000"},
		"a plan of the last":        {[]string{"rollback", "last", "--rehearse", "--plan", "x"}, "has a plan already"},
		"a plan file that is not":   {[]string{"rollback", "--rehearse", "--plan", "/nonexistent/plan.json"}, "no such file"},
		"no queue and no rehearsal": {[]string{"rollback", "phase3", "--yes"}, "--queue"},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.t = t
			if out := o.wants(exitUsage, tt.args...); !strings.Contains(out, tt.want) {
				t.Errorf("%v: %q, want %q in it", tt.args, out, tt.want)
			}
		})
	}
}
