package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
)

// theBudgets are the promises that --p95 asserts by itself: the cache within 100 ms, a limiter's check
// within 50 ms, adding a job within 10 ms.
const theBudgets = "cache=100ms,limit=50ms,queue=10ms"

// benchFlags are the flags of bench.
type benchFlags struct {
	strict bool

	p95     string
	asserts []string
	load    loadFlags

	keys      int
	zipf      float64
	payload   int
	readShare float64
	seed      uint64

	trace    string
	speed    float64
	inject   string
	embedded bool
	against  string
	pairs    int
	regress  percentage
	knee     bool

	out, html string
}

// loadFlags say how operations are started, of whatever is benchmarked.
type loadFlags struct {
	rate, rampTo float64
	duration     time.Duration
	warmUp       time.Duration
	closed       int
	inFlight     int
}

func (f *loadFlags) register(set *pflag.FlagSet) {
	set.Float64Var(&f.rate, "rate", 50, "start so many operations a second, whatever becomes of those before")
	set.Float64Var(&f.rampTo, "ramp-to", 0, "go to this rate in a straight line (0: keep --rate)")
	set.DurationVar(&f.duration, "duration", 5*time.Second, "start operations for this long, of each scenario")
	set.DurationVar(&f.warmUp, "warm-up", 500*time.Millisecond, "run for this long before anything is recorded (0s: not at all)")
	set.IntVar(&f.closed, "closed", 0, "let `n` callers wait for their answers instead; hides what a slow target keeps from starting")
	set.IntVar(&f.inFlight, "in-flight", 512, "have at most `n` operations under way")
}

// validate reports what no run can do. A flag that is 0 is not its default.
func (f *loadFlags) validate() error {
	var errs []error
	if f.rate == 0 {
		errs = append(errs, errors.New("--rate: got 0, want more than 0"))
	}
	if f.duration == 0 {
		errs = append(errs, errors.New("--duration: got 0s, want at least 1ms"))
	}
	if f.inFlight == 0 {
		errs = append(errs, errors.New("--in-flight: got 0, want at least 1"))
	}
	return errors.Join(append(errs, f.options(0).Validate())...)
}

// options are how a run goes.
func (f *loadFlags) options(timeout time.Duration) bench.Options {
	o := bench.Options{
		Pace:   bench.Pace{Rate: f.rate, RampTo: f.rampTo, Duration: f.duration},
		Slice:  min(max(f.duration/20, 100*time.Millisecond), time.Second),
		Closed: f.closed, WarmUp: f.warmUp, InFlight: f.inFlight, Timeout: timeout, Class: scenario.Class,
	}
	if f.warmUp == 0 {
		o.WarmUp = -1
	}
	return o
}

func (a *app) benchCommand() *cobra.Command {
	var f benchFlags
	names := make([]string, 0, len(scenario.All()))
	for _, s := range scenario.All() {
		names = append(names, fmt.Sprintf("  %-17s %s", s.Name, s.About))
	}
	cmd := &cobra.Command{
		Use:   "bench [cache|limit|queue|gateway|plain|legacy|all|SCENARIO...]",
		Short: "Measure latency and cost, and hold them against budgets",
		Long: `bench starts operations at a constant rate, whatever becomes of those before, and counts each latency
from when it should have started: a server that stalls is slow for everybody who waits, not for one. Each
percentile has an interval, or is left out where there are too few samples. Each operation's commands are
counted. With no Redis configured it measures the one inside this program, which is no evidence.

--p95 asserts ` + theBudgets + `; --assert anything else; exit 3 names what failed.
Keys are the benchmark's own, expire, and are deleted at the end.

` + strings.Join(names, "\n"),
		Example: `  redisopt bench --p95
  redisopt bench limit --rate 500 --assert 'p99<20ms' --assert 'errors<0.1%' --out new.json
  redisopt bench compare old.json new.json --max-regress 10%`,
		Args: cobra.ArbitraryArgs,
		RunE: a.action(func(ctx context.Context, args []string) error { return a.bench(ctx, f, args) }),
	}
	set := cmd.Flags()
	set.BoolVar(&f.strict, "strict", false, "exit 8 where a verdict is inconclusive")
	set.StringVar(&f.p95, "p95", "", "assert 95th percentiles: `group=limit,...`")
	set.Lookup("p95").NoOptDefVal = theBudgets
	set.StringArrayVar(&f.asserts, "assert", nil, "assert `[SCENARIO.]METRIC<LIMIT`: p50, p99.9, mean, max, errors, limited, rate or commands (repeatable)")
	f.load.register(set)
	set.IntVar(&f.keys, "keys", 1000, "use so many keys")
	set.Float64Var(&f.zipf, "zipf", 1, "how uneven their popularity is (0: all alike)")
	set.IntVar(&f.payload, "payload", 512, "`bytes` of a value or of a job's payload")
	set.Float64Var(&f.readShare, "read-share", 0.9, "part of reads in cache-mixed, 0 to 1")
	set.Uint64Var(&f.seed, "seed", 1, "choose the keys by this `number`")
	set.StringVar(&f.trace, "trace", "", "replay this `file` that redis-cli MONITOR printed, under keys of the benchmark's own")
	set.Float64Var(&f.speed, "speed", 1, "replay the trace so many times as fast")
	set.StringVar(&f.inject, "inject", "", "with the Redis inside this program: `faults` such as latency=200ms,drop=1%,quota=1000,connections=2")
	set.BoolVar(&f.embedded, "embedded", false, "measure the Redis inside this program although one is configured")
	set.StringVar(&f.against, "against", "", "measure another `target` in turns with this one: tcp, rest, env:NAME, or a URL without a password")
	set.IntVar(&f.pairs, "pairs", 10, "with --against: how many turns each target has")
	f.regress = percentage(0.10)
	set.Var(&f.regress, "max-regress", "with --against: how much slower the other target may be")
	set.BoolVar(&f.knee, "knee", false, "raise the rate until an assertion no longer holds, and say where")
	set.StringVar(&f.out, "out", "", "write the result, with full histograms, to this `file`; with --against to two, new.json becoming new.a.json and new.b.json")
	set.StringVar(&f.html, "html", "", "write a page with charts to this `file`")
	cmd.AddCommand(a.benchCompareCommand(), a.benchMergeCommand(), a.benchHTTPCommand())
	return cmd
}

