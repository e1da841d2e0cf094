package config

import (
	"maps"
	"net/url"
	"slices"
	"time"
)

// Migrate is what migrations wait for and are judged by, unless a flag of redisopt migrate phase1, phase2 or phase3
// says otherwise. A migration that was begun keeps what it was begun with.
type Migrate struct {
	// Phase1 is how long phase 1 waits.
	Phase1 MigratePhase1 `yaml:"phase1"`

	// Phase2 is how long phase 2 waits.
	Phase2 MigrateSoak `yaml:"phase2"`

	// Phase3 is how long phase 3 waits.
	Phase3 MigrateSoak `yaml:"phase3"`

	// CoolDown is how long after the beginning of a soak of phases 2 and 3 a gate that fails does not count; the flag
	// is --cool-down. Default 0s.
	CoolDown time.Duration `yaml:"cool_down" min:"0s" max:"8760h"`

	// GateFailures is how many times in a row a gate of phases 2 and 3 must fail; the flag is --gate-failures.
	// Default 3.
	GateFailures int `yaml:"gate_failures" jsonschema:"minimum=1,maximum=1000"`

	// MetricsURL is the application's metrics page, in Prometheus' text format, for the soaks of phases 2 and 3; the
	// flag is --metrics. Its token is REDISOPT_METRICS_TOKEN. Default none.
	MetricsURL URL `yaml:"metrics_url"`

	// Metrics is what the series of metrics_url mean, by done, failed, errors, waiting or p95_ms; the flag is --metric.
	// Default none.
	Metrics map[string]string `yaml:"metrics"`

	// Gates are the numbers that must hold.
	Gates MigrateGates `yaml:"gates"`
}

// MigratePhase1 is how long phase 1 waits.
type MigratePhase1 struct {
	// Step is how long the shadow and each share but the last are held; the flag is --step. Default 10m.
	Step time.Duration `yaml:"step" min:"0s" max:"8760h"`

	// Soak is how long the last share is held; the flag is --soak. Default 24h.
	Soak time.Duration `yaml:"soak" min:"0s" max:"8760h"`
}

// MigrateSoak is how long a phase of queues waits.
type MigrateSoak struct {
	// Soak is how long everything must have been well afterwards, 0s for no soak; the flag is --soak. Default 48h in
	// phase 2, and 168h in phase 3 over all queues; a single queue soaks only where this or the flag is set.
	Soak time.Duration `yaml:"soak" min:"0s" max:"8760h"`
}

// MigrateGates are the numbers that must hold while a migration waits.
type MigrateGates struct {
	// MaxErrors is how many calls of the new side may have no answer in phase 1, and how many connection errors there
	// may be in phases 2 and 3; the flag is --max-errors. Default 0.
	MaxErrors float64 `yaml:"max_errors" jsonschema:"minimum=0"`

	// MaxDifferences is how many compared reads may differ in phase 1; the flag is --max-differences. Default 0.
	MaxDifferences float64 `yaml:"max_differences" jsonschema:"minimum=0"`

	// MaxP95Increase is by how many percent the 95th percentile of what callers wait may grow, -1 for any; the flag is
	// --max-p95-increase. Default 10.
	MaxP95Increase float64 `yaml:"max_p95_increase" jsonschema:"minimum=-1"`

	// MinHitRate is how many percent of the reads of the cache must find something in phase 1, -1 for any; the flag is
	// --min-hit-rate. Default 80.
	MinHitRate float64 `yaml:"min_hit_rate" jsonschema:"minimum=-1,maximum=100"`

	// MinSamples is how many observations a gate of phase 1 needs; the flag is --min-samples. Default 100.
	MinSamples int `yaml:"min_samples" jsonschema:"minimum=1"`

	// MinJobSuccess is how many percent of the jobs that end must end well in phases 2 and 3, -1 for any; the flag is
	// --min-job-success. Default 95.
	MinJobSuccess float64 `yaml:"min_job_success" jsonschema:"minimum=-1,maximum=100"`

	// MinJobs is how many jobs must have ended before min_job_success is judged; the flag is --min-jobs. Default 20.
	MinJobs int `yaml:"min_jobs" jsonschema:"minimum=1"`

	// MaxBacklogGrowth is how many more jobs may wait at the end of a soak of phases 2 and 3 than at its beginning, -1
	// for any; the flag is --max-backlog-growth. Default 100.
	MaxBacklogGrowth float64 `yaml:"max_backlog_growth" jsonschema:"minimum=-1"`

	// MaxCommandsPerDay is how many commands a day the whole Redis may be sent, -1 for any; the flag is
	// --max-commands-per-day. Default 0: budgets.commands.per_month times its fail_at over 30 days, or without that
	// budget the design's 70000, 50000 and 15000 after phases 1, 2 and 3; a remark where there were more before.
	MaxCommandsPerDay float64 `yaml:"max_commands_per_day" jsonschema:"minimum=-1"`

	// MaxConnections is how many connections may be open on the whole Redis, -1 for any; the flag is --max-connections.
	// Default 0: budgets.connections.plan_limit, or what the server allows.
	MaxConnections float64 `yaml:"max_connections" jsonschema:"minimum=-1"`
}

func defaultMigrate() Migrate {
	return Migrate{
		Phase1:       MigratePhase1{Step: 10 * time.Minute, Soak: 24 * time.Hour},
		Phase2:       MigrateSoak{Soak: 48 * time.Hour},
		Phase3:       MigrateSoak{Soak: 7 * 24 * time.Hour},
		GateFailures: 3,
		Gates: MigrateGates{
			MaxP95Increase: 10, MinHitRate: 80, MinSamples: 100, MinJobSuccess: 95, MinJobs: 20, MaxBacklogGrowth: 100,
		},
	}
}

// migrate reports what is wrong with the metrics page of migrations.
func (k *checker) migrate() {
	m := k.config.Migrate
	known := []string{"done", "errors", "failed", "p95_ms", "waiting"}
	for _, name := range slices.Sorted(maps.Keys(m.Metrics)) {
		switch {
		case !slices.Contains(known, name):
			k.bad("migrate.metrics."+name, "got %s, want %s%s", quote(name), oneOf(known), meant(suggest(name, known)))
		case m.Metrics[name] == "":
			k.bad("migrate.metrics."+name, "missing; name a series of the page, such as http_request_duration_seconds")
		}
	}
	switch u, err := url.Parse(string(m.MetricsURL)); {
	case m.MetricsURL == "" && len(m.Metrics) > 0:
		k.missing("migrate.metrics_url", "missing, but migrate.metrics names series (%s); set the address of the page they are on", k.config.originNear("migrate.metrics"))
	case m.MetricsURL == "":
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		k.bad("migrate.metrics_url", "want an address such as https://app.example.com/metrics")
	case u.User != nil:
		k.bad("migrate.metrics_url", "has credentials, which the journal would keep; put a bearer token into REDISOPT_METRICS_TOKEN")
	case len(m.Metrics) == 0:
		k.bad("migrate.metrics_url", "names no series; say below migrate.metrics which of its series mean done, failed, errors, waiting or p95_ms")
	}
}
