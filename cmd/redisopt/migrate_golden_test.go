package main

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/migrate/transfer"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// migrationDocuments are one document of each kind: from the capture on a real server, with everything
// that depends on the time of the run replaced.
func migrationDocuments(t *testing.T) map[string]report.Document {
	t.Helper()
	o := newOperator(t)
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	request := step.Request{Queue: "token-refresh", Prefix: "{bull}"}
	session := migrate.SessionOptions{Target: request.Target(), StateDir: t.TempDir()}
	look := func() migrate.Standing {
		s, err := migrate.Look(t.Context(), o.client, session)
		if err != nil {
			t.Fatal(err)
		}
		s.State.Since, s.State.Last = at, at
		for i := range s.Entries {
			e := &s.Entries[i]
			e.Time, e.Prev, e.Hash = at.Add(time.Duration(i)*time.Second), "", strings.Repeat("0", 64)
		}
		return s
	}
	route, err := request.Find(t.Context(), o.client, look().State)
	if err != nil {
		t.Fatal(err)
	}
	opts := step.RunOptions{StateDir: session.StateDir, WorkersStopped: true, ActiveTimeout: -1}
	plan, err := step.PlanStart(t.Context(), o.client, look(), route, opts)
	if err != nil {
		t.Fatal(err)
	}
	plan.Commands = mover.Price{TopLevel: 114, InScript: 304} // an estimate, and the mover's business
	result, err := step.Start(t.Context(), o.client, route, opts)
	if err != nil {
		t.Fatal(err)
	}
	result.Took, result.Outcome.Scripts = 1234*time.Millisecond, 23
	result.Outcome.Skipped = []mover.Problem{{JobID: "7", Rule: "missing-hash", Message: "{bull}:token-refresh:7 is gone, its id is in {bull}:token-refresh:delayed"}}
	done := look()
	busy := done
	busy.State.Stage = migrate.Forward
	busy.State.Steps = []migrate.StepState{{Name: "phase3.ledger", Mark: migrate.Applied, Touched: true}, {Name: "phase3.move", Mark: migrate.Applying, Touched: true}}
	busy.State.Reason = "no reply from db:6379 after 5s"
	busy.Target.Queue = "mail"
	held := busy
	held.Holder = &migrate.Holder{Fence: 3, Owner: "ann@alpha 100", Expires: at.Add(30 * time.Second)}
	held.Target.Queue, held.State.Reason = "sms", ""
	done.Entries = append(done.Entries, journal.Entry{
		Schema: 1, Seq: int64(len(done.Entries)) + 1, Time: at.Add(time.Minute), Kind: journal.Back,
		Detail: json.RawMessage(`{"reason":"new workers crash"}`), Hash: strings.Repeat("0", 64),
	})
	return map[string]report.Document{
		"migrate.plan":    planDocument(plan),
		"migrate.result":  resultDocument(done.Target, step.There, result, upstream.Cost{Commands: 100, Writes: 20, BytesOut: 3000, BytesIn: 4000}),
		"migrate.status":  statusDocument([]migrate.Standing{done, busy, held}),
		"migrate.history": historyDocument(done),
		"migrate.unlock":  unlockDocument(&heldLease{target: held.Target, holder: *held.Holder}, true),
	}
}

