package governor_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// Each of these is a row of what can go wrong with a governor.

func TestAScriptThatIsNotKnownPassesAndItsQueueIsAskedAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	c := newCounter()
	r := join(t, s.URL(), plan{queues: names(3), concurrency: 2, handler: c.handle})
	// A later asynq enqueues with another script.
	enqueue(t, r.client, "q00", "known")
	<-c.ran
	plain := asynq.NewClient(asynq.RedisClientOpt{Addr: s.Addr})
	defer func() { _ = plain.Close() }()
	before := r.gov.Stats().Empty
	enqueue(t, plain, "q01", "unseen")
	script := "return redis.call('LLEN', KEYS[1])"
	if n, err := r.gov.Client().Eval(t.Context(), script, []string{"asynq:{q01}:pending"}).Int(); err != nil || n != 1 {
		t.Fatalf("%d, %v, want the script's own answer", n, err)
	}
	if got := <-c.ran; got != "unseen" {
		t.Errorf("ran %q", got)
	}
	over(t, look, names(3))
	if got := r.gov.Stats().Empty - before; got > 1 {
		t.Errorf("%d empty dequeues, want one to find that there is no more", got)
	}
}

func TestScriptsAreSentWithTheirTextWhenTheServerHasForgottenThem(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look, ctx := s.Client(t), t.Context()
	c := newCounter()
	r := join(t, s.URL(), plan{queues: names(3), concurrency: 2, handler: c.handle})
	for i := range 50 {
		if i%5 == 0 {
			look.ScriptFlush(ctx)
		}
		enqueue(t, r.client, names(3)[i%3], i)
	}
	for range 50 {
		<-c.ran
	}
	over(t, look, names(3))
	c.each(t, 50)
}

func TestLosingTheBellLosesNoJob(t *testing.T) {
	t.Parallel()
	for mode, track := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := redistest.Start(t)
			look, ctx := s.Client(t), t.Context()
			c := newCounter()
			r := join(t, s.URL(), plan{queues: names(3), concurrency: 2, handler: c.handle, track: track})
			plain := asynq.NewClientFromRedisClient(look)
			// While nobody follows, one job becomes pending and one is scheduled. Nobody may come back before that:
			// it would follow again, and find what nobody announces minutes later.
			set := func(clients int) {
				if err := look.ConfigSet(ctx, "maxclients", fmt.Sprint(clients)).Err(); err != nil {
					t.Fatal(err)
				}
			}
			set(1)
			look.ClientKillByFilter(ctx, "skipme", "yes")
			enqueue(t, plain, "q01", "pending")
			enqueue(t, plain, "q02", "delayed", asynq.ProcessIn(time.Second))
			set(1000)
			within(t, 20*time.Second, "both ran", func() bool { return len(c.ran) == 2 })
			if r.gov.Stats().Gaps == 0 {
				t.Error("nothing was noticed")
			}
			c.each(t, 2)
		})
	}
}

func TestWithoutABellASweepFindsJobs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := newCounter()
	join(t, s.URL(), plan{queues: names(33), concurrency: 2, handler: c.handle, silent: true, options: func(o *governor.Options) { o.Sweep = 200 * time.Millisecond }})
	plain := asynq.NewClient(asynq.RedisClientOpt{Addr: s.Addr})
	defer func() { _ = plain.Close() }()
	for i := range 5 {
		enqueue(t, plain, names(33)[7*i%33], i)
	}
	within(t, 20*time.Second, "all ran", func() bool { return len(c.ran) == 5 })
	c.each(t, 5)
}

func TestAPausedQueueIsStillAndGoesOnWhenAnOperatorSaysSo(t *testing.T) {
	t.Parallel()
	for mode, track := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := redistest.Start(t)
			c := newCounter()
			r := join(t, s.URL(), plan{queues: names(3), concurrency: 2, handler: c.handle, track: track, options: func(o *governor.Options) {
				if !track {
					o.Sweep = 200 * time.Millisecond // the operator's tool tells nobody
				}
			}})
			inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: s.Addr})
			defer func() { _ = inspector.Close() }()
			enqueue(t, r.client, "q01", "first")
			<-c.ran
			if err := inspector.PauseQueue("q01"); err != nil {
				t.Fatal(err)
			}
			enqueue(t, r.client, "q01", "waits")
			enqueue(t, r.client, "q02", "runs")
			if got := <-c.ran; got != "runs" {
				t.Errorf("%q ran", got)
			}
			if !track {
				within(t, 20*time.Second, "it is known to be paused", func() bool { return !r.gov.Pending("q01") })
			}
			if err := inspector.UnpauseQueue("q01"); err != nil {
				t.Fatal(err)
			}
			within(t, 20*time.Second, "it runs", func() bool { return len(c.ran) == 1 })
		})
	}
}

