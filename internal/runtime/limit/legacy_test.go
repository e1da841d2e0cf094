package limit_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// formerCheck is what the former limiter of an application does, for so long a window.
func formerCheck(t *testing.T, c *redis.Client, key string, n int, window time.Duration) {
	t.Helper()
	now := time.Now().UnixMilli()
	for i := range n {
		if err := c.ZAdd(t.Context(), key, redis.Z{Score: float64(now), Member: fmt.Sprintf("%d-0.%d", now, i)}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.Expire(t.Context(), key, window)
}

func TestQuotasCarryOverFromTheFormerLimiter(t *testing.T) {
	s := redistest.Start(t)
	for _, a := range []limit.Algorithm{limit.SlidingLog, limit.SlidingWindow, limit.SlidingCounter, limit.FixedWindow} {
		t.Run(string(a), func(t *testing.T) {
			c := s.Client(t)
			rule := limit.Rule{Name: "api", Algorithm: a, Limit: 10, Period: limit.MaxPeriod, Legacy: "rate_limit:{user}:{type}"}
			l := open(t, limit.Options{Client: c, Rules: []limit.Rule{rule}, Prefix: string(a)})
			key := "rate_limit:" + string(a) + ":api"
			formerCheck(t, c, key, 6, rule.Period)
			c.ZAdd(t.Context(), key, redis.Z{Score: float64(time.Now().Add(-2 * rule.Period).UnixMilli()), Member: "old"})
			for i := range 3 {
				r := check(t, l, user("api", string(a)))
				if !r.Allowed || r.Remaining != int64(3-i) {
					t.Errorf("check %d after 6 of the former: %+v", i+1, r)
				}
				if i > 0 && r.Commands != 5 {
					t.Errorf("check %d cost %d commands, want 5", i+1, r.Commands)
				}
			}
			formerCheck(t, c, key, 7, rule.Period)
			peek, err := l.Peek(t.Context(), user("api", string(a)))
			if err != nil || peek.Allowed || a == limit.SlidingLog && peek.Used != 9 && peek.Used != 16 {
				t.Errorf("peek %+v, %v", peek, err)
			}
			r := check(t, l, user("api", string(a)))
			if r.Allowed || r.RetryAfter <= 0 || r.RetryAfter > 2*rule.Period {
				t.Errorf("both sides together are over: %+v", r)
			}
			price, err := l.Price("api", "")
			if err != nil || price.Admitted != 5 || r.Commands > price.Denied {
				t.Errorf("price %+v, %v, the denied check cost %d", price, err, r.Commands)
			}
		})
	}
	t.Run("a key of another type is no outage", func(t *testing.T) {
		c := s.Client(t)
		c.Set(t.Context(), "rate_limit:eve:api", "x", 0)
		l := open(t, limit.Options{Client: c, Rules: []limit.Rule{{Name: "api", Legacy: "rate_limit:{user}:{type}"}}})
		if r := check(t, l, user("api", "eve")); !r.Allowed || r.Reason != limit.ReasonChecked {
			t.Errorf("%+v", r)
		}
	})
	t.Run("messages are counted under the number as the former limiter wrote it", func(t *testing.T) {
		c := s.Client(t)
		formerCheck(t, c, "sms_rate_limit:+15550109999", 19, time.Hour)
		rule := limit.SMS()
		rule.Legacy = "sms_rate_limit:{user}"
		l := open(t, limit.Options{Client: c, Rules: []limit.Rule{rule}, HashKey: []byte("0123456789abcdef")})
		req := limit.Request{Rule: "sms", Subject: limit.Subject{Phone: "+1 555 010 9999"}}
		if first, second := check(t, l, req), check(t, l, req); !first.Allowed || second.Allowed {
			t.Errorf("%+v then %+v, want the 20th and no 21st", first, second)
		}
	})
}

func TestASharedSetCountsBothSidesOnce(t *testing.T) {
	c := redistest.Start(t).Client(t)
	rule := limit.Rule{
		Name: "api", Algorithm: limit.SlidingLog, Limit: 10, Period: time.Hour,
		Legacy: "rate_limit:{user}:{type}", LegacyShare: true,
	}
	l := open(t, limit.Options{Client: c, Rules: []limit.Rule{rule}})
	const key = "rate_limit:ann:api"
	formerCheck(t, c, key, 4, rule.Period)
	for i := range 6 {
		r := check(t, l, user("api", "ann"))
		if !r.Allowed || r.Remaining != int64(5-i) {
			t.Errorf("check %d after 4 of the former: %+v", i+1, r)
		}
		if i > 0 && r.Commands != 6 {
			t.Errorf("check %d cost %d commands, want 6", i+1, r.Commands)
		}
	}
	if n := c.ZCard(t.Context(), key).Val(); n != 10 {
		t.Errorf("the former limiter sees %d requests, want all 10", n)
	}
	r := check(t, l, user("api", "ann"))
	if r.Allowed || r.RetryAfter <= 0 || r.RetryAfter > rule.Period+time.Millisecond {
		t.Errorf("an eleventh: %+v", r)
	}
	if n := c.ZCard(t.Context(), key).Val(); n != 10 {
		t.Errorf("a denied request is in the set: %d", n)
	}
	// The hour passes: what is in the set was an hour ago, and so was the denial that is remembered.
	for _, z := range c.ZRangeWithScores(t.Context(), key, 0, -1).Val() {
		z.Score -= float64(rule.Period.Milliseconds())
		c.ZAdd(t.Context(), key, z)
	}
	l.Asleep(r.RetryAfter.Microseconds())
	if r := check(t, l, user("api", "ann")); !r.Allowed {
		t.Errorf("after the wait it was told: %+v", r)
	}
	if n := c.ZCard(t.Context(), key).Val(); n != 1 {
		t.Errorf("%d in the set, want the old ones removed", n)
	}
	if ttl := c.PTTL(t.Context(), key).Val(); ttl <= 0 || ttl > rule.Period {
		t.Errorf("the set lives for %s", ttl)
	}
	if peek, err := l.Peek(t.Context(), user("api", "ann")); err != nil || peek.Used < 1 {
		t.Errorf("peek %+v, %v", peek, err)
	}
	big := user("api", "bob")
	big.Cost = 10
	if r := check(t, l, big); !r.Allowed || c.ZCard(t.Context(), "rate_limit:bob:api").Val() != 10 {
		t.Errorf("ten in one millisecond count as %d: %+v", c.ZCard(t.Context(), "rate_limit:bob:api").Val(), r)
	}
}
