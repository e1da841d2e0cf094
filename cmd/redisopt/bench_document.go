package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
)

// benchData is the contract of bench.run/v1.
type benchData struct {
	Target     string           `json:"target"`
	Evidence   bool             `json:"evidence"` // false: nothing may be concluded from it
	Host       string           `json:"host"`
	Seed       uint64           `json:"seed"`
	Operations []benchOperation `json:"operations"`
	Assertions []bench.Verdict  `json:"assertions"`
}

// benchOperation is one scenario. Durations that are nil were not measured, or not often enough.
type benchOperation struct {
	Operation         string           `json:"operation"`
	Loop              bench.Loop       `json:"loop"`
	RatePerSecond     float64          `json:"rate_per_second"`
	RampToPerSecond   float64          `json:"ramp_to_per_second"`
	Callers           int              `json:"callers"`
	AchievedPerSecond float64          `json:"achieved_per_second"`
	Planned           int64            `json:"planned"`
	Started           int64            `json:"started"`
	Samples           int64            `json:"samples"` // that ended well, and have a latency
	Limited           int64            `json:"limited"`
	Errors            map[string]int64 `json:"errors"`
	FirstError        string           `json:"first_error"`

	P50 *benchQuantile `json:"p50"`
	P95 *benchQuantile `json:"p95"`
	P99 *benchQuantile `json:"p99"`

	P50MS  *float64 `json:"p50_ms"`
	P95MS  *float64 `json:"p95_ms"`
	P99MS  *float64 `json:"p99_ms"`
	MeanMS *float64 `json:"mean_ms"`
	MaxMS  *float64 `json:"max_ms"`

	// Connections are those that were made, while preparing and warming up too, and ConnectMaxMS and TLSMaxMS
	// how long the slowest took: a 95th percentile takes 200 of them.
	Connections  int64    `json:"connections"`
	ConnectMaxMS *float64 `json:"connect_max_ms"`
	TLSMaxMS     *float64 `json:"tls_max_ms"`

	// ServiceP95MS counts from the actual start, as a closed loop does.
	ServiceP95MS  *float64 `json:"service_p95_ms"`
	QueueingP95MS *float64 `json:"queueing_p95_ms"`
	ConnectP95MS  *float64 `json:"connect_p95_ms"`
	TLSP95MS      *float64 `json:"tls_p95_ms"`
	ServerP95MS   *float64 `json:"server_p95_ms"`
	LatenessP99MS *float64 `json:"lateness_p99_ms"`
	LatenessMaxMS *float64 `json:"lateness_max_ms"`

	CommandsPerOperation    *float64 `json:"commands_per_operation"`
	InScriptPerOperation    *float64 `json:"in_script_per_operation"`
	USDPerMillionOperations *float64 `json:"usd_per_million_operations"`

	Stopped string `json:"stopped"`
	Broken  string `json:"broken"`
}

// benchQuantile is a percentile with its 95% interval.
type benchQuantile struct {
	MS     float64 `json:"ms"`
	LowMS  float64 `json:"low_ms"`
	HighMS float64 `json:"high_ms"`
}

func benchDataOf(file *bench.File, verdicts []bench.Verdict, usd float64) benchData {
	data := benchData{
		Target: file.Target, Evidence: file.Evidence, Host: file.Host, Seed: file.Seed,
		Operations: []benchOperation{}, Assertions: append([]bench.Verdict{}, verdicts...),
	}
	for _, m := range file.Scenarios {
		data.Operations = append(data.Operations, operationOf(m, usd))
	}
	return data
}

func operationOf(m bench.Measured, usd float64) benchOperation {
	r := m.Result
	o := benchOperation{
		Operation: m.Name, Loop: r.Loop, RatePerSecond: r.RatePerSecond, RampToPerSecond: r.RampToPerSecond, Callers: r.Callers,
		AchievedPerSecond: r.AchievedPerSecond(), Planned: r.Planned, Started: r.Started, Samples: r.Done, Limited: r.Limited,
		Errors: r.Errors, FirstError: r.FirstError, Stopped: r.Stopped, Broken: m.Broken,
	}
	if o.Errors == nil {
		o.Errors = map[string]int64{}
	}
	o.P50, o.P50MS = quantileOf(&r.Latency, 0.5)
	o.P95, o.P95MS = quantileOf(&r.Latency, 0.95)
	o.P99, o.P99MS = quantileOf(&r.Latency, 0.99)
	if r.Done > 0 {
		o.MeanMS, o.MaxMS = new(msOf(r.Latency.All.Mean())), new(msOf(r.Latency.All.Max()))
	}
	for into, h := range map[**float64]*bench.Histogram{
		&o.ServiceP95MS: &r.Service, &o.QueueingP95MS: &r.Queueing, &o.ConnectP95MS: &r.Connect, &o.TLSP95MS: &r.TLS, &o.ServerP95MS: &r.Server,
	} {
		_, *into = quantileOf(&bench.Latency{All: *h}, 0.95)
	}
	o.Connections = r.Connect.Count()
	o.ConnectMaxMS, o.TLSMaxMS = longestOf(&r.Connect), longestOf(&r.TLS)
	_, o.LatenessP99MS = quantileOf(&bench.Latency{All: r.Lateness}, 0.99)
	o.LatenessMaxMS = longestOf(&r.Lateness)
	if each := m.CommandsPerOperation(); each >= 0 {
		o.CommandsPerOperation = &each
		o.InScriptPerOperation = new(float64(m.InScript) / float64(r.Started))
		o.USDPerMillionOperations = new(each * usd)
	}
	return o
}

