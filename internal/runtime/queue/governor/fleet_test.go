package governor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A replica is what one process of serve has: an upstream, a governor, a client of asynq and maybe a server.
type replica struct {
	up     *upstream.Upstream
	gov    *governor.Governor
	client *asynq.Client
	server *asynq.Server
	stop   func()
}

// A plan says how to make a replica.
type plan struct {
	queues      []string
	concurrency int // 0: no server
	handler     func(context.Context, *asynq.Task) error
	options     func(*governor.Options)
	silent      bool // without the bell
	track       bool // let the server push, rather than replicas talk
	retryAfter  time.Duration
	inside      redis.Hook // between the governor and the Redis
}

// join starts a replica; it is stopped when the test ends, or by stop.
func join(t *testing.T, url string, p plan) *replica {
	t.Helper()
	r, err := start(url, p)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// start makes a replica, and a server of it once the governor is ready.
func start(url string, p plan) (*replica, error) {
	where := upstream.Options{URL: url, Shared: true, Component: meter.Queue, Lazy: true}
	if addr, ok := strings.CutPrefix(url, "cluster:"); ok {
		where.URL, where.Cluster, where.Shared, where.MaxConnections = "", []string{addr}, false, 8
	}
	up, err := upstream.Open(context.Background(), where)
	if err != nil {
		return nil, err
	}
	o := governor.Options{
		Client: up.As(meter.Queue), Jobs: up.View(meter.Queue), Queues: p.queues, Scope: "0:test",
		InScript: func(command string, n int64) { up.AddInScript(meter.Queue, command, n) },
	}
	if !p.silent {
		o.Subscribe = subscribe(up)
	}
	if p.track {
		o.Track = func(ctx context.Context, prefixes ...string) (governor.Feed, error) {
			return feed(up.Bell().Track(ctx, prefixes...))
		}
	}
	if p.options != nil {
		p.options(&o)
	}
	gov, err := governor.New(o)
	if err != nil {
		return nil, err
	}
	if p.inside != nil {
		o.Jobs.AddHook(p.inside)
	}
	r := &replica{up: up, gov: gov, client: asynq.NewClientFromRedisClient(gov.Client())}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = gov.Run(ctx) })
	var once sync.Once
	r.stop = func() {
		once.Do(func() {
			if r.server != nil {
				gov.Retire()
				r.server.Shutdown()
			}
			cancel()
			running.Wait()
			_ = up.Close()
		})
	}
	select {
	case <-gov.Ready():
	case <-time.After(20 * time.Second):
		r.stop()
		return nil, errors.New("not ready within 20s")
	}
	if p.concurrency > 0 {
		if err := r.serve(p); err != nil {
			r.stop()
			return nil, err
		}
	}
	return r, nil
}

func (r *replica) serve(p plan) error {
	weights := map[string]int{}
	for _, q := range p.queues {
		weights[q] = 1
	}
	r.server = asynq.NewServerFromRedisClient(r.gov.Client(p.queues...), asynq.Config{
		Concurrency: p.concurrency, Queues: weights, StrictPriority: true,
		TaskCheckInterval: 2 * time.Millisecond, DelayedTaskCheckInterval: 5 * time.Millisecond,
		JanitorInterval: 50 * time.Millisecond, ShutdownTimeout: 500 * time.Millisecond,
		RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return p.retryAfter },
		LogLevel:       asynq.FatalLevel,
	})
	return r.server.Start(asynq.HandlerFunc(p.handler))
}

// subscribe is the bell of an upstream in the governor's terms.
func subscribe(up *upstream.Upstream) func(context.Context, ...string) (governor.Feed, error) {
	return func(ctx context.Context, channels ...string) (governor.Feed, error) {
		return feed(up.Bell().Subscribe(ctx, channels...))
	}
}

func feed(sub *upstream.Subscription, err error) (governor.Feed, error) {
	if err != nil {
		return governor.Feed{}, err
	}
	messages, done := make(chan governor.Message), make(chan struct{})
	var pump sync.WaitGroup
	pump.Go(func() {
		defer close(messages)
		for m := range sub.C() {
			select {
			case messages <- governor.Message{Channel: m.Channel, Payload: m.Payload, Keys: m.Keys}:
			case <-done:
				return
			}
		}
	})
	return governor.Feed{Messages: messages, Gaps: sub.Gaps(), Close: func() {
		close(done)
		_ = sub.Close()
		pump.Wait()
	}}, nil
}

func within(t testing.TB, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(limit)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not within %s: %s", limit, what)
		case <-tick.C:
		}
	}
}

func names(n int) []string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("q%02d", i)
	}
	return all
}

// billed is what INFO commandstats has counted: all commands, those in scripts included, except those that
// no provider bills and those of the test itself.
func billed(t testing.TB, look *redis.Client) map[string]int64 {
	t.Helper()
	info, err := look.Info(context.Background(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	for line := range strings.Lines(info) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
		if !ok || !strings.HasPrefix(line, "cmdstat_") {
			continue
		}
		var calls int64
		if _, err := fmt.Sscanf(rest, "calls=%d,", &calls); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		switch name {
		case "info", "hello", "ping", "select", "auth", "command", "command|docs", "config|resetstat", "config|get", "client|list", "client|kill":
			continue
		}
		all[name] = calls
	}
	return all
}

func sum(m map[string]int64) int64 {
	total := int64(0)
	for _, n := range m {
		total += n
	}
	return total
}

func reset(t testing.TB, look *redis.Client) {
	t.Helper()
	if err := look.ConfigResetStat(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
}
