package shed

import (
	"encoding/json"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

const day = 24 * time.Hour

func feb(d int) time.Time { return time.Date(2026, 2, d, 0, 0, 0, 0, time.UTC) }

func planner(t *testing.T, change ...func(*Options)) *Planner {
	t.Helper()
	o := Options{
		Commands: budget.Commands{PerMonth: 500_000},
		Queues: []Queue{
			{Name: "calendar-sync", Critical: true, DependsOn: []string{"webhook-renewal"}},
			{Name: "webhook-renewal", DependsOn: []string{"webhook-health"}},
			{Name: "webhook-health"},
			{Name: "report", DependsOn: []string{"collect"}},
			{Name: "collect"},
		},
	}
	for _, c := range change {
		c(&o)
	}
	p, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// mix is rates of which the queues' critical part is a third.
func mix(total float64) Rates {
	return Rates{Refresh: total * 0.1, Cache: total * 0.1, Limit: total * 0.1, NonCritical: total * 0.35, Critical: total * 0.33, Sweep: total * 0.01, Fixed: total * 0.01}
}

// perSecond is the rate that spends share of 500,000 commands in February.
func perSecond(share float64) float64 { return share * 500_000 / (28 * day).Seconds() }

func settled(p *Planner, spent int64, at time.Time, r Rates) Plan {
	p.Decide(Input{Now: at.Add(-13 * time.Hour), Spent: spent, Rates: r})
	return p.Decide(Input{Now: at, Spent: spent, Rates: r})
}

func TestTheMildestLevelThatLastsIsTaken(t *testing.T) {
	for _, c := range []struct {
		name  string
		share float64 // of the budget that the demand would spend in the month
		want  Level
	}{
		{"far below the budget", 0.5, Normal},
		{"just below what degrades", 0.94, Normal},
		{"above what degrades, little enough for less refresh and batches", 1.1, Frugal},
		{"twice the budget", 2, Tight},
		{"what no shedding makes last", 5, Tight},
	} {
		t.Run(c.name, func(t *testing.T) {
			spent := int64(c.share * 500_000 / 28 * 2)
			got := settled(planner(t), spent, feb(3), mix(perSecond(c.share)))
			if got.Level != c.want {
				t.Errorf("level %s (%s), want %s", got.Level, got.Why, c.want)
			}
			if s := mix(1).at(got.Level, Options{BatchSaves: 0.2}); math.Abs(got.PlannedPerSecond/got.DemandPerSecond-s) > 1e-6 {
				t.Errorf("planned %g of %g a second, want the share %g", got.PlannedPerSecond, got.DemandPerSecond, s)
			}
		})
	}
}

func TestAPlanSaysWhatIsShedInWhichOrderAndWhatThatSaves(t *testing.T) {
	p := planner(t)
	plan := settled(p, 80_000, feb(3), mix(perSecond(2)))
	var classes []Class
	for _, s := range plan.Shed {
		classes = append(classes, s.Class)
		if s.Why == "" || !s.Since.Equal(feb(3)) {
			t.Errorf("%s: why %q since %s", s.Class, s.Why, s.Since)
		}
	}
	if want := []Class{Refresh, Sweeps, Paused, Limiter, CacheL1}; !slices.Equal(classes, want) {
		t.Errorf("shed %v, want %v", classes, want)
	}
	sum := 0.0
	for _, s := range plan.Shed {
		sum += s.SavesPerSecond
	}
	if got := plan.DemandPerSecond - plan.PlannedPerSecond; math.Abs(sum-got) > 1e-9 {
		t.Errorf("the parts save %g a second, the whole %g", sum, got)
	}
	if !plan.LimiterLocal || !plan.CacheLocal || !plan.NoRefresh || plan.SweepFactor != 4 || !plan.Changed || plan.From != Normal {
		t.Errorf("plan %+v", plan)
	}
	if text, err := json.Marshal(plan); err != nil || !strings.Contains(string(text), `"level":"tight"`) {
		t.Errorf("as JSON: %s, %v", text, err)
	}
}

func TestNoQueueIsShedBeforeThoseThatDependOnIt(t *testing.T) {
	p := planner(t)
	plan := settled(p, 80_000, feb(3), mix(perSecond(2)))
	want := []string{"report", "collect", "calendar-sync", "webhook-renewal", "webhook-health"}
	var names []string
	for _, q := range plan.Queues {
		names = append(names, q.Name)
		action := Run
		if q.Name == "report" || q.Name == "collect" {
			action = Pause
		}
		if q.Action != action {
			t.Errorf("%s: %s (%s), want %s", q.Name, q.Action, q.Why, action)
		}
	}
	if !slices.Equal(names, want) {
		t.Errorf("order %v, want %v", names, want)
	}
	if q := plan.Queue("webhook-health"); q.For != "calendar-sync" || !strings.Contains(q.Why, "calendar-sync, which is critical, depends on it") {
		t.Errorf("webhook-health: %+v", q)
	}
	if !p.Essential("webhook-health") || !p.Essential("calendar-sync") || p.Essential("report") {
		t.Error("essential is wrong")
	}
}

func TestDependenciesInACircleEnd(t *testing.T) {
	p := planner(t, func(o *Options) {
		o.Queues = []Queue{
			{Name: "a", DependsOn: []string{"b"}},
			{Name: "b", DependsOn: []string{"a"}, Critical: true},
			{Name: "c", DependsOn: []string{"c"}},
		}
	})
	if got := len(p.Decide(Input{Now: feb(1)}).Queues); got != 3 || !p.Essential("a") {
		t.Errorf("%d queues", got)
	}
}

func TestCriticalQueuesRunUntilTheWholeBudgetIsSpent(t *testing.T) {
	for _, overspend := range []bool{false, true} {
		p := planner(t, func(o *Options) { o.Overspend = overspend })
		almost := p.Decide(Input{Now: feb(10), Spent: 499_999, Rates: mix(1)})
		if almost.Level != Tight || almost.Queue("calendar-sync").Action != Run {
			t.Errorf("one command before: %s, %+v", almost.Level, almost.Queue("calendar-sync"))
		}
		spent := p.Decide(Input{Now: feb(10).Add(time.Minute), Spent: 500_000, Rates: mix(1)})
		want := Pause
		if overspend {
			want = Run
		}
		if got := spent.Queue("calendar-sync").Action; spent.Level != Exhausted || got != want {
			t.Errorf("overspend %t: %s, calendar-sync %s, want %s", overspend, spent.Level, got, want)
		}
		if got := spent.Queue("report").Action; got != Pause {
			t.Errorf("report: %s", got)
		}
		if got, want := spent.Outlook(), "the budget of 500000 commands is spent; the next period begins on 1 Mar"; got != want {
			t.Errorf("Outlook = %q, want %q", got, want)
		}
	}
}

func TestEverythingComesBackAtTheStartOfThePeriod(t *testing.T) {
	for _, period := range []budget.Commands{{PerMonth: 500_000}, {PerMonth: 500_000, Period: budget.ThirtyDays, Start: "2026-01-30"}} {
		p := planner(t, func(o *Options) { o.Commands = period })
		end := period.Window(feb(10)).End
		p.Decide(Input{Now: end.Add(-time.Hour), Spent: 500_001, Rates: mix(1)})
		last := p.Decide(Input{Now: end.Add(-time.Second), Spent: 500_002, Rates: mix(1)})
		first := p.Decide(Input{Now: end, Spent: 0, Rates: mix(1)})
		if last.Level != Exhausted || first.Level != Normal || !first.Changed || len(first.Shed) != 0 || first.Spent != 0 {
			t.Errorf("%s: %s, then %s with %g spent", period.Period, last.Level, first.Level, first.Spent)
		}
	}
}

func TestTheOutlookSaysWhenTheBudgetEnds(t *testing.T) {
	for _, c := range []struct {
		name  string
		rates Rates
		spent int64
		want  string
	}{
		{"nothing sheds it", Rates{Fixed: perSecond(1.4)}, 125_000, "at the present rate the budget ends on 19 Feb"},
		{"shedding helps", Rates{NonCritical: perSecond(2), Critical: perSecond(0.2)}, 125_000, "the budget lasts to 1 Mar; without shedding it would end on 13 Feb"},
		{"it lasts", Rates{Critical: perSecond(0.5)}, 100_000, "the budget lasts to 1 Mar: 65% of it will be used"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := settled(planner(t), c.spent, feb(4), c.rates).Outlook(); got != c.want {
				t.Errorf("Outlook = %q, want %q", got, c.want)
			}
		})
	}
	if got := planner(t, func(o *Options) { o.Commands.PerMonth = 0 }).Decide(Input{Now: feb(4), Spent: 9e9, Rates: mix(1e6)}); got.Level != Normal || got.Outlook() != "no budget is set" {
		t.Errorf("without a budget: %s, %q", got.Level, got.Outlook())
	}
}

func TestBatchesBeginOnEveryReplicaAtTheSameTime(t *testing.T) {
	plan := settled(planner(t), 40_000, feb(3), mix(perSecond(1.1)))
	if plan.Level != Frugal {
		t.Fatalf("level %s", plan.Level)
	}
	begins, admitted := 0, 0
	before := false
	for at := feb(3); at.Before(feb(3).Add(time.Hour)); at = at.Add(time.Second) {
		ok := plan.Admit("report", at)
		if ok {
			admitted++
		}
		if next, will := plan.NextBatch("report", at); !will || ok != next.Equal(at) || !plan.Admit("report", next) {
			t.Fatalf("at %s the next batch is said to begin at %s", at, next)
		}
		if ok && !before {
			begins++
		}
		before = ok
		if !plan.Admit("calendar-sync", at) {
			t.Fatal("a critical queue was not admitted")
		}
	}
	if begins != 12 || admitted != 12*60 {
		t.Errorf("%d batches of %d seconds together in an hour, want 12 of 720", begins, admitted)
	}
}

func TestARestartGoesOnWhereItWas(t *testing.T) {
	p := planner(t)
	before := settled(p, 80_000, feb(3), mix(perSecond(2)))
	text, err := json.Marshal(p.State())
	if err != nil {
		t.Fatal(err)
	}
	var state State
	if err := json.Unmarshal(text, &state); err != nil {
		t.Fatal(err)
	}
	again := planner(t, func(o *Options) { o.State = &state })
	unknown := Rates{Refresh: -1, Cache: -1, Limit: -1, NonCritical: -1, Critical: -1, Sweep: -1, Fixed: -1}
	after := again.Decide(Input{Now: feb(3).Add(time.Minute), Spent: -1, Rates: unknown})
	if after.Level != before.Level || after.Changed || !after.Shed[0].Since.Equal(before.Shed[0].Since) || !after.Guessed || after.Spent <= before.Spent {
		t.Errorf("after: %+v", after)
	}
	next := planner(t, func(o *Options) { o.State = &state })
	if got := next.Decide(Input{Now: feb(28).Add(2 * day)}); got.Level != Normal || got.Spent != 0 {
		t.Errorf("in the next month: %s, %g spent", got.Level, got.Spent)
	}
}

func TestBadInputChangesNothing(t *testing.T) {
	p := planner(t)
	before := settled(p, 80_000, feb(3), mix(perSecond(2)))
	bad := Rates{Refresh: math.NaN(), Cache: math.Inf(1), Limit: -5, NonCritical: 1e300, Critical: math.Inf(-1), Sweep: math.NaN(), Fixed: -1}
	for _, in := range []Input{
		{Now: feb(3).Add(time.Minute), Spent: 80_000, Rates: bad},
		{Now: feb(3).Add(-time.Hour), Spent: 10, Rates: bad}, // the clock went back, and the count sank
		{Now: feb(3).Add(2 * time.Minute), Spent: 0, Rates: bad},
	} {
		got := p.Decide(in)
		if got.Level != before.Level || got.Spent != before.Spent || got.DemandPerSecond != before.DemandPerSecond {
			t.Errorf("Decide(%+v) = level %s, spent %g, demand %g", in, got.Level, got.Spent, got.DemandPerSecond)
		}
	}
}

func TestABudgetThatIsRaisedLetsCriticalQueuesGoOnAtOnce(t *testing.T) {
	p := planner(t)
	p.Decide(Input{Now: feb(10), Spent: 500_000, Rates: mix(0.1)})
	state := p.State()
	raised := planner(t, func(o *Options) { o.State, o.Commands.PerMonth = &state, 520_000 })
	if got := raised.Decide(Input{Now: feb(10).Add(time.Minute), Spent: 500_100, Rates: mix(0.1)}); got.Level != Tight {
		t.Errorf("level %s, want tight", got.Level)
	}
}

func TestOptionsSayEverythingThatIsWrong(t *testing.T) {
	_, err := New(Options{
		Commands: budget.Commands{PerMonth: -1, WarnAt: 0.99}, BatchSaves: math.NaN(), BatchEvery: time.Millisecond,
		Hold: time.Second, Smooth: time.Second, Queues: []Queue{{Name: "a", DependsOn: []string{"b"}}, {Name: "a"}},
	})
	if err == nil {
		t.Fatal("want an error")
	}
	for _, part := range []string{"warn_at", "per_month: got -1", "batch_saves", "batch_every", "hold: got 1s", "smooth: got 1s", `depends on "b"`, `"a" is empty or there twice`} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("%q does not say %q", err, part)
		}
	}
}
