package api

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A Probe is how readiness tests one upstream.
type Probe struct {
	// Name is what the upstream is called in the answer: "cache", "queue". Needed.
	Name string

	// Transport is "tcp", "rest" or "embedded", for the answer.
	Transport string

	// Embedded is true for the volatile store inside this program.
	Embedded bool

	// Optional is true when the server is ready without this upstream too, because what uses it has
	// something to fall back on. It is tested and shown all the same.
	Optional bool

	// Write tests a write, which fails when a plan's quota or storage is used up or the server is a
	// read-only replica; a PING does not. WriteTest makes one. Needed.
	Write func(ctx context.Context) error

	// Failures counts the commands of this upstream that went wrong so far; it may be nil, and must
	// not send anything. When it has grown, the last good result is looked at again after
	// ReprobeAfter instead of ReadyFor, so that real traffic tells of an outage.
	Failures func() int64
}

// How often an upstream is tested, however often readiness is asked. One write test is one command, so
// a replica spends for each upstream at most 8,640 commands in a 30-day month while all is well, and at
// most 43,200 in a month in which the upstream fails all the time.
const (
	// ReadyFor is how long a write that succeeded counts.
	ReadyFor = 5 * time.Minute

	// ReprobeAfter is how long it counts when commands went wrong since, and the longest pause
	// between tests of an upstream that fails.
	ReprobeAfter = time.Minute

	// firstRetry is the first pause after a write that failed; each further one is twice as long.
	firstRetry = 5 * time.Second
)

// ProbeTTL is how long the key lives that WriteTest writes.
const ProbeTTL = 10 * time.Minute

// WriteTest is a Probe.Write that sets key for ProbeTTL: 1 command.
func WriteTest(client redis.UniversalClient, key string) func(ctx context.Context) error {
	return func(ctx context.Context) error { return client.Set(ctx, key, "1", ProbeTTL).Err() }
}

// A readiness remembers the last test of each upstream.
type readiness struct{ upstreams []*upstreamTest }

func newReadiness(probes []Probe, timeout time.Duration) *readiness {
	r := &readiness{}
	for _, p := range probes {
		r.upstreams = append(r.upstreams, &upstreamTest{probe: p, timeout: timeout})
	}
	return r
}

// check is the state of every upstream, tested anew where it is time to. All are tested at once.
func (r *readiness) check(ctx context.Context) []tested {
	results := make([]tested, len(r.upstreams))
	var all sync.WaitGroup
	for i, u := range r.upstreams {
		all.Go(func() { results[i] = u.result(ctx) })
	}
	all.Wait()
	return results
}

// last is the state of every upstream as far as it is known, without a test.
func (r *readiness) last() []tested {
	results := make([]tested, 0, len(r.upstreams))
	for _, u := range r.upstreams {
		u.mu.Lock()
		if !u.last.at.IsZero() {
			results = append(results, u.last)
		}
		u.mu.Unlock()
	}
	return results
}

// A tested is the result of one write test.
type tested struct {
	probe Probe
	at    time.Time
	err   error
}

type upstreamTest struct {
	probe   Probe
	timeout time.Duration

	mu       sync.Mutex
	last     tested
	failures int64         // Probe.Failures at the last test
	pause    time.Duration // until the next test of one that fails
	running  chan struct{} // closed when the test under way has ended; nil when there is none
}

// result is the last result while it counts, else that of a new test. Callers that come during a test
// wait for it instead of making another.
func (u *upstreamTest) result(ctx context.Context) tested {
	for {
		u.mu.Lock()
		if !u.due(time.Now()) {
			defer u.mu.Unlock()
			return u.last
		}
		if u.running == nil {
			u.running = make(chan struct{})
			u.mu.Unlock()
			return u.test(ctx)
		}
		running := u.running
		u.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
			return tested{probe: u.probe, at: time.Now(), err: ctx.Err()}
		}
	}
}

// due is called with the lock held.
func (u *upstreamTest) due(now time.Time) bool {
	age := now.Sub(u.last.at)
	switch {
	case u.last.at.IsZero():
		return true
	case u.last.err != nil:
		return age >= u.pause
	case age < ReprobeAfter:
		return false
	case age >= ReadyFor:
		return true
	}
	return u.probe.Failures != nil && u.probe.Failures() > u.failures
}

// test does not end with the request that asked for it: others wait for the result.
func (u *upstreamTest) test(ctx context.Context) tested {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), u.timeout)
	defer cancel()
	now := tested{probe: u.probe}
	now.err = errors.New("the write test panicked")
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		now.at = time.Now()
		switch {
		case now.err == nil:
			u.pause = 0
		case u.last.err == nil || u.last.at.IsZero():
			u.pause = firstRetry
		default:
			u.pause = min(2*u.pause, ReprobeAfter)
		}
		u.last = now
		if u.probe.Failures != nil {
			u.failures = u.probe.Failures()
		}
		close(u.running)
		u.running = nil
	}()
	now.err = u.probe.Write(ctx)
	now.at = time.Now()
	return now
}

// cause says in words what an error class means, without naming hosts: anybody may ask for readiness.
func cause(c upstream.Class) string {
	switch c {
	case upstream.Quota:
		return "the plan's command quota is used up"
	case upstream.Capacity:
		return "no storage is left, so writes are refused"
	case upstream.Auth:
		return "the credentials are wrong or missing"
	case upstream.Permission:
		return "the user may not write, or the server is a read-only replica"
	case upstream.TLSMismatch:
		return "one side speaks TLS and the other does not"
	case upstream.TLSUntrusted:
		return "the certificate is not trusted"
	case upstream.Refused, upstream.Unreachable:
		return "nothing answers at its address"
	case upstream.DNS:
		return "its host name does not resolve"
	case upstream.Timedout, upstream.Canceled:
		return "it did not answer in time"
	case upstream.Reset, upstream.IdleClose:
		return "the connection was lost"
	case upstream.ConnectionLimit:
		return "no further connection is allowed"
	case upstream.Loading:
		return "it is starting, or a part of the cluster is down"
	case upstream.NotRedis:
		return "something that is no Redis answers at its address"
	case upstream.RequestSize:
		return "the write is larger than the plan allows"
	case upstream.Unavailable:
		return "it does not have the command"
	case upstream.Spend:
		return "this program's own limit on commands is reached"
	case upstream.ReadOnly:
		return "this program was told not to write"
	case upstream.BadOptions:
		return "the configuration is wrong"
	case upstream.Server:
		return "it answered with an error"
	case upstream.None, upstream.Unknown:
	}
	return "it cannot be used"
}