func quantileOf(l *bench.Latency, p float64) (*benchQuantile, *float64) {
	q, err := l.Quantile(p)
	if err != nil {
		return nil, nil
	}
	out := &benchQuantile{MS: msOf(q.Value), LowMS: msOf(q.Low), HighMS: msOf(q.High)}
	return out, &out.MS
}

// longestOf is the longest of a histogram; nil where it is empty.
func longestOf(h *bench.Histogram) *float64 {
	if h.Count() == 0 {
		return nil
	}
	return new(msOf(h.Max()))
}

func msOf(d time.Duration) float64 {
	return float64(d.Round(time.Microsecond)) / float64(time.Millisecond)
}

// benchDocument is bench.run/v1. A million commands cost usd.
func benchDocument(file *bench.File, verdicts []bench.Verdict, usd float64) report.Document {
	data := benchDataOf(file, verdicts, usd)
	doc := report.Document{Kind: "bench.run/v1", Data: data, Title: "benchmark", Verdicts: true, Checks: benchChecks(file, verdicts)}
	fields := []report.Field{{Name: "target", Value: file.Target}, {Name: "from", Value: file.Host}}
	table := &report.Table{Columns: []report.Column{
		{Name: "scenario"},
		{Name: "rate/s", Right: true},
		{Name: "p50", Right: true},
		{Name: "p95", Right: true},
		{Name: "95% interval", Right: true},
		{Name: "p99", Right: true},
		{Name: "failed", Right: true},
		{Name: "cmds", Right: true},
		{Name: "$/M", Right: true},
	}}
	few := false
	for _, o := range data.Operations {
		interval := ""
		if o.P95 != nil {
			interval = shortMS(&o.P95.LowMS) + "-" + shortMS(&o.P95.HighMS)
		}
		failed := o.Started - o.Samples - o.Limited
		table.Rows = append(table.Rows, []string{
			o.Operation, fmt.Sprintf("%.4g", o.AchievedPerSecond), shortMS(o.P50MS), shortMS(o.P95MS), interval, shortMS(o.P99MS),
			failedText(failed, o.Limited), optional(o.CommandsPerOperation), optional(o.USDPerMillionOperations),
		})
		few = few || o.P99MS == nil || o.P95MS == nil
	}
	doc.Sections = []report.Section{{Fields: fields}, {Title: "latency in ms, from the intended start", Table: table}}
	if parts := partsTable(data.Operations, nil); parts != nil {
		doc.Sections = append(doc.Sections, report.Section{Title: "where the time goes, p95 in ms", Table: parts})
	}
	if curves := curveFields(file); curves != nil {
		doc.Sections = append(doc.Sections, report.Section{Title: "p95 over the run", Fields: curves})
	}
	doc.Notes = benchNotes(file, few, usd)
	return doc
}

// benchNotes are what a reader must know to read the table.
func benchNotes(file *bench.File, few bool, usd float64) []string {
	var notes []string
	if !file.Evidence {
		notes = append(notes, "the target is no evidence: every assertion is inconclusive")
	}
	if few {
		notes = append(notes, "no number: insufficient samples, a p95 takes 200 and a p99 1,000; run longer or at a higher --rate")
	}
	for _, m := range file.Scenarios {
		r := m.Result
		if r.Loop == bench.Closed {
			notes = append(notes, fmt.Sprintf("%s: a closed loop of %d callers, which leaves out what a slow target kept from starting", m.Name, r.Callers))
		}
		if r.Loop == bench.Open && r.Started < r.Planned && r.Stopped == "" {
			notes = append(notes, fmt.Sprintf("%s: the rate could not be kept, %d of %d operations were started", m.Name, r.Started, r.Planned))
		}
		if r.Stopped != "" {
			notes = append(notes, m.Name+": ended early, "+r.Stopped)
		}
		if r.FirstError != "" {
			notes = append(notes, fmt.Sprintf("%s: first error: %s", m.Name, r.FirstError))
		}
		if m.Note != "" {
			notes = append(notes, m.Name+": "+m.Note)
		}
	}
	return append(notes, "service counts from the actual start; queued is the time before it; late is this program's own lateness; connect and TLS are of each new connection, not of each operation",
		fmt.Sprintf("$/M: dollars for a million operations, at %.2f for a million commands (%s)", usd, pricedPlan))
}

