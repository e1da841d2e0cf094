package limit

import (
	"context"
	"crypto/sha1" //nolint:gosec // Redis names scripts by SHA-1
	_ "embed"     // the script is compiled in
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// checkScript is what Redis runs for a check.
//
//go:embed check.lua
var checkScript string

// scriptName is the name that Redis gives to checkScript.
var scriptName = sync.OnceValue(func() string {
	sum := sha1.Sum([]byte(checkScript)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
})

// wordsPerLimit and numbersPerLimit are how the script takes and answers one limit.
const (
	wordsPerLimit   = 13
	numbersPerLimit = 7
)

// An ask is one limit of a script call.
type ask struct {
	plan   *plan
	key    string
	former string // key of the former limiter's set, or none
	soft   bool   // its denial does not keep others from passing
	carry  string // where its bucket must be, as the script takes it; empty: anywhere
	window.Ask
}

// answer is what the script said about one limit.
type answer struct {
	window.Decision
	outside bool // the server's time is outside the calendar edges that were sent
	moved   bool // the bucket is not here: Stamp is its generation and Retry its level
}

// reply is what a script call gave.
type reply struct {
	answers  []answer
	now      int64 // the server's time in microseconds
	commands int64 // billed, the script itself included
}

// call runs the script once on one side for asks, which are in one slot. The edges of calendar periods are taken
// around now, in microseconds.
func (l *Limiter) call(ctx context.Context, on side, asks []ask, all bool, now int64) (reply, error) {
	keys, args := l.arguments(asks, all, now)
	began := time.Now()
	cmd, name, failed := evaluate(ctx, on.client, keys, args)
	numbers, err := cmd.Int64Slice()
	on.observed(time.Since(began), err)
	if err != nil {
		return reply{commands: failed + 1}, err
	}
	r, err := understood(numbers, len(asks))
	r.commands += failed + 1
	if err == nil {
		on.inScript(name, numbers[0])
	}
	return r, err
}

// arguments are what the script takes for asks.
func (l *Limiter) arguments(asks []ask, all bool, now int64) (keys []string, args []any) {
	keys = make([]string, len(asks), 2*len(asks))
	mode := "each"
	if all {
		mode = "all"
	}
	args = make([]any, 3, 3+wordsPerLimit*len(asks))
	args[0], args[1], args[2] = mode, strconv.Itoa(len(asks)), l.unique()
	for i, a := range asks {
		keys[i] = a.key
		former := 0
		if a.former != "" && a.plan.letter != "Z" {
			keys = append(keys, a.former)
			former = len(keys)
		}
		args = append(args, a.words(former, now)...)
	}
	return keys, args
}

// understood is what the numbers say that the script answered about n limits, without the price of the call.
func understood(numbers []int64, n int) (reply, error) {
	if len(numbers) != 2+numbersPerLimit*n {
		return reply{}, fmt.Errorf("the script answered %d numbers, want %d", len(numbers), 2+numbersPerLimit*n)
	}
	r := reply{now: numbers[1], commands: numbers[0], answers: make([]answer, n)}
	for i := range r.answers {
		n := numbers[2+numbersPerLimit*i:]
		r.answers[i] = answer{
			Decision: window.Decision{
				Granted: max(0, n[0]), Used: n[1], Reset: n[2], Retry: n[3], RetryWant: n[4], Stamp: n[5], Hold: n[6],
			},
			outside: n[0] == -1,
			moved:   n[0] == -2,
		}
	}
	return r, nil
}

// evaluate runs the script by its name, and by its text when the server does not know it. It returns
// which command gave the reply and how many failed before.
func evaluate(ctx context.Context, client redis.UniversalClient, keys []string, args []any) (cmd *redis.Cmd, name string, failed int64) {
	cmd = client.EvalSha(ctx, scriptName(), keys, args...)
	if err := cmd.Err(); err == nil || !isNoScript(err) {
		return cmd, "evalsha", 0
	}
	return client.Eval(ctx, checkScript, keys, args...), "eval", 1
}

func isNoScript(err error) bool {
	e, ok := errors.AsType[redis.Error](err)
	return ok && strings.HasPrefix(e.Error(), "NOSCRIPT")
}

// words is one limit as the script takes it.
func (a ask) words(former int, now int64) []any {
	p := a.plan.policy
	width := p.Width().Microseconds()
	if p.Algorithm == TokenBucket {
		width = p.Limit
	}
	edges, soft, carry := "-", "0", "-"
	if p.Algorithm == Calendar {
		e := p.Edges(now)
		edges = fmt.Sprintf("%d,%d,%d,%d", e[0], e[1], e[2], e[3])
	}
	if a.soft {
		soft = "1"
	}
	if a.carry != "" {
		carry = a.carry
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	return []any{
		a.plan.letter, n(p.Capacity()), n(max(1, p.Period.Microseconds())), n(width), n(a.Min), n(a.Want), n(a.Hold),
		n(a.Give), n(a.Stamp), n(int64(former)), edges, soft, carry,
	}
}

// unique names one call, for members of a shared set.
func (l *Limiter) unique() string {
	return l.nonce + strconv.FormatInt(l.serial.Add(1), 36)
}
