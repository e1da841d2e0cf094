package step_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
)

// ahead makes a server's clock differ.
type ahead struct{ by time.Duration }

func (ahead) DialHook(next redis.DialHook) redis.DialHook { return next }

func (a ahead) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if now, ok := cmd.(*redis.TimeCmd); ok && err == nil {
			now.SetVal(now.Val().Add(a.by))
		}
		return err
	}
}

func (ahead) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestLimitsAreNotMovedToASideThatDecidesThemInAnotherWay(t *testing.T) {
	rule := func(g *ground, rule string) *migrate.Problem {
		t.Helper()
		var refused *migrate.RefusedError
		err := g.engine(t, &diary{dieAt: -1}).Start(t.Context())
		if !errors.As(err, &refused) {
			t.Fatalf("Start = %v, want it refused", err)
		}
		i := slices.IndexFunc(refused.Problems, func(q migrate.Problem) bool { return q.Rule == rule })
		if i < 0 {
			t.Fatalf("Start = %v, want the problem %s", err, rule)
		}
		return &refused.Problems[i]
	}
	g := newGround(t)
	if err := g.new.Do(t.Context(), "acl", "setuser", "default", "-eval", "-evalsha").Err(); err != nil {
		t.Fatal(err)
	}
	if q := rule(g, "limits-not-decided"); !q.Blocking {
		t.Errorf("a side without scripts: %+v, want it to block", q)
	}
	if n := g.new.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys are on the new side, want none", n)
	}

	g = newGround(t)
	g.new.AddHook(ahead{-time.Minute})
	if q := rule(g, "clocks-differ"); !q.Blocking {
		t.Errorf("clocks a minute apart: %+v, want it to block", q)
	}

	g = newGround(t)
	g.new.AddHook(ahead{9 * time.Second / 2}) // what the answer takes may make it less, and never more
	o, err := g.phase(t, migrate.Env{}).Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(o.Problems, func(q migrate.Problem) bool { return q.Rule == "clocks-differ" })
	if i < 0 || o.Problems[i].Blocking {
		t.Errorf("clocks four and a half seconds apart: %+v, want it told and not blocked", o.Problems)
	}
	if n := g.new.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("planning wrote %d keys on the new side", n)
	}
}
