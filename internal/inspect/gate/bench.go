package gate

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// BenchKind names the form of what a benchmark writes.
const BenchKind = "bench/v1"

// Bench is the latencies that benchmarks measured.
type Bench struct {
	Results []Latency
	Missing []string
}

// A Latency is the distribution of one operation's latency.
type Latency struct {
	Operation string
	Samples   int64
	P95, P99  Percentile

	// Doubt says why the percentiles can only be too low, such as operations that failed: then nothing
	// passes. Empty when there is no doubt.
	Doubt string
}

// A Percentile is where it lies for certain, from Low to High. The zero value was not measured.
type Percentile struct{ Low, High time.Duration }

// ReadBench reads the document of a benchmark, of at most 32 MiB. Of it only the results are read, each
// with its operation, its samples, and p95_us and p99_us in microseconds.
func ReadBench(r io.Reader) (*Bench, error) {
	var data struct {
		Results []struct {
			Operation string  `json:"operation"`
			Samples   int64   `json:"samples"`
			P95       float64 `json:"p95_us"`
			P99       float64 `json:"p99_us"`
		} `json:"results"`
	}
	if err := readKind(r, BenchKind, &data); err != nil {
		return nil, err
	}
	if len(data.Results) == 0 {
		return nil, errors.New("has no results")
	}
	b := &Bench{}
	for i, x := range data.Results {
		switch {
		case x.Operation == "":
			return nil, fmt.Errorf("result %d has no operation", i)
		case x.Samples < 0 || !duration(x.P95) || !duration(x.P99):
			return nil, fmt.Errorf("operation %q: a number is negative or out of range", x.Operation)
		}
		us := func(n float64) Percentile {
			d := time.Duration(n * float64(time.Microsecond))
			return Percentile{d, d}
		}
		b.Results = append(b.Results, Latency{x.Operation, x.Samples, us(x.P95), us(x.P99), ""})
	}
	return b, nil
}

// duration reports whether n microseconds are a time somebody could have measured.
func duration(n float64) bool { return n >= 0 && n < 1e12 && !math.IsNaN(n) }

// latency judges the percentiles of every operation with a budget. The default budgets ask for no
// benchmark: without one only what somebody wrote down is inconclusive.
func (j *judge) latency() {
	usual := budget.Default().Latency
	for _, op := range slices.Sorted(maps.Keys(j.opts.Budgets.Latency)) {
		limit := j.opts.Budgets.Latency[op]
		results := j.benched(op)
		if len(results) == 0 && limit == usual[op] {
			continue
		}
		for _, p := range []struct {
			name    string
			allowed time.Duration
			of      func(Latency) Percentile
		}{
			{"p95", limit.P95, func(l Latency) Percentile { return l.P95 }},
			{"p99", limit.P99, func(l Latency) Percentile { return l.P99 }},
		} {
			if p.allowed > 0 {
				j.percentile("latency."+op+"."+p.name, p.allowed, limit.MinSamples, results, p.of)
			}
		}
	}
}

// percentile judges the worst result that has enough samples.
func (j *judge) percentile(name string, allowed time.Duration, samples int, results []Latency, of func(Latency) Percentile) {
	n := Judgement{Budget: name, Evidence: budget.Bench, Verdict: Inconclusive, Unit: "ms", Allowed: ms(allowed)}
	why := j.ev.howTo(budget.Bench)
	if j.ev.Bench != nil {
		why = "the benchmark did not measure it"
	}
	var most Percentile
	var count int64
	var doubt string
	for _, l := range results {
		if l.Doubt != "" {
			why, doubt = l.Doubt, l.Doubt
		}
		switch {
		case of(l) == Percentile{}:
		case l.Samples < int64(samples):
			why = fmt.Sprintf("%d samples, and a verdict needs %d", l.Samples, samples)
		case of(l).High >= most.High:
			most, count = of(l), l.Samples
		}
	}
	if count == 0 {
		n.Message, n.Missing = why, []string{why}
		j.add(n)
		return
	}
	used := Span{Min: ms(most.Low), Max: ms(most.High)}
	n.Measured, n.Verdict = &used, within(used, ms(allowed))
	n.Message = fmt.Sprintf("%s in %d samples, %s allowed", most, count, allowed)
	n.Remedy = "redisopt bench --html page.html draws when it is slow, and where the time goes"
	if doubt != "" && n.Verdict != Fail {
		n.Verdict, n.Missing = Inconclusive, []string{doubt}
		n.Message += "; but " + doubt
	}
	j.add(n)
}

// String is the percentile, or the interval in which it lies.
func (p Percentile) String() string {
	if p.Low == p.High {
		return p.High.String()
	}
	return fmt.Sprintf("%s to %s", p.Low, p.High)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

func (j *judge) benched(op string) []Latency {
	if j.ev.Bench == nil {
		return nil
	}
	var out []Latency
	for _, l := range j.ev.Bench.Results {
		if l.Operation == op {
			out = append(out, l)
		}
	}
	return out
}
