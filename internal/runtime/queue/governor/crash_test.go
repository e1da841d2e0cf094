package governor_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// workerEnv makes the test binary a worker of the Redis that it names.
const workerEnv = "GOVERNOR_TEST_WORKER"

func TestMain(m *testing.M) {
	if url := os.Getenv(workerEnv); url != "" {
		os.Exit(work(url, os.Getenv(workerEnv+"_FULL") != "")) //nolint:forbidigo // the worker's own process
	}
	os.Exit(m.Run()) //nolint:forbidigo // a main function
}

// short are the times of a lease that tests can wait for.
func short(o *governor.Options) {
	o.Lease, o.Grace, o.Sweep, o.Follow, o.Announce = 2*time.Second, time.Second, time.Second, time.Second, 500*time.Millisecond
}

// patient are those of a replica that takes over: what it has taken stays its own on a machine that stands still for a
// while.
func patient(o *governor.Options) {
	short(o)
	o.Lease = time.Minute
}

// work is a worker that says what it does, and takes its time over jobs until a line is read.
func work(url string, full bool) int {
	said := make(chan string)
	go func() {
		for line := range said {
			fmt.Println(line) //nolint:forbidigo // what the test waits for
		}
	}()
	finish := make(chan struct{})
	p := plan{queues: names(3), concurrency: 5, handler: func(ctx context.Context, task *asynq.Task) error {
		said <- "took " + task.Type()
		select {
		case <-finish:
		case <-ctx.Done():
		}
		return ctx.Err()
	}}
	if !full {
		p.options = short
	}
	r, err := start(url, p)
	if err != nil {
		said <- "failed " + err.Error()
		return 1
	}
	said <- "ready"
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	close(finish)
	stats := time.NewTicker(5 * time.Millisecond)
	defer stats.Stop()
	for range stats.C {
		if r.gov.Stats().Lost > 0 {
			said <- "lost"
			r.stop()
			return 0
		}
	}
	return 0
}

// A process is a worker of its own.
type process struct {
	cmd   *exec.Cmd
	lines *bufio.Scanner
	in    *os.File
}

func spawn(t *testing.T, s *redistest.Server, full bool) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), workerEnv+"="+s.URL())
	if full {
		cmd.Env = append(cmd.Env, workerEnv+"_FULL=1")
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin = r
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		_ = w.Close()
	})
	p := &process{cmd, bufio.NewScanner(out), w}
	p.says(t, "ready")
	return p
}

// says reads lines until one begins so.
func (p *process) says(t *testing.T, want string) {
	t.Helper()
	for p.lines.Scan() {
		if strings.HasPrefix(p.lines.Text(), want) {
			return
		}
	}
	t.Fatalf("the worker ended without saying %q: %v", want, p.lines.Err())
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// recovered starts a server on a replica until the jobs that others left have run: asynq looks for them when
// it starts and then once a minute, which a test cannot wait for.
func recovered(t *testing.T, r *replica, p plan) {
	t.Helper()
	within(t, 30*time.Second, "the lease is seen to have ended", func() bool { return r.gov.Stats().Expired > 0 })
	if err := r.serve(p); err != nil {
		t.Fatal(err)
	}
}

func TestTheJobOfAKilledWorkerIsTriedAgain(t *testing.T) {
	if os.Getenv("TORTURE") != "" {
		killUnscaled(t)
		return
	}
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	c := newCounter()
	p := plan{queues: names(3), handler: c.handle, options: patient}
	other := join(t, s.URL(), p)
	worker := spawn(t, s, false)
	enqueue(t, other.client, "q01", "victim", asynq.MaxRetry(3))
	worker.says(t, "took victim")
	worker.signal(t, syscall.SIGKILL)
	p.concurrency = 2
	recovered(t, other, p)
	within(t, 30*time.Second, "the job ran", func() bool { return len(c.ran) == 1 })
	over(t, look, names(3))
	c.each(t, 1)
}

// killUnscaled is the same with the times of production, and says how long it took.
func killUnscaled(t *testing.T) {
	for _, c := range []struct {
		name  string
		track bool
		alone bool // the other one comes to know of the lease by a sweep only
		bound time.Duration
	}{
		{"while the lease is known, told by the worker", false, false, 150 * time.Second},
		{"while the lease is known, told by the server", true, false, 150 * time.Second},
		{"found by a sweep", false, true, 7 * time.Minute},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			ran := make(chan time.Time, 1)
			p := plan{queues: names(3), track: c.track, silent: c.alone, handler: func(context.Context, *asynq.Task) error {
				ran <- time.Now()
				return nil
			}}
			other := join(t, s.URL(), p)
			worker := spawn(t, s, true)
			enqueue(t, other.client, "q01", "victim")
			worker.says(t, "took victim")
			worker.signal(t, syscall.SIGKILL)
			begin := time.Now()
			p.concurrency = 2
			if err := other.serve(p); err != nil {
				t.Fatal(err)
			}
			took := (<-ran).Sub(begin)
			t.Logf("%s: %s", c.name, took.Round(time.Second))
			if took > c.bound {
				t.Errorf("took %s, want at most %s", took, c.bound)
			}
		})
	}
}

