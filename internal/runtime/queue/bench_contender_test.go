package queue_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// A contender of the benchmark is a process of its own, which does what the words of
// testdata/peers/queue-bench.js say. These are those in Go: this test binary, with contenderAs and
// contenderAddr in its environment.
const (
	contenderAs   = "REDISOPT_BENCH_CONTENDER"
	contenderAddr = "REDISOPT_BENCH_REDIS"

	benchQueues      = 11
	benchConcurrency = 10
)

// Who contends.
const (
	ours       = "redisopt"
	stock      = "asynq"
	stockPool3 = "asynq, PoolSize 3"
	bull       = "Bull 4.16"
	bullMQ     = "BullMQ 6"
)

// An engine is what contends, between open and stop.
type engine interface {
	enqueue(ctx context.Context, queue string) error
	work() error
	price() float64 // in commands a month; negative where it is not known
	stop() error
}

// A runner counts the jobs that ran.
type runner struct {
	left  atomic.Int64
	ended chan time.Time
}

func (r *runner) ran() {
	at := time.Now()
	if r.left.Add(-1) == 0 {
		r.ended <- at
	}
}

// contend answers the words on standard input until it ends.
func contend(in io.Reader, out io.Writer, name, addr string) error {
	var e engine
	r := &runner{ended: make(chan time.Time, 1)}
	do := func(words []any) (any, error) {
		number := func(i int) int {
			f, _ := words[i].(float64)
			return int(f)
		}
		switch words[0] {
		case "open":
			var err error
			e, err = openContender(name, addr, r)
			return nil, err
		case "enqueue":
			return enqueueMany(e, number(1), number(2))
		case "work":
			r.left.Store(int64(number(1)))
			begin := time.Now()
			if err := e.work(); err != nil {
				return nil, err
			}
			return (<-r.ended).Sub(begin).Seconds(), nil
		case "alone":
			return alone(e, r, number(1), time.Duration(number(2))*time.Millisecond)
		case "usage":
			var u syscall.Rusage
			err := syscall.Getrusage(syscall.RUSAGE_SELF, &u)
			return float64(u.Utime.Nano()+u.Stime.Nano()) / 1000, err
		case "price":
			return e.price(), nil
		case "stop":
			return nil, e.stop()
		}
		return nil, fmt.Errorf("%v is no word", words)
	}
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		var words []any
		if err := json.Unmarshal(lines.Bytes(), &words); err != nil {
			return err
		}
		answer := map[string]any{}
		if ok, err := do(words); err != nil {
			answer["error"] = err.Error()
		} else {
			answer["ok"] = ok
		}
		if err := json.NewEncoder(out).Encode(answer); err != nil {
			return err
		}
	}
	return lines.Err()
}

func enqueueMany(e engine, n, callers int) (float64, error) {
	begin := time.Now()
	var next atomic.Int64
	errs := make([]error, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := next.Add(1); i <= int64(n) && errs[c] == nil; i = next.Add(1) {
				errs[c] = e.enqueue(context.Background(), fmt.Sprint("q", i%benchQueues))
			}
		})
	}
	wg.Wait()
	return time.Since(begin).Seconds(), errors.Join(errs...)
}

// alone adds jobs to idle queues; each answer is microseconds until it was added and until it was picked up.
func alone(e engine, r *runner, n int, most time.Duration) ([][2]float64, error) {
	all := make([][2]float64, n)
	for i := range all {
		<-time.After(rand.N(most)) //nolint:gosec // it need not be a secret
		r.left.Store(1)
		begin := time.Now()
		if err := e.enqueue(context.Background(), fmt.Sprint("q", i%benchQueues)); err != nil {
			return nil, err
		}
		added := time.Since(begin)
		picked := (<-r.ended).Sub(begin)
		all[i] = [2]float64{float64(added.Nanoseconds()) / 1000, float64(picked.Nanoseconds()) / 1000}
	}
	return all, nil
}

func openContender(name, addr string, r *runner) (engine, error) {
	switch name {
	case ours:
		var queues []queue.Queue
		for i := range benchQueues {
			q := works(fmt.Sprint("q", i), func(context.Context, queue.Job) ([]byte, error) {
				r.ran()
				return nil, nil
			})
			q.Concurrency, q.Completed.Age = benchConcurrency, -1
			queues = append(queues, q)
		}
		t := &testing.T{}
		return &oursContends{open(t, "redis://"+addr, queues, func(o *queue.Options) {
			o.Concurrency, o.Observe = benchConcurrency, nil // what was observed is not kept
		})}, nil
	case stock:
		o := asynq.RedisClientOpt{Addr: addr}
		return newStock(asynq.NewClient(o), func(c asynq.Config) *asynq.Server { return asynq.NewServer(o, c) }, r, nil), nil
	case stockPool3:
		client := redis.NewClient(&redis.Options{Addr: addr, PoolSize: 3})
		server := func(c asynq.Config) *asynq.Server { return asynq.NewServerFromRedisClient(client, c) }
		return newStock(asynq.NewClientFromRedisClient(client), server, r, client), nil
	}
	return nil, fmt.Errorf("nobody is called %q", name)
}

// oursContends is the engine as serve runs it: asynq under the governor, on the shared connection and the bell.
type oursContends struct{ *replica }

func (o *oursContends) enqueue(ctx context.Context, name string) error {
	_, err := o.Enqueue(ctx, queue.EnqueueRequest{Queue: name, Name: "noop"})
	return err
}

func (o *oursContends) work() error    { o.start(); return nil }
func (o *oursContends) price() float64 { return o.MonthlyCost() }
func (o *oursContends) stop() error    { return errors.Join(o.replica.stop(), o.up.Close()) }

// stockContends is asynq as its manual shows it.
type stockContends struct {
	client *asynq.Client
	server *asynq.Server
	shared *redis.Client // nil: each has its own
	runner *runner
}

func newStock(client *asynq.Client, server func(asynq.Config) *asynq.Server, r *runner, shared *redis.Client) *stockContends {
	queues := map[string]int{}
	for i := range benchQueues {
		queues[fmt.Sprint("q", i)] = 1
	}
	return &stockContends{client, server(asynq.Config{Concurrency: benchConcurrency, Queues: queues, LogLevel: asynq.FatalLevel}), shared, r}
}

func (s *stockContends) enqueue(ctx context.Context, name string) error {
	_, err := s.client.EnqueueContext(ctx, asynq.NewTask("noop", nil), asynq.Queue(name))
	return err
}

func (s *stockContends) work() error {
	return s.server.Start(asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
		s.runner.ran()
		return nil
	}))
}

func (s *stockContends) price() float64 { return -1 }

func (s *stockContends) stop() error {
	s.server.Shutdown()
	if s.shared != nil {
		return s.shared.Close()
	}
	return s.client.Close()
}

// runContender is this test binary as a contender; it is false when it is none.
func runContender() bool {
	name := os.Getenv(contenderAs)
	if name == "" {
		return false
	}
	if err := contend(os.Stdin, os.Stdout, name, os.Getenv(contenderAddr)); err != nil { //nolint:forbidigo // the parent writes and reads them
		_, _ = fmt.Fprintln(os.Stderr, strings.TrimSpace(err.Error())) //nolint:forbidigo // there is no test to tell
	}
	return true
}
