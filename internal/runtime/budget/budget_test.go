package budget

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"
)

func at(text string) time.Time {
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		panic(err)
	}
	return t
}

func TestWindows(t *testing.T) {
	month := Commands{Period: CalendarMonth}
	blocks := Commands{Period: ThirtyDays, Start: "2026-11-05"}
	for name, x := range map[string]struct {
		c          Commands
		now        string
		start, end string
	}{
		"the first instant of a month belongs to it":      {month, "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		"the last second too":                             {month, "2026-11-30T23:59:59Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		"the month is that of UTC":                        {month, "2026-11-30T20:00:00-05:00", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
		"february of a leap year":                         {month, "2028-02-29T12:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
		"a block begins on its day":                       {blocks, "2026-11-05T00:00:00Z", "2026-11-05T00:00:00Z", "2026-12-05T00:00:00Z"},
		"and the next one thirty days later":              {blocks, "2026-12-05T00:00:00Z", "2026-12-05T00:00:00Z", "2027-01-04T00:00:00Z"},
		"also long after":                                 {blocks, "2030-01-01T00:00:00Z", "2029-12-19T00:00:00Z", "2030-01-18T00:00:00Z"},
		"also before the day that anchors them":           {blocks, "2026-11-04T23:00:00Z", "2026-10-06T00:00:00Z", "2026-11-05T00:00:00Z"},
		"also before it by whole blocks":                  {blocks, "2026-10-06T00:00:00Z", "2026-10-06T00:00:00Z", "2026-11-05T00:00:00Z"},
		"an anchor too far away for a Duration":           {Commands{Period: ThirtyDays, Start: "0001-01-01"}, "2026-11-22T00:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		"a day that is none counts as the default":        {Commands{Period: ThirtyDays, Start: "soon"}, "1970-01-30T00:00:00Z", "1970-01-01T00:00:00Z", "1970-01-31T00:00:00Z"},
		"the zero value counts by the calendar":           {Commands{}, "2026-11-22T00:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
		"without a start, blocks begin at the Unix epoch": {Commands{Period: ThirtyDays}, "1970-02-01T00:00:00Z", "1970-01-31T00:00:00Z", "1970-03-02T00:00:00Z"},
	} {
		if got := x.c.Window(at(x.now)); !got.Start.Equal(at(x.start)) || !got.End.Equal(at(x.end)) {
			t.Errorf("%s: Window(%s) = %s to %s, want %s to %s", name, x.now, got.Start, got.End, x.start, x.end)
		}
	}
}

func TestProjections(t *testing.T) {
	november := Month(at("2026-11-10T00:00:00Z")) // 30 days
	tenth := at("2026-11-10T00:00:00Z")           // 9 days, 30%, have passed
	if got := november.Elapsed(tenth); got != 0.3 {
		t.Errorf("Elapsed = %g, want 0.3", got)
	}
	if got, ok := november.ProjectToDate(150_000, tenth); !ok || math.Round(got) != 500_000 {
		t.Errorf("ProjectToDate = %g %t, want 500000", got, ok)
	}
	if _, ok := november.ProjectToDate(1, november.Start); ok {
		t.Error("ProjectToDate projects from nothing")
	}
	// 105,000 a day, as the design document measured it, from the tenth on.
	perSecond := 105_000.0 / 86_400
	if got := november.ProjectRate(150_000, perSecond, tenth); math.Round(got) != 150_000+21*105_000 {
		t.Errorf("ProjectRate = %g, want 2355000", got)
	}
	if got := november.ProjectRate(150_000, -1, tenth); got != 150_000 {
		t.Errorf("ProjectRate of a negative rate = %g, want what is spent", got)
	}
	if got := PerThirtyDays(perSecond); math.Round(got) != 3_150_000 {
		t.Errorf("PerThirtyDays = %g, want 3150000", got)
	}
	// A replica that sends one command every 10 s, and one every 15 minutes.
	if got := PerThirtyDays(0.1); math.Round(got) != 259_200 {
		t.Errorf("PerThirtyDays(0.1) = %g, want 259200", got)
	}
	if got := PerThirtyDays(1.0 / 900); math.Round(got) != 2_880 {
		t.Errorf("PerThirtyDays(1/900) = %g, want 2880", got)
	}
	if got, want := november.AllowedPerSecond(500_000, 150_000, tenth), 350_000/(21*86_400.0); math.Abs(got-want) > 1e-9 {
		t.Errorf("AllowedPerSecond = %g, want %g", got, want)
	}
	for name, got := range map[string]float64{
		"of a spent limit":      november.AllowedPerSecond(1, 1, tenth),
		"after the end":         november.AllowedPerSecond(2, 1, november.End),
		"long after the end":    november.AllowedPerSecond(2, 1, november.End.AddDate(1, 0, 0)),
		"elapsed of no window":  Window{}.Elapsed(tenth),
		"elapsed before itself": november.Elapsed(november.Start.Add(-time.Hour)),
	} {
		if got != 0 {
			t.Errorf("%s: %g, want 0", name, got)
		}
	}
	if got := november.Remaining(november.Start.AddDate(-1, 0, 0)); got != november.Length() {
		t.Errorf("Remaining before the window = %s, want its length", got)
	}
}

func TestRunOut(t *testing.T) {
	november, tenth := Month(at("2026-11-10T00:00:00Z")), at("2026-11-10T00:00:00Z")
	for name, x := range map[string]struct {
		limit, used, perSecond float64
		want                   time.Time
		ok                     bool
	}{
		"the whole free tier by eleven idle queues lasts 29 hours": {500_000, 0, 411_840.0 / 86_400, tenth.Add(104895105 * time.Millisecond), true},
		"a rate that lasts to the end exactly":                     {21 * 86_400, 0, 1, time.Time{}, false},
		"one that does not quite":                                  {21*86_400 - 60, 0, 1, november.End.Add(-time.Minute), true},
		"a rate of nothing":                                        {10, 1, 0, time.Time{}, false},
		"a rate too small for a Duration":                          {1e18, 0, 1e-300, time.Time{}, false},
		"a limit that is spent":                                    {10, 11, 0, tenth, true},
	} {
		got, ok := november.RunOut(x.limit, x.used, x.perSecond, tenth)
		if d := got.Sub(x.want).Abs(); ok != x.ok || d > time.Second {
			t.Errorf("%s: RunOut = %s %t, want %s %t", name, got, ok, x.want, x.ok)
		}
	}
}

func TestOneNumberIsNotSuccessAndAlarm(t *testing.T) {
	c := Default().Commands
	if got := c.Level(1e9); got != Unbudgeted {
		t.Errorf("without a limit: %s", got)
	}
	c.PerMonth = 500_000
	for used, want := range map[float64]Level{
		0: Target, 350_000: Target, 350_001: Within, 399_999: Within, 400_000: Warn, 449_999: Warn,
		450_000: Fail, 474_999: Fail, 475_000: Degrade, 499_999: Degrade, 500_000: Exceeded, 3_150_000: Exceeded,
	} {
		if got := c.Level(used); got != want {
			t.Errorf("Level(%g) = %s, want %s", used, got, want)
		}
	}
}

func TestConnections(t *testing.T) {
	c := Default().Connections
	if got := c.Level(10_000, 0, false); got != Within {
		t.Errorf("nothing is budgeted and no limit known: %s", got)
	}
	c.Fleet = 3
	for _, x := range []struct {
		open, server int
		deploying    bool
		want         Level
	}{
		{3, 100, false, Within},
		{4, 100, false, Warn},
		{6, 100, true, Within},
		{7, 100, true, Warn},
		{80, 100, true, Warn},
		{81, 100, false, Fail},
		{38, 10_000, false, Warn}, // far from the limit: not why connections are reset
	} {
		if got := c.Level(x.open, x.server, x.deploying); got != x.want {
			t.Errorf("Level(%d of %d, deploying %t) = %s, want %s", x.open, x.server, x.deploying, got, x.want)
		}
	}
	c.PlanLimit = 30
	if got := c.Level(33, 10_000, false); got != Fail {
		t.Errorf("the plan's limit goes before the server's: %s", got)
	}
	c.DeployFactor = 1.5
	if got := c.Allowed(true); got != 4 {
		t.Errorf("Allowed = %d, want 4, rounded down", got)
	}
}

func TestEveryContradictionIsReported(t *testing.T) {
	if err := Default().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
	b := Default()
	b.Connections.Fleet, b.Connections.PerProcess = 3, 4
	b.Commands.WarnAt, b.Commands.Start = 0.92, "2026-13-01"
	b.Latency["cache"] = Latency{P95: 2, P99: 1}
	err := b.Validate()
	for _, want := range []string{"connections.per_process: 4", "commands.warn_at: 0.92 is above fail_at (0.9)", "commands.start: got", "latency.cache.p95"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q in it", err, want)
		}
	}
	if f, ok := errors.AsType[*FieldError](err); !ok || f.Field != "connections.per_process" {
		t.Errorf("first field = %v", f)
	}
}

func TestWhatOnlyAGateReadsIsCheckedToo(t *testing.T) {
	b := Default()
	b.Connections.Fleet, b.Connections.PlanLimit = 90, 100
	b.Rules = map[string]RuleLevel{"idle-polling": RuleOff}
	b.Operations = []Operation{{Name: "GET /a", Commands: 3}, {Name: "GET /a"}, {Name: "["}, {}}
	b.Waivers = []Waiver{{}, {Rule: "idle-polling", File: "[", Owner: "x", Reason: "y", Expires: "2026-02-30"}}
	err := b.Validate()
	for _, want := range []string{
		"connections.fleet: 90 can never be used", "operations[1].name: \"GET /a\" is budgeted in operations[0] too",
		"operations[2].name: \"[\" is no pattern", "operations[3].name: missing",
		"waivers[0].rule: missing", "waivers[0].owner: missing", "waivers[0].reason: missing", "waivers[0].expires: missing",
		"waivers[1].expires: got \"2026-02-30\"", "waivers[1].file: \"[\" is no pattern", "waivers[1].rule: idle-polling is off already",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want %q in it", err, want)
		}
	}
}

func TestAWaiverHoldsOnItsLastDay(t *testing.T) {
	w := Waiver{Expires: "2026-11-30"}
	for now, want := range map[string]bool{
		"2026-11-29T00:00:00Z": false, "2026-11-30T23:59:59Z": false, "2026-11-30T20:00:00-05:00": true, "2026-12-01T00:00:00Z": true,
	} {
		if got := w.Expired(at(now)); got != want {
			t.Errorf("Expired(%s) = %t, want %t", now, got, want)
		}
	}
	if !(Waiver{Expires: "soon"}).Expired(at("2026-11-29T00:00:00Z")) {
		t.Error("a day that is none has not passed")
	}
}
