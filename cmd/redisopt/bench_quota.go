package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

const (
	// quotaPatience bounds how long Upstash is asked what is left.
	quotaPatience = 15 * time.Second

	// quotaEvery is how often it is asked again during a run, since others spend of the same budget. Its
	// Developer API costs no command.
	quotaEvery = 30 * time.Second
)

// A quotaGuard says how many commands a benchmark may spend of what the month's budget leaves.
type quotaGuard struct {
	limit   int64        // commands of the month that may be used, by everybody
	used    int64        // when the run began
	spent   func() int64 // by this run
	allowed atomic.Int64 // of spent
}

// learn takes what everybody has used this month. What Upstash says lags behind, so that some of what was spent
// here may be missing in it: what may be spent never grows.
func (g *quotaGuard) learn(used int64) {
	if now := g.spent() + g.limit - used; now < g.allowed.Load() {
		g.allowed.Store(now)
	}
}

// watch asks again and again until ctx ends. A question that is not answered is told to failed, and what was
// known before holds.
func (g *quotaGuard) watch(ctx context.Context, every time.Duration, ask func(context.Context) (int64, error), failed func(error)) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		used, err := ask(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			failed(err)
		default:
			g.learn(used)
		}
	}
}

// monthUsed is how many commands of the month Upstash says were used; known is false where it does not say.
func (a *app) monthUsed(ctx context.Context, conf *config.Config) (used int64, known bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, quotaPatience)
	defer cancel()
	usage, err := a.upstashUsage(ctx, conf, "")
	if err != nil {
		return 0, false, fmt.Errorf("how much of the month's budget is left: %w", err)
	}
	if usage == nil || usage.MonthToDate == nil {
		return 0, false, nil
	}
	return int64(*usage.MonthToDate), true, nil
}

// withQuota calls run with what may be spent of the month's budget in p, where that is known: from the configured
// budget and what Upstash says was used, which is asked again meanwhile. A run of want commands that does not fit
// is refused. Of several targets that are the same database, spent is the sum.
func (a *app) withQuota(ctx context.Context, conf *config.Config, p *scenario.Plan, t *benchTarget, want int64, spent func() int64, run func() error) error {
	budget := conf.Budgets.Commands
	if !t.evidence || budget.PerMonth == 0 || conf.Upstash.Email == "" {
		return run()
	}
	used, known, err := a.monthUsed(ctx, conf)
	if err != nil {
		return err
	}
	if !known {
		a.note("warning: Upstash does not say how many commands were used this month")
		return run()
	}
	g := &quotaGuard{limit: int64(float64(budget.PerMonth) * budget.FailAt), used: used, spent: spent}
	left := g.limit - used
	if want > left {
		return withHint(verdictf(exitTryLater, "the benchmark may take %d commands, and the month's budget leaves %d (%d used, failing at %g%% of %d)",
			want, max(0, left), used, budget.FailAt*100, budget.PerMonth), "a lower --rate or --duration, fewer scenarios, or next month")
	}
	g.allowed.Store(left)
	p.Allowed = g.allowed.Load
	watching, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		told := false
		g.watch(watching, quotaEvery, func(ctx context.Context) (int64, error) {
			used, known, err := a.monthUsed(ctx, conf)
			if err == nil && !known {
				err = errors.New("how much of the month's budget is left: Upstash does not say it any more")
			}
			return used, err
		}, func(err error) {
			if !told {
				a.note("warning: %v; what was left at the beginning holds", err)
			}
			told = true
		})
	})
	err = run()
	stop()
	wg.Wait()
	if errors.Is(err, scenario.ErrNear) {
		err = withHint(errors.Join(err, verdictf(exitTryLater, "of %d commands for this month %d were used before, and others may have used more meanwhile", g.limit, g.used)),
			"what was measured before is kept; go on next month, or with a larger budgets.commands.per_month")
	}
	return err
}
