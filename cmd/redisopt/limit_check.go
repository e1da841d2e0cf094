package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/limit"
)

func (a *app) limitCheckCommand() *cobra.Command {
	var ask limitAsk
	cmd := &cobra.Command{
		Use:   "check RULE KEY",
		Short: "Ask for one request, as an application would; exit 3 when it is denied",
		Long: `Asks whether one request may go on, and counts it when it may. KEY is what the rule counts by: a user,
an address, a telephone number. A denied request consumes nothing and is exit 3. With --dry-run nothing is
counted. Costs 4 commands when admitted, 3 when denied, those inside the script included, and 1 more when
the server does not have the script yet.`,
		Example: `  redisopt limit check api user-42
  redisopt limit check api user-42 --cost 5 --tier pro -o json`,
		Args: cobra.ExactArgs(2),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.limitCheck(ctx, ask, args[0], args[1]) }),
	}
	ask.register(cmd)
	return cmd
}

func (a *app) limitCheck(ctx context.Context, ask limitAsk, rule, who string) error {
	return a.withLimiter(ctx, true, func(l *limit.Limiter) error {
		req, err := ask.request(l, rule, who)
		if err != nil {
			return err
		}
		decide := l.Check
		if a.flags.dryRun {
			decide = l.Peek
		}
		r, err := decide(ctx, req)
		if err != nil {
			return err
		}
		switch r.Reason {
		case limit.ReasonLocal, limit.ReasonOpen, limit.ReasonClosed:
			return nil // withLimiter has the reason
		case limit.ReasonChecked, limit.ReasonLeased, limit.ReasonBlocked, limit.ReasonTooLarge, limit.ReasonOther:
		}
		return a.answerLimit(l, "limit.check/v1", req, r)
	})
}

// answerLimit prints what a limit says, and is a verdict when it says no.
func (a *app) answerLimit(l *limit.Limiter, kind string, req limit.Request, r limit.Result) error {
	data, err := limitAnswer(l, req, r)
	if err != nil {
		return err
	}
	if err := a.print(limitDocument(kind, data)); err != nil {
		return err
	}
	if !r.Allowed {
		return verdictf(exitViolated, "denied: %d of %d used", r.Used, r.Limit)
	}
	return nil
}

func (a *app) limitPeekCommand() *cobra.Command {
	var ask limitAsk
	cmd := &cobra.Command{
		Use:   "peek RULE KEY",
		Short: "What a check would say, without counting anything",
		Long: `Reads what was used and says what a check would be answered. Reads only: TIME and GET, and ZCOUNT where
a former limiter's set is read too. Exit 0 also when a check would be denied. Replicas of the sidecar may
hold units that they took in advance; those count as used.`,
		Example: `  redisopt limit peek api user-42
  redisopt limit peek sms +15550109999 -o json`,
		Args: cobra.ExactArgs(2),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.limitPeek(ctx, ask, args[0], args[1]) }),
	}
	ask.register(cmd)
	return cmd
}

func (a *app) limitPeek(ctx context.Context, ask limitAsk, rule, who string) error {
	return a.withLimiter(ctx, false, func(l *limit.Limiter) error {
		req, err := ask.request(l, rule, who)
		if err != nil {
			return err
		}
		r, err := l.Peek(ctx, req)
		if err != nil {
			return err
		}
		data, err := limitAnswer(l, req, r)
		if err != nil {
			return err
		}
		return a.print(limitDocument("limit.peek/v1", data))
	})
}

// limitResetData is the contract of limit.reset/v1.
type limitResetData struct {
	Rule    string `json:"rule"`
	Key     string `json:"key"`
	Used    int64  `json:"used"`
	Limit   int64  `json:"limit"`
	Changed bool   `json:"changed"`
}

func (a *app) limitResetCommand() *cobra.Command {
	var ask limitAsk
	cmd := &cobra.Command{
		Use:   "reset RULE KEY",
		Short: "Forget what a subject has used",
		Long: `Shows what was used, asks, and forgets it: the next request is the first. Replicas of the sidecar that
remember a denial go on denying until the time they were told, at most one period. Where a former limiter's
set is only read it is left alone. Costs 3 commands.`,
		Example: `  redisopt limit reset api user-42 --dry-run
  redisopt limit reset sms +15550109999 --yes`,
		Args: cobra.ExactArgs(2),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.limitReset(ctx, ask, args[0], args[1]) }),
	}
	cmd.Flags().StringVar(&ask.feature, "feature", "", "the `feature` that is counted apart")
	return cmd
}

func (a *app) limitReset(ctx context.Context, ask limitAsk, rule, who string) error {
	return a.withLimiter(ctx, true, func(l *limit.Limiter) error {
		req, err := ask.request(l, rule, who)
		if err != nil {
			return err
		}
		key, _, err := l.Key(req)
		if err != nil {
			return err
		}
		r, err := l.Peek(ctx, req)
		if err != nil {
			return err
		}
		data := limitResetData{Rule: rule, Key: key, Used: r.Used, Limit: r.Limit}
		if a.flags.dryRun {
			return a.print(limitResetDocument(data))
		}
		if err := a.confirm(ctx, limitResetDocument(data), "Forget it?"); err != nil {
			return err
		}
		if err := l.Reset(ctx, req); err != nil {
			return err
		}
		data.Changed = true
		return a.print(limitResetDocument(data))
	})
}

// limitResetDocument is limit.reset/v1.
func limitResetDocument(d limitResetData) report.Document {
	what := "would forget"
	if d.Changed {
		what = "forgot"
	}
	return report.Document{
		Kind: "limit.reset/v1", Data: d, Title: "limit " + d.Rule,
		Sections: []report.Section{{Fields: []report.Field{
			{Name: what, Value: fmt.Sprintf("%d used of %d", d.Used, d.Limit)},
			{Name: "key", Value: d.Key},
		}}},
	}
}
