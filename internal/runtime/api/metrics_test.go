package api

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/redisopt/redisopt/internal/runtime/budget"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

func TestMetricsHaveNamesUnitsAndNoSecrets(t *testing.T) {
	t.Parallel()
	o := engines(t, open(t))
	s := o.Meter.Series(meter.Cache, "client|list")
	s.Sent(100)
	s.Ended(meter.OK, 3*time.Millisecond, 50)
	s.Sent(100)
	s.Ended(meter.Timeout, 0, 0)
	o.Meter.InScript(meter.RateLimit, "evalsha", 4)
	o.Budgets = budget.Default()
	o.Budgets.Commands.PerMonth = 500_000
	o.Month = func() (int64, bool) { return 425_000, true }
	o.Connections = func() []Connections {
		return []Connections{{Upstream: "cache", Transport: "tcp", For: "commands", Open: 1, Max: 3}}
	}
	o.Collectors = []prometheus.Collector{prometheus.NewGauge(prometheus.GaugeOpts{Name: "redisopt_gateway_clients", Help: "Clients."})}
	o.Probes = []Probe{{Name: "cache", Write: func(context.Context) error { return nil }}}
	a := newAPI(t, o)
	ask(t, a, call{method: http.MethodPut, path: keyPath("user:hidden-user:profile"), body: `1`})
	ask(t, a, call{path: keyPath("user:hidden-user:profile")})
	ask(t, a, checkCall("", `{"rule":"two","subject":{"user":"hidden-user"}}`))
	ask(t, a, call{path: "/v1/hidden-path"})
	ask(t, a, call{method: "HIDDEN", path: "/healthz"})
	ask(t, a, call{path: "/readyz"})
	r := ask(t, a, call{path: "/metrics"})
	if r.StatusCode != 200 || !strings.HasPrefix(r.Header.Get("Content-Type"), "text/plain") {
		t.Fatalf("metrics = %d %s", r.StatusCode, r.Header.Get("Content-Type"))
	}
	for _, want := range []string{
		`redisopt_api_build_info{version="1.2.3"} 1`,
		"redisopt_api_embedded 0",
		"redisopt_api_inflight_requests 1",
		`redisopt_api_upstream_ready{upstream="cache"} 1`,
		`redisopt_api_requests_total{method="GET",route="/v1/cache/keys/{key}",status="200"} 1`,
		`redisopt_api_requests_total{method="any",route="none",status="404"} 1`,
		`redisopt_api_requests_total{method="any",route="none",status="405"} 1`,
		`redisopt_api_request_duration_seconds_count{route="/v1/limit/check"} 1`,
		`redisopt_meter_commands_total{command="client|list",component="cache"} 2`,
		`redisopt_meter_in_script_commands_total{command="evalsha",component="ratelimit"} 4`,
		`redisopt_meter_outcomes_total{command="client|list",component="cache",outcome="ok"} 1`,
		`redisopt_meter_outcomes_total{command="client|list",component="cache",outcome="timeout"} 1`,
		`redisopt_meter_latency_seconds_bucket{command="client|list",component="cache",le="0.0025"} 0`,
		`redisopt_meter_latency_seconds_bucket{command="client|list",component="cache",le="0.005"} 1`,
		`redisopt_meter_latency_seconds_count{command="client|list",component="cache"} 1`,
		`redisopt_upstream_connections{for="commands",transport="tcp",upstream="cache"} 1`,
		`redisopt_upstream_connections_max{transport="tcp",upstream="cache"} 3`,
		"redisopt_budget_commands_per_month 500000",
		"redisopt_budget_commands_spent_month 425000",
		"redisopt_budget_commands_level 3",
		`redisopt_budget_latency_p95_seconds{operation="cache"} 0.1`,
		"redisopt_control_epoch 0",
		`redisopt_cache_reads_total{namespace="user",result="memory_hit"} 1`,
		`redisopt_limit_checks_total{result="allowed",rule="two"} 1`,
		"redisopt_gateway_clients 0",
	} {
		if !strings.Contains(r.body, want+"\n") {
			t.Errorf("metrics lack %s", want)
		}
	}
	if strings.Contains(strings.ToLower(r.body), "hidden") {
		t.Error("a name that a client chose is in the metrics")
	}
	unit := regexp.MustCompile(`_(total|bytes|seconds|info|entries|keys|requests|ready|embedded|open|deletes|epoch|source|stale|connections|max|fleet|month|level|clients|jobs|paused|draining|sweeper|tracking|registered|over|projected|ratio|writes)$`)
	for line := range strings.SplitSeq(r.body, "\n") {
		name, ok := strings.CutPrefix(line, "# TYPE redisopt_")
		if !ok {
			continue
		}
		name, kind, _ := strings.Cut(name, " ")
		if !unit.MatchString(name) || kind == "counter" && !strings.HasSuffix(name, "_total") || kind != "counter" && strings.HasSuffix(name, "_total") {
			t.Errorf("redisopt_%s is a %s: want a unit, and _total for counters alone", name, kind)
		}
		if !strings.Contains(r.body, "# HELP redisopt_"+name+" ") {
			t.Errorf("redisopt_%s has no help", name)
		}
	}
}

func TestEmbeddedIsOnEveryMetricAndEveryAnswer(t *testing.T) {
	t.Parallel()
	o := engines(t, open(t))
	o.Embedded = true
	o.Collectors = []prometheus.Collector{prometheus.NewGauge(prometheus.GaugeOpts{Name: "redisopt_gateway_clients", Help: "Clients."})}
	a := newAPI(t, o)
	ask(t, a, call{path: "/v1/control"})
	r := ask(t, a, call{path: "/metrics"})
	if !strings.Contains(r.body, `redisopt_gateway_clients{embedded="true"} 0`) {
		t.Error("the gateway's metrics do not say embedded")
	}
	for line := range strings.SplitSeq(strings.TrimSpace(r.body), "\n") {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, `embedded="true"`) {
			t.Errorf("%s does not say embedded", line)
		}
	}
	for _, path := range []string{"/healthz", "/v1/control", "/nothing", "/metrics"} {
		if got := ask(t, a, call{path: path}).Header.Get("Redisopt-Embedded"); got != "true" {
			t.Errorf("%s: Redisopt-Embedded = %q, want true", path, got)
		}
	}
}

func TestMetricsAreGuardedUnlessToldOtherwise(t *testing.T) {
	t.Parallel()
	for opened, want := range map[bool]int{false: 401, true: 200} {
		a := newAPI(t, Options{Tokens: tokens(), OpenMetrics: opened})
		if got := ask(t, a, call{path: "/metrics"}).StatusCode; got != want {
			t.Errorf("without a token, open %v = %d, want %d", opened, got, want)
		}
	}
}

func TestACollectorThatCannotWorkIsRefusedAtTheStart(t *testing.T) {
	t.Parallel()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "twice", Help: "Twice."})
	if _, err := New(Options{Collectors: []prometheus.Collector{g, g}}); err == nil {
		t.Error("New with a collector twice = nil, want an error")
	}
}
