package migrate

import (
	"context"
	"time"
)

// Evidence is a measured number with what a gate needs to know before it believes it.
type Evidence struct {
	// Value is in the unit of the KPI. It means nothing unless Known.
	Value float64 `json:"value"`
	Known bool    `json:"known"`

	// Before is the same before the phase changed anything; nil where that is not known or nobody compares.
	Before *float64 `json:"before,omitempty"`

	// Source names the instrument: "INFO, every 60 s", "GET /metrics of 2 replicas".
	Source string `json:"source"`

	// From and To are the window that was measured.
	From time.Time `json:"from"`
	To   time.Time `json:"to"`

	// Samples is how many observations went in. Coverage is the share of the window, from 0 to 1, that
	// they cover.
	Samples  int64   `json:"samples"`
	Coverage float64 `json:"coverage"`

	// Missing names what could not be observed and what would make it so, one sentence each.
	Missing []string `json:"missing"`
}

// A Watch measures KPIs. It is safe for concurrent use.
type Watch interface {
	// Read measures one KPI between two times. A KPI that it does not know, and one that could not be
	// measured, is evidence that is not Known and says in Missing why; an error is only for a failure
	// to look at all.
	Read(ctx context.Context, kpi string, from, to time.Time) (Evidence, error)
}

// The KPIs of the design document that have an instrument somewhere. A Watch may know others.
const (
	KPIConnections      = "connections"                  // connections: the highest number in the window
	KPICommandsPerDay   = "commands_per_day"             // commands a day at the window's mean rate
	KPICommandsPerMonth = "commands_per_month"           // commands in 30 days at the window's mean rate
	KPIConnectionErrors = "connection_errors"            // connection errors in the window
	KPIErrorReplies     = "error_replies"                // error replies of the server in the window
	KPILatencyP95       = "latency_p95_ms"               // p95 of the operations that the phase moves, in ms
	KPIHitRate          = "hit_rate_percent"             // cache hits of all cache reads, in %
	KPIJobSuccess       = "job_success_percent"          // jobs that succeeded of all that ended, in %
	KPIMismatches       = "shadow_mismatches"            // shadow reads that differed, in the window
	KPIBacklog          = "backlog_jobs"                 // jobs that wait in the queues concerned, now
	KPIBacklogGrowth    = "backlog_growth_jobs"          // by how many more jobs wait at the end of the window than at its beginning
	KPILatencyIncrease  = "latency_p95_increase_percent" // by how much the p95 exceeds what it was before the phase, in %
	KPICriticalWaiting  = "critical_wait_seconds"        // age of the oldest waiting job of a critical queue, in s
	KPILimiterDenied    = "limiter_denied_percent"       // checks denied of all checks, in %
)