// partsTable is where the time of the operations goes; nil where none could tell. They are called by names, or by
// their own where that is nil.
func partsTable(operations []benchOperation, names []string) *report.Table {
	table := &report.Table{Columns: append([]report.Column{{Name: "scenario"}}, partColumns()...)}
	for i, o := range operations {
		name := o.Operation
		if names != nil {
			name = names[i]
		}
		if o.ServiceP95MS != nil || o.ConnectMaxMS != nil {
			table.Rows = append(table.Rows, append([]string{name}, partCells(o)...))
		}
	}
	if len(table.Rows) == 0 {
		return nil
	}
	return table
}

func partColumns() []report.Column {
	return []report.Column{
		{Name: "queued", Right: true},
		{Name: "connect", Right: true},
		{Name: "TLS", Right: true},
		{Name: "server", Right: true},
		{Name: "service", Right: true},
		{Name: "late, p99", Right: true},
	}
}

// partCells are where the time of o went. Of few connections, and of a lateness that was not seen often enough,
// the longest is shown.
func partCells(o benchOperation) []string {
	few := func(percentile, longest *float64) string {
		if percentile != nil || longest == nil {
			return shortMS(percentile)
		}
		return shortMS(longest) + " max"
	}
	return []string{
		shortMS(o.QueueingP95MS), few(o.ConnectP95MS, o.ConnectMaxMS), few(o.TLSP95MS, o.TLSMaxMS), shortMS(o.ServerP95MS),
		shortMS(o.ServiceP95MS), few(o.LatenessP99MS, o.LatenessMaxMS),
	}
}

func benchChecks(file *bench.File, verdicts []bench.Verdict) []report.Check {
	var out []report.Check
	for _, m := range file.Scenarios {
		if m.Broken != "" {
			out = append(out, report.Check{Group: m.Name, Name: "correct", Verdict: report.Fail, Message: m.Broken, Rule: "bench-broken"})
		}
	}
	words := map[bench.Outcome]report.Verdict{bench.Pass: report.Pass, bench.Fail: report.Fail, bench.Inconclusive: report.Inconclusive}
	for _, v := range verdicts {
		message := v.Why
		if message == "" && v.Value != nil {
			message = v.Assertion.Show(*v.Value)
		}
		out = append(out, report.Check{Group: v.Scenario, Name: v.Text, Verdict: words[v.Outcome], Message: message})
	}
	return out
}

func failedText(failed, limited int64) string {
	if limited > 0 {
		return fmt.Sprintf("%d, %d limited", failed, limited)
	}
	return fmt.Sprint(failed)
}

// shortMS is milliseconds with three figures; empty for nil.
func shortMS(ms *float64) string {
	switch {
	case ms == nil:
		return ""
	case *ms >= 100:
		return fmt.Sprintf("%.0f", *ms)
	case *ms >= 10:
		return fmt.Sprintf("%.1f", *ms)
	}
	return fmt.Sprintf("%.2f", *ms)
}

func optional(v *float64) string {
	if v == nil {
		return ""
	}
	return fmt.Sprintf("%.2f", *v)
}

// curveFields draw the 95th percentile of each part of each run as a line of blocks, from nothing to the
// highest one.
func curveFields(file *bench.File) []report.Field {
	const most = 40
	blocks := []rune("▁▂▃▄▅▆▇█")
	var fields []report.Field
	for _, m := range file.Scenarios {
		values := m.Result.Latency.Over(0.95, most)
		if len(values) < 2 {
			continue
		}
		top := slices.Max(values)
		var line strings.Builder
		for _, v := range values {
			line.WriteRune(blocks[min(len(blocks)-1, int(float64(v)/float64(max(top, 1))*float64(len(blocks)-1)+0.5))])
		}
		fields = append(fields, report.Field{Name: m.Name, Value: fmt.Sprintf("%s  up to %s ms", line.String(), shortMS(new(msOf(top))))})
	}
	return fields
}

// benchPlanData is the contract of bench.plan/v1.
type benchPlanData struct {
	Target      string              `json:"target"`
	Evidence    bool                `json:"evidence"`
	Scenarios   []scenario.Scenario `json:"scenarios"`
	MaxCommands int64               `json:"commands_at_most"`
	Seconds     float64             `json:"seconds_about"`
}

// benchPlanDocument says what would run.
func benchPlanDocument(p scenario.Plan, t *benchTarget) report.Document {
	data := benchPlanData{Target: t.name, Evidence: t.evidence, Scenarios: append([]scenario.Scenario{}, p.Scenarios...), MaxCommands: p.Commands(), Seconds: p.Duration().Seconds()}
	table := &report.Table{Columns: []report.Column{{Name: "scenario"}, {Name: "what", Elastic: true}}}
	for _, s := range p.Scenarios {
		table.Rows = append(table.Rows, []string{s.Name, s.About})
	}
	return report.Document{
		Kind: "bench.plan/v1", Data: data, Title: "plan: benchmark",
		Sections: []report.Section{
			{Fields: []report.Field{{Name: "target", Value: t.name}, {Name: "price", Value: "at most about " + plural(data.MaxCommands, "command")}, {Name: "time", Value: "about " + p.Duration().Round(time.Second).String()}}},
			{Table: table},
		},
	}
}

// errNothingMeasured means that a result holds no scenario.
var errNothingMeasured = errors.New("the result holds no scenario")
