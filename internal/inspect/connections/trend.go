package connections

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

// What a watch calls unusual.
const (
	churnPerSecond = 0.2 // connections opened per second over the whole watch
	churnLeast     = 5   // and at least this many
	leakLeast      = 5   // samples, and connections gained
	leakShare      = 0.1 // of the first sample gained
	stormShare     = 0.5 // of all connections closed and opened within one interval
	stormLeast     = 5
)

// trends reads the samples of a watch together: churn, leaks, reconnect storms.
func trends(samples []Sample) []inspect.Finding {
	out := []inspect.Finding{}
	good := slices.DeleteFunc(slices.Clone(samples), func(s Sample) bool { return s.Problem != "" })
	if f, ok := churn(good); ok {
		out = append(out, f)
	}
	out = append(out, storms(good)...)
	out = append(out, leaks(good)...)
	if n := len(samples) - len(good); n > 0 {
		out = append(out, inspect.Finding{
			Rule: "watch-gap", Severity: inspect.Warning, Subject: "server",
			Message: fmt.Sprintf("%d of %d samples failed, so short events may be missing", n, len(samples)),
		})
	}
	return out
}

func churn(samples []Sample) (inspect.Finding, bool) {
	opened, short := 0, 0
	var over time.Duration
	for _, s := range samples {
		opened += s.Opened + max(s.ShortLived, 0)
		short += max(s.ShortLived, 0)
		over += s.interval
	}
	if over <= 0 || opened < churnLeast || float64(opened)/over.Seconds() < churnPerSecond {
		return inspect.Finding{}, false
	}
	return inspect.Finding{
		Rule: "connection-churn", Severity: inspect.Warning, Subject: "server",
		Message: fmt.Sprintf("%.1f connections opened per second over %s, %d of %d gone before the next sample",
			float64(opened)/over.Seconds(), over.Round(time.Second), short, opened),
		Remedy: "keep one client per process instead of one per request; each new connection also costs its handshake commands",
	}, true
}

func storms(samples []Sample) []inspect.Finding {
	var out []inspect.Finding
	for i := 1; i < len(samples); i++ {
		s, before := samples[i], samples[i-1].Total
		back := s.Opened + max(s.ShortLived, 0)
		if s.Closed < stormLeast || float64(s.Closed) < stormShare*float64(before) || back < s.Closed/2 {
			continue
		}
		out = append(out, inspect.Finding{
			Rule: "reconnect-storm", Severity: inspect.Warning, Subject: "server",
			Message: fmt.Sprintf("%d of %d connections closed and %d opened within %s before %s",
				s.Closed, before, back, s.interval.Round(time.Second), s.At.Format(time.RFC3339)),
			Remedy: "a deploy explains one; several mean that connections are cut (idle timeout, proxy, network): use a jittered retryStrategy",
		})
	}
	return out
}

// leaks finds totals that only ever grow: the server's, then each process's.
func leaks(samples []Sample) []inspect.Finding {
	if len(samples) < leakLeast {
		return nil
	}
	var out []inspect.Finding
	ids := make(map[string]bool)
	for _, s := range samples {
		for id := range s.byProcess {
			ids[id] = true
		}
	}
	for _, id := range slices.Sorted(maps.Keys(ids)) {
		series := make([]int, 0, len(samples))
		for _, s := range samples {
			if n, ok := s.byProcess[id]; ok {
				series = append(series, n)
			}
		}
		if len(series) < len(samples) || !grows(series) {
			continue
		}
		first, last := series[0], series[len(series)-1]
		out = append(out, inspect.Finding{
			Rule: "connection-leak", Severity: inspect.Warning, Subject: id,
			Message: fmt.Sprintf("grew from %d to %d connections in %d samples and never shrank", first, last, len(series)),
			Remedy:  "look for a client created per request or per job and not closed",
		})
	}
	return out
}

// grows holds for a series that never falls, gains enough, and gains in each third: a single step, as
// of a deploy, is no leak.
func grows(series []int) bool {
	last := len(series) - 1
	for i := 1; i <= last; i++ {
		if series[i] < series[i-1] {
			return false
		}
	}
	gained := series[last] - series[0]
	return gained >= leakLeast && float64(gained) >= leakShare*float64(series[0]) &&
		series[last/3] > series[0] && series[2*last/3] > series[last/3] && series[last] > series[2*last/3]
}

func trendMeasures(samples []Sample, over time.Duration) []inspect.Measure {
	out := []inspect.Measure{}
	opened, peak := 0, 0
	var compared time.Duration
	for _, s := range samples {
		opened += s.Opened + max(s.ShortLived, 0)
		peak = max(peak, s.Total)
		compared += s.interval
	}
	ev := inspect.Evidence{Source: "CLIENT LIST", Window: over, Samples: len(samples)}
	out = append(out, inspect.Measure{Name: "connections.peak", Value: float64(peak), Unit: "connection", Evidence: ev})
	if compared > 0 {
		out = append(out, inspect.Measure{
			Name: "connections.opened_per_second", Value: float64(opened) / compared.Seconds(),
			Unit: "connection/second", Evidence: ev,
		})
	}
	return out
}
