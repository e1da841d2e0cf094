package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/limit/simulate"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
)

// simulateFlags are what a simulation is told.
type simulateFlags struct {
	rule      string
	limit     int64
	period    time.Duration
	algorithm string
	burst     int64

	trace string
	rate  string
	shape string
	long  time.Duration
	keys  int
	seed  uint64

	replicas         int
	tripMin, tripMax time.Duration
}

func (a *app) limitSimulateCommand() *cobra.Command {
	var f simulateFlags
	cmd := &cobra.Command{
		Use:   "simulate",
		Short: "Replay a trace against every algorithm: admitted, over-admitted, denied, commands",
		Long: `Replays requests against every algorithm, with and without leases, and against the four separate
commands that many applications use (ZADD, ZCARD, ZREMRANGEBYSCORE, EXPIRE): as they are (legacy), three of
them at once (legacy-parallel), and with the time as the only member (legacy-collide). Needs no Redis.

A trace is CSV (time,key[,cost]) or a JSON object a line; a time is seconds or RFC 3339. "Worst" is the most
that one key was admitted in any window; "over" is how far that is over the limit; "under" is how many fewer
than an exact sliding log were admitted.`,
		Example: `  redisopt limit simulate --limit 10 --rate 12/1m --for 1h
  redisopt limit simulate --rule api --trace access.csv -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(context.Context, []string) error { return a.limitSimulate(f) }),
	}
	flags := cmd.Flags()
	flags.StringVar(&f.rule, "rule", "", "take limit, period and algorithm from this `rule` of the configuration")
	flags.Int64Var(&f.limit, "limit", 0, "requests a period (default: the rule's, or 60)")
	flags.DurationVar(&f.period, "period", 0, "length of the window (default: the rule's, or 1m)")
	flags.StringVar(&f.algorithm, "algorithm", "", "the `name` of the algorithm to show first (default: the rule's)")
	flags.Int64Var(&f.burst, "burst", 0, "size of a full token bucket (default: the limit)")
	flags.StringVar(&f.trace, "trace", "", "read the requests from `file`, - for standard input")
	flags.StringVar(&f.rate, "rate", "60/1m", "make requests up: `n/duration`")
	flags.StringVar(&f.shape, "shape", "rate", "how they are spread: rate, poisson or burst")
	flags.DurationVar(&f.long, "for", time.Hour, "how long the made up trace is")
	flags.IntVar(&f.keys, "keys", 1, "how many subjects share the made up requests")
	flags.Uint64Var(&f.seed, "seed", 0, "another seed makes another random trace")
	flags.IntVar(&f.replicas, "replicas", 2, "how many processes share the requests and hold leases")
	flags.DurationVar(&f.tripMin, "trip-min", 0, "shortest round trip of one of the four commands")
	flags.DurationVar(&f.tripMax, "trip-max", 0, "longest round trip of one of the four commands")
	cmd.MarkFlagsMutuallyExclusive("trace", "rate")
	cmd.MarkFlagsMutuallyExclusive("trace", "shape")
	return cmd
}

func (a *app) limitSimulate(f simulateFlags) error {
	rule, err := a.simulatedRule(f)
	if err != nil {
		return err
	}
	events, err := a.simulatedEvents(f)
	if err != nil {
		return &usageError{err}
	}
	result, err := simulate.Run(events, simulate.Options{
		Rule: rule, Replicas: f.replicas, TripMin: f.tripMin, TripMax: max(f.tripMin, f.tripMax), Seed: f.seed,
	})
	if err != nil {
		return &usageError{err}
	}
	return a.print(limitSimulateDocument(result))
}

// simulatedRule is the configured rule, or none, with what the flags say instead.
func (a *app) simulatedRule(f simulateFlags) (limit.Rule, error) {
	rule := limit.Rule{}
	if f.rule != "" {
		conf, err := a.load(config.Need{})
		if err != nil {
			return rule, err
		}
		for _, r := range sidecar.LimitRules(conf) {
			if r.Name == f.rule {
				rule = r
			}
		}
		if rule.Name == "" {
			return rule, withHint(usagef("no such rule: %s", f.rule), "redisopt limit rules shows which there are")
		}
	}
	if f.algorithm != "" && limit.Algorithm(f.algorithm) != rule.Algorithm {
		rule.Algorithm, rule.Burst, rule.Buckets, rule.Every, rule.TimeZone = limit.Algorithm(f.algorithm), 0, 0, "", ""
	}
	if f.limit != 0 {
		rule.Limit = f.limit
	}
	if f.period != 0 {
		rule.Period = f.period
	}
	if f.burst != 0 {
		rule.Burst = f.burst
	}
	return rule, nil
}

func (a *app) simulatedEvents(f simulateFlags) ([]simulate.Event, error) {
	switch f.trace {
	case "":
		rate, per, err := parseRate(f.rate)
		if err != nil {
			return nil, err
		}
		return simulate.Generator{Shape: simulate.Shape(f.shape), Rate: rate, Per: per, For: f.long, Keys: f.keys, Seed: f.seed}.Events()
	case "-":
		return readTrace("standard input", a.in)
	}
	file, err := os.Open(f.trace)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	return readTrace(f.trace, file)
}

func readTrace(name string, r io.Reader) ([]simulate.Event, error) {
	events, err := simulate.Read(r)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return events, nil
}

// parseRate reads n/duration; the duration may be one unit: 60/m.
func parseRate(text string) (float64, time.Duration, error) {
	bad := fmt.Errorf("--rate: got %q, want requests and a duration such as 12/1m", text)
	n, per, ok := strings.Cut(text, "/")
	rate, err := strconv.ParseFloat(n, 64)
	if !ok || err != nil {
		return 0, 0, errors.Join(bad, err)
	}
	if per != "" && !strings.ContainsAny(per[:1], "0123456789.") {
		per = "1" + per
	}
	d, err := time.ParseDuration(per)
	if err != nil {
		return 0, 0, bad
	}
	return rate, d, nil
}

// limitSimulateDocument is limit.simulate/v1.
func limitSimulateDocument(r simulate.Report) report.Document {
	doc := report.Document{
		Kind: "limit.simulate/v1", Data: r, Title: "limit simulation",
		Sections: []report.Section{{Fields: []report.Field{
			{Name: "limit", Value: fmt.Sprintf("%d in %s", r.Limit, wholeSeconds(r.Period))},
			{Name: "trace", Value: fmt.Sprintf("%s by %s in %s", plural(int64(r.Requests), "request"), plural(int64(r.Keys), "key"), roughly(r.Length.Round(time.Millisecond)))},
			{Name: "replicas", Value: fmt.Sprint(r.Replicas)},
		}}},
	}
	table := &report.Table{Columns: []report.Column{
		{Name: "algorithm"},
		{Name: "admitted", Right: true},
		{Name: "worst", Right: true},
		{Name: "bound", Right: true},
		{Name: "over", Right: true},
		{Name: "under", Right: true},
		{Name: "commands", Right: true},
		{Name: "each", Right: true},
	}}
	for _, row := range r.Rows {
		bound := "none"
		if row.Bound > 0 {
			bound = fmt.Sprint(row.Bound)
		}
		table.Rows = append(table.Rows, []string{
			row.Name, fmt.Sprint(row.Admitted), fmt.Sprint(row.Most), bound,
			fmt.Sprint(row.Over), fmt.Sprint(row.Under), fmt.Sprint(row.Commands), fmt.Sprintf("%.2f", row.PerCheck),
		})
	}
	doc.Sections = append(doc.Sections, report.Section{Table: table})
	return doc
}
