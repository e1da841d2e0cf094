package api

import (
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// buckets are the upper bounds, in seconds, of every latency histogram. The budgets of the cache (100 ms),
// the limiter (50 ms) and the queue (10 ms) are among them, so that a share within budget is exact.
func buckets() []float64 {
	return []float64{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10}
}

// observe registers everything that /metrics shows.
func (a *API) observe() error {
	a.traffic = newTraffic()
	all := append([]prometheus.Collector{
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		a.traffic.requests, a.traffic.seconds,
		&state{api: a},
	}, a.opts.Collectors...)
	var registry prometheus.Registerer = a.registry
	if a.opts.Embedded {
		// Nobody shall take numbers of a store that is for trying out for those of a real one.
		registry = prometheus.WrapRegistererWith(prometheus.Labels{"embedded": "true"}, registry)
	}
	for _, c := range all {
		if err := registry.Register(c); err != nil {
			return err
		}
	}
	return nil
}

// exposition writes the metrics. What one collector cannot say does not keep back the others.
func (a *API) exposition() http.Handler {
	return promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, EnableOpenMetrics: true})
}

// traffic counts the requests to the API itself.
type traffic struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
}

func newTraffic() *traffic {
	return &traffic{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "redisopt_api_requests_total", Help: "Requests answered, by the pattern of their path.",
		}, []string{"method", "route", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "redisopt_api_request_duration_seconds", Help: "Time to answer a request, its body included.", Buckets: buckets(),
		}, []string{"route"}),
	}
}

// ended counts a request. The labels are ours: nothing that a client makes up becomes one.
func (t *traffic) ended(method, route string, status int, after time.Duration) {
	if route == "" {
		route, method = "none", "any"
	}
	if status == 0 {
		status = http.StatusOK
	}
	t.requests.WithLabelValues(method, route, strconv.Itoa(status)).Inc()
	t.seconds.WithLabelValues(route).Observe(after.Seconds())
}

// state turns what others count into metrics at the moment they are read. It is unchecked (it describes
// nothing), since which series exist depends on what was used.
type state struct{ api *API }

func (s *state) Describe(chan<- *prometheus.Desc) {}

func (s *state) Collect(out chan<- prometheus.Metric) {
	e := emitter{out}
	a := s.api
	e.gauge("redisopt_api_build_info", "This program; always 1.", 1, label{"version", a.opts.Version})
	e.gauge("redisopt_api_embedded", "1 when values live in this process alone.", boolean(a.opts.Embedded))
	e.gauge("redisopt_api_inflight_requests", "Requests being answered.", float64(len(a.slots)))
	for _, t := range a.ready.last() {
		e.gauge("redisopt_api_upstream_ready", "1 when the last write test of the upstream succeeded.", boolean(t.err == nil), label{"upstream", t.probe.Name})
	}
	if a.opts.Meter != nil {
		e.commands(a.opts.Meter.Snapshot())
	}
	if a.opts.Connections != nil {
		for _, c := range a.opts.Connections() {
			where := []label{{"upstream", c.Upstream}, {"transport", c.Transport}}
			e.gauge("redisopt_upstream_connections", "Connections held.", float64(c.Open), append(where, label{"for", c.For})...)
			if c.Max > 0 {
				e.gauge("redisopt_upstream_connections_max", "The most connections that may be held.", float64(c.Max), where...)
			}
		}
	}
	e.budgets(a.opts)
	if a.opts.Plan != nil {
		if plan := a.opts.Plan(); plan != nil {
			e.gauge("redisopt_budget_shed_level", "How much is given up for the budget's sake: 0 nothing, 1 frugal, 2 tight, 3 the budget is spent.", float64(plan.Level))
			e.gauge("redisopt_budget_commands_projected", "Commands that the period comes to, as far as can be told.", plan.Projected)
		}
	}
	if a.opts.Idle != nil {
		e.gauge("redisopt_idle_commands_per_month", "Billed commands of 30 days with nothing to do, on this replica, as planned.", IdlePerMonth(a.opts.Idle()))
	}
	if a.opts.Fleet != nil {
		e.fleet(a.opts.Fleet.State())
	}
	if a.opts.Ramp != nil && a.opts.Control != nil {
		e.ramp(a.rampState(), *a.opts.Ramp)
	}
	s.engines(e)
	if a.opts.Control != nil {
		now := a.opts.Control.State()
		e.gauge("redisopt_control_epoch", "The epoch of the control document in force.", float64(now.Document.Epoch))
		e.gauge("redisopt_control_source", "1 for where the document in force came from.", 1, label{"source", string(now.Source)})
		e.gauge("redisopt_control_stale", "1 when the document may not be the newest.", boolean(now.Err != nil))
	}
}

// engines are the counts of cache and limiter.
func (s *state) engines(e emitter) {
	if c := s.api.opts.Cache; c != nil {
		e.cache(c.Stats())
	}
	if l := s.api.opts.Limit; l != nil {
		e.limits(l.Stats())
	}
	if q := s.api.opts.Queue; q != nil {
		e.queues(q)
	}
}

