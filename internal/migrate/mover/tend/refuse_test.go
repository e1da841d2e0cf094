package tend_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func bullMail() mover.Endpoint {
	return mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"}
}

func bullMQMail(major int) mover.Endpoint {
	return mover.Endpoint{Layout: mover.BullMQ, Major: major, Prefix: "bull", Queue: "mail"}
}

// fill puts n failed jobs into a queue.
func fill(t *testing.T, client *redis.Client, e mover.Endpoint, n int) {
	t.Helper()
	_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := 1; i <= n; i++ {
			id := fmt.Sprint(i)
			p.HSet(t.Context(), e.Key(id), "name", "send", "data", fmt.Sprintf(`{"n":%d}`, i), "opts", `{"attempts":1}`,
				"timestamp", 1795000000000+i, "delay", 0, "priority", 0, "failedReason", "boom", "finishedOn", 1795000100000+i, "processedOn", 1795000090000)
			p.ZAdd(t.Context(), e.Key("failed"), redis.Z{Score: float64(1795000100000 + i), Member: id})
		}
		p.Set(t.Context(), e.Key("id"), n, 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAJobThatChangedAfterItWasSelectedIsLeftAloneAndNamed(t *testing.T) {
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(5), bullMQMail(6)} {
		for _, action := range []tend.Action{tend.Retry, tend.Delete} {
			t.Run(fmt.Sprintf("%s of %s %d", action, e.Layout, e.Major), func(t *testing.T) {
				ctx, client := t.Context(), redistest.Start(t).Client(t)
				fill(t, client, e, 6)
				q := tend.At(client, e)
				s, err := q.Select(ctx, tend.Criteria{States: []mover.State{mover.Failed}, Filter: filter(t, "reason=boom,data.n>0")})
				if err != nil {
					t.Fatal(err)
				}
				client.ZRem(ctx, e.Key("failed"), "1")
				client.HSet(ctx, e.Key("2"), "failedReason", "another")
				client.HSet(ctx, e.Key("3"), "data", `{"n":4}`)
				client.Set(ctx, e.Key("4:lock"), "token", time.Minute)
				client.HSet(ctx, e.Key("5"), "progress", "50") // not what the filter looks at
				out, err := q.Act(ctx, action, s, tend.ActOptions{})
				if err != nil {
					t.Fatal(err)
				}
				want := map[string]int64{tend.Gone: 1, tend.Changed: 2, tend.Locked: 1}
				if diff := cmp.Diff(want, out.Skipped); diff != "" || out.Done != 2 {
					t.Errorf("done %d, skipped (-want +got):\n%s", out.Done, diff)
				}
				if left := client.ZRange(ctx, e.Key("failed"), 0, -1).Val(); !slices.Equal(left, []string{"2", "3", "4"}) {
					t.Errorf("failed has %q", left)
				}
			})
		}
	}
}

func TestAnIDWithoutAJobIsNotRetriedButCanBeDeleted(t *testing.T) {
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(6)} {
		ctx, client := t.Context(), redistest.Start(t).Client(t)
		fill(t, client, e, 2)
		client.Del(ctx, e.Key("1"))
		client.Del(ctx, e.Key("2"))
		client.Set(ctx, e.Key("2"), "no hash", 0)
		q := tend.At(client, e)
		failed := []mover.State{mover.Failed}
		if _, out := act(t, q, tend.Retry, tend.Criteria{States: failed}); out.Skipped[tend.NoJob] != 1 || out.Skipped[tend.WrongType] != 1 {
			t.Errorf("%s: retry %+v", e, out)
		}
		if _, out := act(t, q, tend.Delete, tend.Criteria{States: failed}); out.Done != 1 || out.Skipped[tend.WrongType] != 1 {
			t.Errorf("%s: delete %+v", e, out)
		}
	}
}

