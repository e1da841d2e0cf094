package plan

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func compare(t *testing.T, load Load, opts Options) *Report {
	t.Helper()
	if opts.Now.IsZero() {
		opts.Now = now
	}
	r, err := Compare(load, opts)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// Worked by hand from the published prices.
func TestAMonthCostsWhatTheProviderWouldCharge(t *testing.T) {
	for _, c := range []struct {
		name string
		load Load
		plan string
		want float64
	}{
		{"5 M commands at 0.20 for 100,000", Load{Top: 5e6}, "upstash-payg", 10},
		{"commands in scripts count", Load{Top: 2e6, InScript: 3e6}, "upstash-payg", 10},
		{"free ones do not", Load{Top: 6e6, ByCommand: map[string]float64{"ping": 9e5, "info": 1e5, "get": 5e6}}, "upstash-payg", 10},
		{"two read regions repeat writes", Load{Top: 1e6, WriteShare: new(0.5), ReadRegions: 2}, "upstash-payg", 4},
		{"reads count once", Load{Top: 1e6, WriteShare: new(0.0), ReadRegions: 2}, "upstash-payg", 2},
		{"5 GB stored, the first is free", Load{Top: 1e6, StorageBytes: 5 << 30}, "upstash-payg", 3},
		{"stored in every region", Load{Top: 1e6, WriteShare: new(0.0), StorageBytes: 5 << 30, ReadRegions: 1}, "upstash-payg", 2 + 9*0.25},
		{"300 GB of traffic, 200 are free", Load{Top: 1e6, BandwidthBytesPerMonth: 300 << 30}, "upstash-payg", 5},
		{"12 databases, ten are free", Load{Top: 1e6, Databases: 12}, "upstash-payg", 3},
		{"prod pack", Load{Top: 1e6, AddOns: []string{"prod-pack"}}, "upstash-payg", 202},
		{"fixed costs the same for any number", Load{Top: 1e9}, "upstash-fixed-250mb", 10},
		{"each read region is half of it", Load{Top: 1e6, ReadRegions: 3}, "upstash-fixed-1gb", 50},
		{"free", Load{Top: 5e5}, "upstash-free", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			q, ok := compare(t, c.load, Options{}).quoteOf(c.plan)
			if !ok || math.Abs(q.USDPerMonth-c.want) > 1e-9 {
				t.Fatalf("%s = %v, want %v: %+v", c.plan, q.USDPerMonth, c.want, q.Lines)
			}
			sum := 0.0
			for _, l := range q.Lines {
				sum += l.USD
			}
			if math.Abs(sum-q.USDPerMonth) > 1e-9 {
				t.Errorf("the lines add up to %v, the price is %v", sum, q.USDPerMonth)
			}
		})
	}
}

func TestAPlanThatIsTooSmallSaysWhatIsTooMuch(t *testing.T) {
	for name, c := range map[string]struct {
		load    Load
		plan    string
		blocker string
	}{
		"commands a month":      {Load{Top: 500_001}, "upstash-free", "commands a month"},
		"with those in scripts": {Load{Top: 1, InScript: 5e5}, "upstash-free", "commands a month"},
		"storage":               {Load{Top: 1, StorageBytes: 257 << 20}, "upstash-free", "storage: 257 MB of 256 MB"},
		"traffic":               {Load{Top: 1, BandwidthBytesPerMonth: 51 << 30}, "upstash-fixed-250mb", "traffic"},
		"a large request":       {Load{Top: 1, RequestBytes: 11 << 20}, "upstash-payg", "request size"},
		"a large record":        {Load{Top: 1, RecordBytes: 101 << 20}, "upstash-payg", "record size"},
		"read regions":          {Load{Top: 1, ReadRegions: 2}, "upstash-free", "read regions: 2 of 1"},
		"databases":             {Load{Top: 1, Databases: 2}, "upstash-free", "databases: 2 of 1"},
		"the peak":              {Load{Top: 1e6, PeakPerSecond: 12_000}, "upstash-fixed-50gb", "commands per second: 12,000 of 10,000"},
		"the average alone":     {Load{Top: 11_000 * secondsInMonth}, "upstash-payg", "commands per second"},
		"the budget":            {Load{Top: 5e6, BudgetUSDPerMonth: 9}, "upstash-payg", "budget: 10.00 of 9.00"},
		"an add-on":             {Load{Top: 1, AddOns: []string{"prod-pack"}}, "upstash-free", "prod-pack is not sold"},
	} {
		q, _ := compare(t, c.load, Options{}).quoteOf(c.plan)
		if q.Fits || !strings.Contains(strings.Join(q.Blockers, "; "), c.blocker) {
			t.Errorf("%s: %s fits = %v, blockers %q, want %q", name, c.plan, q.Fits, q.Blockers, c.blocker)
		}
	}
	q, _ := compare(t, Load{Top: 1, RequestBytes: 40 << 20, AddOns: []string{"request-50mb"}}, Options{}).quoteOf("upstash-payg")
	if !q.Fits {
		t.Errorf("a larger request is bought and does not fit: %q", q.Blockers)
	}
	q, _ = compare(t, Load{Top: 1e6, PeakPerSecond: 12_000}, Options{}).quoteOf("upstash-fixed-100gb")
	if !q.Fits {
		t.Errorf("12,000 a second do not fit into 16,000: %q", q.Blockers)
	}
}