func (e emitter) cache(s cache.Stats) {
	for name, n := range s.Namespaces {
		in := label{"namespace", name}
		for result, count := range map[string]int64{"memory_hit": n.MemoryHits, "upstream_hit": n.UpstreamHits, "stale_hit": n.StaleHits, "miss": n.Misses} {
			e.counter("redisopt_cache_reads_total", "Reads, by their result.", float64(count), in, label{"result", result})
		}
		e.counter("redisopt_cache_degraded_reads_total", "Reads that the upstream did not answer.", float64(n.Degraded), in)
		e.counter("redisopt_cache_writes_total", "Values written.", float64(n.Writes), in)
		e.counter("redisopt_cache_deletes_total", "Keys deleted.", float64(n.Deletes), in)
		for reason, count := range map[string]int64{"upstream": n.WriteErrors, "superseded": n.Superseded, "refused": n.Refused} {
			e.counter("redisopt_cache_failed_writes_total", "Values that were not stored, by reason.", float64(count), in, label{"reason", reason})
		}
		for result, count := range map[string]int64{"loaded": n.Loads, "failed": n.LoadErrors, "absent": n.Absences, "shared": n.Shared, "early": n.EarlyLoads} {
			e.counter("redisopt_cache_loads_total", "Loads, by their result.", float64(count), in, label{"result", result})
		}
		for what, count := range map[string]int64{"foreign": n.Foreign, "newer": n.Newer, "damaged": n.Damaged, "unknown_key": n.UnknownKey} {
			e.counter("redisopt_cache_unreadable_entries_total", "What was under a key and was no entry.", float64(count), in, label{"kind", what})
		}
		e.counter("redisopt_cache_clamped_ttl_total", "Times to live shortened to the maximum.", float64(n.Clamped), in)
		e.counter("redisopt_cache_value_bytes_total", "Bytes of values written.", float64(n.ValueBytes), in)
		e.counter("redisopt_cache_stored_bytes_total", "Bytes sent for them: after compression and encryption, with the envelope.", float64(n.StoredBytes), in)
		e.counter("redisopt_cache_read_bytes_total", "Bytes that the upstream sent.", float64(n.BytesRead), in)
	}
	e.gauge("redisopt_cache_memory_entries", "Entries in memory.", float64(s.MemoryEntries))
	e.gauge("redisopt_cache_memory_bytes", "Bytes in memory.", float64(s.MemoryBytes))
	e.gauge("redisopt_cache_memory_limit_bytes", "The most bytes there may be in memory.", float64(s.MemoryLimitBytes))
	e.counter("redisopt_cache_saved_commands_total", "Commands saved by merging reads.", float64(s.CommandsSaved))
	e.counter("redisopt_cache_invalidations_total", "Tags invalidated here.", float64(s.Invalidations))
	e.counter("redisopt_cache_delete_errors_total", "Deletes that the upstream did not take.", float64(s.DeleteErrors))
	e.gauge("redisopt_cache_pending_deletes", "Keys of which the upstream is still to be told.", float64(s.PendingDeletes))
	e.gauge("redisopt_cache_breaker_open", "1 while the upstream is left alone.", boolean(s.Broken))
}

func (e emitter) limits(s limit.Stats) {
	for _, r := range s.Rules {
		rule := label{"rule", r.Rule}
		for result, n := range map[string]int64{"allowed": r.Allowed, "denied": r.Denied} {
			e.counter("redisopt_limit_checks_total", "Checks, by their result.", float64(n), rule, label{"result", result})
		}
		e.counter("redisopt_limit_over_limit_total", "Checks whose quota was used up, in any mode.", float64(r.OverLimit), rule)
		e.counter("redisopt_limit_near_limit_total", "Allowed checks near the limit.", float64(r.NearLimit), rule)
		e.counter("redisopt_limit_commands_total", "Billed commands, those inside scripts included.", float64(r.Commands), rule)
		e.counter("redisopt_limit_errors_total", "Calls of the upstream that failed or came too late.", float64(r.Errors), rule)
		e.counter("redisopt_limit_refused_no_subject_total", "Requests of which nothing was known to count by.", float64(r.NoWho), rule)
		for source, n := range map[string]int64{"lease": r.LeaseHits, "denial": r.DenyHits} {
			e.counter("redisopt_limit_memory_answers_total", "Checks answered from memory, without a command.", float64(n), rule, label{"source", source})
		}
		for what, n := range map[string]int64{"taken": r.LeaseTaken, "returned": r.LeaseReturned, "expired": r.LeaseExpired} {
			e.counter("redisopt_limit_lease_tokens_total", "Tokens taken in advance, and what became of those not spent.", float64(n), rule, label{"fate", what})
		}
		for outcome, n := range map[string]int64{"carried": r.Carried, "alone": r.Alone} {
			e.counter("redisopt_limit_buckets_fetched_total", "Token buckets fetched from the other side of a ramp, and those whose other side did not answer.", float64(n), rule, label{"outcome", outcome})
		}
		for decision, n := range map[string]int64{"open": r.Bypassed, "local": r.Local, "closed": r.FailShut} {
			e.counter("redisopt_limit_without_upstream_total", "Checks decided while the upstream did not answer.", float64(n), rule, label{"decision", decision})
		}
	}
	e.gauge("redisopt_limit_local_keys", "Keys remembered in memory.", float64(s.LocalKeys))
	e.gauge("redisopt_limit_breaker_open", "1 while the upstream is left alone.", boolean(s.BreakerOpen))
}