func TestAFlowsParentAndAChildThatIsWaitedForAreNotDeleted(t *testing.T) {
	for _, lib := range []string{"bullmq5", "bullmq6"} {
		t.Run(lib, func(t *testing.T) {
			server := redistest.Start(t)
			client := server.Client(t)
			theirs := startLibrary(t, lib, server.Addr, "mail")
			flow, ok := theirs.do("flow", "parent", []string{"one", "two"}).([]any)
			if !ok || len(flow) != 3 {
				t.Fatalf("the flow is %v", flow)
			}
			q := find(t, client, "mail")
			_, out := act(t, q, tend.Delete, tend.Criteria{States: q.States()})
			if out.Done != 0 || out.Skipped[tend.Children] != 1 || out.Skipped[tend.Awaited] != 2 {
				t.Errorf("delete of a whole flow: %+v", out)
			}
			// The flow goes on, and when it has ended its jobs can go.
			theirs.do("work", 3, false)
			if state := theirs.do("state", flow[0]); state != "completed" {
				t.Errorf("the parent is %v", state)
			}
			if _, out := act(t, q, tend.Delete, tend.Criteria{States: q.States(), Filter: filter(t, "name!=parent")}); out.Done != 2 {
				t.Errorf("delete of the children of a parent that has ended: %+v", out)
			}
		})
	}
}

func TestAFailedChildThatIsRetriedIsWaitedForAgain(t *testing.T) {
	ctx, client, e := t.Context(), redistest.Start(t).Client(t), bullMQMail(6)
	fill(t, client, e, 1)
	client.HSet(ctx, e.Key("parent"), "name", "p")
	client.HSet(ctx, e.Key("1"), "parentKey", e.Key("parent"))
	client.HSet(ctx, e.Key("parent:failed"), e.Key("1"), "boom")
	if _, out := act(t, tend.At(client, e), tend.Retry, tend.Criteria{States: []mover.State{mover.Failed}}); out.Done != 1 {
		t.Fatalf("retry: %+v", out)
	}
	if is := client.SIsMember(ctx, e.Key("parent:dependencies"), e.Key("1")).Val(); !is {
		t.Error("its parent does not wait for it")
	}
	if n := client.Exists(ctx, e.Key("parent:failed")).Val(); n != 0 {
		t.Error("its parent still counts it as failed")
	}
}

func TestTheNextRunOfAScheduleIsLeftAloneUnlessTheScheduleShallEnd(t *testing.T) {
	for _, lib := range libraries() {
		t.Run(lib, func(t *testing.T) {
			server := redistest.Start(t)
			ctx, client := t.Context(), server.Client(t)
			theirs := startLibrary(t, lib, server.Addr, "mail")
			theirs.do("schedule", "nightly", 3600000, "send")
			theirs.do("add", "send", map[string]any{}, map[string]any{"delay": 3600000})
			q := find(t, client, "mail")
			all := append(q.Waits(), mover.Delayed)
			s, out := act(t, q, tend.Delete, tend.Criteria{States: all})
			if s.Schedules != 1 || out.Done != 1 {
				t.Errorf("delete: %d left out, %+v", s.Schedules, out)
			}
			// The script asks the schedule itself.
			s, err := q.Select(ctx, tend.Criteria{States: all, Schedules: true})
			if err != nil || s.Jobs != 1 {
				t.Fatalf("Select = %+v, %v", s, err)
			}
			if out, err := q.Act(ctx, tend.Delete, s, tend.ActOptions{}); err != nil || out.Skipped[tend.Scheduled] != 1 {
				t.Errorf("delete without being told to end schedules: %+v, %v", out, err)
			}
			if out, err := q.Act(ctx, tend.Delete, s, tend.ActOptions{Schedules: true}); err != nil || out.Done != 1 {
				t.Errorf("delete of the schedule: %+v, %v", out, err)
			}
			if n := client.ZCard(ctx, "bull:mail:repeat").Val(); n != 0 {
				t.Error("the schedule is still there")
			}
			if keys := client.Keys(ctx, "bull:mail:repeat:*").Val(); len(keys) != 0 {
				t.Errorf("of the schedule is left %q", keys)
			}
		})
	}
}

func TestAJobThatAWorkerHoldsIsNotDeleted(t *testing.T) {
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(6)} {
		ctx, client := t.Context(), redistest.Start(t).Client(t)
		fill(t, client, e, 3)
		client.Del(ctx, e.Key("failed"))
		client.RPush(ctx, e.Key("active"), "1", "2", "3")
		client.Set(ctx, e.Key("1:lock"), "token", time.Minute)
		client.SAdd(ctx, e.Key("stalled"), "3")
		q := tend.At(client, e)
		_, out := act(t, q, tend.Delete, tend.Criteria{States: []mover.State{mover.Active}})
		want := map[string]int64{tend.Locked: 1}
		if e.Layout == mover.Bull { // whose workers take a job before they lock it
			want[tend.MaybeTaken] = 1
		}
		if diff := cmp.Diff(want, out.Skipped); diff != "" {
			t.Errorf("%s: skipped (-want +got):\n%s", e, diff)
		}
	}
}

