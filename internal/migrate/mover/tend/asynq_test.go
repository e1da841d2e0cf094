package tend_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// An asynqWorld is a server with asynq's own client and inspector.
type asynqWorld struct {
	client    *redis.Client
	tasks     *asynq.Client
	inspector *asynq.Inspector
}

func newAsynqWorld(t *testing.T) asynqWorld {
	t.Helper()
	c := redistest.Start(t).Client(t)
	return asynqWorld{client: c, tasks: asynq.NewClientFromRedisClient(c), inspector: asynq.NewInspectorFromRedisClient(c)}
}

func (w asynqWorld) add(t *testing.T, n int, opts ...asynq.Option) *asynq.TaskInfo {
	t.Helper()
	info, err := w.tasks.Enqueue(asynq.NewTask("send", fmt.Appendf(nil, `{"n":%d}`, n)), opts...)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

// A tally counts how often each job was run.
type tally struct {
	mu      sync.Mutex
	changed chan struct{}
	ran     map[string]int
	order   []string
}

func newTally() *tally { return &tally{changed: make(chan struct{}), ran: map[string]int{}} }

func (c *tally) count(what string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ran[what]++
	c.order = append(c.order, what)
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *tally) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	limit := time.After(patience)
	for {
		c.mu.Lock()
		ok, changed := is(), c.changed
		c.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-changed:
		case <-limit:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// serve runs a real asynq server until the test ends.
func serve(t *testing.T, client *redis.Client, queues map[string]int, handle asynq.HandlerFunc) {
	t.Helper()
	server := asynq.NewServerFromRedisClient(client, asynq.Config{
		Concurrency: 4, Queues: queues, TaskCheckInterval: 20 * time.Millisecond, DelayedTaskCheckInterval: 50 * time.Millisecond,
		LogLevel: asynq.FatalLevel, RetryDelayFunc: func(int, error, *asynq.Task) time.Duration { return time.Hour },
	})
	if err := server.Start(handle); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Shutdown)
}

func TestAsynqsOwnInspectorReadsWhatWasAddedRetriedPausedAndDeleted(t *testing.T) {
	w := newAsynqWorld(t)
	w.add(t, 1, asynq.Queue("mail"))
	w.add(t, 2, asynq.Queue("mail:high"))
	w.add(t, 3, asynq.Queue("mail:low"), asynq.ProcessIn(time.Hour))
	q := find(t, w.client, "mail")
	if got := q.Bands(); !slices.Equal(got, []string{"high", "", "low"}) {
		t.Fatalf("bands are %q", got)
	}

	added := enqueue(t, q, tend.NewJob{Name: "send", Data: []byte(`{"n":4}`), ID: "own", Attempts: 4, Band: "high"})
	info, err := w.inspector.GetTaskInfo("mail:high", "own")
	if err != nil || info.Type != "send" || string(info.Payload) != `{"n":4}` || info.MaxRetry != 3 || info.State != asynq.TaskStatePending || info.Timeout != 30*time.Minute {
		t.Errorf("asynq reads %+v, %v of %+v", info, err, added)
	}
	added = enqueue(t, q, tend.NewJob{Name: "send", Delay: 90 * time.Second, Unique: "ann"})
	info, err = w.inspector.GetTaskInfo("mail", added.ID)
	if err != nil || info.State != asynq.TaskStateScheduled || info.NextProcessAt.UnixMilli() != added.DueMS {
		t.Errorf("asynq reads %+v, %v of %+v", info, err, added)
	}
	var taken *tend.TakenError
	if _, err := q.Enqueue(t.Context(), tend.NewJob{Name: "send", ID: "own", Band: "high"}); !errors.As(err, &taken) {
		t.Errorf("an id that is there: %v", err)
	}
	if _, err := q.Enqueue(t.Context(), tend.NewJob{Name: "send", Unique: "ann"}); !errors.As(err, &taken) || taken.ID != added.ID {
		t.Errorf("a unique value that is held: %v", err)
	}

	// Over all bands, and not by one that has ended.
	if _, err := q.Enqueue(t.Context(), tend.NewJob{Name: "send", Unique: "ann", Band: "low"}); !errors.As(err, &taken) {
		t.Errorf("a unique value that is held in another band: %v", err)
	}
	if _, err := q.Enqueue(t.Context(), tend.NewJob{Name: "send", ID: "own", Band: "low"}); !errors.As(err, &taken) {
		t.Errorf("an id that is there in another band: %v", err)
	}
	ended := enqueue(t, q, tend.NewJob{Name: "send", Unique: "bob"})
	if err := w.inspector.ArchiveTask("mail", ended.ID); err != nil {
		t.Fatal(err)
	}
	again := enqueue(t, q, tend.NewJob{Name: "send", Unique: "bob"})
	if _, out := act(t, q, tend.Delete, tend.Criteria{States: q.Deletable(), IDs: []string{ended.ID}}); out.Done != 1 {
		t.Errorf("delete of the one that has ended: %+v", out)
	}
	if _, err := q.Enqueue(t.Context(), tend.NewJob{Name: "send", Unique: "bob"}); !errors.As(err, &taken) || taken.ID != again.ID {
		t.Errorf("with the one that has ended the lock of the other went: %v", err)
	}
	if _, out := act(t, q, tend.Delete, tend.Criteria{States: q.Deletable(), IDs: []string{again.ID}}); out.Done != 1 {
		t.Errorf("delete of the other: %+v", out)
	}

	if did, err := q.Pause(t.Context()); err != nil || did.Already || len(did.Bands) != 3 {
		t.Errorf("Pause = %+v, %v", did, err)
	}
	for _, name := range []string{"mail", "mail:high", "mail:low"} {
		if info, err := w.inspector.GetQueueInfo(name); err != nil || !info.Paused {
			t.Errorf("asynq says of %s %+v, %v, want it paused", name, info, err)
		}
	}
	if did, err := q.Resume(t.Context()); err != nil || did.Already {
		t.Errorf("Resume = %+v, %v", did, err)
	}

	page, err := q.Page(t.Context(), tend.PageOptions{Data: true})
	if err != nil || len(page.Jobs) != 5 || page.Cursor != "" {
		t.Fatalf("the page has %d jobs, cursor %q, %v", len(page.Jobs), page.Cursor, err)
	}
	_, out := act(t, q, tend.Delete, tend.Criteria{States: q.States(), Filter: filter(t, "data.n=2")})
	if out.Done != 1 {
		t.Errorf("deleted %+v", out)
	}
	_, out = act(t, q, tend.Delete, tend.Criteria{States: []mover.State{mover.Delayed}, IDs: []string{added.ID, "none"}})
	if out.Done != 1 || out.Skipped[tend.NotThere] != 1 {
		t.Errorf("deleted %+v", out)
	}
	// With the task its lock is gone.
	enqueue(t, q, tend.NewJob{Name: "send", Unique: "ann"})
	_, out = act(t, q, tend.Retry, tend.Criteria{States: []mover.State{mover.Delayed}})
	if out.Done != 1 {
		t.Errorf("ran at once %+v", out)
	}
	if low, err := w.inspector.GetQueueInfo("mail:low"); err != nil || low.Pending != 1 || low.Scheduled != 0 {
		t.Errorf("asynq says of the low band %+v, %v", low, err)
	}
}

func TestARealAsynqServerRunsEveryRetriedTaskOnceWhileTheyAreRetriedUnderIt(t *testing.T) {
	const jobs = 300
	w := newAsynqWorld(t)
	for n := range jobs {
		w.add(t, n+1, asynq.Queue([]string{"mail", "mail:high", "mail:low"}[n%3]), asynq.MaxRetry(0))
	}
	q := find(t, w.client, "mail")
	if _, err := q.Pause(t.Context()); err != nil {
		t.Fatal(err)
	}
	failed, done := newTally(), newTally()
	serve(t, w.client, map[string]int{"mail": 3, "mail:high": 6, "mail:low": 1, "other": 1}, func(_ context.Context, task *asynq.Task) error {
		key := string(task.Payload())
		failed.mu.Lock()
		again := failed.ran[key] > 0
		failed.mu.Unlock()
		if !again && task.Type() == "send" {
			failed.count(key)
			return errors.New("simulated failure")
		}
		done.count(key)
		return nil
	})
	// A paused queue's server takes nothing: another queue's task, due later, comes first.
	clock := tend.At(w.client, mover.Endpoint{Layout: tend.Asynq, Queue: "other"})
	enqueue(t, clock, tend.NewJob{Name: "tick", Delay: time.Second})
	done.await(t, "the other queue's task", func() bool { return done.ran["{}"] == 1 })
	failed.mu.Lock()
	if len(failed.ran) > 0 {
		t.Errorf("a paused queue's server ran %v", failed.ran)
	}
	failed.mu.Unlock()
	if _, err := q.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	limit := time.After(patience)
	for retried := int64(0); retried < jobs; {
		_, out := act(t, q, tend.Retry, tend.Criteria{States: []mover.State{mover.Failed}, Filter: filter(t, "reason~simulated")})
		retried += out.Done
		select {
		case <-limit:
			t.Fatalf("%d of %d retried after %s", retried, jobs, patience)
		default:
		}
	}
	done.await(t, "all tasks done", func() bool { return len(done.ran) == jobs+1 })
	done.mu.Lock()
	defer done.mu.Unlock()
	for n := range jobs {
		if key := fmt.Sprintf(`{"n":%d}`, n+1); done.ran[key] != 1 {
			t.Errorf("task %s was done %d times", key, done.ran[key])
		}
	}
}

func TestATaskThatIsDeletedUnderARealServerIsEitherDoneOrDeleted(t *testing.T) {
	const jobs = 1500
	w := newAsynqWorld(t)
	for n := range jobs {
		w.add(t, n+1, asynq.Queue("mail"))
	}
	done := newTally()
	gone := make(chan struct{})
	begun := sync.OnceFunc(func() { close(gone) })
	serve(t, w.client, map[string]int{"mail": 1}, func(_ context.Context, task *asynq.Task) error {
		var data struct{ N int }
		if err := json.Unmarshal(task.Payload(), &data); err != nil {
			return err
		}
		if data.N > 50 { // some are to be gone before the server can be done with all of them
			<-gone
		}
		done.count(string(task.Payload()))
		return nil
	})
	t.Cleanup(begun)
	done.await(t, "50 tasks", func() bool { return len(done.order) >= 50 })
	q := find(t, w.client, "mail")
	_, out := actAnd(t, q, tend.Delete, tend.Criteria{States: q.Waits(), Filter: filter(t, "data.n>50")}, begun)
	if out.Done == 0 {
		t.Fatalf("nothing was deleted: %+v", out)
	}
	done.await(t, "the rest", func() bool { return len(done.order) >= jobs-int(out.Done) })
	// What is done twice would come after: the queue is empty when nothing is left.
	limit := time.After(patience)
	for {
		left, err := q.Left(t.Context(), q.States())
		if err != nil {
			t.Fatal(err)
		}
		if left[mover.Waiting]+left[mover.Active] == 0 {
			break
		}
		select {
		case <-limit:
			t.Fatalf("jobs are left: %v", left)
		default:
		}
	}
	done.mu.Lock()
	defer done.mu.Unlock()
	if len(done.order)+int(out.Done) != jobs || len(done.ran) != len(done.order) {
		t.Errorf("%d runs of %d tasks and %d deleted, of %d", len(done.order), len(done.ran), out.Done, jobs)
	}
}

func TestTheBandsOfAsynqAreListedAsOneQueue(t *testing.T) {
	w := newAsynqWorld(t)
	w.add(t, 1, asynq.Queue("mail"))
	w.add(t, 2, asynq.Queue("mail:high"))
	w.add(t, 3, asynq.Queue("mail:low"), asynq.ProcessIn(time.Hour))
	w.add(t, 4, asynq.Queue("sms"))
	w.add(t, 5, asynq.Queue("sms"), asynq.Group("g"))
	w.client.LPush(t.Context(), "bull:mail:wait", "1")
	all, err := tend.List(t.Context(), w.client, mover.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range all {
		names = append(names, s.Endpoint.Prefix+":"+s.Endpoint.Queue)
	}
	if want := []string{"asynq:mail", "asynq:sms", "bull:mail"}; !slices.Equal(names, want) {
		t.Fatalf("queues are %q, want %q", names, want)
	}
	if c := all[0].Counts; c[mover.Waiting] != 2 || c[mover.Delayed] != 1 || len(all[0].Bands) != 3 {
		t.Errorf("mail is %+v", all[0])
	}
	if c := all[1].Counts; c[mover.Waiting] != 1 || c[tend.Aggregating] != 1 || len(all[1].Bands) != 1 {
		t.Errorf("sms is %+v", all[1])
	}
	var several *tend.AmbiguousError
	if _, err := tend.Find(t.Context(), w.client, tend.Name{Queue: "mail"}); !errors.As(err, &several) || !slices.Equal(several.Prefixes, []string{"asynq", "bull"}) {
		t.Errorf("a name in two layouts: %v", err)
	}
	if q, err := tend.Find(t.Context(), w.client, tend.Name{Queue: "mail", Prefix: "asynq"}); err != nil || q.Endpoint().Layout != tend.Asynq {
		t.Errorf("by its prefix: %v", err)
	}
	// A grouped task is run at once, and the last of its group ends the group.
	q, err := tend.Find(t.Context(), w.client, tend.Name{Queue: "sms"})
	if err != nil {
		t.Fatal(err)
	}
	if _, out := act(t, q, tend.Retry, tend.Criteria{States: []mover.State{tend.Aggregating}}); out.Done != 1 {
		t.Errorf("of the group %+v", out)
	}
	if groups, err := w.inspector.Groups("sms"); err != nil || len(groups) != 0 {
		t.Errorf("asynq has the groups %v, %v", groups, err)
	}
}