func TestAWorkerThatWasStoppedDoesNotFinishWhatAnotherTook(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	release, took := make(chan struct{}), make(chan struct{}, 1)
	p := plan{queues: names(3), options: patient, handler: func(context.Context, *asynq.Task) error {
		took <- struct{}{}
		<-release
		return nil
	}}
	other := join(t, s.URL(), p)
	worker := spawn(t, s, false)
	enqueue(t, other.client, "q01", "victim", asynq.MaxRetry(3))
	worker.says(t, "took victim")
	worker.signal(t, syscall.SIGSTOP)
	p.concurrency = 2
	recovered(t, other, p)
	within(t, 30*time.Second, "the other has the job", func() bool { return len(took) == 1 })
	// It finishes, having slept, while the other is at it.
	if _, err := worker.in.WriteString("\n"); err != nil {
		t.Fatal(err)
	}
	worker.signal(t, syscall.SIGCONT)
	worker.says(t, "lost")
	if n := look.LLen(t.Context(), "asynq:{q01}:active").Val(); n != 1 {
		t.Errorf("%d active jobs, want the one that the other works on", n)
	}
	if n := look.Exists(t.Context(), "asynq:{q01}:retry", "asynq:{q01}:archived").Val(); n != 0 {
		t.Error("the stopped worker has moved the job")
	}
	close(release)
	over(t, look, names(3))
}

func TestALongJobExtendsItsLeaseSeldomAndKeepsIt(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	began, end := make(chan struct{}), make(chan struct{})
	r := join(t, s.URL(), plan{queues: names(3), concurrency: 1, handler: func(context.Context, *asynq.Task) error {
		close(began)
		<-end
		return nil
	}, options: func(o *governor.Options) { o.Sweep = 200 * time.Millisecond }})
	enqueue(t, r.client, "q01", "long")
	<-began
	within(t, 30*time.Second, "asynq has asked for an extension", func() bool { return r.gov.Stats().ExtendedLocally > 0 })
	z := look.ZRangeWithScores(t.Context(), "asynq:{q01}:lease", 0, 0).Val()
	if len(z) != 1 || time.Until(time.Unix(int64(z[0].Score), 0)) < 30*time.Second {
		t.Errorf("lease %v, want one of 45s", z)
	}
	if got := r.gov.Stats(); got.Extended != 0 || got.Recovered != 0 {
		t.Errorf("%+v", got)
	}
	close(end)
	over(t, look, names(3))
}

func TestAJobThatIsActiveWithoutALeaseIsRepaired(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look, ctx := s.Client(t), t.Context()
	c := newCounter()
	p := plan{queues: names(3), handler: c.handle, options: patient}
	other := join(t, s.URL(), p)
	enqueue(t, other.client, "q01", "orphan", asynq.TaskID("id"), asynq.MaxRetry(3))
	look.LMove(ctx, "asynq:{q01}:pending", "asynq:{q01}:active", "right", "left")
	look.HSet(ctx, "asynq:{q01}:t:id", "state", "active")
	// And the reverse, whose job is gone.
	look.ZAdd(ctx, "asynq:{q02}:lease", redis.Z{Score: 1, Member: "ghost"})
	within(t, 30*time.Second, "the job has a lease, and the lease has no job", func() bool {
		return look.ZCard(ctx, "asynq:{q01}:lease").Val() == 1 && look.Exists(ctx, "asynq:{q02}:lease").Val() == 0
	})
	p.concurrency = 1
	recovered(t, other, p)
	within(t, 30*time.Second, "the job ran", func() bool { return len(c.ran) == 1 })
	over(t, look, names(3))
}

// failing makes commands fail that contain a word.
type failing struct {
	mu   sync.Mutex
	word string
	seen int
}

func (f *failing) DialHook(next redis.DialHook) redis.DialHook { return next }
func (f *failing) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *failing) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		f.mu.Lock()
		bad := f.word != "" && strings.Contains(fmt.Sprint(cmd.Args()...), f.word)
		if bad {
			f.seen++
		}
		f.mu.Unlock()
		if bad {
			err := errors.New("the connection is gone")
			cmd.SetErr(err)
			return err
		}
		return next(ctx, cmd)
	}
}