func TestAQueueWithBothItsListsLosesNothingWhenItIsPausedAndResumed(t *testing.T) {
	clients := map[string]func(*testing.T) redis.UniversalClient{
		"redis-server": func(t *testing.T) redis.UniversalClient { return redistest.Start(t).Client(t) },
		"embedded": func(t *testing.T) redis.UniversalClient {
			s, err := embedded.Start(t.Context(), embedded.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = s.Close() })
			return redis.NewClient(&redis.Options{Addr: s.Addr()})
		},
	}
	for name, start := range clients {
		for _, e := range []mover.Endpoint{bullMail(), bullMQMail(5), bullMQMail(6)} {
			t.Run(fmt.Sprintf("%s %s %d", name, e.Layout, e.Major), func(t *testing.T) { bothLists(t, start(t), e) })
		}
	}
}

// bothLists pauses and resumes a queue that has jobs in its waiting and in its paused list.
func bothLists(t *testing.T, client redis.UniversalClient, e mover.Endpoint) {
	t.Helper()
	ctx := t.Context()
	var want []string
	for i := range 2500 { // more than one script moves
		want = append(want, fmt.Sprint(i))
		client.RPush(ctx, e.Key("wait"), fmt.Sprint(i))
	}
	client.RPush(ctx, e.Key("paused"), "older", "oldest")
	want = append(want, "older", "oldest")
	q := tend.At(client, e)
	if _, err := q.Pause(ctx); err != nil {
		t.Fatal(err)
	}
	if e.Major != 6 {
		if got := client.LRange(ctx, e.Key("paused"), 0, -1).Val(); !slices.Equal(got, want) {
			t.Errorf("paused: %d jobs, %.80q", len(got), got)
		}
	}
	if _, err := q.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if got := client.LRange(ctx, e.Key("wait"), 0, -1).Val(); !slices.Equal(got, want) {
		t.Errorf("resumed: %d jobs, ending %q", len(got), got[max(0, len(got)-3):])
	}
	// And when only the way back finds both.
	client.RPush(ctx, e.Key("paused"), "a", "b")
	if _, err := q.Resume(ctx); err != nil {
		t.Fatal(err)
	}
	if got := client.LRange(ctx, e.Key("wait"), -4, -1).Val(); !slices.Equal(got, []string{"older", "oldest", "a", "b"}) {
		t.Errorf("resumed again: the end is %q", got)
	}
	if n := client.Exists(ctx, e.Key("paused")).Val(); n != 0 {
		t.Error("paused is still there")
	}
}

func TestAKeyOfTheWrongTypeStopsEverythingBeforeItBegins(t *testing.T) {
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(5), bullMQMail(6)} {
		ctx, client := t.Context(), redistest.Start(t).Client(t)
		fill(t, client, e, 3)
		client.Set(ctx, e.Key("wait"), "no list", 0)
		q := tend.At(client, e)
		before := contents(t, client, "mail", time.Now())
		s, err := q.Select(ctx, tend.Criteria{States: []mover.State{mover.Failed}})
		if err != nil {
			t.Fatal(err)
		}
		wrong := func(what string, err error) {
			t.Helper()
			var e *mover.WrongTypeError
			if !errors.As(err, &e) || !strings.HasSuffix(e.Key, ":wait") {
				t.Errorf("%s: %v, want the key named", what, err)
			}
		}
		out, err := q.Act(ctx, tend.Retry, s, tend.ActOptions{})
		if wrong("retry", err); out.Unknown != 0 || out.Left != 3 {
			t.Errorf("retry: %+v", out)
		}
		_, err = q.Pause(ctx)
		wrong("pause", err)
		_, err = q.Enqueue(ctx, tend.NewJob{Name: "send"})
		wrong("enqueue", err)
		if diff := cmp.Diff(before, contents(t, client, "mail", time.Now())); diff != "" {
			t.Errorf("%s changed:\n%s", e, diff)
		}
	}
}

