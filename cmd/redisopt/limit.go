package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// limitCommand is the group of commands about rate limits.
func (a *app) limitCommand() *cobra.Command {
	return a.group("limit", "Rate limits: ask, look, reset, and try rules on a trace", `  redisopt limit rules
  redisopt limit peek api user-42
  redisopt limit simulate --limit 10 --rate 12/1m`,
		a.limitCheckCommand(), a.limitPeekCommand(), a.limitResetCommand(), a.limitRulesCommand(), a.limitSimulateCommand())
}

// limitAsk is what the commands about one subject are told.
type limitAsk struct {
	cost    int64
	tier    string
	feature string
}

func (f *limitAsk) register(cmd *cobra.Command) {
	cmd.Flags().Int64Var(&f.cost, "cost", 1, "how much of the quota the request takes")
	cmd.Flags().StringVar(&f.tier, "tier", "", "the `tier` whose limit holds (default: the rule's own limit)")
	cmd.Flags().StringVar(&f.feature, "feature", "", "count for this `feature` apart from others")
}

// request makes a request of the rule's name and of whom it counts, as the rule counts.
func (f limitAsk) request(l *limit.Limiter, name, who string) (limit.Request, error) {
	for _, r := range l.Rules() {
		if r.Name != name {
			continue
		}
		req := limit.Request{Rule: name, Tier: f.tier, Feature: f.feature, Cost: f.cost}
		switch r.By {
		case limit.ByUser:
			req.Subject.User = who
		case limit.ByToken:
			req.Subject.Token = who
		case limit.ByPhone:
			req.Subject.Phone = who
		case limit.ByKey:
			req.Subject.Key = who
		case limit.ByIP:
			addr, err := netip.ParseAddr(who)
			if err != nil {
				return req, usagef("rule %s counts by address, and %q is none", name, who)
			}
			req.Subject.IP = addr
		}
		return req, nil
	}
	return limit.Request{}, withHint(usagef("no such rule: %s", name), "redisopt limit rules shows which there are")
}

// withLimiter opens the Redis of the limits, over REST where that is configured, and calls f with a
// limiter of the configured rules. What went wrong with Redis is an error here, where an application would
// be answered by the rule's on_error.
func (a *app) withLimiter(ctx context.Context, writes bool, f func(l *limit.Limiter) error) error {
	use := redisUse{component: meter.RateLimit, writes: writes, need: config.Need{Upstream: true, Limits: true}}
	return a.withRedis(ctx, use, func(up *upstream.Upstream, conf *config.Config) error {
		opts := sidecar.LimitOptions(conf)
		opts.Client = up.Client()
		opts.Cluster = len(conf.Upstream.Cluster) > 0
		opts.Deadline = conf.Upstream.Timeout // a person waits longer than a request may
		opts.InScript = func(command string, n int64) { up.AddInScript(meter.RateLimit, command, n) }
		var failure error
		opts.Event = func(e limit.Event) { failure = errors.Join(failure, e.Err) }
		l, err := limit.New(opts)
		if err != nil {
			return &usageError{err}
		}
		return errors.Join(usageOfLimit(f(l)), failure)
	})
}

// usageOfLimit marks what was wrong with a request as a mistake of usage.
func usageOfLimit(err error) error {
	if errors.Is(err, limit.ErrNoIdentity) || errors.Is(err, limit.ErrBadCost) || errors.Is(err, limit.ErrUnknownRule) {
		return &usageError{err}
	}
	return err
}

// limitData is the contract of limit.check/v1 and limit.peek/v1.
type limitData struct {
	limit.Result
	Key          string  `json:"key"`
	Cost         int64   `json:"cost"`
	PeriodS      float64 `json:"period_s"`
	ResetAfterS  float64 `json:"reset_after_s"`
	RetryAfterS  float64 `json:"retry_after_s"`
	FormerKey    string  `json:"former_key"`
	HeaderFields []field `json:"header_fields"`
}

// field is one HTTP header field.
type field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func limitAnswer(l *limit.Limiter, req limit.Request, r limit.Result) (limitData, error) {
	key, former, err := l.Key(req)
	data := limitData{
		Result: r, Key: key, FormerKey: former, Cost: max(1, req.Cost), PeriodS: r.Period.Seconds(),
		ResetAfterS: r.ResetAfter.Seconds(), RetryAfterS: r.RetryAfter.Seconds(), HeaderFields: []field{},
	}
	for _, h := range limit.Headers(l.Shadowed, r) {
		data.HeaderFields = append(data.HeaderFields, field{h.Name, h.Value})
	}
	return data, err
}

// limitDocument is limit.check/v1 or limit.peek/v1.
func limitDocument(kind string, d limitData) report.Document {
	answer := "admitted"
	switch {
	case !d.Allowed:
		answer = "denied"
	case d.OverLimit:
		answer = "over the limit, admitted all the same: the rule does not enforce"
	case d.NearLimit:
		answer = "admitted, near the limit"
	}
	fields := []report.Field{
		{Name: "answer", Value: answer},
		{Name: "used", Value: fmt.Sprintf("%d of %d in %s", d.Used, d.Limit, roughly(d.Period))},
		{Name: "remaining", Value: fmt.Sprint(d.Remaining)},
	}
	if d.ResetAfter > 0 {
		fields = append(fields, report.Field{Name: "reset", Value: "in " + roughly(d.ResetAfter.Round(time.Millisecond))})
	}
	if d.RetryAfter > 0 {
		fields = append(fields, report.Field{Name: "retry", Value: "in " + roughly(d.RetryAfter.Round(time.Millisecond))})
	}
	if d.Reason == limit.ReasonTooLarge {
		fields = append(fields, report.Field{Name: "retry", Value: "never: the cost exceeds the limit"})
	}
	fields = append(fields, report.Field{Name: "key", Value: d.Key})
	if d.FormerKey != "" && d.FormerKey != d.Key {
		fields = append(fields, report.Field{Name: "and counted in", Value: d.FormerKey})
	}
	for _, h := range d.HeaderFields {
		fields = append(fields, report.Field{Name: h.Name, Value: h.Value})
	}
	verdict := report.Pass
	if !d.Allowed {
		verdict = report.Fail
	}
	return report.Document{
		Kind: kind, Data: d, Title: fmt.Sprintf("limit %s", d.Rule),
		Sections: []report.Section{{Fields: fields}},
		Checks:   []report.Check{{Group: "limit", Name: d.Rule, Verdict: verdict, Message: answer}},
	}
}

// boundWords is what a rule admits at worst, short enough for a table.
func boundWords(b window.Bound) string {
	if b.Over > 0 {
		return fmt.Sprintf("%d (+%d)", b.Max, b.Over)
	}
	return fmt.Sprint(b.Max)
}
