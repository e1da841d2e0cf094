package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench"
)

// comparedPercentiles are those that two results are compared by.
func comparedPercentiles() []float64 { return []float64{0.5, 0.95, 0.99} }

func (a *app) benchCompareCommand() *cobra.Command {
	regress := percentage(0.10)
	var strict bool
	cmd := &cobra.Command{
		Use:   "compare OLD NEW",
		Short: "Compare two results; exit 3 where the new one is slower by more than chance",
		Long: `compare holds the percentiles of two result files of bench --out against each other. A change counts when
chance would show as much in fewer than one of 200 comparisons, bursts of slow answers taken into account, and
fails when it is then more than --max-regress. Runs at different times differ by what else went on: to compare
two targets, bench --against runs them in turns, which is the better way and takes targets instead of files.`,
		Example: `  redisopt bench compare old.json new.json
  redisopt bench compare main.json branch.json --max-regress 5% -o markdown`,
		Args: cobra.ExactArgs(2),
		RunE: a.action(func(_ context.Context, args []string) error {
			return a.benchCompare(args[0], args[1], float64(regress), strict)
		}),
	}
	cmd.Flags().Var(&regress, "max-regress", "how much slower a percentile may be")
	cmd.Flags().BoolVar(&strict, "strict", false, "exit 8 where something could not be compared")
	return cmd
}

// compareData is the contract of bench.compare/v1.
type compareData struct {
	Old        string            `json:"old"`
	New        string            `json:"new"`
	MaxRegress float64           `json:"max_regress"`
	Changes    []benchChange     `json:"changes"`
	Missing    []comparedMissing `json:"missing"`
}

// benchChange is one percentile of one scenario.
type benchChange struct {
	Operation   string  `json:"operation"`
	Percentile  float64 `json:"percentile"`
	OldMS       float64 `json:"old_ms"`
	NewMS       float64 `json:"new_ms"`
	Ratio       float64 `json:"ratio"`
	RatioLow    float64 `json:"ratio_low"`
	RatioHigh   float64 `json:"ratio_high"`
	Significant bool    `json:"significant"`
	Worse       bool    `json:"worse"`
}

// comparedMissing is what could not be compared, and why.
type comparedMissing struct {
	Operation string `json:"operation"`
	Why       string `json:"why"`
}

func changeOf(operation string, c bench.Change) benchChange {
	return benchChange{
		Operation: operation, Percentile: c.P * 100, OldMS: msOf(c.Old), NewMS: msOf(c.New),
		Ratio: c.Ratio, RatioLow: c.Low, RatioHigh: c.High, Significant: c.Significant, Worse: c.Worse,
	}
}

// noTarget refuses a target in place of a result file.
func noTarget(path string) error {
	scheme, _, isURL := strings.Cut(path, "://")
	_, err := os.Stat(path)
	word := path == "tcp" || path == "rest" || path == "http" || strings.HasPrefix(path, "env:")
	if !isURL && (!word || err == nil) {
		return nil
	}
	shown := path
	if isURL {
		shown = scheme + "://…" // the rest may hold a password
	}
	return withHint(usagef("bench compare reads two result files of bench --out, and %s is a target", shown),
		"redisopt bench --against tcp|rest|env:NAME|URL measures the configured target and another one in turns, and compares them")
}

func (a *app) benchCompare(oldPath, newPath string, maxRegress float64, strict bool) error {
	if err := errors.Join(noTarget(oldPath), noTarget(newPath)); err != nil {
		return err
	}
	old, errOld := bench.ReadFile(oldPath)
	now, errNew := bench.ReadFile(newPath)
	if err := errors.Join(errOld, errNew); err != nil {
		return resultFileError(err)
	}
	if len(old.Scenarios) == 0 || len(now.Scenarios) == 0 {
		return &usageError{errNothingMeasured}
	}
	data := compareData{Old: oldPath, New: newPath, MaxRegress: maxRegress, Changes: []benchChange{}, Missing: []comparedMissing{}}
	missing := func(operation, format string, args ...any) {
		data.Missing = append(data.Missing, comparedMissing{operation, fmt.Sprintf(format, args...)})
	}
	for _, was := range old.Scenarios {
		is := now.Find(was.Name)
		if is == nil {
			missing(was.Name, "it is not in %s", newPath)
			continue
		}
		if was.Result.Loop != is.Result.Loop || was.Result.RatePerSecond != is.Result.RatePerSecond {
			missing(was.Name, "the loads differ: %s, and %s", loadText(was.Result), loadText(is.Result))
			continue
		}
		changes, err := bench.Compare(&was.Result.Latency, &is.Result.Latency, comparedPercentiles(), maxRegress)
		for _, c := range changes {
			data.Changes = append(data.Changes, changeOf(was.Name, c))
		}
		if err != nil {
			missing(was.Name, "%s", firstLine(err))
		}
	}
	for _, is := range now.Scenarios {
		if old.Find(is.Name) == nil {
			missing(is.Name, "it is not in %s", oldPath)
		}
	}
	if old.Target != now.Target || old.Host != now.Host {
		missing("", "targets or machines differ: %s from %s, and %s from %s", old.Target, old.Host, now.Target, now.Host)
	}
	if err := a.print(compareDocument(data)); err != nil {
		return err
	}
	return verdictOnChanges(data.Changes, data.Missing, strict)
}

