package migrate

import (
	"fmt"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// SampleEvidence is what samples of one Redis say of a KPI between two times. Commands are those of others: what the
// sampling process sent itself is taken off. It is pure.
func SampleEvidence(samples []history.Sample, kpi string, from, to time.Time) Evidence {
	e := Evidence{From: from, To: to, Source: "INFO of the whole Redis, every 1 to 5 minutes", Missing: []string{}}
	used := slices.DeleteFunc(slices.Clone(samples), func(x history.Sample) bool { return !tells(x, kpi) })
	e.Coverage = history.Coverage(used, from, to)
	switch kpi {
	case KPIConnectionErrors:
		for _, x := range used {
			e.Samples++
			if x.Span == 0 {
				e.Value++
			}
		}
		if e.Known = e.Samples > 0; e.Known {
			e.Source = "our own attempts, every 1 to 5 minutes; what applications met is in their logs"
		}
		e.Coverage = history.Coverage(attempts(used), from, to)
	case KPIConnections:
		for _, x := range used {
			e.Known, e.Samples, e.Value = true, e.Samples+1, max(e.Value, float64(x.Connections))
		}
	case KPIErrorReplies:
		for _, x := range used {
			e.Known, e.Samples, e.Value = true, e.Samples+1, e.Value+float64(x.Errors)
		}
	case KPICommandsPerDay:
		commands(&e, used, day)
	case KPICommandsPerMonth:
		commands(&e, used, 30*day)
	case KPIJobSuccess:
		e.Missing = []string{"what became of jobs was not looked at: a soak does (--soak)"}
	case KPILatencyIncrease:
		e.Missing = []string{"the application's latency is not known: a soak with --metrics and --metric p95_ms=SERIES judges it"}
	default:
		e.Missing = []string{"INFO does not tell " + kpi + ", and nothing else here measures it"}
	}
	switch {
	case e.Known || len(e.Missing) > 0:
	case len(samples) > 0 && samples[len(samples)-1].Span > 0:
		e.Missing = []string{"the Redis answers, and INFO does not tell " + kpi + ": allow INFO to this user, or for commands let the provider tell, with UPSTASH_EMAIL and UPSTASH_API_KEY"}
	default:
		e.Missing = []string{fmt.Sprintf("there is no sample between %s and %s: redisopt migrate run takes one every 1 to 5 minutes while a migration is open",
			from.UTC().Format(time.RFC3339), to.UTC().Format(time.RFC3339))}
	}
	return e
}

// tells is whether x says something of kpi.
func tells(x history.Sample, kpi string) bool {
	switch kpi {
	case KPIConnections:
		return x.Connections >= 0
	case KPICommandsPerDay, KPICommandsPerMonth:
		return x.Commands >= 0 && x.Span > 0
	case KPIErrorReplies:
		return x.Errors >= 0
	}
	return true
}

// commands is how many there are in per at the mean rate of samples, which all tell.
func commands(e *Evidence, samples []history.Sample, per time.Duration) {
	var all, own int64
	var span time.Duration
	for _, x := range samples {
		all, own, span = all+x.Commands-x.Own, own+x.Own, span+x.Span
		if x.Source&history.FromProvider != 0 {
			e.Source = "the provider's own count, every 1 to 5 minutes"
		}
	}
	if span == 0 {
		return
	}
	e.Known, e.Samples, e.Value = true, int64(len(samples)), float64(all)*float64(per)/float64(span)
	if own > 0 {
		e.Source += fmt.Sprintf(", less %d of our own", own)
	}
	if span < per {
		e.Source += fmt.Sprintf(", extrapolated from %d in %s", all, span.Round(time.Second))
	}
}

// attempts are samples as attempts to reach the Redis: one without an answer covers the time since the one
// before it too, as long as nobody could have looked more often.
func attempts(samples []history.Sample) []history.Sample {
	out := make([]history.Sample, len(samples))
	for i, x := range samples {
		if out[i] = x; x.Span == 0 {
			out[i].Span = sampleOften
			if i > 0 && x.Time.After(samples[i-1].Time) {
				out[i].Span = min(x.Time.Sub(samples[i-1].Time), sampleSeldom)
			}
		}
	}
	return out
}
