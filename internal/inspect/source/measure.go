package source

import "github.com/redisopt/redisopt/internal/inspect"

// measures are the numbers for a gate. One that is a range has its bounds under names of their own,
// and an upper bound only where there is one.
func (r *Report) measures() []inspect.Measure {
	out := []inspect.Measure{}
	ev := inspect.Evidence{Source: "static scan", Samples: r.Files.Scripts + r.Files.Go, Missing: r.Missing}
	put := func(name string, v Range, unit string, labels map[string]string) {
		one := func(suffix string, n float64) {
			out = append(out, inspect.Measure{Name: name + suffix, Value: n, Unit: unit, Labels: labels, Evidence: ev})
		}
		if v.Exact() {
			one("", v.Min)
			return
		}
		one("_min", v.Min)
		if !v.Open {
			one("_max", v.Max)
		}
	}
	put("connections.total", r.Connections, "connection", nil)
	put("connections.rolling_deploy", r.RollingDeploy, "connection", nil)
	put("commands.idle_top_level_per_month", r.Idle.Top, "command/month", nil)
	put("commands.idle_per_month", r.Idle.All, "command/month", nil)
	put("commands.idle_cost_per_month", Range{usd(r.Idle.All.Min), usd(r.Idle.All.Max), r.Idle.All.Open}, "usd/month", map[string]string{"provider": "upstash-payg"})
	for _, p := range r.Processes {
		labels := map[string]string{"process": p.Name}
		put("connections.per_process", p.Connections, "connection", labels)
		put("commands.idle_per_process_per_month", p.Idle.All, "command/month", labels)
		for _, q := range p.Queues {
			labels := map[string]string{"process": p.Name, "queue": q.Queue, "library": string(q.Library)}
			put("connections.by_queue", q.Connections, "connection", labels)
			put("commands.idle_by_queue_per_month", q.Idle.All, "command/month", labels)
		}
	}
	return out
}