// resultFileError marks what is wrong with a result file as a mistake of usage, with what to do.
func resultFileError(err error) error {
	if other, ok := errors.AsType[*bench.SchemaError](err); ok && other.Got > other.Known {
		return withHint(&usageError{err}, "read it with that version, or measure again with this one")
	}
	return withHint(&usageError{err}, "redisopt bench --out FILE writes a result file")
}

func loadText(r *bench.Result) string {
	if r.Loop == bench.Closed {
		return fmt.Sprintf("a closed loop of %d", r.Callers)
	}
	return fmt.Sprintf("%g a second", r.RatePerSecond)
}

// verdictOnChanges is how a comparison ends the command.
func verdictOnChanges(changes []benchChange, missing []comparedMissing, strict bool) error {
	var worse []string
	for _, c := range changes {
		if c.Worse {
			worse = append(worse, fmt.Sprintf("%s p%g is %.2f times what it was (%s against %s ms)", c.Operation, c.Percentile, c.Ratio, shortMS(&c.NewMS), shortMS(&c.OldMS)))
		}
	}
	switch {
	case len(worse) > 0:
		return verdictf(exitViolated, "slower: %s", listed(worse))
	case len(changes) == 0:
		if strict {
			return verdictf(exitInconclusive, "inconclusive: nothing could be compared")
		}
	case strict && len(missing) > 0:
		return verdictf(exitInconclusive, "inconclusive: %s %s", missing[0].Operation, missing[0].Why)
	}
	return nil
}

func compareDocument(data compareData) report.Document {
	doc := report.Document{
		Kind: "bench.compare/v1", Data: data, Title: "benchmark, compared", Verdicts: true, Checks: changeChecks(data.Changes, data.MaxRegress),
		Sections: []report.Section{
			{Fields: []report.Field{{Name: "old", Value: data.Old}, {Name: "new", Value: data.New}}},
			{Title: "latency in ms", Table: changeTable(data.Changes, "old", "new")},
		},
		Notes: []string{"~: no more than chance explains"},
	}
	for _, m := range data.Missing {
		if m.Operation != "" {
			m.Why = m.Operation + ": " + m.Why
		}
		doc.Notes = append(doc.Notes, m.Why)
	}
	return doc
}

func changeTable(changes []benchChange, old, now string) *report.Table {
	table := &report.Table{Columns: []report.Column{
		{Name: "scenario"}, {Name: "percentile"}, {Name: old, Right: true}, {Name: now, Right: true}, {Name: "change", Right: true}, {Name: "95% interval", Right: true},
	}}
	for _, c := range changes {
		change := "~"
		if c.Significant {
			change = fmt.Sprintf("%+.1f%%", (c.Ratio-1)*100)
		}
		table.Rows = append(table.Rows, []string{
			c.Operation, fmt.Sprintf("p%g", c.Percentile), shortMS(&c.OldMS), shortMS(&c.NewMS), change,
			fmt.Sprintf("%+.1f%% to %+.1f%%", (c.RatioLow-1)*100, (c.RatioHigh-1)*100),
		})
	}
	return table
}

func changeChecks(changes []benchChange, maxRegress float64) []report.Check {
	out := make([]report.Check, 0, len(changes))
	for _, c := range changes {
		check := report.Check{Group: c.Operation, Name: fmt.Sprintf("p%g no more than %g%% slower", c.Percentile, maxRegress*100), Verdict: report.Pass, Rule: "bench-slower"}
		check.Message = fmt.Sprintf("%s ms, was %s ms", shortMS(&c.NewMS), shortMS(&c.OldMS))
		if c.Worse {
			check.Verdict = report.Fail
		}
		out = append(out, check)
	}
	return out
}

func (a *app) benchMergeCommand() *cobra.Command {
	var out string
	cmd := &cobra.Command{
		Use:   "merge FILE FILE...",
		Short: "Put results of several machines together into one",
		Long: `merge adds the histograms of result files of bench --out: what several machines measured at the same time is
one load at the sum of their rates; runs after one another are one longer run.`,
		Example: `  redisopt bench merge west.json east.json --out both.json
  redisopt bench merge monday.json tuesday.json -o json`,
		Args: cobra.MinimumNArgs(2),
		RunE: a.action(func(_ context.Context, args []string) error { return a.benchMerge(args, out) }),
	}
	cmd.Flags().StringVar(&out, "out", "", "write the sum, with full histograms, to this `file`")
	return cmd
}

func (a *app) benchMerge(paths []string, out string) error {
	if err := directoriesExist(out); err != nil {
		return &usageError{err}
	}
	var sum *bench.File
	for _, path := range paths {
		f, err := bench.ReadFile(path)
		switch {
		case err != nil:
			return resultFileError(err)
		case sum == nil:
			sum = f
		default:
			sum.Merge(f)
		}
	}
	return a.finishBench(sum, nil, out, "", false, nil)
}

// firstLine is the first line of a joined error.
func firstLine(err error) string {
	first, _, _ := strings.Cut(err.Error(), "\n")
	return first
}