// hostingDocuments are one document of each kind that hosting a migration prints.
func hostingDocuments() map[string]report.Document {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	before, after := 33.0, 33.0
	target := migrate.Target{Phase: "phase2"}
	outline := migrate.Outline{
		Target:   target,
		Settings: []migrate.Setting{{Name: "queues", Value: "2"}},
		Steps: []migrate.OutlineStep{
			{Name: "phase2.pause-1", Summary: "pause bull:mail, 12 jobs wait", Commands: 9, InScript: 11, Writes: true},
			{Name: "phase2.soak", Summary: "wait until the gates pass"},
		},
		Losses:      []migrate.Loss{{Subject: "bull:mail", Field: "schedule", Was: "every minute", Why: "only the newest run stays", Reversible: false}},
		LossesTotal: 2,
		Problems: []migrate.Problem{
			{Rule: "critical", Subject: "bull:sms", Message: "bull:sms is not paused: it is critical"},
			{Rule: "quota", Message: "12 commands are left of this month", Fix: "wait for the first of the month", Blocking: true},
		},
		PointOfNoReturn: "redisopt migrate complete",
		Claims:          []migrate.Claim{{Target: "33 to 9 connections", Why: "paused workers keep their connections: needs a restart of pid 7 (node)"}},
		Code:            []migrate.CodeChange{{File: "src/queues.ts", Line: 12, Change: "this makes the Bull queue \"mail\""}},
		Application:     []string{"restart pid 7"},
		KPIs:            []migrate.KPI{{Name: "connections", Unit: "connections", Before: &before, After: &after, Method: "CLIENT LIST"}, {Name: "hit_rate_percent", Unit: "%", Method: "nothing measures it"}},
	}.Normal()
	state := migrate.State{
		Stage: migrate.Complete, Plan: strings.Repeat("0", 64), Since: at, Last: at,
		Steps: []migrate.StepState{{Name: "phase2.pause-1", Mark: migrate.Applied, Touched: true}},
	}
	standing := migrate.Standing{Target: target, State: state, Holder: &migrate.Holder{Fence: 3, Owner: "ann@alpha 100", Expires: at}, Intents: []migrate.Intent{}}
	intent := migrate.Intent{Schema: 1, ID: "X", Verb: migrate.IntentPause, By: "bob@beta 7", Reason: "sale", At: at, Expires: at.Add(time.Hour)}
	return map[string]report.Document{
		"migrate.outline":  outlineDocument([]migrate.Outline{outline}, strings.Repeat("a", 64)),
		"migrate.hosted":   hostedDocument(target, migrate.Hosted{State: state, Took: 1500 * time.Millisecond}, upstream.Cost{Commands: 40, Writes: 9}),
		"migrate.intent":   intentDocument(standing, intent, true),
		"migrate.complete": completeDocument(standing, []string{"the ledger of bull:mail is deleted"}),
		"migrate.copy-plan": copyPlanDocument(transfer.Plan{
			From: "10.0.0.8:6379/0", To: "10.0.0.9:6379/0", Keys: 1206, TargetKeys: 3, SourceCommands: 4830, TargetCommands: 2412,
			Problems: []migrate.Problem{{Rule: "target-not-empty", Message: "the target has 3 keys", Fix: "empty it", Blocking: true}},
		}),
		"migrate.copy": copyDocument(transfer.Plan{From: "10.0.0.8:6379/0", To: "10.0.0.9:6379/0"}, transfer.Result{
			Passes: []transfer.Pass{{Looked: 1206, Copied: 1206}, {Pass: 1, Looked: 1206, Differ: 2, Copied: 1, Deleted: 1}},
			ByType: 1, Why: "NOPERM this user has no permissions to run the 'restore' command", SourceKeys: 1206, TargetKeys: 1206, Compared: 1205, Sampled: 40,
			Digest: strings.Repeat("a", 64), Differences: []transfer.Difference{{Key: "bull:mail:7", What: "values"}}, DifferencesTotal: 1,
		}),
		"migrate.restore": restoreDocument(restoreData{
			File: "mail.backup", Prefixes: []string{"bull:mail:"}, Keys: 246, Types: map[string]int64{"hash": 240, "zset": 2, "string": 2, "list": 2},
			Done: true, Restored: step.Restored{Keys: 123, Written: 120, Expired: 1},
		}),
		"migrate.report": migrateReportDocument(reportOfADay(at)),
		"migrate.sign":   signDocument(target, migrate.Signature{KPI: "users", By: "Ann Lee", Note: "no ticket in 7 days", At: at}),
		"migrate.queues": queuesRunDocument(queuesOfARun(at)),
		"migrate.plan-refused": outlineDocument([]migrate.Outline{outline}, "", refusedPhase{
			Target: migrate.Target{Phase: "phase3", Prefix: "bull", Queue: "mail"},
			Why:    "bull:mail is paused, and which BullMQ will run it is not known yet", Fix: "add --bullmq-major 5 or --bullmq-major 6",
		}),
		"migrate.status-unread": statusDocument([]migrate.Standing{
			{Target: target, State: state, Intents: []migrate.Intent{}},
			{
				Target: migrate.Target{Phase: "phase3", Prefix: "bull", Queue: "mail"}, State: migrate.State{Steps: []migrate.StepState{}}, Intents: []migrate.Intent{},
				Err: (&app{}).migrationHint(&journal.DamagedError{
					Where: "/state/mail.journal", Err: errors.New("line 2: hash mismatch"), Lines: 7, Other: "redisopt:journal:phase3:bull:mail", OtherLen: 7,
				}, migrate.Target{Phase: "phase3", Prefix: "bull", Queue: "mail"}),
			},
		}),
		"migrate.verify": verifyDocument(verifyData{Target: target, Condition: migrate.Verified, Steps: []verifiedStep{
			{Name: "phase2.pause-1", Mark: migrate.Applied, Verdict: report.Pass},
			{Name: "phase2.pause-2", Mark: migrate.Applied, Verdict: report.Fail, Why: "bull:sms is not paused"},
		}}),
	}
}