func TestBreakEvenPointsAreThoseOfThePublishedPrices(t *testing.T) {
	r := compare(t, Load{Top: 3e6}, Options{Provider: "upstash"})
	want := map[string]float64{"upstash-fixed-250mb": 5e6, "upstash-fixed-1gb": 10e6, "upstash-fixed-5gb": 50e6, "upstash-fixed-10gb": 100e6}
	for _, b := range r.BreakEven {
		if w, ok := want[b.Flat]; ok && (b.SentPerMonth != w || b.BilledPerMonth != w || b.PerCommand != "upstash-payg") {
			t.Errorf("%+v, want %v", b, w)
		}
		delete(want, b.Flat)
	}
	if len(want) > 0 {
		t.Errorf("no break-even for %v", want)
	}
	var got []string
	for _, s := range r.Steps {
		got = append(got, s.Plan)
	}
	if want := []string{"upstash-free", "upstash-payg", "upstash-fixed-250mb", "upstash-fixed-100gb", ""}; !slices.Equal(got, want) {
		t.Errorf("steps = %v, want %v: %+v", got, want, r.Steps)
	}
	if r.Steps[1].From != 5e5 || r.Steps[1].To != 5e6 || r.Steps[3].From != 10_000*secondsInMonth {
		t.Errorf("steps = %+v", r.Steps)
	}
	if r.Cheapest != "upstash-payg" {
		t.Errorf("cheapest = %s", r.Cheapest)
	}
}

// At every number of commands the step that covers it names the plan that a comparison finds cheapest.
func TestStepsAgreeWithComparingAtEveryLoad(t *testing.T) {
	loads := []Load{
		{Top: 1e6},
		{Top: 1e6, InScript: 2e6, StorageBytes: 700 << 20, WriteShare: new(0.3), ReadRegions: 1},
		{Top: 1e6, StorageBytes: 20 << 30, BandwidthBytesPerMonth: 400 << 30},
		{Top: 1e6, ByCommand: map[string]float64{"ping": 4e5}, BudgetUSDPerMonth: 15},
		{Top: 1e6, PeakPerSecond: 3000},
	}
	rates := map[string]Rate{"self-hosted": {USDPerMonth: 7}}
	for _, load := range loads {
		r := compare(t, load, Options{Rates: rates})
		for sent := 1e4; sent < 1e11; sent *= 1.7 {
			x := compare(t, load.scaled(sent), Options{Rates: rates})
			i := slices.IndexFunc(r.Steps, func(s Step) bool { return sent >= s.From && sent < s.To })
			if i < 0 {
				t.Fatalf("no step covers %v: %+v", sent, r.Steps)
			}
			if r.Steps[i].Plan != x.Cheapest {
				a, _ := x.quoteOf(r.Steps[i].Plan)
				b, _ := x.quoteOf(x.Cheapest)
				t.Errorf("%+v at %v: step says %q (%v, %v), comparing %q (%v)", load, sent, r.Steps[i].Plan, a.USDPerMonth, a.Blockers, x.Cheapest, b.USDPerMonth)
			}
		}
	}
}

