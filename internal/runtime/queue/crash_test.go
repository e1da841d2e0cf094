package queue_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// workerURL makes the test binary a worker of the queue "q" on this Redis, which says on standard output
// which jobs it has begun, and never ends one.
const workerURL = "REDISOPT_TEST_WORKER"

func TestMain(m *testing.M) {
	if runContender() {
		return
	}
	if url := os.Getenv(workerURL); url != "" {
		hang(url)
		return
	}
	// Most tests wait for whole seconds of Redis' clock: more of them can do so at the same time than there
	// are processors. What is said on the command line wins, since it is read later.
	_ = flag.Set("test.parallel", "8")
	os.Exit(m.Run()) //nolint:forbidigo // it is the program's end
}

func hang(url string) {
	t := &testing.T{}
	r := open(t, url, []queue.Queue{works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
		_, _ = fmt.Fprintln(os.Stdout, "begun", j.ID) //nolint:forbidigo // it is what the test reads
		select {}
	})}, nil)
	_ = r.Run(context.Background())
}

// A worker that is killed leaves a job behind. With asynq's lease shortened in Redis, as if its time had
// passed, another replica has it again after the sweep that looks for it.
func TestTheJobOfAKilledWorkerIsRunAgain(t *testing.T) {
	s := redistest.Start(t)
	producer := open(t, s.URL(), []queue.Queue{waits("q")}, nil)
	id := producer.add(t, queue.EnqueueRequest{Queue: "q", Backoff: &queue.Backoff{Delay: time.Millisecond}}).ID

	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), workerURL+"="+s.URL())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if strings.TrimSpace(line) != "begun "+id {
		t.Errorf("the worker says %q, %v, want that it has begun %s", line, err, id)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()

	c := s.Client(t)
	left, err := c.ZScore(t.Context(), "asynq:{q}:lease", id).Result()
	if err != nil {
		t.Fatalf("the killed worker's lease: %v", err)
	}
	// The bound: what is left of the lease, 30 s of grace, a sweep, a minute until asynq looks, and the backoff.
	t.Logf("recovery bound at the defaults: %s of the lease + 30s + 345s idle or 30s while a lease is known + 60s", time.Until(time.Unix(int64(left), 0)).Round(time.Second))
	if err := c.ZAdd(t.Context(), "asynq:{q}:lease", redis.Z{Score: float64(time.Now().Add(-31 * time.Second).Unix()), Member: id}).Err(); err != nil {
		t.Fatal(err)
	}
	ran := make(chan queue.Job, 1)
	begin := time.Now()
	r := run(t, s.URL(), []queue.Queue{works("q", func(_ context.Context, j queue.Job) ([]byte, error) {
		ran <- j
		return nil, nil
	})}, func(o *queue.Options) {
		o.Governor.Sweep = time.Second
	})
	select {
	case j := <-ran:
		if j.ID != id || j.Attempt != 2 {
			t.Errorf("ran %s, attempt %d, want %s, attempt 2", j.ID, j.Attempt, id)
		}
		t.Logf("run again %s after the second replica came", time.Since(begin).Round(time.Millisecond))
	case <-time.After(3 * patience): // asynq looks once a minute, and first when it starts
		f, err := r.Find(t.Context(), "q", id)
		t.Logf("%+v %v %+v %v %+v", f, err, r.GovernorStats(), r.log.noticed(), r.Periodic())
		t.Log(c.ZRangeWithScores(t.Context(), "asynq:{q}:lease", 0, -1).Val(), c.Keys(t.Context(), "*").Val(), time.Now().Unix())
		t.Fatal("the job was not run again")
	}
	if f := r.state(t, "q", id, queue.Completed); f.Reason != "asynq: task lease expired" {
		t.Errorf("the reason of the first attempt is %q", f.Reason)
	}
}

func TestAKilledRedisThatSyncsAlwaysLosesNothingAcknowledged(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	r := open(t, s.URL(), []queue.Queue{waits("q")}, nil)
	var acknowledged sync.Map
	var n atomic.Int64
	var adding sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 4 {
		adding.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				id := fmt.Sprintf("%d-%d", worker, i)
				if _, err := r.Enqueue(context.Background(), queue.EnqueueRequest{Queue: "q", ID: id}); err != nil {
					return
				}
				acknowledged.Store(id, true)
				n.Add(1)
			}
		})
	}
	eventually(t, func() error {
		if n.Load() < 200 {
			return errors.New("too few jobs were added")
		}
		return nil
	})
	s.Kill(t)
	close(stop)
	adding.Wait()
	s.Restart(t)
	c := s.Client(t)
	ids, err := c.LRange(t.Context(), "asynq:{q}:pending", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]int{}
	for _, id := range ids {
		there[id]++
		if c.HExists(t.Context(), "asynq:{q}:t:"+id, "msg").Val() != true {
			t.Errorf("job %s has lost its message", id)
		}
	}
	acknowledged.Range(func(id, _ any) bool {
		if there[id.(string)] != 1 {
			t.Errorf("acknowledged job %s is there %d times", id, there[id.(string)])
		}
		return true
	})
	t.Logf("%d jobs acknowledged, %d there after the crash", n.Load(), len(ids))
}