func TestAnInspectorSeesServersWhenPresenceIsAskedFor(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: s.Addr})
	defer func() { _ = inspector.Close() }()
	servers := func() int {
		all, err := inspector.Servers()
		if err != nil {
			t.Fatal(err)
		}
		for _, server := range all {
			if server.StrictPriority || len(server.Queues) != 1 || server.Concurrency != 1 {
				t.Errorf("%+v, want a server that shares its turns", server)
			}
		}
		return len(all)
	}
	hidden := join(t, s.URL(), plan{queues: names(1), concurrency: 1, handler: nothing})
	if n := servers(); n != 0 {
		t.Errorf("%d servers without presence", n)
	}
	hidden.stop()
	shown := join(t, s.URL(), plan{queues: names(1), concurrency: 1, handler: nothing, options: func(o *governor.Options) { o.Presence = 5 * time.Minute }})
	within(t, 10*time.Second, "the server is seen", func() bool { return servers() == 1 })
	if ttl := s.Client(t).TTL(t.Context(), s.Client(t).Keys(t.Context(), "asynq:servers:*").Val()[0]).Val(); ttl < 5*time.Minute {
		t.Errorf("it is seen for %s, want until the next round", ttl)
	}
	shown.stop()
	if n := servers(); n != 0 {
		t.Errorf("%d servers after the end", n)
	}
}

func TestAServerWithoutRedisRestsBetweenAttemptsAndStopsAtOnce(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	c := newCounter()
	broken := &failing{}
	r, err := start(s.URL(), plan{queues: names(3), concurrency: 2, handler: c.handle, inside: broken})
	if err != nil {
		t.Fatal(err)
	}
	defer r.stop()
	enqueue(t, r.client, "q01", "before")
	<-c.ran
	broken.mu.Lock()
	broken.word = "pending"
	broken.mu.Unlock()
	_, _ = r.client.Enqueue(asynq.NewTask("lost", nil), asynq.Queue("q01"))
	<-time.After(2 * time.Second)
	broken.mu.Lock()
	seen := broken.seen
	broken.mu.Unlock()
	if seen > 60 {
		t.Errorf("%d attempts in 2s", seen)
	}
	begin := time.Now()
	r.stop()
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

func TestAServerThatComesBackEmptyOrNotIsServedOn(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	look := s.Client(t)
	c := newCounter()
	r := join(t, s.URL(), plan{queues: names(3), concurrency: 2, handler: c.handle})
	for i := range 5 {
		enqueue(t, r.client, "q01", i)
		<-c.ran
	}
	over(t, look, names(3))
	// Nobody announces it, and the next sweep is minutes away: it is found because the server went and came. Were
	// it enqueued only now, the governor might have looked already.
	plain := asynq.NewClient(asynq.RedisClientOpt{Addr: s.Addr})
	defer func() { _ = plain.Close() }()
	enqueue(t, plain, "q02", "by another, unseen")
	s.Kill(t)
	s.Restart(t)
	within(t, 30*time.Second, "it ran", func() bool { return len(c.ran) == 1 })
	within(t, 30*time.Second, "this one can enqueue", func() bool {
		_, err := r.client.Enqueue(asynq.NewTask("own", nil), asynq.Queue("q01"))
		return err == nil
	})
	within(t, 30*time.Second, "it ran", func() bool { return len(c.ran) == 2 })
}

func TestDeadLettersAreKeptUnlessABoundIsAskedFor(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look, ctx := s.Client(t), t.Context()
	archived := func() int64 { return look.ZCard(ctx, "asynq:{q00}:archived").Val() }
	fails := func(context.Context, *asynq.Task) error { return errors.New("no") }
	old := time.Now().AddDate(-1, 0, 0).Unix()
	look.ZAdd(ctx, "asynq:{q00}:archived", redis.Z{Score: float64(old), Member: "a year old"})
	keeps := join(t, s.URL(), plan{queues: names(1), concurrency: 1, handler: fails})
	enqueue(t, keeps.client, "q00", 1, asynq.MaxRetry(0))
	within(t, 10*time.Second, "both are there", func() bool { return archived() == 2 })
	keeps.stop()
	bounded := join(t, s.URL(), plan{queues: names(1), concurrency: 1, handler: fails, options: func(o *governor.Options) { o.ArchiveMax, o.ArchiveAge = 3, time.Hour }})
	for i := range 5 {
		enqueue(t, bounded.client, "q00", i, asynq.MaxRetry(0))
	}
	over(t, look, names(1))
	if n := archived(); n != 3 {
		t.Errorf("%d dead letters, want 3", n)
	}
	if look.ZScore(ctx, "asynq:{q00}:archived", "a year old").Err() == nil {
		t.Error("the old one is still there")
	}
}

func TestACancellationReachesTheHandlerOverTheBell(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	began, ended := make(chan string, 1), make(chan error, 1)
	r := join(t, s.URL(), plan{queues: names(1), concurrency: 1, handler: func(ctx context.Context, task *asynq.Task) error {
		began <- task.ResultWriter().TaskID()
		<-ctx.Done()
		ended <- ctx.Err()
		return asynq.SkipRetry
	}})
	enqueue(t, r.client, "q00", "long")
	id := <-began
	if n := strings.Count(look.Do(t.Context(), "client", "list", "type", "pubsub").Val().(string), "\n"); n != 1 {
		t.Errorf("%d connections follow channels, want the bell alone", n)
	}
	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: s.Addr})
	defer func() { _ = inspector.Close() }()
	within(t, 10*time.Second, "the handler is cancelled", func() bool {
		if err := inspector.CancelProcessing(id); err != nil {
			t.Fatal(err)
		}
		return len(ended) == 1
	})
}

