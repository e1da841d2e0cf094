package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
)

// benchHTTPFlags are the flags of bench http.
type benchHTTPFlags struct {
	load     loadFlags
	strict   bool
	url      string
	method   string
	headers  []string
	tokenEnv string
	body     string
	status   int
	follow   bool
	asserts  []string
	p95      string
	out      string
	html     string
}

func (a *app) benchHTTPCommand() *cobra.Command {
	var f benchHTTPFlags
	cmd := &cobra.Command{
		Use:   "http --url URL",
		Short: "Measure an HTTP endpoint of the application itself",
		Long: `http sends one request again and again at a constant rate, over connections that are kept, and splits its
time: connecting, TLS, until the first byte of the answer. 429 is counted apart from errors: the limiter did
its work. A token comes from the environment, never from a flag.`,
		Example: `  redisopt bench http --url https://app.example/api/contacts --token-env API_TOKEN --p95
  redisopt bench http --url http://127.0.0.1:3000/health --rate 500 --assert 'p99<20ms' --assert 'errors<0.1%'`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.benchHTTP(ctx, f) }),
	}
	set := cmd.Flags()
	set.StringVar(&f.url, "url", "", "the `address`, http:// or https://, without a password")
	set.StringVar(&f.method, "method", "", "the method (default GET, or POST with --body)")
	set.StringArrayVar(&f.headers, "header", nil, "send this `NAME: VALUE` (repeatable); no secrets")
	set.StringVar(&f.tokenEnv, "token-env", "", "send Authorization: Bearer with the token in this environment `variable`")
	set.StringVar(&f.body, "body", "", "send this `text`, or @FILE")
	set.IntVar(&f.status, "status", 0, "the status that is right (0: any below 400)")
	set.BoolVar(&f.follow, "follow", false, "follow redirects")
	f.load.register(set)
	set.BoolVar(&f.strict, "strict", false, "exit 8 where a verdict is inconclusive")
	set.StringVar(&f.p95, "p95", "", "assert the 95th percentile: `limit`")
	set.Lookup("p95").NoOptDefVal = "200ms"
	set.StringArrayVar(&f.asserts, "assert", nil, "assert `METRIC<LIMIT`: p50, p99.9, mean, max, errors, limited or rate (repeatable)")
	set.StringVar(&f.out, "out", "", "write the result, with full histograms, to this `file`")
	set.StringVar(&f.html, "html", "", "write a page with charts to this `file`")
	_ = cmd.MarkFlagRequired("url") // the flag exists
	return cmd
}

// httpPlanData is the contract of bench.http.plan/v1.
type httpPlanData struct {
	URL      string `json:"url"`
	Requests int64  `json:"requests"`
}

// endpoint is the request that the flags describe.
func (a *app) endpoint(f benchHTTPFlags) (scenario.Endpoint, error) {
	e := scenario.Endpoint{URL: f.url, Method: f.method, Header: http.Header{}, Redirects: f.follow, Want: f.status}
	for _, line := range f.headers {
		name, value, found := strings.Cut(line, ":")
		name = strings.TrimSpace(name)
		if !found || name == "" {
			return e, usagef("--header: got %q, want NAME: VALUE", line)
		}
		switch http.CanonicalHeaderKey(name) {
		case "Authorization", "Cookie", "Proxy-Authorization", "X-Api-Key":
			return e, usagef("--header: %s is a secret, which others can read in the process list; use --token-env", name)
		}
		e.Header.Add(name, strings.TrimSpace(value))
	}
	if f.tokenEnv != "" {
		token := a.getenv(f.tokenEnv)
		if token == "" {
			return e, usagef("--token-env: the environment variable %s is not set", f.tokenEnv)
		}
		e.Header.Set("Authorization", "Bearer "+token)
	}
	if f.body != "" {
		e.Body = []byte(f.body)
		if path, isFile := strings.CutPrefix(f.body, "@"); isFile {
			text, err := os.ReadFile(path)
			if err != nil {
				return e, &usageError{fmt.Errorf("--body %s: %w", path, withoutPath(err))}
			}
			e.Body = text
		}
	}
	return e, nil
}

func (a *app) benchHTTP(ctx context.Context, f benchHTTPFlags) error {
	var limits []string
	if f.p95 != "" {
		limits = append(limits, "p95<"+f.p95)
	}
	asserts, err := assertionsOf("", append(limits, f.asserts...))
	if err := errors.Join(err, f.load.validate(), directoriesExist(f.out, f.html)); err != nil {
		return &usageError{err}
	}
	if a.flags.maxCommands > 0 {
		return usagef("--max-commands: bench http cannot count what the endpoint sends to a Redis; --rate and --duration bound the requests")
	}
	e, err := a.endpoint(f)
	if err != nil {
		return err
	}
	prepared, err := scenario.HTTP(e)
	if err != nil {
		return &usageError{fmt.Errorf("--url: %w", err)}
	}
	defer func() { _ = prepared.Close(ctx) }() // it closes idle connections
	run := f.load.options(a.flags.timeout)
	if a.flags.dryRun {
		return a.print(report.Document{
			Kind: "bench.http.plan/v1", Title: "plan: benchmark", Data: httpPlanData{URL: e.String(), Requests: int64(run.Pace.Count())},
			Sections: []report.Section{{Fields: []report.Field{{Name: "url", Value: e.String()}, {Name: "requests", Value: fmt.Sprint(run.Pace.Count())}}}},
		})
	}
	progress := a.progress("requests")
	progress.begin("http", 0)
	run.OnProgress = func(now bench.Progress) { progress.update(now.Done, int64(run.Pace.Count())) }
	r, runErr := bench.Run(ctx, run, prepared.Operation)
	progress.finish()
	if r == nil {
		return &usageError{runErr}
	}
	if runErr == nil && r.Done == 0 && r.Limited == 0 && r.Errors["connection"]+r.Errors["timeout"] == r.Started {
		runErr = &unansweredError{fmt.Errorf("none of %d requests was answered: %s", r.Started, r.FirstError)}
	}
	if runErr == nil && r.Done == 0 && r.Limited == 0 && r.Started > 0 && len(asserts) == 0 {
		runErr = fmt.Errorf("none of %d requests was answered as it should: %s", r.Started, r.FirstError)
	}
	file := a.benchFile(0, e.String(), true, []bench.Measured{{Name: "http", Result: r, Commands: -1, InScript: -1}})
	return a.finishBench(file, asserts, f.out, f.html, f.strict, runErr)
}

// An unansweredError means that an endpoint did not answer at all.
type unansweredError struct{ err error }

func (e *unansweredError) Error() string { return e.err.Error() }
func (e *unansweredError) Unwrap() error { return e.err }