func TestPayingIsWeighedAgainstTheWorkHonestly(t *testing.T) {
	load := Load{Top: 12e6, InScript: 14e6, StorageBytes: 1 << 20}
	w := compare(t, load, Options{Work: &Effort{Hours: 40, USDPerHour: 80}}).Work
	if w == nil || !w.Pay || w.Plan != "upstash-fixed-250mb" || w.USDPerMonth != 10 || w.SavingUSD != 120 || w.WorkUSD != 3200 || w.PaybackMonths != 320 || w.HoursWorth != 1.5 || !w.AtMost {
		t.Errorf("verdict = %+v", w)
	}
	w = compare(t, load, Options{Work: &Effort{Hours: 1, USDPerHour: 80, TargetPerMonth: 4e5}}).Work
	if w.Pay || w.AfterPlan != "upstash-free" || w.AtMost {
		t.Errorf("an hour that leads to the free plan: %+v", w)
	}
	w = compare(t, load, Options{Work: &Effort{Hours: 1, USDPerHour: 80, TargetPerMonth: 20e6}}).Work
	if !w.Pay || w.SavingUSD != 0 || !strings.Contains(w.Text, "saves nothing") {
		t.Errorf("work that changes no plan: %+v", w)
	}
	w = compare(t, load, Options{Work: &Effort{USDPerHour: 80}}).Work
	if w.Pay || !strings.Contains(w.Text, "pays for 1.5 hours") {
		t.Errorf("no hours given: %+v", w)
	}
}

func rules(r *Report) []string {
	out := []string{}
	for _, f := range r.Findings {
		out = append(out, string(f.Severity)+" "+f.Rule)
	}
	return out
}

