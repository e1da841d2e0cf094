package limit

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// spare is what keys live longer in these tests, where time is made up.
const spare = 3600_000

// timedScript is the script with the time as its last argument.
func timedScript() string {
	s := strings.Replace(checkScript, "redis.call('TIME')", "{string.sub(ARGV[#ARGV], 1, -7), string.sub(ARGV[#ARGV], -6)}", 1)
	return strings.Replace(s, "ceil(left / 1000)))", "ceil(left / 1000)) + 3600000)", 1)
}

// at runs the script for asks at a made up time.
func at(t *testing.T, c redis.UniversalClient, now int64, mode string, asks ...ask) []answer {
	t.Helper()
	keys := []string{}
	args := []any{mode, len(asks), fmt.Sprint("id", now)}
	for _, a := range asks {
		keys = append(keys, a.key)
	}
	for _, a := range asks {
		former := 0
		if a.former != "" && a.plan.letter != "Z" {
			keys = append(keys, a.former)
			former = len(keys)
		}
		args = append(args, a.words(former, now)...)
	}
	numbers, err := c.Eval(t.Context(), timedScript(), keys, append(args, strconv.FormatInt(now, 10))...).Int64Slice()
	if err != nil {
		t.Fatal(err)
	}
	out := []answer{}
	for n := numbers[2:]; len(n) > 0; n = n[numbersPerLimit:] {
		out = append(out, answer{window.Decision{
			Granted: max(0, n[0]), Used: n[1], Reset: n[2], Retry: n[3], RetryWant: n[4], Stamp: n[5], Hold: n[6],
		}, n[0] == -1, n[0] == -2})
	}
	return out
}

func planFor(t *testing.T, r Rule) *plan {
	t.Helper()
	r.Name = "r"
	r = r.withDefaults()
	if err := r.validate(); err != nil {
		t.Fatal(err)
	}
	return newCompiled(r, 1).base
}

func scriptRules() []Rule {
	return []Rule{
		{Algorithm: SlidingLog, Limit: 7, Period: 10 * time.Second},
		{Algorithm: SlidingWindow, Limit: 9, Period: 10 * time.Second, Buckets: 10},
		{Algorithm: SlidingWindow, Limit: 3, Period: 7777 * time.Millisecond, Buckets: 13},
		{Algorithm: SlidingCounter, Limit: 8, Period: 10 * time.Second},
		{Algorithm: FixedWindow, Limit: 5, Period: 10 * time.Second},
		{Algorithm: TokenBucket, Limit: 7, Period: 10 * time.Second},
		{Algorithm: TokenBucket, Limit: 70, Period: 11 * time.Second, Burst: 3},
		{Algorithm: Calendar, Limit: 6, TimeZone: "Europe/Berlin"},
		{Algorithm: Calendar, Limit: 6, Every: window.Month, TimeZone: "America/New_York"},
	}
}

// agree runs one random history through the script and through package window and compares every answer
// and every state.
func agree(t *testing.T, c redis.UniversalClient, r Rule, seed uint64, steps int) {
	t.Helper()
	p := planFor(t, r)
	rng := rand.New(rand.NewPCG(seed, 1))
	var state window.State
	now := int64(1_799_999_990_000_000) + rng.Int64N(1e9)
	key := t.Name()
	var given answer
	for i := range steps {
		scale := []int64{0, 1, 900, 400_000, 3_000_000, 12_000_000}
		if r.Algorithm == Calendar {
			scale = append(scale, 6*3600e6, 30*3600e6)
		}
		now += rng.Int64N(scale[rng.IntN(len(scale))] + 1)
		if rng.IntN(40) == 0 {
			now -= rng.Int64N(3_000_000) // the server's clock goes back
		}
		a := window.Ask{Min: 1 + rng.Int64N(3)}
		a.Want = a.Min
		if rng.IntN(3) == 0 {
			a.Want += rng.Int64N(4)
			a.Hold = rng.Int64N(2_000_000)
		}
		if rng.IntN(5) == 0 && given.Granted > 0 {
			a.Give, a.Stamp = 1+rng.Int64N(given.Granted), given.Stamp
			given = answer{}
		}
		before := state.Encode(p.policy)
		want := p.policy.Take(&state, now, a)
		got := at(t, c, now, "each", ask{plan: p, key: key, Ask: a})[0]
		if got.Decision != want || got.outside {
			t.Fatalf("seed %d step %d at %d: ask %+v of %s:\n script %+v\n   here %+v", seed, i, now, a, before, got, want)
		}
		if want.Granted > 0 {
			given = got
			text := c.Get(t.Context(), key).Val()
			if again := state.Encode(p.policy); text != again && r.Algorithm != TokenBucket {
				t.Fatalf("seed %d step %d: the script keeps %q, want %q", seed, i, text, again)
			}
			left := c.PTTL(t.Context(), key).Val().Milliseconds() - spare
			if ttl := p.policy.TTL(state, now); left > ttl || left < ttl-60_000 {
				t.Fatalf("seed %d step %d: kept for %dms, want %dms", seed, i, left, ttl)
			}
			if decoded := window.Decode(p.policy, text); decoded.Encode(p.policy) != text {
				t.Fatalf("seed %d step %d: %q reads back as %q", seed, i, text, decoded.Encode(p.policy))
			}
		}
	}
}

func TestTheScriptAndThePackageWindowDecideAlike(t *testing.T) {
	c := redistest.Start(t).Client(t)
	for _, r := range scriptRules() {
		for seed := range uint64(4) {
			t.Run(fmt.Sprintf("%s %d seed %d", r.Algorithm, r.Limit, seed), func(t *testing.T) { agree(t, c, r, seed, 90) })
		}
	}
}

func TestTheScriptRunsInTheEmbeddedRedisToo(t *testing.T) {
	server, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = server.Close() }()
	opts, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	c := redis.NewClient(opts)
	defer func() { _ = c.Close() }()
	for _, r := range scriptRules() {
		t.Run(fmt.Sprintf("%s %d", r.Algorithm, r.Limit), func(t *testing.T) { agree(t, c, r, 3, 60) })
	}
}
