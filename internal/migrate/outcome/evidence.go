package outcome

import (
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/migrate"
)

// KPIs are what readings tell something about.
func KPIs() []string {
	return []string{
		migrate.KPIJobSuccess, migrate.KPIBacklog, migrate.KPIBacklogGrowth, migrate.KPILatencyP95, migrate.KPIConnectionErrors,
	}
}

// names are the counts or levels that a KPI needs.
func names(kpi string) []string {
	switch kpi {
	case migrate.KPIJobSuccess:
		return []string{Done, Failed}
	case migrate.KPIBacklog, migrate.KPIBacklogGrowth:
		return []string{Waiting}
	case migrate.KPILatencyP95:
		return []string{P95}
	case migrate.KPIConnectionErrors:
		return []string{Errors}
	}
	return nil
}

// value is a count or level of r.
func (r Reading) value(name string) (float64, bool) {
	if v, ok := r.Counts[name]; ok {
		return v, true
	}
	v, ok := r.Levels[name]
	return v, ok
}

// tells is true when r has all that kpi needs.
func (r Reading) tells(kpi string) bool {
	return !slices.ContainsFunc(names(kpi), func(name string) bool {
		_, ok := r.value(name)
		return !ok
	})
}

// Evidence is what readings say of a KPI between two times. Where several sources tell it, the metrics page of the
// application goes before the queues' own counters: it is closer to the users. It is pure.
func Evidence(all []Reading, kpi string, from, to time.Time) migrate.Evidence {
	e := migrate.Evidence{From: from, To: to, Missing: []string{}}
	var source string
	for _, r := range all {
		if r.tells(kpi) && (source == "" || r.Source == metricsName) {
			source = r.Source
		}
	}
	all = slices.DeleteFunc(slices.Clone(all), func(r Reading) bool { return r.Source != source || source == "" })
	if len(all) == 0 {
		e.Missing = []string{missing(kpi)}
		return e
	}
	last := all[len(all)-1]
	e.Source = last.Source
	if last.How != "" {
		e.Source = last.How
	}
	switch kpi {
	case migrate.KPIJobSuccess, migrate.KPIConnectionErrors:
		counted(&e, all, kpi)
	default:
		levels(&e, all, kpi)
	}
	return e
}

// missing says what would measure a KPI.
func missing(kpi string) string {
	switch kpi {
	case migrate.KPIJobSuccess:
		return "there is no reading of what became of jobs in this time: redisopt migrate run takes them while a migration soaks"
	case migrate.KPILatencyP95:
		return "the latency that users see is not known here: name the application's metrics page with --metrics URL --metric p95_ms=SERIES"
	case migrate.KPIConnectionErrors:
		return "no metrics page tells connection errors: --metrics URL --metric errors=SERIES"
	}
	return "there is no reading of how many jobs wait in this time: redisopt migrate run takes them while a migration soaks"
}

// counted sums what was counted between readings.
func counted(e *migrate.Evidence, all []Reading, kpi string) {
	var done, failed, wrong float64
	var covered time.Duration
	gap := ""
	for i := 1; i < len(all); i++ {
		a, b := all[i-1], all[i]
		if b.Gap != "" || a.Gap != "" && !a.tells(kpi) {
			gap = b.Gap
			continue
		}
		span := within(a.At, b.At, e.From, e.To)
		if span <= 0 {
			continue
		}
		covered += span
		done += max(0, b.Counts[Done]-a.Counts[Done])
		failed += max(0, b.Counts[Failed]-a.Counts[Failed])
		wrong += max(0, b.Counts[Errors]-a.Counts[Errors])
		e.Samples++
	}
	e.Coverage = share(covered, e.To.Sub(e.From), slack(all))
	switch {
	case covered == 0 && gap != "":
		e.Missing = []string{gap}
	case covered == 0:
		e.Missing = []string{"there is one reading yet, and a share of jobs needs two"}
	case kpi == migrate.KPIConnectionErrors:
		e.Known, e.Value = true, wrong
	case done+failed == 0:
		e.Samples, e.Missing = 0, []string{"no job ended in this time"}
	default:
		e.Known, e.Value, e.Samples = true, 100*done/(done+failed), int64(done+failed)
	}
	if e.Known && gap != "" {
		e.Missing = append(e.Missing, gap)
	}
}

// levels takes what was so at each reading.
func levels(e *migrate.Evidence, all []Reading, kpi string) {
	var first, last, sum float64
	var covered time.Duration
	for i, r := range all {
		v, ok := r.value(names(kpi)[0])
		if !ok || r.Life && kpi == migrate.KPILatencyP95 {
			continue
		}
		if e.Samples == 0 {
			first = v
		}
		last, sum = v, sum+v
		e.Samples++
		if i > 0 {
			covered += max(0, within(all[i-1].At, r.At, e.From, e.To))
		}
	}
	e.Coverage = share(covered, e.To.Sub(e.From), slack(all))
	if e.Samples == 0 {
		e.Missing = []string{missing(kpi)}
		if all[len(all)-1].Life {
			e.Missing = []string{"the metrics page was read once yet, and of a histogram a time needs two readings"}
		}
		return
	}
	e.Known = true
	switch kpi {
	case migrate.KPIBacklogGrowth:
		e.Value = last - first
	case migrate.KPIBacklog:
		e.Value = last
	default:
		e.Value = sum / float64(e.Samples)
	}
	if kpi == migrate.KPIBacklogGrowth && e.Samples < 2 {
		e.Known, e.Missing = false, []string{"there is one reading yet, and growth needs two"}
	}
}

// within is how much of a to b lies in from to to.
func within(a, b, from, to time.Time) time.Duration {
	if a.Before(from) {
		a = from
	}
	if b.After(to) {
		b = to
	}
	return b.Sub(a)
}

// slack is the time between two readings: what came after the last one is no gap yet.
func slack(all []Reading) time.Duration {
	if len(all) < 2 {
		return 0
	}
	return all[len(all)-1].At.Sub(all[len(all)-2].At)
}

// share is the covered part of a window, from 0 to 1. The end of it may lack the length of one pause.
func share(covered, window, pause time.Duration) float64 {
	if window <= 0 || covered <= 0 {
		return 0
	}
	if covered < window && covered+pause >= window {
		return 1
	}
	return min(1, float64(covered)/float64(window))
}
