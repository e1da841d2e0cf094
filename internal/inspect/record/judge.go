package record

import (
	"fmt"

	"github.com/redisopt/redisopt/internal/inspect"
)

// judge adds what is missing, measures and findings.
func (r *Report) judge(inexact bool) {
	if inexact {
		r.Missing = append(r.Missing, "commands in scripts: a script waited longer than 3s for another one and was not charged what it ran")
	}
	if r.Redis.InScript == "unknown" && len(r.Scripts) > 0 {
		r.Missing = append(r.Missing, "commands in scripts: the Redis behind the recorder does not tell them by script")
	}
	evidence := inspect.Evidence{Source: "recorded run", Window: r.Duration, Samples: int(min(r.Total.Sent, 1<<31-1)), Missing: r.Missing}
	add := func(name, unit string, value float64, labels map[string]string) {
		r.Measures = append(r.Measures, inspect.Measure{Name: name, Value: value, Unit: unit, Labels: labels, Evidence: evidence})
	}
	r.Measures = []inspect.Measure{}
	r.Findings = []inspect.Finding{}
	add("record.commands.sent", "command", float64(r.Total.Sent), nil)
	add("record.commands.in_script", "command", float64(r.Total.InScript), nil)
	add("record.commands.billed", "command", float64(r.Total.Billed), nil)
	add("record.commands.billed_work", "command", float64(r.Total.BilledWork), nil)
	add("record.connections.peak", "connection", float64(r.Connections.Peak), nil)
	if r.Connections.PeakPerProcess > 0 {
		add("record.connections.peak_per_process", "connection", float64(r.Connections.PeakPerProcess), nil)
	}
	for _, s := range r.Sources {
		add("record.source.billed_work", "command", float64(s.BilledWork), map[string]string{"source": s.Name})
	}
	for _, t := range r.Tests {
		if t.Runs > 0 {
			add("record.test.billed_work_per_run", "command", float64(t.MaxPerRun), map[string]string{"test": t.Name})
		}
	}
	if r.Connections.Opened == 0 && r.Connections.HTTPRequests == 0 && r.Connections.Refused == 0 {
		r.Findings = append(r.Findings, inspect.Finding{
			Rule: "never-connected", Severity: inspect.Warning, Subject: "the recorded command",
			Message: "nothing connected to the recorder, so nothing was counted",
			Remedy:  "read the address from REDIS_URL, REDIS_HOST and REDIS_PORT, or UPSTASH_REDIS_REST_URL; --env NAME also sets a variable of another name",
		})
	}
	if n := r.Connections.Left; n > 0 {
		r.Findings = append(r.Findings, inspect.Finding{
			Rule: "connections-left", Severity: inspect.Note, Subject: "the recorded command",
			Message: fmt.Sprintf("%d connections were still open when the recording ended, of processes that the command left behind", n),
			Remedy:  "stop what the command starts before it ends, or record longer with --linger",
		})
	}
}
