package queue_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/hibiken/asynq"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

func TestAsynqsInspectorReadsAndChangesOurQueues(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		q := works("mail", func(_ context.Context, j queue.Job) ([]byte, error) {
			if j.Name == "bad" {
				return nil, &queue.DeadError{Reason: "no such user"}
			}
			return []byte("sent"), nil
		})
		r := run(t, url, []queue.Queue{q, waits("idle")}, func(o *queue.Options) { o.Governor.Sweep = time.Second })
		in := inspector(t, url)
		ok := r.add(t, queue.EnqueueRequest{Queue: "mail", Name: "good", Payload: []byte("hi"), Headers: map[string]string{"traceparent": "00-1"}})
		bad := r.add(t, queue.EnqueueRequest{Queue: "mail", Name: "bad", Priority: queue.High})
		r.state(t, "mail", ok.ID, queue.Completed)
		r.state(t, "mail", bad.ID, queue.Archived)

		info, err := in.GetTaskInfo("mail", ok.ID)
		if err != nil {
			t.Fatal(err)
		}
		if info.Type != "good" || string(info.Payload) != "hi" || info.State != asynq.TaskStateCompleted || string(info.Result) != "sent" ||
			info.MaxRetry != 2 || info.Retention != time.Hour || info.Headers["traceparent"] != "00-1" {
			t.Errorf("inspector says %+v", info)
		}
		dead, err := in.ListArchivedTasks("mail:high")
		if err != nil || len(dead) != 1 || dead[0].LastErr != "no such user" {
			t.Errorf("dead letters are %+v, %v", dead, err)
		}
		if err := in.RunTask("mail:high", bad.ID); err != nil {
			t.Fatal(err)
		}
		eventually(t, func() error {
			if n := len(r.log.kinds(bad.ID)); n != 2 {
				return fmt.Errorf("it died %d times, want again after the inspector ran it", n)
			}
			return nil
		})
		later := r.add(t, queue.EnqueueRequest{Queue: "idle", Delay: time.Hour, Unique: "k"})
		scheduled, err := in.ListScheduledTasks("idle")
		if err != nil || len(scheduled) != 1 || !scheduled[0].NextProcessAt.Equal(later.RunAt) {
			t.Errorf("scheduled are %+v, %v, want one at %s", scheduled, err, later.RunAt)
		}
		if err := in.DeleteTask("idle", later.ID); err != nil {
			t.Fatal(err)
		}
		r.add(t, queue.EnqueueRequest{Queue: "idle", Unique: "k"}) // the lock went with the task
		if names, err := in.Queues(); err != nil || len(names) != 3 {
			t.Errorf("queues are %v, %v, want the three bands that were used", names, err)
		}
		if qi, err := in.GetQueueInfo("mail"); err != nil || qi.Completed != 1 || qi.ProcessedTotal != 1 {
			t.Errorf("queue is %+v, %v", qi, err)
		}
	})
}

func TestATaskOfAPlainAsynqClientIsRun(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		got := make(chan queue.Job, 1)
		r := run(t, url, []queue.Queue{works("mail", func(_ context.Context, j queue.Job) ([]byte, error) {
			got <- j
			return nil, nil
		})}, func(o *queue.Options) { o.Governor.Sweep = time.Second })
		c := asynq.NewClientFromRedisClient(plain(t, url))
		if _, err := c.Enqueue(asynq.NewTask("theirs", []byte("x")), asynq.Queue("mail"), asynq.MaxRetry(4)); err != nil {
			t.Fatal(err)
		}
		select {
		case j := <-got:
			if j.Name != "theirs" || string(j.Payload) != "x" || j.Attempts != 5 || !j.Enqueued.IsZero() || j.Headers == nil {
				t.Errorf("job is %+v", j)
			}
		case <-time.After(patience):
			t.Fatal("it was not run")
		}
		_ = r
	})
}

// A replica of the next version writes envelopes with schema 2. This one does not run such jobs, and leaves
// them to the other, without holding up what it can run.
func TestAJobOfANewerSchemaIsLeftForANewerReplica(t *testing.T) {
	each(t, func(t *testing.T, url string) {
		r := open(t, url, []queue.Queue{works("q", done)}, nil)
		in := inspector(t, url)
		c := asynq.NewClientFromRedisClient(plain(t, url))
		newer := func(id string) {
			t.Helper()
			task := asynq.NewTaskWithHeaders("n", nil, map[string]string{"redisopt": `{"schema":2,"wave":[]}`})
			if _, err := c.Enqueue(task, asynq.Queue("q"), asynq.TaskID(id), asynq.MaxRetry(0)); err != nil {
				t.Fatal(err)
			}
		}
		newer("n1")
		old := r.add(t, queue.EnqueueRequest{Queue: "q"})
		newer("n2")
		last := r.add(t, queue.EnqueueRequest{Queue: "q"})
		r.start()
		r.state(t, "q", old.ID, queue.Completed)
		r.state(t, "q", last.ID, queue.Completed)
		eventually(t, func() error {
			for _, err := range r.log.noticed() {
				if s, ok := errors.AsType[*queue.SchemaError](err); ok && s.ID == "n1" && s.Got == 2 && s.Known == queue.Schema {
					return nil
				}
			}
			return fmt.Errorf("noticed %v, want a *SchemaError", r.log.noticed())
		})
		for _, id := range []string{"n1", "n2"} {
			eventually(t, func() error {
				info, err := in.GetTaskInfo("q", id)
				if err == nil && (info.State != asynq.TaskStatePending || info.Retried != 0 || info.LastErr != "") {
					err = fmt.Errorf("job %s is %s, %d attempts, %q: want it pending as it was", id, info.State, info.Retried, info.LastErr)
				}
				return err
			})
		}
		if err := r.stop(); err != nil {
			t.Fatal(err)
		}
		// The newer replica, which asynq alone stands for here.
		ran := make(chan string, 2)
		s := asynq.NewServerFromRedisClient(plain(t, url), asynq.Config{Queues: map[string]int{"q": 1}, LogLevel: asynq.FatalLevel})
		if err := s.Start(asynq.HandlerFunc(func(ctx context.Context, _ *asynq.Task) error {
			id, _ := asynq.GetTaskID(ctx)
			ran <- id
			return nil
		})); err != nil {
			t.Fatal(err)
		}
		defer s.Shutdown()
		<-ran
		<-ran
	})
}