func TestFindingsSayWhatToActOn(t *testing.T) {
	for name, c := range map[string]struct {
		load Load
		opts Options
		want []string
	}{
		"nothing":                        {Load{Top: 1e5}, Options{}, nil},
		"the plan paid for is too small": {Load{Top: 1e6}, Options{Provider: "upstash-free"}, []string{"critical plan-too-small"}},
		"another is cheaper":             {Load{Top: 50e6}, Options{Current: "upstash-payg"}, []string{"warning cheaper-plan"}},
		"none fits":                      {Load{Top: 1e6, StorageBytes: 600 << 30}, Options{}, []string{"critical no-plan-fits"}},
		"a budget is nearly used up":     {Load{Top: 4.6e6, BudgetUSDPerMonth: 10}, Options{}, []string{"warning money-budget"}},
		"a budget is used by two thirds": {Load{Top: 3.6e6, BudgetUSDPerMonth: 10}, Options{}, []string{"note money-budget"}},
		"a flat plan is over the budget": {Load{Top: 50e6, BudgetUSDPerMonth: 9}, Options{}, []string{"critical money-budget"}},
		"most runs in scripts":           {Load{Top: 1e5, InScript: 2e5}, Options{}, []string{"note scripts-billed"}},
		"prices are old":                 {Load{Top: 1e5}, Options{Now: now.AddDate(0, 4, 0)}, []string{"warning prices-out-of-date"}},
		"prices are of a time to come":   {Load{Top: 1e5}, Options{Now: now.AddDate(-1, 0, 0)}, []string{"warning prices-out-of-date"}},
		"only the add-on's price is old": {Load{Top: 1e5, AddOns: []string{"record-1gb"}}, Options{}, []string{"warning prices-out-of-date"}},
	} {
		r := compare(t, c.load, c.opts)
		if got := rules(r); !slices.Equal(got, append([]string{}, c.want...)) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
	r := compare(t, Load{Top: 50e6}, Options{Current: "upstash-payg"})
	if got := r.Findings[0].SavingUSDPerMonth; got != 90 {
		t.Errorf("saving = %v, want 100 - 10", got)
	}
}

func TestRatesOfTheCallerArePriced(t *testing.T) {
	r := compare(t, Load{Top: 50e6, InScript: 50e6, StorageBytes: 1 << 30, Connections: 100}, Options{Rates: map[string]Rate{
		"elasticache": {USDPerMonth: 3, Nodes: 2, MemoryBytes: 2 << 30},
		"self-hosted": {USDPerMonth: 1, MemoryBytes: 1 << 29, MaxConnections: 50},
	}})
	q, _ := r.quoteOf("elasticache")
	if !q.Fits || q.USDPerMonth != 6 || q.BilledPerMonth != 50e6 || r.Cheapest != "elasticache" {
		t.Errorf("elasticache = %+v, cheapest %s", q, r.Cheapest)
	}
	if q, _ := r.quoteOf("self-hosted"); q.Fits || len(q.Blockers) != 2 {
		t.Errorf("self-hosted = %+v, want too little memory and connections", q)
	}
	if !slices.Equal(r.Unpriced, []string{"memorystore"}) {
		t.Errorf("unpriced = %v", r.Unpriced)
	}
}

func TestContradictionsAreErrorsThatSayAllOfThem(t *testing.T) {
	for name, c := range map[string]struct {
		load Load
		opts Options
		want []string
	}{
		"nothing known":        {Load{}, Options{}, []string{"commands a month: not known"}},
		"two at once":          {Load{Top: -1, StorageBytes: -1}, Options{}, []string{"commands a month: got -1", "storage: got -1"}},
		"scripts without any":  {Load{InScript: 5}, Options{}, []string{"a script is sent by a client"}},
		"no number":            {Load{Top: math.NaN()}, Options{}, []string{"got NaN"}},
		"a peak below average": {Load{Top: 26e6, PeakPerSecond: 5}, Options{}, []string{"less than the average of 10.0"}},
		"a record over all":    {Load{Top: 1, StorageBytes: 10, RecordBytes: 11}, Options{}, []string{"more than the 10 bytes stored"}},
		"a share over one":     {Load{Top: 1, WriteShare: new(1.5)}, Options{}, []string{"share of writes"}},
		"an unknown plan":      {Load{Top: 1}, Options{Provider: "upstash-gold"}, []string{`"upstash-gold"`, "upstash-payg"}},
		"an unknown add-on":    {Load{Top: 1, AddOns: []string{"gold"}}, Options{}, []string{`"gold"`, "prod-pack"}},
		"a rate of nothing":    {Load{Top: 1}, Options{Rates: map[string]Rate{"x": {USDPerMonth: -1}}}, []string{`"x"`, "rate of x"}},
		"two current plans":    {Load{Top: 1}, Options{Provider: "upstash-free", Current: "upstash-payg"}, []string{"current plan"}},
		"a plan without price": {Load{Top: 1}, Options{Provider: "memorystore", Current: "memorystore"}, []string{"a rate is needed"}},
		"work for more":        {Load{Top: 1}, Options{Work: &Effort{TargetPerMonth: 2}}, []string{"hourly rate", "more than the 1 of today"}},
	} {
		if c.opts.Now.IsZero() {
			c.opts.Now = now
		}
		_, err := Compare(c.load, c.opts)
		if err == nil {
			t.Errorf("%s: no error", name)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q lacks %q", name, err, want)
			}
		}
	}
	_, err := Compare(Load{Top: 1}, Options{Now: now, Provider: "gold"})
	if _, ok := errors.AsType[*UnknownError](err); !ok {
		t.Errorf("%v, want an UnknownError", err)
	}
}

