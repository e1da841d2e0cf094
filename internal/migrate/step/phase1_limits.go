package step

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// Differences between the clocks of both sides: from the first on they are told, from the second on phase 1
// does not begin.
const (
	clockTold    = time.Second
	clockRefused = 5 * time.Second
)

// clockProblems are those of clocks that differ: each side counts limits by its own, so what is counted on both
// while a subject is carried is added up wrongly by what comes in the difference. Price: 1 command on each
// side. A side that does not tell its time has none.
func (p *Phase1) clockProblems(ctx context.Context) []migrate.Problem {
	began := time.Now()
	old, err := p.client.Time(ctx).Result()
	if err != nil {
		return nil
	}
	next, err := p.New.Time(ctx).Result()
	if err != nil {
		return nil
	}
	// The new side was asked a little later; how much of it is the way there nobody knows.
	differ := next.Sub(old)
	if differ > 0 {
		differ = max(0, differ-time.Since(began))
	}
	if differ.Abs() < clockTold {
		return nil
	}
	return []migrate.Problem{{
		Rule: "clocks-differ", Subject: ramp.Limit, Blocking: differ.Abs() >= clockRefused,
		Message: fmt.Sprintf("the clocks of both sides differ by %s, so limits of subjects that are carried may admit what comes in that time once more", differ.Abs().Round(100*time.Millisecond)),
		Fix:     "have both servers set their clocks (NTP), or move the cache alone with --route cache",
	}}
}

// limitProblems has the new side decide about a subject that nobody else has, by every algorithm that moves: two
// of three requests are to pass. Price: 15 scripts of about 3 commands on the new side, whose 5 keys expire
// within two minutes.
func (p *Phase1) limitProblems(ctx context.Context) []migrate.Problem {
	for _, algorithm := range []limit.Algorithm{limit.SlidingWindow, limit.SlidingLog, limit.SlidingCounter, limit.FixedWindow, limit.TokenBucket} {
		if why := decides(ctx, p.New, algorithm); why != "" {
			return []migrate.Problem{{
				Rule: "limits-not-decided", Subject: p.plan.New, Message: "the new side does not decide limits as it should: " + why, Blocking: true,
				Fix: "see that it runs Lua scripts (EVAL) and that the credentials may, or move the cache alone with --route cache",
			}}
		}
	}
	return nil
}

// decides says what is wrong with how a Redis decides by an algorithm, empty where nothing is. One that counts by
// whole periods is asked once more, as the period may have ended in between.
func decides(ctx context.Context, client redis.UniversalClient, algorithm limit.Algorithm) string {
	why := ""
	for range 2 {
		limiter, err := limit.New(limit.Options{
			Client: client, Prefix: probeName, Deadline: 5 * time.Second,
			Rules: []limit.Rule{{Name: "phase1", Algorithm: algorithm, Limit: 2, By: limit.ByKey, Lease: limit.LeaseOff, OnError: limit.Closed}},
		})
		if err != nil {
			return err.Error()
		}
		who := limit.Request{Rule: "phase1", Subject: limit.Subject{Key: rand.Text()}}
		if why = decidesThree(ctx, limiter, who); why == "" {
			return ""
		}
		why = string(algorithm) + ": " + why
	}
	return why
}

// decidesThree asks three times where two may pass.
func decidesThree(ctx context.Context, limiter *limit.Limiter, who limit.Request) string {
	for i, want := range []bool{true, true, false} {
		r, err := limiter.Check(ctx, who)
		switch {
		case err != nil:
			return err.Error()
		case r.Reason != limit.ReasonChecked:
			return "it did not answer"
		case r.Allowed != want:
			return fmt.Sprintf("request %d of 3 where 2 may pass was answered %v", i+1, r.Allowed)
		}
	}
	return ""
}