// queuesOfARun is a run over four queues: one was in place, one was moved, one failed, one was refused and one had
// no turn.
func queuesOfARun(at time.Time) (queuesPlan, []migrate.Sequenced, upstream.Cost) {
	of := func(queue string) migrate.Target {
		return migrate.Target{Phase: "phase3", Prefix: "bull", Queue: queue}
	}
	state := func(stage migrate.Stage, mark migrate.Mark) migrate.State {
		return migrate.State{Stage: stage, Since: at, Last: at, Steps: []migrate.StepState{{Name: "phase3.ledger", Mark: mark}}}
	}
	p := queuesPlan{
		standing: []migrate.Standing{{Target: of("webhook-health-check"), State: state(migrate.Complete, migrate.Applied)}},
		refused:  []refusedPhase{{Target: of("adaptive-sync"), Why: "bull:adaptive-sync is paused", Fix: "add --bullmq-major 5"}},
	}
	for _, queue := range []string{"token-refresh", "calendar-sync", "google-contacts-sync"} {
		p.runs = append(p.runs, queueRun{standing: migrate.Standing{Target: of(queue)}})
	}
	failed := state(migrate.Forward, migrate.Applying)
	return p, []migrate.Sequenced{
		{Begun: true, Hosted: migrate.Hosted{State: state(migrate.Complete, migrate.Applied), Took: 1500 * time.Millisecond}},
		{Begun: true, Hosted: migrate.Hosted{State: failed, Took: 30 * time.Second}, Err: errors.New("a worker of bull 4 bull:calendar-sync still runs active jobs (1): 7")},
		{Hosted: migrate.Hosted{State: migrate.State{Stage: migrate.NotStarted}}},
	}, upstream.Cost{Commands: 300, Writes: 60}
}

// reportOfADay is a report with something reached, something missed, something unknown and a signature.
func reportOfADay(at time.Time) reportData {
	since, until := at.Add(-24*time.Hour), at
	measured := func(v float64, from, to time.Time) migrate.Evidence {
		return migrate.Evidence{Value: v, Known: true, Source: "INFO of the whole Redis, once a minute", From: from, To: to, Samples: 1440, Coverage: 1, Missing: []string{}}
	}
	data := reportData{Target: migrate.Target{Phase: "phase1"}, Condition: migrate.Verified, Since: since, Until: until}
	for _, c := range migrate.Criteria("phase1") {
		a := migrate.Assessment{Criterion: c, ForSeconds: int64(c.For.Seconds()), Verdict: migrate.GateInconclusive, Why: "nothing measures it"}
		a.Before, a.After = migrate.Evidence{Missing: []string{}}, migrate.Evidence{Missing: []string{"nothing measures it"}}
		switch c.Name {
		case "connections":
			a.Before, a.After = measured(42, since.Add(-24*time.Hour), since), measured(36, since, until)
			a.Verdict, a.Why = migrate.GatePass, "connections: 36 connections, want at most 43"
		case "commands":
			a.Before, a.After = measured(105120, since.Add(-24*time.Hour), since), measured(104000, since, until)
			a.Verdict, a.Why = migrate.GateFail, "commands_per_day: 104000 commands/day, want at most 70000"
		case "users":
			a.Signed = &migrate.Signature{KPI: "users", By: "Ann Lee", Note: "no ticket", At: at}
			a.Verdict, a.Why = migrate.GatePass, "vouched for by Ann Lee"
		}
		data.Criteria = append(data.Criteria, a)
	}
	return data
}

func TestAReportPageLoadsNothingAndDrawsWhatWasMeasured(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	data := reportOfADay(at)
	data.Target.Phase = "<script>alert(1)</script>"
	var samples []history.Sample
	for i := range 2880 {
		samples = append(samples, history.Sample{
			Time: at.Add(time.Duration(i-2880) * time.Minute), Span: time.Minute, Commands: 70, Connections: 42 - int64(i/480),
		})
	}
	page, err := reportPage(data, samples)
	if err != nil {
		t.Fatal(err)
	}
	text := string(page)
	contains(t, text, "<polyline", "at most 42 connections", "vouched for by Ann Lee", `class="fail"`, "stroke-dasharray")
	for _, bad := range []string{"<script", "http://", "https://", "src=", "NaN", "Inf"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
}

func TestHostingLooksAsRecordedInEveryFormat(t *testing.T) {
	for name, doc := range hostingDocuments() {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) {
				wantGolden(t, name, format, doc)
			})
		}
	}
}

func TestMigrationsLookAsRecordedInEveryFormat(t *testing.T) {
	for name, doc := range migrationDocuments(t) {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) {
				wantGolden(t, name, format, doc)
			})
		}
	}
}
