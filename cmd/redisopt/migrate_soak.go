package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
)

// metricsToken names the variable with the bearer token of the application's metrics page.
const metricsToken = "REDISOPT_METRICS_TOKEN"

// soakFlags say how long queues must have been well, by which numbers, and who tells.
type soakFlags struct {
	soak     time.Duration
	coolDown time.Duration
	failures int
	gates    step.QueueGates
	page     string
	series   []string
}

func newSoakFlags() soakFlags { return soakFlags{failures: 3, gates: step.DefaultQueueGates()} }

// registerRedisGates registers the gates on the whole Redis. designed is how many commands a day the design allows.
func registerRedisGates(flags *pflag.FlagSet, perDay, connections *float64, designed string) {
	flags.Float64Var(perDay, "max-commands-per-day", 0,
		"gate: at most `n` commands a day of the whole Redis (0: the share of budgets.commands, else "+designed+"; a remark where there were more before; negative: not judged)")
	flags.Float64Var(connections, "max-connections", 0,
		"gate: at most `n` connections of the whole Redis (0: budgets.connections.plan_limit, else what the server allows; negative: not judged)")
}

func (f *soakFlags) register(cmd *cobra.Command, usual, designed string) {
	flags := cmd.Flags()
	flags.DurationVar(&f.soak, "soak", f.soak, "afterwards everything must have been well for so long ("+usual+"; negative: only until the gates pass)")
	flags.DurationVar(&f.coolDown, "cool-down", 0, "a gate that fails in the first `time` of the soak does not count")
	flags.IntVar(&f.failures, "gate-failures", f.failures, "a gate must fail `n` times in a row")
	flags.Float64Var(&f.gates.Errors, "max-errors", 0, "gate: at most `n` connection errors (negative: not judged)")
	flags.Float64Var(&f.gates.P95, "max-p95-increase", f.gates.P95, "gate: the application's p95 grows by at most so many `percent`; needs --metrics (negative: not judged)")
	flags.Float64Var(&f.gates.JobSuccess, "min-job-success", f.gates.JobSuccess, "gate: at least so many `percent` of the jobs that end must end well (negative: not judged)")
	flags.Int64Var(&f.gates.MinJobs, "min-jobs", f.gates.MinJobs, "--min-job-success needs `n` jobs that ended, and waits for them")
	flags.Float64Var(&f.gates.BacklogGrowth, "max-backlog-growth", f.gates.BacklogGrowth, "gate: at most `n` more jobs wait at the end than at the beginning (negative: not judged)")
	registerRedisGates(flags, &f.gates.CommandsPerDay, &f.gates.Connections, designed)
	flags.StringVar(&f.page, "metrics", "", "the application's metrics page, a `URL` in Prometheus' text format (token: "+metricsToken+")")
	flags.StringArrayVar(&f.series, "metric", nil, "what a series of --metrics means: `NAME=SERIES`, NAME being done, failed, errors, waiting or p95_ms (repeatable)")
}

// soaking is what the flags ask for, nil when no soak is.
func (f *soakFlags) soaking(watched ...mover.Endpoint) (*step.Soaking, error) {
	page, err := f.metrics()
	if err != nil || f.soak == 0 {
		return nil, err
	}
	if f.coolDown < 0 || f.failures < 1 || f.gates.MinJobs < 1 || f.gates.JobSuccess > 100 {
		return nil, errors.New("--cool-down: want 0 or more; --gate-failures and --min-jobs: at least 1; --min-job-success: at most 100")
	}
	ms := f.soak.Milliseconds()
	if ms == 0 {
		return nil, fmt.Errorf("--soak: got %s, want at least 1ms", f.soak)
	}
	return &step.Soaking{
		ForMS: ms, Gates: f.gates.Gates(page != nil && page.Series["p95_ms"] != "", f.soak),
		CoolDownMS: f.coolDown.Milliseconds(), Failures: f.failures, Watched: watched, Metrics: page,
	}, nil
}

// metrics is the page that the flags name, nil without one.
func (f *soakFlags) metrics() (*step.MetricsPage, error) {
	if f.page == "" {
		if len(f.series) > 0 {
			return nil, errors.New("--metric: want --metrics with it")
		}
		return nil, nil //nolint:nilnil // no page is no error
	}
	m := &step.MetricsPage{URL: f.page, Series: map[string]string{}}
	for _, text := range f.series {
		name, series, ok := strings.Cut(text, "=")
		if !ok || series == "" {
			return nil, fmt.Errorf("--metric: got %q, want NAME=SERIES", text)
		}
		if _, twice := m.Series[name]; twice {
			return nil, fmt.Errorf("--metric: %s is given twice", name)
		}
		m.Series[name] = series
	}
	return m, nil
}

// withMetricsToken gives o the token for the metrics page, which no plan keeps.
func (a *app) withMetricsToken(o migrate.HostOptions) migrate.HostOptions {
	o.MetricsToken = a.getenv(metricsToken)
	return o
}