func (e emitter) budgets(o Options) {
	if most := o.Budgets.Commands.PerMonth; most > 0 {
		e.gauge("redisopt_budget_commands_per_month", "Billed commands allowed in a month.", float64(most))
	}
	if most := o.Budgets.Connections.Fleet; most > 0 {
		e.gauge("redisopt_budget_connections_fleet", "Connections allowed for all processes together.", float64(most))
	}
	for operation, l := range o.Budgets.Latency {
		if l.P95 > 0 {
			e.gauge("redisopt_budget_latency_p95_seconds", "The most the 95th percentile may be.", l.P95.Seconds(), label{"operation", operation})
		}
	}
	if o.Month == nil {
		return
	}
	if commands, ok := o.Month(); ok {
		e.gauge("redisopt_budget_commands_spent_month", "Commands spent by the fleet in the current month.", float64(commands))
		e.gauge("redisopt_budget_commands_level", "How far into the budget: 0 none set, 1 target, 2 within, 3 warn, 4 fail, 5 degrade, 6 exceeded.",
			float64(o.Budgets.Commands.Level(float64(commands))))
	}
}

// commands are the rows of the meter.
func (e emitter) commands(s meter.Snapshot) {
	for _, row := range s.Rows {
		who := []label{{"component", string(row.Component)}, {"command", row.Command}}
		e.counter("redisopt_meter_commands_total", "Top-level commands sent.", float64(row.Sent), who...)
		if row.InScript != 0 {
			e.counter("redisopt_meter_in_script_commands_total", "Commands that scripts ran on the server, as far as known.", float64(row.InScript), who...)
		}
		e.counter("redisopt_meter_sent_bytes_total", "Bytes of commands.", float64(row.BytesOut), who...)
		e.counter("redisopt_meter_received_bytes_total", "Bytes of replies.", float64(row.BytesIn), who...)
		for outcome, n := range row.Outcomes {
			e.counter("redisopt_meter_outcomes_total", "Commands that ended, by outcome: ok, timeout, lost, or a class of errors.", float64(n),
				append(slices.Clip(who), label{"outcome", string(outcome)})...)
		}
		if row.Latency != nil {
			e.histogram("redisopt_meter_latency_seconds", "Time from the last byte sent to the last byte of the reply.", row.Latency, who...)
		}
	}
}

// An emitter makes metrics of numbers.
type emitter struct{ out chan<- prometheus.Metric }

type label struct{ name, value string }

func describeMetric(name, help string, labels []label) (*prometheus.Desc, []string) {
	names, values := make([]string, 0, len(labels)), make([]string, 0, len(labels))
	for _, l := range labels {
		names, values = append(names, l.name), append(values, l.value)
	}
	return prometheus.NewDesc(name, help, names, nil), values
}

func (e emitter) gauge(name, help string, v float64, labels ...label) {
	e.number(prometheus.GaugeValue, name, help, v, labels)
}

func (e emitter) counter(name, help string, v float64, labels ...label) {
	e.number(prometheus.CounterValue, name, help, v, labels)
}

func (e emitter) number(kind prometheus.ValueType, name, help string, v float64, labels []label) {
	desc, values := describeMetric(name, help, labels)
	m, err := prometheus.NewConstMetric(desc, kind, v, values...)
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err)
	}
	e.out <- m
}

// histogram turns one of the meter's, in microseconds, into cumulative buckets. The sum is what the
// histogram remembers, at most 1% off.
func (e emitter) histogram(name, help string, h *hdrhistogram.Histogram, labels ...label) {
	bounds := buckets()
	counts := make(map[float64]uint64, len(bounds))
	for _, b := range bounds {
		counts[b] = 0
	}
	var sum float64
	total := uint64(0)
	for _, bar := range h.Distribution() {
		if bar.Count == 0 {
			continue
		}
		total += uint64(bar.Count)
		seconds := float64(bar.From+bar.To) / 2 / 1e6
		sum += seconds * float64(bar.Count)
		for _, b := range bounds {
			if seconds <= b {
				counts[b] += uint64(bar.Count)
			}
		}
	}
	desc, values := describeMetric(name, help, labels)
	m, err := prometheus.NewConstHistogram(desc, total, sum, counts, values...)
	if err != nil {
		m = prometheus.NewInvalidMetric(desc, err)
	}
	e.out <- m
}

// itoa writes a whole number.
func itoa[T int | int64](n T) string { return strconv.FormatInt(int64(n), 10) }

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