// Under load, half of the jobs end within the patience of a shutdown and half do not: those are given back
// and run by the next replica, as the same attempt.
func TestAShutdownUnderLoadLosesAndDoublesNothing(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		const jobs = 200
		var mu sync.Mutex
		ended := map[string]int{}
		work := func(slow bool) queue.RunnerFunc {
			return func(ctx context.Context, j queue.Job) ([]byte, error) {
				wait := time.Millisecond
				if slow && j.Payload[0]%2 == 0 {
					wait = time.Minute
				}
				timer := time.NewTimer(wait)
				defer timer.Stop()
				select {
				case <-ctx.Done():
					return nil, ctx.Err()
				case <-timer.C:
				}
				mu.Lock()
				defer mu.Unlock()
				ended[j.ID]++
				if j.Attempt != 1 {
					return nil, &queue.DeadError{Reason: fmt.Sprintf("attempt %d", j.Attempt)}
				}
				return nil, nil
			}
		}
		define := func(slow bool) []queue.Queue {
			q := works("q", work(slow))
			q.Concurrency, q.Attempts = 8, 1
			q.Completed.Count = jobs
			return []queue.Queue{q}
		}
		a := run(t, url, define(true), func(o *queue.Options) { o.ShutdownTimeout = 200 * time.Millisecond })
		b := run(t, url, define(true), func(o *queue.Options) { o.ShutdownTimeout = 200 * time.Millisecond })
		var adding sync.WaitGroup
		adding.Go(func() {
			for i := range jobs {
				if _, err := b.Enqueue(context.Background(), queue.EnqueueRequest{Queue: "q", Payload: []byte{byte(i)}}); err != nil {
					t.Error(err)
				}
			}
		})
		eventually(t, func() error {
			if n := a.Stats()[0].Running + b.Stats()[0].Running; n < 8 {
				return fmt.Errorf("%d run, want some", n)
			}
			return nil
		})
		if err := a.stop(); err != nil {
			t.Error(err)
		}
		adding.Wait()
		if err := b.stop(); err != nil {
			t.Error(err)
		}
		c := run(t, url, define(false), nil)
		eventually(t, func() error {
			d, err := c.Depth(t.Context(), "q")
			if err == nil && d.Completed != jobs {
				err = fmt.Errorf("depth is %+v, want %d completed", d, jobs)
			}
			return err
		})
		mu.Lock()
		defer mu.Unlock()
		for id, n := range ended {
			if n != 1 {
				t.Errorf("job %s ended %d times", id, n)
			}
		}
		if len(ended) != jobs {
			t.Errorf("%d jobs ended, want %d", len(ended), jobs)
		}
	})
}

// Jobs that applications have when the process ends go back too, and their tokens say so.
func TestLeasedJobsGoBackAtShutdown(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		a := run(t, url, []queue.Queue{leased()}, func(o *queue.Options) {
			o.ShutdownTimeout = 5 * time.Second
			o.Replica = "a"
		})
		first := a.add(t, queue.EnqueueRequest{Queue: "q", Attempts: 1})
		second := a.add(t, queue.EnqueueRequest{Queue: "q", Attempts: 1})
		one, two := a.lease(t), a.lease(t)
		waiting := make(chan error, 1)
		go func() {
			_, err := a.Lease(context.Background(), "q", 1, patience)
			waiting <- err
		}()
		eventually(t, func() error {
			if a.Stats()[0].Waiting != 1 {
				return errors.New("nobody waits")
			}
			return nil
		})
		stopped := make(chan error, 1)
		go func() { stopped <- a.stop() }()
		if err := <-waiting; !errors.Is(err, queue.ErrStopped) {
			t.Errorf("Lease = %v, want ErrStopped", err)
		}
		if err := a.Complete(t.Context(), one.Token, nil); err != nil {
			t.Errorf("Complete within the patience: %v", err)
		}
		if err := <-stopped; err != nil {
			t.Fatal(err)
		}
		problem(t, "Complete after the end", a.Complete(t.Context(), two.Token, nil), queue.LeaseGone)
		b := run(t, url, []queue.Queue{leased()}, nil)
		problem(t, "a token of the replica that is gone", b.Complete(t.Context(), two.Token, nil), queue.LeaseElse)
		again := b.lease(t)
		if one.Job.ID != first.ID || again.Job.ID != second.ID || again.Job.Attempt != 1 {
			t.Errorf("leased %+v, want the first attempt of %s", again.Job, second.ID)
		}
		if err := b.Complete(t.Context(), again.Token, nil); err != nil {
			t.Fatal(err)
		}
	})
}