func TestDelayedAndRetriedJobsRunWhenTheyAreDue(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	var failed atomic.Bool
	ran := make(chan string, 10)
	r := join(t, s.URL(), plan{queues: names(3), concurrency: 2, retryAfter: time.Second, handler: func(_ context.Context, task *asynq.Task) error {
		if task.Type() == "fails once" && failed.CompareAndSwap(false, true) {
			return errors.New("no")
		}
		ran <- task.Type()
		return nil
	}})
	begin := time.Now()
	enqueue(t, r.client, "q01", "fails once", asynq.MaxRetry(2))
	enqueue(t, r.client, "q02", "in a second", asynq.ProcessAt(begin.Add(time.Second)))
	enqueue(t, r.client, "q02", "in two", asynq.ProcessAt(begin.Add(2*time.Second)))
	other := join(t, s.URL(), plan{queues: names(3), options: func(o *governor.Options) { o.ClientOnly = true }})
	enqueue(t, other.client, "q00", "of another", asynq.ProcessAt(begin.Add(2*time.Second)))
	for range 4 {
		<-ran
	}
	// asynq cuts to whole seconds. The next sweep would be minutes later.
	if took := time.Since(begin); took < 900*time.Millisecond || took > time.Minute {
		t.Errorf("all ran after %s", took)
	}
}

func TestWhatAdmitRefusesStaysWhereItIs(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	c := newCounter()
	var open atomic.Bool
	r := join(t, s.URL(), plan{queues: names(3), concurrency: 2, handler: c.handle, options: func(o *governor.Options) {
		o.Nap = 20 * time.Millisecond
		o.Admit = func(queue string, _ []string) bool { return queue != "q01" || open.Load() }
	}})
	enqueue(t, r.client, "q01", "waits")
	enqueue(t, r.client, "q02", "runs")
	if got := <-c.ran; got != "runs" {
		t.Errorf("%q ran", got)
	}
	within(t, 10*time.Second, "it was refused again and again", func() bool { return r.gov.Stats().Refused > 5 })
	if n := look.LLen(t.Context(), "asynq:{q01}:pending").Val(); n != 1 {
		t.Errorf("%d pending jobs, want the one that waits", n)
	}
	open.Store(true)
	r.gov.Admitted("q01")
	if got := <-c.ran; got != "waits" {
		t.Errorf("%q ran", got)
	}
}

func TestTwoReplicasShareTheWorkEachJobOnce(t *testing.T) {
	t.Parallel()
	for mode, track := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := redistest.Start(t)
			look := s.Client(t)
			var shares [2]atomic.Int64
			all := newCounter()
			var replicas []*replica
			for i := range 2 {
				replicas = append(replicas, join(t, s.URL(), plan{queues: names(3), concurrency: 2, track: track, handler: func(ctx context.Context, task *asynq.Task) error {
					shares[i].Add(1)
					<-time.After(2 * time.Millisecond)
					return all.handle(ctx, task)
				}}))
			}
			const n = 400
			var wg sync.WaitGroup
			for k := range 2 {
				wg.Go(func() {
					for i := range n / 2 {
						enqueue(t, replicas[k].client, names(3)[i%3], fmt.Sprint(k, "-", i))
					}
				})
			}
			wg.Wait()
			for range n {
				<-all.ran
			}
			over(t, look, names(3))
			all.each(t, n)
			t.Logf("shares %d and %d", shares[0].Load(), shares[1].Load())
			for i := range shares {
				if shares[i].Load() == 0 {
					t.Errorf("replica %d did nothing", i)
				}
			}
		})
	}
}

