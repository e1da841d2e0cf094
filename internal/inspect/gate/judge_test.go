package gate

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

// mailer is an application that holds n connections in one process, 2 for each of its workers.
func mailer(workers int) *Static {
	s := &Static{Replicas: 1}
	for i := range workers {
		s.Sites = append(s.Sites, Site{
			Process: "start", File: "src/a.ts", Line: 10 + i, Column: 3, Anchor: string(rune('a' + i)), Library: "bullmq", Kind: "worker",
			Made: Exactly(1), Connections: Exactly(2), Idle: Exactly(1000),
		})
	}
	n := float64(2 * workers)
	s.Connections, s.RollingDeploy, s.Idle = Exactly(n), Exactly(2*n), Exactly(float64(1000*workers))
	s.Processes = []Process{{"start", Exactly(n)}}
	return s
}

func budgets(change func(*budget.Budgets)) budget.Budgets {
	b := budget.Default()
	change(&b)
	return b
}

func judged(t *testing.T, e Evidence, opts Options) *Report {
	t.Helper()
	opts.Now = now
	r, err := Judge(e, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func only(t *testing.T, r *Report, name string) Judgement {
	t.Helper()
	i := slices.IndexFunc(r.Judgements, func(n Judgement) bool { return n.Budget == name })
	if i < 0 {
		t.Fatalf("%s is not judged: %+v", name, r.Judgements)
	}
	return r.Judgements[i]
}

func TestAFleetAboveItsBudgetFailsWhereItGrewMost(t *testing.T) {
	base := BaselineOf(Evidence{Static: mailer(3)})
	base.Source = "main"
	r := judged(t, Evidence{Static: mailer(4)}, Options{
		Budgets: budgets(func(b *budget.Budgets) { b.Connections.Fleet = 7 }), Baseline: base,
	})
	n := only(t, r, "connections.fleet")
	if r.Verdict != Fail || n.Verdict != Fail {
		t.Fatalf("verdict %s, %s, want fail", r.Verdict, n.Verdict)
	}
	if want := "8 connections, 7 allowed, 2 more than main (6, +33.3%)"; n.Message != want {
		t.Errorf("message %q, want %q", n.Message, want)
	}
	if len(n.Places) != 1 || n.Places[0].Line != 13 || n.Places[0].Adds != Exactly(2) {
		t.Errorf("places = %+v, want line 13 with 2", n.Places)
	}
	if !strings.Contains(n.Remedy, "src/a.ts:13 adds 2") || !strings.Contains(n.Remedy, "budgets.connections.fleet: 8") {
		t.Errorf("remedy = %q", n.Remedy)
	}
}

func TestALineThatOnlyMovedAddsNothing(t *testing.T) {
	before := mailer(3)
	after := mailer(4)
	for i := range after.Sites { // a new worker above the others: each of the old ones moves down
		after.Sites[i].Anchor = string(rune('a' + (i+3)%4))
	}
	base := BaselineOf(Evidence{Static: before})
	r := judged(t, Evidence{Static: after}, Options{Budgets: budgets(func(b *budget.Budgets) { b.Increase.Connections = 0 }), Baseline: base})
	n := only(t, r, "increase.connections")
	if n.Verdict != Fail || len(n.Places) != 1 || n.Places[0].Line != 10 {
		t.Errorf("%s at %+v, want fail at line 10 alone", n.Verdict, n.Places)
	}
}

func TestWhatWasOverBeforeWarnsUntilAChangeAddsToIt(t *testing.T) {
	opts := Options{Budgets: budgets(func(b *budget.Budgets) { b.Connections.Fleet = 5 }), Baseline: BaselineOf(Evidence{Static: mailer(4)})}
	for workers, want := range map[int]Verdict{3: Warn, 4: Warn, 5: Fail, 2: Pass} {
		if n := only(t, judged(t, Evidence{Static: mailer(workers)}, opts), "connections.fleet"); n.Verdict != want {
			t.Errorf("%d workers after 4: %s, want %s (%s)", workers, n.Verdict, want, n.Message)
		}
	}
}

func TestTheMonthWarnsAndFailsAtItsShares(t *testing.T) {
	b := budgets(func(b *budget.Budgets) { b.Commands.PerMonth = 500_000 })
	for used, want := range map[Span]Verdict{
		Exactly(399_999): Pass, Exactly(400_000): Warn, Exactly(449_999): Warn, Exactly(450_000): Fail,
		{Min: 100, Max: 450_000}:            Inconclusive,
		{Min: 450_000, Max: 500_000}:        Fail,
		{Min: 100, Max: 400_000}:            Warn,
		{Min: 100, Max: 200, Open: true}:    Inconclusive,
		{Min: 480_000, Max: 1, Open: false}: Fail,
	} {
		s := mailer(1)
		s.Idle = used
		if n := only(t, judged(t, Evidence{Static: s}, Options{Budgets: b}), "commands.per_month"); n.Verdict != want {
			t.Errorf("%+v: %s, want %s", used, n.Verdict, want)
		}
	}
}

func TestTooLittleEvidenceIsInconclusiveAndSaysWhatIsMissing(t *testing.T) {
	b := budgets(func(b *budget.Budgets) {
		b.Connections.Fleet, b.Connections.PerProcess, b.Connections.PlanLimit = 10, 5, 100
		b.Commands.PerMonth, b.Money.USDPerMonth = 1000, 5
		b.Increase = budget.Increase{}
		b.Latency["search"] = budget.Latency{P95: time.Second, MinSamples: 100}
		b.Operations = []budget.Operation{{Name: "GET /", Commands: 3}}
		b.Require = []budget.Evidence{budget.Static, budget.Bench}
	})
	r := judged(t, Evidence{Absent: map[budget.Evidence]string{budget.Live: "--offline"}}, Options{Budgets: b})
	for _, n := range r.Judgements {
		if n.Verdict != Inconclusive || n.Message == "" || len(n.Missing) == 0 {
			t.Errorf("%s: %s %q, missing %q; want inconclusive with its reason", n.Budget, n.Verdict, n.Message, n.Missing)
		}
	}
	if len(r.Judgements) != 11 {
		t.Errorf("%d judgements, want one for every budget: %+v", len(r.Judgements), r.Judgements)
	}
	why, required := r.Unmet()
	if r.Verdict != Inconclusive || !required || !strings.Contains(strings.Join(why, "\n"), "bench evidence is required: no benchmark was given: --bench FILE") {
		t.Errorf("verdict %s, required %t, %q", r.Verdict, required, why)
	}
}

func TestARangeThatMayBeTooMuchIsInconclusive(t *testing.T) {
	s := mailer(2)
	s.Connections = Span{Min: 3, Max: 12}
	s.Unresolved = []string{"src/a.ts:10: how many times this makes a bullmq worker: once for each of config.queues", "src/a.ts:11: the same"}
	r := judged(t, Evidence{Static: s}, Options{Budgets: budgets(func(b *budget.Budgets) { b.Connections.Fleet = 10 })})
	if n := only(t, r, "connections.fleet"); n.Verdict != Inconclusive || n.Message != "3 to 12 connections, 10 allowed; missing: src/a.ts:10: how many times this makes a bullmq worker: once for each of config.queues, and 1 more" {
		t.Errorf("%s: %s", n.Verdict, n.Message)
	}
}

func TestLevelsAndTheBaselineDecideWhichFindingsFail(t *testing.T) {
	found := func(rule string, s inspect.Severity, subject, anchor string) Finding {
		return Finding{inspect.Finding{Rule: rule, Severity: s, Subject: subject, File: "a.ts", Line: 1, Message: "m"}, anchor}
	}
	old := mailer(1)
	old.Findings = []Finding{found("keys-command", inspect.Critical, "q", "x"), found("idle-polling", inspect.Warning, "11 queues", "y")}
	s := mailer(1)
	s.Findings = []Finding{
		found("keys-command", inspect.Critical, "q", "new"), found("keys-command", inspect.Critical, "q", "x"),
		found("idle-polling", inspect.Warning, "12 queues", "y2"), found("missing-tls", inspect.Critical, "", ""),
		found("retries-forever", inspect.Warning, "", ""), found("finished-jobs-kept", inspect.Note, "", ""), found("syntax-error", inspect.Warning, "", ""),
	}
	r := judged(t, Evidence{Static: s}, Options{
		Baseline: BaselineOf(Evidence{Static: old}),
		Budgets: budgets(func(b *budget.Budgets) {
			b.Rules = map[string]budget.RuleLevel{"missing-tls": budget.RuleWarn, "finished-jobs-kept": budget.RuleFail, "syntax-error": budget.RuleOff}
		}),
	})
	want := []struct {
		level budget.RuleLevel
		state State
	}{{budget.RuleFail, New}, {budget.RuleFail, Known}, {budget.RuleWarn, Known}, {budget.RuleWarn, New}, {budget.RuleWarn, New}, {budget.RuleFail, New}}
	if len(r.Findings) != len(want) || r.Off != 1 {
		t.Fatalf("%d findings and %d off, want %d and 1", len(r.Findings), r.Off, len(want))
	}
	for i, w := range want {
		if f := r.Findings[i]; f.Level != w.level || f.State != w.state {
			t.Errorf("finding %d (%s %s): %s %s, want %s %s", i, f.Rule, f.Anchor, f.Level, f.State, w.level, w.state)
		}
	}
}

func TestWaiversHoldUntilTheyExpireAndAreMissedWhenTheyMatchNothing(t *testing.T) {
	s := mailer(3)
	s.Findings = []Finding{{Finding: inspect.Finding{Rule: "keys-command", Severity: inspect.Critical, File: "src/a.ts", Line: 1}}}
	waiver := func(rule, file, expires string) budget.Waiver {
		return budget.Waiver{Rule: rule, File: file, Owner: "mail team", Reason: "moving", Expires: expires}
	}
	r := judged(t, Evidence{Static: s}, Options{Budgets: budgets(func(b *budget.Budgets) {
		b.Connections.Fleet = 3
		b.Waivers = []budget.Waiver{
			waiver("connections.fleet", "", "2026-11-29"), waiver("keys-command", "src/*.ts", "2027-01-01"),
			waiver("missing-tls", "", "2027-01-01"), waiver("keys-command", "lib/*", "2026-11-28"),
		}
	})})
	if n := only(t, r, "connections.fleet"); n.Verdict != Waived || n.WaivedBy != 0 {
		t.Errorf("%+v, want waived by the first", n)
	}
	if f := r.Findings[0]; f.State != StateWaived || f.WaivedBy != 1 {
		t.Errorf("%+v, want waived by the second", f)
	}
	for i, want := range []Verdict{Waived, Waived, Warn, Fail} {
		if w := r.Waivers[i]; w.Verdict != want || w.Message == "" {
			t.Errorf("waiver %d: %s %q, want %s", i, w.Verdict, w.Message, want)
		}
	}
	if r.Verdict != Fail {
		t.Errorf("verdict %s, want fail: a waiver has expired", r.Verdict)
	}
}

func TestEveryUnknownNameIsReported(t *testing.T) {
	_, err := Judge(Evidence{}, Options{Rules: []string{"idle-polling"}, Budgets: budgets(func(b *budget.Budgets) {
		b.Rules = map[string]budget.RuleLevel{"idle-poling": budget.RuleFail, "nonsense": budget.RuleWarn}
		b.Waivers = []budget.Waiver{
			{Rule: "conections.fleet", Owner: "a", Reason: "b", Expires: "2027-01-01"},
			{Rule: "latency.cache.p95", Owner: "a", Reason: "b", Expires: "2027-01-01"},
		}
		b.Commands.WarnAt = 0.95
	})})
	for _, want := range []string{
		"rules.idle-poling: no rule has this name; did you mean idle-polling?", "rules.nonsense: no rule has this name",
		`waivers[0].rule: "conections.fleet" is neither a rule nor a budget; did you mean connections.fleet?`, "commands.warn_at",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Judge = %v, want %q in it", err, want)
		}
	}
	if strings.Contains(err.Error(), "waivers[1]") {
		t.Errorf("a budget for latency cannot be waived: %v", err)
	}
}

func TestOldPricesWarn(t *testing.T) {
	s := mailer(1)
	s.Cost = &Cost{Plan: "upstash-payg", USDPerMonth: Exactly(2), AsOf: "2026-05-01"}
	r := judged(t, Evidence{Static: s}, Options{Budgets: budgets(func(b *budget.Budgets) { b.Money.USDPerMonth = 5 })})
	if len(r.Findings) != 1 || r.Findings[0].Rule != "prices-out-of-date" || r.Verdict != Warn {
		t.Errorf("findings %+v, verdict %s, want a warning of old prices", r.Findings, r.Verdict)
	}
	s.Cost.AsOf = "2026-06-02" // 180 days
	if r = judged(t, Evidence{Static: s}, Options{Budgets: budgets(func(b *budget.Budgets) { b.Money.USDPerMonth = 5 })}); len(r.Findings) != 0 {
		t.Errorf("prices of 180 days are old: %+v", r.Findings)
	}
}

func TestLiveEvidenceIsJudgedBesideTheCode(t *testing.T) {
	open, month := Exactly(9), Span{Min: 880_000, Max: 920_000}
	live := &Live{Connections: &open, Limit: 10, CommandsPerMonth: &month, Window: time.Minute, Processes: []Process{{"pid 1", Exactly(9)}}}
	r := judged(t, Evidence{Static: mailer(2), Live: live}, Options{Budgets: budgets(func(b *budget.Budgets) {
		b.Connections.Fleet, b.Connections.PerProcess, b.Commands.PerMonth = 6, 6, 1_000_000
	})})
	got := map[string]Verdict{}
	for _, n := range r.Judgements {
		got[n.Name()+" "+string(n.Evidence)] = n.Verdict
	}
	for name, want := range map[string]Verdict{
		"connections.per_process of start static": Pass, "connections.per_process of pid 1 live": Fail,
		"connections.fleet static": Pass, "connections.fleet live": Fail, "connections.plan_limit live": Fail,
		"commands.per_month static": Pass, "commands.per_month live": Inconclusive,
	} {
		if got[name] != want {
			t.Errorf("%s: %q, want %s", name, got[name], want)
		}
	}
}

func TestDifferencesOfRangesAreBounds(t *testing.T) {
	for _, x := range []struct{ now, base, want Span }{
		{Exactly(5), Exactly(3), Exactly(2)},
		{Span{Min: 2, Max: 6}, Exactly(2), Span{Min: 0, Max: 4}},
		{Span{Min: 2, Max: 6}, Span{Min: 1, Max: 5}, Exactly(1)},
		{Exactly(4), Span{Min: 1, Max: 3, Open: true}, Span{Min: math.Inf(-1), Max: 3}},
		{Span{Min: 2, Max: 3, Open: true}, Exactly(1), Span{Min: 1, Max: 2, Open: true}},
	} {
		if got := x.now.minus(x.base); got != x.want {
			t.Errorf("%+v minus %+v = %+v, want %+v", x.now, x.base, got, x.want)
		}
	}
}

func TestIncreasesAreMeasuredInPercentToo(t *testing.T) {
	r := judged(t, Evidence{Static: mailer(11)}, Options{
		Baseline: BaselineOf(Evidence{Static: mailer(10)}),
		Budgets: budgets(func(b *budget.Budgets) {
			b.Increase = budget.Increase{Connections: 2, ConnectionsPercent: 5, CommandsPerMonth: 999, CommandsPercent: 10}
		}),
	})
	for name, want := range map[string]Verdict{
		"increase.connections": Pass, "increase.connections_percent": Fail, "increase.commands_per_month": Fail, "increase.commands_percent": Pass,
	} {
		if n := only(t, r, name); n.Verdict != want {
			t.Errorf("%s: %s, want %s (%s)", name, n.Verdict, want, n.Message)
		}
	}
}

func TestAPlaceCountsInEveryInstanceOfEveryProcess(t *testing.T) {
	s := mailer(2)
	s.Replicas = 3
	for _, x := range s.Sites { // a second process loads the same files, and shares its connection
		x.Process = "cron"
		s.Sites = append(s.Sites, x)
	}
	s.Processes = append(s.Processes, Process{"cron", Exactly(4)})
	s.Connections = Exactly(24)
	s.Sites = append(s.Sites, Site{Process: "web", File: "src/web.ts", Line: 1, Library: "bullmq", Kind: "queue", Shared: true, Made: Exactly(1)})
	r := judged(t, Evidence{Static: s}, Options{Budgets: budgets(func(b *budget.Budgets) { b.Connections.Fleet, b.Connections.PerProcess = 20, 3 })})
	n := only(t, r, "connections.fleet")
	if len(n.Places) != 2 || n.Places[0].Adds != Exactly(12) || !strings.Contains(n.Remedy, "adds 12: ") || !strings.HasSuffix(n.Remedy, "which leaves 18") {
		t.Errorf("places %+v, remedy %q; want 12 of 6 instances, 6 of which sharing saves", n.Places, n.Remedy)
	}
	if n := only(t, r, "connections.per_process"); n.Places[0].Adds != Exactly(2) {
		t.Errorf("in one process %+v, want 2", n.Places)
	}
}

func TestAFixIsOfferedOnlyForWhatItLowers(t *testing.T) {
	s := mailer(2)
	slower := &inspect.Fix{Description: "poll less", Edits: []inspect.Edit{{File: "src/a.ts", Line: 10, Column: 9, EndLine: 10, EndColumn: 9, Text: "drainDelay: 300"}}}
	s.Findings = []Finding{{Finding: inspect.Finding{Rule: "idle-polling", File: "src/a.ts", Line: 10, Remedy: "drainDelay: 300", Fix: slower}}}
	r := judged(t, Evidence{Static: s}, Options{Budgets: budgets(func(b *budget.Budgets) { b.Connections.Fleet, b.Commands.PerMonth = 1, 100 })})
	if n := only(t, r, "connections.fleet"); n.Fix != nil {
		t.Errorf("polling less is offered against connections: %+v", n.Fix)
	}
	if n := only(t, r, "commands.per_month"); n.Fix != slower || !strings.HasSuffix(n.Remedy, "adds 1,000 commands a month: drainDelay: 300") {
		t.Errorf("fix %+v, remedy %q", n.Fix, n.Remedy)
	}
}
