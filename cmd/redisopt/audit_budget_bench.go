package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/inspect/gate"
)

// readBench reads what redisopt bench --out wrote, or the small document bench/v1 of another benchmark.
// Without a result it says why the file is no evidence.
func readBench(path string) (b *gate.Bench, why string, err error) {
	if info, err := os.Stat(path); err == nil && info.Size() > maxDocumentBytes {
		return nil, "", fmt.Errorf("is longer than %d bytes", maxDocumentBytes)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, "", withoutPath(err)
	}
	var head struct {
		Kind string `json:"kind"`
	}
	if json.Unmarshal(text, &head) != nil || head.Kind == gate.BenchKind {
		b, err = gate.ReadBench(bytes.NewReader(text))
		return b, "", err
	}
	file, err := bench.ParseFile(text)
	if err != nil {
		return nil, "", err
	}
	if !file.Evidence {
		return nil, "it measured " + file.Target, nil
	}
	return benchOf(file), "", nil
}

// benchOf is what a benchmark measured in the words of the gate: every scenario by its name, and by the
// operation whose budget it is about. One whose answers were wrong has no latency, and lets nothing pass.
func benchOf(file *bench.File) *gate.Bench {
	b := &gate.Bench{}
	for _, m := range file.Scenarios {
		l := gate.Latency{Doubt: doubtOf(m)}
		if m.Broken == "" {
			l.Samples, l.P95, l.P99 = m.Result.Latency.All.Count(), percentileOf(m.Result, 0.95), percentileOf(m.Result, 0.99)
		}
		for _, name := range operationsOf(m.Name) {
			l.Operation = name
			b.Results = append(b.Results, l)
		}
	}
	return b
}

// doubtOf is why the percentiles of a scenario say too little: those that failed, or were never started,
// are not in them.
func doubtOf(m bench.Measured) string {
	const share = 0.05 // what p95 leaves out
	switch r := m.Result; {
	case m.Broken != "":
		return m.Name + " did not do what it should: " + m.Broken
	case r.Loop == bench.Closed:
		return m.Name + ": a closed loop, which leaves out what a slow target kept from starting"
	case r.ErrorShare() > share:
		return fmt.Sprintf("%s: %d of %d operations failed, first: %s", m.Name, r.Failed(), r.Started, r.FirstError)
	case r.Loop == bench.Open && r.Stopped == "" && r.Started < r.Planned:
		return fmt.Sprintf("%s: the rate could not be kept, %d of %d operations were started", m.Name, r.Started, r.Planned)
	}
	return ""
}

// operationsOf are the names under which a scenario may have a budget. Waiting for a job to be done is
// not adding one.
func operationsOf(scenario string) []string {
	group, _, _ := strings.Cut(scenario, "-")
	switch {
	case scenario == "queue-add", group == "cache", group == "limit":
		return []string{scenario, group}
	}
	return []string{scenario}
}

// percentileOf is a percentile with its interval; zero where there are too few samples for one.
func percentileOf(r *bench.Result, p float64) gate.Percentile {
	q, err := r.Latency.Quantile(p)
	if err != nil {
		return gate.Percentile{}
	}
	return gate.Percentile{Low: q.Low, High: q.High}
}
