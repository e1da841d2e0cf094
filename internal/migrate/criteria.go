package migrate

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/journal"
	"github.com/redisopt/redisopt/internal/runtime/history"
)

// A Criterion is one success criterion of the design document, with what is wrong with it.
type Criterion struct {
	Phase string `json:"phase"` // empty: of the whole journey
	Name  string `json:"name"`  // stable; what --sign names

	// Goal is what the design says, and Remark what a correct reading of it is; may be empty.
	Goal   string `json:"goal"`
	Remark string `json:"remark"`

	// Gate judges it; nil for what no instrument measures, which somebody has to vouch for.
	Gate *Gate `json:"gate,omitempty"`

	// For is how long it must hold.
	For time.Duration `json:"-"`
}

// Criteria are those of a phase and of the whole journey, in the order of the design.
func Criteria(phase string) []Criterion {
	atMost := func(kpi, unit string, limit float64) *Gate { return &Gate{KPI: kpi, Unit: unit, Limit: limit} }
	atLeast := func(kpi, unit string, limit float64) *Gate {
		return &Gate{KPI: kpi, Unit: unit, Limit: limit, AtLeast: true}
	}
	all := []Criterion{
		{"phase1", "connections", "38-46 to 33-36 connections, held 24 h", "3 roles of 38-46 end, so 35-43 is what can be reached", atMost(KPIConnections, "connections", 43), day},
		{"phase1", "commands", "70,000 commands a day, 30-40% fewer", "HTTP and TCP cost the same commands, so this phase changes none", atMost(KPICommandsPerDay, "commands/day", 70_000), day},
		{"phase1", "connection errors", "none", "", atMost(KPIConnectionErrors, "errors", 0), day},
		{"phase1", "p95", "within 10% of the baseline", "judged by the soak on what the replicas' callers wait", atMost(KPILatencyIncrease, "%", 10), day},
		{"phase1", "hit rate", "more than 80%", "", atLeast(KPIHitRate, "%", 80), day},
		{"phase2", "connections", "33-36 to 9-12 connections, held 48 h", "paused workers keep their connections until their processes restart; with the pool 11-19", atMost(KPIConnections, "connections", 19), 2 * day},
		{"phase2", "commands", "50,000 commands a day", "that is 1.5 million a month, three times the free plan", atMost(KPICommandsPerDay, "commands/day", 50_000), 2 * day},
		{"phase2", "job success", "critical features unaffected", "judged by the jobs of the critical queues, 95% as in phase 3", atLeast(KPIJobSuccess, "%", 95), 2 * day},
		{"phase2", "critical features", "100% uptime, no user complaints", "not measurable here", nil, 2 * day},
		{"phase3", "connections", "9-12 to 1-3 connections, held 7 days", "only where the sidecar or one shared waiter holds them", atMost(KPIConnections, "connections", 3), 7 * day},
		{"phase3", "commands", "450,000 commands a month", "", atMost(KPICommandsPerMonth, "commands/month", 450_000), 7 * day},
		{"phase3", "job success", "more than 95%", "", atLeast(KPIJobSuccess, "%", 95), 7 * day},
		{"phase3", "connection errors", "none in 7 days", "", atMost(KPIConnectionErrors, "errors", 0), 7 * day},
		{"phase2", "p95", "response time within 10% of the baseline", "judged by the application's metrics page, where one is named", atMost(KPILatencyIncrease, "%", 10), 2 * day},
		{"phase3", "p95", "response time within 10% of the baseline", "judged by the application's metrics page, where one is named", atMost(KPILatencyIncrease, "%", 10), 7 * day},
		{"", "functions", "all functionality maintained", "not measurable here", nil, 0},
		{"", "rate limits", "functional, 100% uptime", "phase 1 compares and carries them; the rest is for a person", nil, 0},
		{"", "data", "no loss", "what was moved is compared by the steps' own verification; the rest is for a person", nil, 0},
		{"", "cost", "0 a month", "redisopt audit plan tells the cheapest plan for the measured load", nil, 0},
		{"", "uptime", "99.9%", "of the application, which is not watched from here", nil, 0},
		{"", "users", "no complaints", "not measurable", nil, 0},
		{"", "team", "comfortable with the new system", "not measurable", nil, 0},
	}
	return slices.DeleteFunc(all, func(c Criterion) bool { return c.Phase != "" && c.Phase != phase })
}