// assertions are those of --p95 and of --assert. One about a scenario that there is not is a mistake, since
// nothing would ever fail it.
func (f *benchFlags) assertions() ([]bench.Assertion, error) {
	out, err := assertionsOf(f.p95, f.asserts)
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, one := range out {
		known := one.Scenario == "replay" || slices.ContainsFunc(scenario.All(), func(s scenario.Scenario) bool { return one.About(s.Name) })
		if !known {
			errs = append(errs, fmt.Errorf("assertion %q: no scenario %q; redisopt bench --help lists them", one, one.Scenario))
		}
	}
	return out, errors.Join(errs...)
}

func assertionsOf(p95 string, asserts []string) ([]bench.Assertion, error) {
	var (
		out  []bench.Assertion
		errs []error
	)
	add := func(flag, text string) {
		one, err := bench.ParseAssertion(text)
		if err != nil {
			err = fmt.Errorf("%s: %w", flag, err)
		}
		out, errs = append(out, one), append(errs, err)
	}
	if p95 != "" {
		for part := range strings.SplitSeq(p95, ",") {
			group, limit, found := strings.Cut(strings.TrimSpace(part), "=")
			if !found {
				errs = append(errs, fmt.Errorf("--p95: got %q, want group=limit, such as %s", part, theBudgets))
				continue
			}
			if group == "queue" {
				group = "queue-add" // the budget is for adding a job; a round trip is also the worker's time
			}
			add("--p95", group+".p95<"+limit)
		}
	}
	for _, text := range asserts {
		add("--assert", text)
	}
	return out, errors.Join(errs...)
}

// options are the keys and values of the scenarios.
func (f *benchFlags) options(timeout time.Duration) scenario.Options {
	o := scenario.Options{
		Keys: f.keys, Zipf: f.zipf, PayloadBytes: f.payload, ReadShare: f.readShare, Seed: f.seed, Timeout: timeout,
		TTL: max(10*time.Minute, 2*f.load.duration),
	}
	if f.zipf == 0 {
		o.Zipf = -1
	}
	return o
}

// validate reports what contradicts each other before anything is connected to.
func (f *benchFlags) validate(args []string) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if f.inject != "" && f.against != "" {
		bad("--inject and --against contradict each other")
	}
	if f.knee && (f.against != "" || f.trace != "" || f.load.closed > 0) {
		bad("--knee goes with none of --against, --trace and --closed")
	}
	if f.knee && (f.out != "" || f.html != "") {
		bad("--out and --html do not go with --knee: -o json has what it measures")
	}
	if f.pairs < 2 || f.pairs > 1000 {
		bad("--pairs: got %d, want 2 to 1000", f.pairs)
	}
	if f.against != "" && (f.p95 != "" || len(f.asserts) > 0) {
		bad("--against compares two targets, so it goes with neither --p95 nor --assert, but with --max-regress")
	}
	if f.knee && f.p95 == "" && len(f.asserts) == 0 {
		bad("--knee: it takes a limit to find one: --p95, or --assert 'p99<20ms'")
	}
	if f.trace != "" && (len(args) > 0 || f.against != "") {
		bad("--trace is what is run, so it goes with no scenario and not with --against")
	}
	for _, arg := range args {
		if _, err := time.ParseDuration(arg); err == nil || strings.Contains(arg, "=") {
			bad("%q is no scenario: --p95 takes its limits behind an equals sign, such as --p95=%s", arg, theBudgets)
		}
	}
	errs = append(errs, directoriesExist(f.out, f.html))
	if !(f.speed > 0 && f.speed <= 1000) {
		bad("--speed: got %g, want more than 0 and at most 1000", f.speed)
	}
	return errors.Join(append(errs, f.load.validate(), f.options(time.Second).Validate())...)
}

// directoriesExist reports files that could not be written when all is measured.
func directoriesExist(paths ...string) error {
	var errs []error
	for _, path := range paths {
		if path == "" {
			continue
		}
		if at, err := os.Stat(filepath.Dir(path)); err != nil || !at.IsDir() {
			errs = append(errs, fmt.Errorf("%s: there is no directory %s", path, filepath.Dir(path)))
		}
	}
	return errors.Join(errs...)
}

// A percentage is a flag such as 10%.
type percentage float64

// String is how it is written.
func (p *percentage) String() string { return fmt.Sprintf("%g%%", float64(*p)*100) }

// Type is what help shows as the flag's value.
func (p *percentage) Type() string { return "percent" }

// Set parses 10% and 0.1.
func (p *percentage) Set(text string) error {
	a, err := bench.ParseAssertion("errors<" + text)
	if err != nil {
		return errors.New("want 0% to 100%")
	}
	*p = percentage(a.Limit)
	return nil
}
