package governor_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// putBack is what an engine does with a job that nobody takes: it goes back to where it came from.
func putBack(o *governor.Options) {
	o.Return = func(ctx context.Context, queue string, message []byte) error {
		return o.Client.Eval(ctx, `
			for _, id in ipairs(redis.call('LRANGE', KEYS[1], 0, -1)) do
				local task = ARGV[2] .. id
				if redis.call('HGET', task, 'msg') == ARGV[1] then
					redis.call('LREM', KEYS[1], 0, id)
					redis.call('ZREM', KEYS[2], id)
					redis.call('RPUSH', KEYS[3], id)
					return redis.call('HSET', task, 'state', 'pending')
				end
			end
			return redis.error_reply('NOT FOUND')`,
			[]string{"asynq:{" + queue + "}:active", "asynq:{" + queue + "}:lease", "asynq:{" + queue + "}:pending"},
			message, "asynq:{"+queue+"}:t:").Err()
	}
}

// greedy says that five jobs can begin at once.
func greedy(o *governor.Options) {
	o.Spare = func() int { return 5 }
	putBack(o)
}

func pendingIDs(t *testing.T, look *redis.Client, queue string) []string {
	t.Helper()
	ids, err := look.LRange(t.Context(), "asynq:{"+queue+"}:pending", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	slices.Reverse(ids) // the next is last
	return ids
}

func TestJobsThatAreFetchedAndNotTakenGoBackToTheirPlaces(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(r *replica){
		"after a while": func(*replica) {},
		"when the process ends": func(r *replica) {
			r.gov.Retire()
			r.server.Stop()
			r.gov.PutBack(context.Background())
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.Start(t)
			look := s.Client(t)
			goOn, ran := make(chan struct{}), make(chan string, 10)
			release := sync.OnceFunc(func() { close(goOn) })
			defer release()
			r := join(t, s.URL(), plan{queues: names(1), concurrency: 1, options: greedy, handler: func(_ context.Context, task *asynq.Task) error {
				ran <- task.Type()
				if task.Type() == "1" {
					<-goOn
				}
				return nil
			}})
			enqueue(t, r.client, "q00", "warm") // the server knows the script from here on
			<-ran
			over(t, look, names(1))
			var ids []string
			for i := range 5 {
				ids = append(ids, fmt.Sprint("job-", i+1))
			}
			add(t, look, r, ids)
			if got := <-ran; got != "1" {
				t.Fatalf("%s ran, want the first", got)
			}
			if n := r.gov.Stats().Dequeued; n < 1+5 {
				t.Fatalf("%d jobs were fetched, want the warm one and 5", n)
			}
			leave(r)
			within(t, 20*time.Second, "the others are put back", func() bool { return putBackAll(r) })
			if diff := cmp.Diff(ids[1:], pendingIDs(t, look, "q00")); diff != "" {
				t.Errorf("pending (-want +got):\n%s", diff)
			}
			if n := look.ZCard(t.Context(), "asynq:{q00}:lease").Val(); n != 1 {
				t.Errorf("%d leases, want one", n)
			}
			release()
			if strings.HasPrefix(name, "when") {
				return
			}
			before := r.gov.Stats().PutBack
			var rest []string
			for range 4 {
				rest = append(rest, <-ran)
			}
			if r.gov.Stats().PutBack != before {
				slices.Sort(rest) // the machine stood still for a second: they went back once more, while some were taken again
			}
			if diff := cmp.Diff([]string{"2", "3", "4", "5"}, rest); diff != "" {
				t.Errorf("ran (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWhatCannotBePutBackAtFirstIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	goOn, ran := make(chan struct{}), make(chan string, 10)
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	var tries atomic.Int64
	r := join(t, s.URL(), plan{queues: names(1), concurrency: 1, options: func(o *governor.Options) {
		greedy(o)
		put := o.Return
		o.Return = func(ctx context.Context, queue string, message []byte) error {
			if n := tries.Add(1); n == 1 || n == 3 {
				return fmt.Errorf("put back: %w", governor.ErrNotSent)
			}
			return put(ctx, queue, message)
		}
	}, handler: func(_ context.Context, task *asynq.Task) error {
		ran <- task.Type()
		if task.Type() == "1" {
			<-goOn
		}
		return nil
	}})
	enqueue(t, r.client, "q00", "warm") // the server knows the script from here on
	<-ran
	over(t, look, names(1))
	add(t, look, r, []string{"job-1", "job-2", "job-3", "job-4", "job-5"})
	<-ran
	within(t, 20*time.Second, "the others are put back", func() bool { return putBackAll(r) })
	if diff := cmp.Diff([]string{"job-2", "job-3", "job-4", "job-5"}, pendingIDs(t, look, "q00")); diff != "" {
		t.Errorf("pending (-want +got):\n%s", diff)
	}
	if n, put := tries.Load(), r.gov.Stats().PutBack; n != put+2 {
		t.Errorf("%d tries to put back %d, want 2 more", n, put)
	}
}

// putBackAll is whether all jobs that were fetched are put back, except the warm one, which ended, and the one that
// runs. Those are four, and five more where the machine stood still before the first of them was taken on.
func putBackAll(r *replica) bool {
	st := r.gov.Stats()
	return st.PutBack >= 4 && st.PutBack == st.Dequeued-2
}

// add makes jobs pending in one transaction and says so.
func add(t *testing.T, look *redis.Client, r *replica, ids []string) {
	t.Helper()
	aside := redistest.Start(t).Client(t)
	client := asynq.NewClientFromRedisClient(aside)
	_, err := look.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		for i, id := range ids {
			if _, err := client.Enqueue(asynq.NewTask(fmt.Sprint(i+1), nil), asynq.Queue("q00"), asynq.TaskID(id)); err != nil {
				return err
			}
			fields, err := aside.HGetAll(t.Context(), "asynq:{q00}:t:"+id).Result()
			if err != nil {
				return err
			}
			p.HSet(t.Context(), "asynq:{q00}:t:"+id, fields)
			p.LPush(t.Context(), "asynq:{q00}:pending", id)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	r.gov.Added("q00", ids...)
}

func TestAJobThatIsTakenAgainWhileItIsPutBackIsFinished(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	look := s.Client(t)
	goOn, ran := make(chan struct{}), make(chan string, 10)
	release := sync.OnceFunc(func() { close(goOn) })
	defer release()
	var gov *governor.Governor
	r := join(t, s.URL(), plan{queues: names(1), concurrency: 1, options: func(o *governor.Options) {
		greedy(o)
		put := o.Return
		o.Return = func(ctx context.Context, queue string, message []byte) error {
			err := put(ctx, queue, message)
			release()
			gov.Wake(queue)
			// The others are put back after this; what was is taken meanwhile.
			end := time.NewTimer(10 * time.Second)
			defer end.Stop()
			for look.LLen(ctx, "asynq:{q00}:pending").Val() > 0 {
				select {
				case <-end.C:
					t.Error("nobody took what was put back")
					return err
				case <-time.After(time.Millisecond):
				}
			}
			return err
		}
	}, handler: func(_ context.Context, task *asynq.Task) error {
		ran <- task.Type()
		if task.Type() == "1" {
			<-goOn
		}
		return nil
	}})
	gov = r.gov
	enqueue(t, r.client, "q00", "warm")
	<-ran
	over(t, look, names(1))
	add(t, look, r, []string{"job-1", "job-2", "job-3", "job-4", "job-5"})
	got := map[string]bool{}
	for range 5 {
		got[<-ran] = true
	}
	over(t, look, names(1))
	if st := r.gov.Stats(); len(got) != 5 || st.Lost > 0 || st.PutBack == 0 {
		t.Errorf("%d jobs ran, %d put back, %d could not be finished; want 5, some and 0", len(got), st.PutBack, st.Lost)
	}
}