func TestAReplicaThatLeavesHandsTheSweepingOver(t *testing.T) {
	t.Parallel()
	for mode, track := range modes() {
		t.Run(mode, func(t *testing.T) {
			s := redistest.Start(t)
			c := newCounter()
			p := plan{queues: names(3), concurrency: 1, handler: c.handle, track: track}
			first, second := join(t, s.URL(), p), join(t, s.URL(), p)
			within(t, 10*time.Second, "one sweeps", func() bool { return settled(first, second) })
			if second.gov.Stats().Sweeper {
				first, second = second, first
			}
			// It knows when its delayed job is due, and nobody else has to.
			enqueue(t, first.client, "q01", "later", asynq.ProcessIn(2*time.Second))
			first.stop()
			within(t, 20*time.Second, "the other does", func() bool { return second.gov.Stats().Sweeper })
			within(t, time.Minute, "the job of the one that left ran", func() bool { return len(c.ran) == 1 })
		})
	}
}

func TestCompletedJobsAreDeletedTogether(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look, ctx := s.Client(t), t.Context()
	c := newCounter()
	r := join(t, s.URL(), plan{queues: names(1), concurrency: 5, handler: c.handle, options: func(o *governor.Options) { o.Tidy = time.Second }})
	for i := range 100 {
		enqueue(t, r.client, "q00", i, asynq.Retention(time.Second))
	}
	for range 100 {
		<-c.ran
	}
	over(t, look, names(1))
	reset(t, look)
	within(t, 20*time.Second, "all are gone", func() bool { return r.gov.Stats().Deleted == 100 })
	if n := look.Exists(ctx, "asynq:{q00}:completed").Val(); n != 0 {
		t.Error("some are left")
	}
	if got := sum(billed(t, look)); got > 30 {
		t.Errorf("%d commands to delete 100 jobs: %v", got, billed(t, look))
	}
}

func TestItGovernsACluster(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--cluster-enabled", "yes")
	look := s.Client(t)
	if err := look.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	within(t, 20*time.Second, "the cluster is complete", func() bool { return look.Set(t.Context(), "x", 1, 0).Err() == nil })
	cluster := s.Addr
	c := newCounter()
	r := join(t, "cluster:"+cluster, plan{queues: names(5), concurrency: 3, handler: c.handle, options: func(o *governor.Options) { o.Separate = true }})
	for i := range 50 {
		enqueue(t, r.client, names(5)[i%5], i)
	}
	for range 50 {
		<-c.ran
	}
	over(t, look, names(1))
	c.each(t, 50)
}

func TestItGovernsTheEmbeddedRedis(t *testing.T) {
	t.Parallel()
	s, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	c := newCounter()
	r := join(t, "redis://"+s.Addr(), plan{queues: names(5), concurrency: 3, handler: c.handle, track: true})
	if r.gov.Stats().Tracking {
		t.Error("it is believed to push")
	}
	other := join(t, "redis://"+s.Addr(), plan{queues: names(5), options: func(o *governor.Options) { o.ClientOnly = true }})
	for i := range 50 {
		enqueue(t, []*replica{r, other}[i%2].client, names(5)[i%5], i, asynq.Retention(time.Hour))
	}
	for range 50 {
		<-c.ran
	}
	c.each(t, 50)
}

func TestReplicasThatHearPushesTellThoseThatDoNot(t *testing.T) {
	t.Parallel()
	for name, firstTracks := range map[string]bool{"the one that hears pushes was first": true, "it came later": false} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			c := newCounter()
			first := join(t, s.URL(), plan{queues: names(2), track: firstTracks, handler: c.handle})
			second := join(t, s.URL(), plan{queues: names(2), track: !firstTracks, handler: c.handle})
			worker, other := first, second
			if firstTracks {
				worker, other = second, first
			}
			if err := worker.serve(plan{queues: names(2), concurrency: 1, handler: c.handle}); err != nil {
				t.Fatal(err)
			}
			for i := range 50 { // until the hellos are heard, jobs may wait for a sweep
				enqueue(t, other.client, "q01", i)
			}
			within(t, 20*time.Second, "jobs are heard of", func() bool { return len(c.ran) == 50 || enqueueQuietly(other.client) && len(c.ran) > 50 })
		})
	}
}

func enqueueQuietly(client *asynq.Client) bool {
	_, err := client.Enqueue(asynq.NewTask("more", nil), asynq.Queue("q01"))
	return err == nil
}
