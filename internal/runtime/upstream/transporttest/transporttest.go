// Package transporttest is one suite of tests for every way to a Redis: what a client is promised holds
// over TCP, over a shared connection, over REST and in memory alike, and what a way cannot do it refuses
// at once and by name.
package transporttest

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// Caps are what a way can do besides what all can.
type Caps struct {
	// Binary: arguments may be any bytes. Otherwise those that are not UTF-8 are refused.
	Binary bool

	// Blocking: commands may wait for data. Otherwise they are refused.
	Blocking bool

	// Watch: keys can be watched. Otherwise WATCH is refused.
	Watch bool

	// Without names the cases that what is behind the way cannot pass, with the reason. They are left
	// out, and said to be. A name that is no case fails the suite.
	Without map[string]string

	// Server reaches the Redis behind the way directly. With it, what was counted is compared with what
	// that Redis counted. nil skips the comparison.
	Server redis.UniversalClient
}

// A way is what a case works with.
type way struct {
	caps Caps
	u    *upstream.Upstream
	c    redis.UniversalClient
	at   string // begins the keys of the case
}

func (w way) key(name string) string { return w.at + ":" + name }

type testCase struct {
	name string
	run  func(t *testing.T, w way)
}

func cases() []testCase {
	return []testCase{
		{"strings, numbers and missing keys", testStrings},
		{"hashes", testHashes},
		{"lists", testLists},
		{"sets", testSets},
		{"sorted sets with scores", testSortedSets},
		{"streams", testStreams},
		{"nested replies", testNested},
		{"text of every script", testUnicode},
		{"binary arguments", testBinary},
		{"big values and big replies", testBig},
		{"errors are the server's", testErrors},
		{"pipelines of 1, 50 and 20,000", testPipelines},
		{"errors inside pipelines", testPipelineErrors},
		{"transactions", testTransactions},
		{"transactions that fail", testFailedTransactions},
		{"scripts, which are loaded when they are missing", testScripts},
		{"expiry", testExpiry},
		{"iteration", testScan},
		{"deadlines", testDeadlines},
		{"cancelled contexts", testCancel},
		{"100 goroutines", testConcurrency},
		{"blocking commands", testBlocking},
		{"watched keys", testWatch},
		{"subscriptions by name and by pattern", testBell},
		{"counts that equal the server's", testCounts},
	}
}

// Run runs the suite over what open returns, which it opens once and closes at the end.
func Run(t *testing.T, open func(t *testing.T) *upstream.Upstream, caps Caps) {
	t.Helper()
	u := open(t)
	t.Cleanup(func() {
		if err := u.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	known := map[string]bool{}
	for _, c := range cases() {
		known[c.name] = true
		if why, ok := caps.Without[c.name]; ok {
			t.Logf("without %s: %s", c.name, why)
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			c.run(t, way{caps, u, u.Client(), "tt:" + strings.ReplaceAll(c.name, " ", "-")})
		})
	}
	for name := range caps.Without {
		if !known[name] {
			t.Errorf("Caps.Without names %q, which is no case", name)
		}
	}
	if u.BinarySafe() != caps.Binary {
		t.Errorf("BinarySafe() = %t, want %t", u.BinarySafe(), caps.Binary)
	}
}

// within is a context for what must end soon.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// equal fails the test when a call failed or returned something else.
func equal[T comparable](t *testing.T, what string, got T, err error, want T) {
	t.Helper()
	if err != nil || got != want {
		t.Errorf("%s = %v, %v, want %v", what, short(got), err, short(want))
	}
}

// refused fails the test when err does not refuse the command by its name.
func refused(t *testing.T, err error, name string) {
	t.Helper()
	if err == nil || !strings.Contains(strings.ToLower(err.Error()), strings.ToLower(name)) {
		t.Errorf("%s = %v, want a refusal that names it", name, err)
	}
}

// short keeps failures readable.
func short(v any) any {
	if s, ok := v.(string); ok && len(s) > 80 {
		return s[:80] + "…"
	}
	return v
}
