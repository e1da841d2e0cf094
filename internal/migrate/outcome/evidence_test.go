package outcome

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

// at is n minutes after the beginning of the window.
func at(n int) time.Time {
	return time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC).Add(time.Duration(n) * time.Minute)
}

func counted2(n int, done, failed float64) Reading {
	return Reading{At: at(n), Source: "queues", Counts: map[string]float64{Done: done, Failed: failed}, Levels: map[string]float64{Waiting: float64(n)}, How: "its events"}
}

func TestTheShareOfJobsThatEndedWellIsThatBetweenReadings(t *testing.T) {
	all := []Reading{counted2(0, 100, 7), counted2(5, 150, 7), counted2(10, 195, 12)}
	e := Evidence(all, migrate.KPIJobSuccess, at(0), at(10))
	if !e.Known || e.Value != 95 || e.Samples != 100 || e.Coverage != 1 || e.Source != "its events" {
		t.Errorf("Evidence = %+v, want 95%% of 100 jobs, all covered", e)
	}
	growth := Evidence(all, migrate.KPIBacklogGrowth, at(0), at(10))
	if !growth.Known || growth.Value != 10 || growth.Samples != 3 {
		t.Errorf("growth = %+v, want 10 jobs of 3 readings", growth)
	}
}

func TestWhatWasNotSeenIsNotCovered(t *testing.T) {
	gap := counted2(20, 195, 12)
	gap.Gap = "events were trimmed"
	e := Evidence([]Reading{counted2(0, 0, 0), counted2(10, 20, 0), gap}, migrate.KPIJobSuccess, at(0), at(40))
	if !e.Known || e.Samples != 20 || e.Coverage > 0.5 || len(e.Missing) != 1 || e.Missing[0] != "events were trimmed" {
		t.Errorf("Evidence = %+v, want 20 jobs, at most half covered, and the gap's reason", e)
	}
	for name, tt := range map[string]struct {
		all  []Reading
		want string
	}{
		"no reading":    {nil, "takes them while a migration soaks"},
		"one reading":   {[]Reading{counted2(1, 1, 0)}, "needs two"},
		"no job":        {[]Reading{counted2(1, 5, 1), counted2(2, 5, 1)}, "no job ended"},
		"only a gap":    {[]Reading{counted2(1, 5, 1), gap}, "events were trimmed"},
		"another one's": {[]Reading{{At: at(1), Source: "x"}}, "no reading"},
	} {
		e := Evidence(tt.all, migrate.KPIJobSuccess, at(0), at(40))
		if e.Known || len(e.Missing) != 1 || !strings.Contains(e.Missing[0], tt.want) {
			t.Errorf("%s: got %+v, want it unknown because %q", name, e, tt.want)
		}
	}
}

func TestTheApplicationGoesBeforeTheQueues(t *testing.T) {
	page := func(n int, done, failed float64) Reading {
		r := counted2(n, done, failed)
		r.Source, r.How = metricsName, "the metrics page of the application"
		return r
	}
	e := Evidence([]Reading{counted2(0, 0, 0), page(0, 0, 0), counted2(5, 100, 0), page(5, 90, 10)}, migrate.KPIJobSuccess, at(0), at(5))
	if e.Value != 90 || e.Source != "the metrics page of the application" {
		t.Errorf("Evidence = %+v, want the 90%% of the metrics page", e)
	}
}

func TestADiaryThatWasCutGoesOn(t *testing.T) {
	d := diary{filepath.Join(t.TempDir(), "deep", "readings")}
	if err := d.append(counted2(0, 1, 0)); err != nil {
		t.Fatal(err)
	}
	if err := d.append(counted2(1, 2, 0)); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(d.path)
	if err != nil {
		t.Fatal(err)
	}
	first := strings.IndexByte(string(whole), '\n') + 1
	for cutAt := first; cutAt < len(whole); cutAt++ {
		if err := os.WriteFile(d.path, whole[:cutAt], 0o600); err != nil {
			t.Fatal(err)
		}
		if err := d.append(counted2(2, 3, 0)); err != nil {
			t.Fatal(err)
		}
		got, err := d.read(at(-1), at(9))
		if err != nil || len(got) < 2 || got[0].Counts[Done] != 1 || got[len(got)-1].Counts[Done] != 3 {
			t.Fatalf("cut at %d: %v, %v, want the first and the new reading", cutAt, got, err)
		}
	}
}

func TestAMetricsPageIsReadWithLabelsAndOddLines(t *testing.T) {
	page := parsePage(`# HELP jobs_total x
jobs_total{queue="mail",state="done"} 12 1700000000000
jobs_total{queue="a \"b\" {c}",state="done"} 3
jobs_total{queue="mail",state="failed"} 1
broken{ 7
nan_value NaN
no value here
latency_ms{quantile="0.5"} 4
latency_ms{quantile="0.95"} 31.5
took_seconds_bucket{le="0.1"} 90
took_seconds_bucket{le="0.5"} 100
took_seconds_bucket{le="+Inf"} 100
`)
	sum := func(text string) float64 {
		sel, err := parseSelector(text)
		if err != nil {
			t.Fatal(err)
		}
		v, _ := sel.sum(page)
		return v
	}
	if got := sum(`jobs_total{state="done"}`); got != 15 {
		t.Errorf("sum of done = %g, want 15", got)
	}
	if got := sum(`jobs_total{queue="a \"b\" {c}"}`); got != 3 {
		t.Errorf("sum of a quoted label = %g, want 3", got)
	}
	var r Reading
	p95 := func(name string, page []sample) float64 {
		r = r.next(metricsName, at(0))
		sel, err := parseSelector(name)
		if err == nil {
			err = r.latency(sel, page)
		}
		if err != nil {
			t.Errorf("latency of %s: %v", name, err)
		}
		return r.Levels[P95]
	}
	if v := p95("latency_ms", page); v != 31.5 {
		t.Errorf("p95 of a summary = %g, want 31.5", v)
	}
	if v := p95("took_seconds", page); math.Abs(v-300) > 1e-9 || !r.Life {
		t.Errorf("p95 of a histogram in seconds = %g ms, of its whole life %v, want 300, true", v, r.Life)
	}
	later := parsePage("took_seconds_bucket{le=\"0.1\"} 200\ntook_seconds_bucket{le=\"0.5\"} 210\ntook_seconds_bucket{le=\"+Inf\"} 210\n")
	if v := p95("took_seconds", later); v > 100 || r.Life { // all that came since were fast
		t.Errorf("p95 since the look before = %g ms, of its whole life %v, want at most 100", v, r.Life)
	}
	if v := p95("took_seconds", page); math.Abs(v-300) > 1e-9 || r.Life {
		t.Errorf("p95 of an application that began anew = %g ms, of its whole life %v, want 300 since it did", v, r.Life)
	}
	var wide []sample
	for i := range maxBounds + 1 {
		wide = append(wide, sample{"took_seconds_bucket", map[string]string{"le": strconv.Itoa(i)}, 1})
	}
	if err := r.latency(selector{name: "took_seconds", text: "took_seconds"}, wide); err == nil || !strings.Contains(err.Error(), "took_seconds has 1001 buckets") {
		t.Errorf("latency of 1001 buckets: %v, want it refused: they would be kept with every reading", err)
	}
	for _, bad := range []string{"", "{", `x{a="b}`, `x{a=b}`, `x y`} {
		if _, err := parseSelector(bad); err == nil {
			t.Errorf("parseSelector(%q) = nil, want an error", bad)
		}
	}
}