func TestAnIDThatTheCounterComesToIsStepped(t *testing.T) {
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(6)} {
		ctx, client := t.Context(), redistest.Start(t).Client(t)
		q := tend.At(client, e)
		client.HSet(ctx, e.Key("1"), "name", "somebody's own")
		client.HSet(ctx, e.Key("2"), "name", "somebody's own")
		if added := enqueue(t, q, tend.NewJob{Name: "send"}); added.ID != "3" {
			t.Errorf("%s: the id is %q, want 3", e, added.ID)
		}
	}
}

func TestAJobThatCannotBeIsRefusedWithEveryReason(t *testing.T) {
	client := redistest.Start(t).Client(t)
	for _, c := range []struct {
		e    mover.Endpoint
		j    tend.NewJob
		want []string
	}{
		{bullMQMail(6), tend.NewJob{Data: []byte("{"), Delay: -1, Priority: 1 << 30, Attempts: -1, ID: "7"}, []string{"name:", "data:", "delay:", "priority:", "attempts:", "id:"}},
		{bullMQMail(6), tend.NewJob{Name: "a", ID: "a:b"}, []string{"has a colon"}},
		{bullMQMail(6), tend.NewJob{Name: "a", ID: "wait"}, []string{"the queue's own keys"}},
		{bullMQMail(6), tend.NewJob{Name: "a", Band: "high"}, []string{"band: bullmq has priorities"}},
		{bullMail(), tend.NewJob{ID: "repeat:x:1"}, []string{"one of its own keys"}},
		{bullMail(), tend.NewJob{ID: "7:lock"}, []string{"one of its own keys"}},
		{bullMail(), tend.NewJob{Delay: time.Second, At: time.Now()}, []string{"at most one of them"}},
		{bullMail(), tend.NewJob{UniqueTTL: time.Second}, []string{"unique ttl"}},
		{mover.Endpoint{Layout: tend.Asynq, Queue: "mail"}, tend.NewJob{Name: "a", Priority: 1}, []string{"asynq has bands"}},
		{mover.Endpoint{Layout: tend.Asynq, Queue: "mail"}, tend.NewJob{Name: "a", Band: "top"}, []string{"no worker is known"}},
	} {
		_, err := tend.At(client, c.e).Enqueue(t.Context(), c.j)
		if _, wrong := errors.AsType[*tend.JobError](err); !wrong {
			t.Errorf("%s %+v: %v, want a *JobError", c.e, c.j, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s %+v: %v, want it to say %q", c.e, c.j, err, want)
			}
		}
	}
	if n := client.DBSize(t.Context()).Val(); n != 0 {
		t.Errorf("%d keys were written", n)
	}
}

func TestTwoOperatorsWhoRetryTheSameJobsRetryEachOnce(t *testing.T) {
	const jobs = 500
	for _, e := range []mover.Endpoint{bullMail(), bullMQMail(6)} {
		server := redistest.Start(t)
		client := server.Client(t)
		fill(t, client, e, jobs)
		var (
			both sync.WaitGroup
			desk [2]*tend.Queue
			seen [2]*tend.Selection
			outs [2]tend.Outcome
			errs [2]error
		)
		for i := range desk {
			desk[i] = tend.At(server.Client(t), e)
			if seen[i], errs[i] = desk[i].Select(t.Context(), tend.Criteria{States: []mover.State{mover.Failed}}); errs[i] != nil {
				t.Fatal(errs[i])
			}
		}
		for i := range desk {
			both.Go(func() { outs[i], errs[i] = desk[i].Act(t.Context(), tend.Retry, seen[i], tend.ActOptions{}) })
		}
		both.Wait()
		if err := errors.Join(errs[:]...); err != nil {
			t.Fatal(err)
		}
		if done := outs[0].Done + outs[1].Done; done != jobs || outs[0].Skipped[tend.Gone]+outs[1].Skipped[tend.Gone] != jobs {
			t.Errorf("%s: %d and %d done, %v and %v left alone", e, outs[0].Done, outs[1].Done, outs[0].Skipped, outs[1].Skipped)
		}
		if n := client.LLen(t.Context(), e.Key("wait")).Val(); n != jobs {
			t.Errorf("%s: %d jobs wait, want %d", e, n, jobs)
		}
	}
}
