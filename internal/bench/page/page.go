// Package page draws a benchmark's result as one page that needs nothing else: no script, no network, no
// other file. Every scenario has its latency over time, the curve of its percentiles, and a heat map.
package page

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"os"
	"path/filepath"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
)

//go:embed page.html
var source string

// view is what the template is given.
type view struct {
	File     *bench.File
	Verdicts []verdict
	Charts   []chart
}

// verdict is one assertion and what came of it.
type verdict struct{ Scenario, Text, Outcome, Why string }

// chart is one scenario.
type chart struct {
	Name, Load, Problem string
	Rows                []row
	Time, Curve, Heat   template.HTML
}

// row is one line of the table of a scenario.
type row struct{ Name, Value string }

// Render is the page as text.
func Render(file *bench.File, verdicts []bench.Verdict) ([]byte, error) {
	t, err := template.New("page").Parse(source)
	if err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	v := view{File: file}
	for _, one := range verdicts {
		why := one.Why
		if why == "" && one.Value != nil {
			why = one.Assertion.Show(*one.Value)
		}
		v.Verdicts = append(v.Verdicts, verdict{one.Scenario, one.Text, string(one.Outcome), why})
	}
	for _, m := range file.Scenarios {
		v.Charts = append(v.Charts, chartOf(m))
	}
	var out bytes.Buffer
	if err := t.Execute(&out, v); err != nil {
		return nil, fmt.Errorf("page: %w", err)
	}
	return out.Bytes(), nil
}

// WriteFile writes the page to path: whole, or not at all.
func WriteFile(path string, file *bench.File, verdicts []bench.Verdict) error {
	text, err := Render(file, verdicts)
	if err != nil {
		return err
	}
	out, err := os.CreateTemp(filepath.Dir(path), ".redisopt-page-*")
	if err != nil {
		return fmt.Errorf("page: %w", err)
	}
	_, err = out.Write(text)
	if err := errors.Join(err, out.Close()); err != nil {
		return errors.Join(fmt.Errorf("page: %w", err), os.Remove(out.Name()))
	}
	if err := os.Rename(out.Name(), path); err != nil {
		return errors.Join(fmt.Errorf("page: %w", err), os.Remove(out.Name()))
	}
	return nil
}

func chartOf(m bench.Measured) chart {
	r := m.Result
	c := chart{Name: m.Name, Problem: m.Broken}
	switch {
	case r.Loop == bench.Closed:
		c.Load = fmt.Sprintf("closed loop of %d callers: what a slow target kept from starting is not in it", r.Callers)
	case r.RampToPerSecond != r.RatePerSecond:
		c.Load = fmt.Sprintf("%.4g to %.4g a second for %s", r.RatePerSecond, r.RampToPerSecond, r.Took.Round(100*time.Millisecond))
	default:
		c.Load = fmt.Sprintf("%.4g a second for %s, %.4g achieved", r.RatePerSecond, r.Took.Round(100*time.Millisecond), r.AchievedPerSecond())
	}
	c.Rows = append(c.Rows, row{"operations", fmt.Sprintf("%d ended well, %d failed, %d refused for coming too often", r.Done, r.Failed(), r.Limited)})
	for _, p := range []float64{0.5, 0.9, 0.95, 0.99, 0.999} {
		name := fmt.Sprintf("p%g", p*100)
		q, err := r.Latency.Quantile(p)
		if err != nil {
			c.Rows = append(c.Rows, row{name, err.Error()})
			continue
		}
		c.Rows = append(c.Rows, row{name, fmt.Sprintf("%s (95%% interval %s to %s)", short(q.Value), short(q.Low), short(q.High))})
	}
	c.Rows = append(c.Rows, row{"longest", short(r.Latency.All.Max())})
	if each := m.CommandsPerOperation(); each >= 0 {
		c.Rows = append(c.Rows, row{"commands an operation", fmt.Sprintf("%.2f", each)})
	}
	c.Rows = append(c.Rows, parts(r)...)
	if r.FirstError != "" {
		c.Rows = append(c.Rows, row{"first error", r.FirstError})
	}
	if r.Stopped != "" {
		c.Rows = append(c.Rows, row{"ended early", r.Stopped})
	}
	c.Time, c.Curve, c.Heat = overTime(&r.Latency), percentiles(&r.Latency.All), heat(&r.Latency)
	return c
}

// parts are where the time went. Of what was seen too rarely for a percentile the longest is shown.
func parts(r *bench.Result) []row {
	var out []row
	for _, part := range []struct {
		name string
		h    *bench.Histogram
		p    float64
	}{
		{"queued here", &r.Queueing, 0.95},
		{"connecting, each new connection", &r.Connect, 0.95},
		{"TLS, each new connection", &r.TLS, 0.95},
		{"until the server's answer", &r.Server, 0.95},
		{"from the actual start", &r.Service, 0.95},
		{"we were late ourselves", &r.Lateness, 0.99},
	} {
		q, err := (&bench.Latency{All: *part.h}).Quantile(part.p)
		switch {
		case err == nil:
			out = append(out, row{fmt.Sprintf("%s, p%g", part.name, part.p*100), short(q.Value)})
		case part.h.Count() > 0:
			out = append(out, row{part.name + ", longest", short(part.h.Max())})
		}
	}
	return out
}

// short is d with three figures.
func short(d time.Duration) string {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit {
			return d.Round(max(unit/100, 1)).String()
		}
	}
	return d.String()
}