func TestACatalogueIsReadWholeOrRefused(t *testing.T) {
	good := `{"schema":1,"as_of":"2026-01-01","currency":"USD","providers":[{"name":"p","title":"P","bills_in_script":false,"free_commands":[],"assumptions":[]}],"plans":[{"name":"a","provider":"p","title":"A","usd_per_month":3}],"add_ons":[]}`
	c, err := Parse(strings.NewReader(good))
	if err != nil || c.Plans[0].AsOf != "2026-01-01" {
		t.Fatalf("%+v, %v", c, err)
	}
	for name, edit := range map[string][2]string{
		"not JSON":            {`{"schema"`, `"schema"`},
		"a newer schema":      {`"schema":1`, `"schema":2`},
		"a misspelt limit":    {`"usd_per_month":3`, `"usd_a_month":3`},
		"a negative price":    {`"usd_per_month":3`, `"usd_per_month":-3`},
		"no such provider":    {`"provider":"p"`, `"provider":"q"`},
		"no date":             {`2026-01-01`, `lately`},
		"another currency":    {`USD`, `EUR`},
		"an unknown add-on":   {`"usd_per_month":3`, `"add_ons":["x"]`},
		"a plan without name": {`"name":"a"`, `"name":""`},
	} {
		if _, err := Parse(strings.NewReader(strings.Replace(good, edit[0], edit[1], 1))); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if _, err := Parse(strings.NewReader(strings.Repeat(" ", maxCatalogueBytes+1))); err == nil {
		t.Error("a catalogue without end is accepted")
	}
}

func recorded(t *testing.T, name string) *Record {
	t.Helper()
	f, err := os.Open(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	rec, err := ReadRecord(f)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

func TestALoadIsTakenFromRecordedAudits(t *testing.T) {
	load, assumed, missing, err := Gather([]*Record{recorded(t, "audit.code.json"), recorded(t, "audit.connections.json"), recorded(t, "audit.commands.json")})
	if err != nil {
		t.Fatal(err)
	}
	if load.Top != 12_355_200 || load.InScript != 14_428_800 || load.ByCommand["info"] != 43_200 || load.Connections != 33 {
		t.Errorf("load = %+v", load)
	}
	if !slices.Equal(load.Sources, []string{kindCommands, kindConnections}) || len(missing) > 0 || len(assumed) != 1 {
		t.Errorf("sources %v, missing %v, assumed %v", load.Sources, missing, assumed)
	}
	load, _, _, err = Gather([]*Record{recorded(t, "audit.code.json")})
	if err != nil || load.Connections != 6 || load.Top != 1_100_000 || load.InScript != 1_200_000 {
		t.Errorf("from code: %+v, %v", load, err)
	}
	if _, _, _, err := Gather([]*Record{recorded(t, "audit.commands.json"), recorded(t, "audit.commands.json")}); err == nil {
		t.Error("two measurements of one thing are accepted")
	}
}

func TestOtherDocumentsAreRefusedWithTheReason(t *testing.T) {
	for in, want := range map[string]string{
		``:                                       "not a document",
		`{}`:                                     "names no kind",
		`{"kind":"bench/v1"}`:                    "want audit.commands/v1",
		`{"kind":"audit.commands/v2"}`:           "another version",
		`{"kind":"audit.commands/v1","data":[]}`: "cannot unmarshal",
		`{"kind":"audit.commands/v1","data":{"observable":"nothing"}}`:                                   "no command was counted",
		`{"kind":"audit.commands/v1","data":{"projection":{"all_per_month":1,"top_level_per_month":2}}}`: "more than",
		`{"kind":"audit.connections/v1","data":{}}`:                                                      "no connection",
		`{"kind":"audit.code/v1","data":{}}`:                                                             "nothing that talks",
	} {
		if _, err := ReadRecord(strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", in, err, want)
		}
	}
}

func FuzzRecordsAreReadOrRefused(f *testing.F) {
	for _, name := range []string{"audit.commands.json", "audit.connections.json", "audit.code.json"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		rec, err := ReadRecord(strings.NewReader(string(text)))
		if err != nil {
			return
		}
		load, _, _, err := Gather([]*Record{rec})
		if err != nil {
			t.Fatal(err)
		}
		r, err := Compare(load, Options{Now: now})
		if err != nil {
			return
		}
		if _, err := json.Marshal(r); err != nil {
			t.Errorf("the report cannot be written: %v", err)
		}
	})
}

func TestEveryMeasureHasItsPlanAndEvidence(t *testing.T) {
	r := compare(t, Load{Top: 1e6, Sources: []string{"flags"}}, Options{})
	if len(r.Measures) != 2*len(r.Quotes)+1 {
		t.Errorf("%d measures of %d quotes", len(r.Measures), len(r.Quotes))
	}
	for _, m := range r.Measures {
		if m.Labels["plan"] == "" || m.Evidence.Source != "flags, prices of 2026-08-21" {
			t.Errorf("%+v", m)
		}
	}
	if slices.ContainsFunc(r.Findings, func(f inspect.Finding) bool { return f.Message == "" || strings.HasSuffix(f.Message, ".") }) {
		t.Errorf("findings = %+v", r.Findings)
	}
}