// An Assessment is one criterion before and after a migration.
type Assessment struct {
	Criterion

	ForSeconds int64 `json:"for_seconds"`

	// Before and After are the evidence; neither is known for what somebody has to vouch for.
	Before Evidence `json:"before"`
	After  Evidence `json:"after"`

	Verdict Verdict    `json:"verdict"`
	Why     string     `json:"why"`
	Signed  *Signature `json:"signed"` // the last statement about it; nil without one
}

// Assess judges the criteria of the migration in s at now, by what its soaks noted in the journal and by
// samples of the whole Redis. Before is the day before the last run began, and after is the time since the
// last step that changed something, at most as long as the criterion asks for. It is pure.
func Assess(s Standing, samples []history.Sample, now time.Time) []Assessment {
	began, changed := runTimes(s, now)
	noted, before := soakEvidence(s), baselineEvidence(s)
	out := []Assessment{}
	for _, c := range Criteria(s.Target.Phase) {
		a := Assessment{Criterion: c, ForSeconds: int64(c.For.Seconds()), Verdict: GateInconclusive}
		for _, sig := range s.State.Signed {
			if sig.KPI == c.Name {
				a.Signed = &sig
			}
		}
		if c.Gate == nil {
			a.Before, a.After = Evidence{Missing: []string{}}, Evidence{Missing: []string{}}
			a.Why = "nobody has vouched for it yet: redisopt migrate report --sign"
			if a.Signed != nil {
				a.Verdict, a.Why = GatePass, a.Signed.String()
			}
			out = append(out, a)
			continue
		}
		a.Before = SampleEvidence(within(samples, began.Add(-day), began), c.Gate.KPI, began.Add(-day), began)
		if e, ok := before[c.Gate.KPI]; ok && !a.Before.Known {
			a.Before = e
		}
		from := changed
		if c.For > 0 && now.Sub(from) > c.For {
			from = now.Add(-c.For)
		}
		a.After = SampleEvidence(within(samples, from, now), c.Gate.KPI, from, now)
		if e, ok := noted[c.Gate.KPI]; ok && !a.After.Known {
			a.After = e
		}
		r := c.Gate.Judge(a.After)
		a.After, a.Verdict, a.Why = r.Evidence, r.Verdict, r.Why
		if held := a.After.To.Sub(a.After.From); r.Verdict == GatePass && held < c.For {
			a.Verdict = GateInconclusive
			a.Why += "; held for " + held.Round(time.Second).String() + " of " + c.For.String()
		}
		if a.Verdict == GateInconclusive && a.Signed != nil { // a measured failure nobody can vouch away
			a.Verdict, a.Why = GatePass, a.Signed.String()+"; "+a.Why
		}
		out = append(out, a)
	}
	return out
}

// runTimes are when the last run began, and when its last step that changes something was in place.
func runTimes(s Standing, now time.Time) (began, changed time.Time) {
	began, changed = now, now
	for _, e := range s.Entries {
		switch {
		case e.Kind == journal.Begin:
			began, changed = e.Time, now
		case e.Kind == journal.Done && KindOf(e.Step) == ForRamp:
			changed = e.Time
		}
	}
	return began, changed
}

// soakEvidence is what the soaks of the last run measured last, by KPI.
func soakEvidence(s Standing) map[string]Evidence {
	out := map[string]Evidence{}
	for _, st := range s.State.Steps {
		var note SoakNote
		if KindOf(st.Name) != ForSoak || json.Unmarshal(st.Checkpoint, &note) != nil {
			continue
		}
		for _, r := range note.Gates {
			out[r.Gate.KPI] = r.Evidence
		}
	}
	return out
}

// baselineEvidence is what was measured before the last run changed anything, by KPI.
func baselineEvidence(s Standing) map[string]Evidence {
	out := map[string]Evidence{}
	for _, st := range s.State.Steps {
		var note BaselineNote
		if KindOf(st.Name) != ForPreflight || json.Unmarshal(st.Checkpoint, &note) != nil {
			continue
		}
		maps.Copy(out, note.Evidence)
	}
	return out
}

// within are the samples with from <= Time < to.
func within(samples []history.Sample, from, to time.Time) []history.Sample {
	var out []history.Sample
	for _, x := range samples {
		if !x.Time.Before(from) && x.Time.Before(to) {
			out = append(out, x)
		}
	}
	return out
}

// String says who has vouched, on which day (UTC), and what for.
func (s Signature) String() string {
	text := "vouched for by " + s.By + " on " + s.At.UTC().Format(time.DateOnly)
	if s.Note != "" {
		text += ": " + s.Note
	}
	return text
}
