package mover

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestASnapshotOfTheSourceEqualsThatOfTheTarget(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ways := map[string]func(q [2]string) Options{
		"asynq": func(q [2]string) Options { return toAsynq(Endpoint{Bull, 4, q[0], q[1]}) },
		"bullmq": func(q [2]string) Options {
			return Options{From: Endpoint{Bull, 4, q[0], q[1]}, To: Endpoint{BullMQ, 6, target(q[0]), q[1]}, ActiveTimeout: -1, WorkersStopped: true}
		},
	}
	for name, options := range ways {
		for _, q := range capturedQueues() {
			t.Run(name+" "+q[1], func(t *testing.T) {
				ctx := t.Context()
				client.FlushAll(ctx)
				restore(ctx, t, client, withoutLocks(capturedBull(t)))
				m, err := New(client, options(q))
				if err != nil {
					t.Fatal(err)
				}
				before, err := m.Snapshot(ctx)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := m.Move(ctx); err != nil {
					t.Fatal(err)
				}
				c, err := m.Compare(ctx, before)
				if err != nil {
					t.Fatal(err)
				}
				if !c.Same {
					t.Errorf("the digests differ (-before +after):\n%s", cmp.Diff(before.Digests, c.After.Digests, cmp.AllowUnexported(Digest{})))
				}
				if c.Compared != len(before.Samples) || c.Gone > 0 || len(c.Differences) > 0 || c.Compared == 0 {
					t.Errorf("%d of %d samples compared, %d gone, differences %v", c.Compared, len(before.Samples), c.Gone, c.Differences)
				}
				if diff := cmp.Diff(before.NextRuns, c.After.NextRuns); diff != "" {
					t.Errorf("next runs (-before +after):\n%s", diff)
				}
			})
		}
	}
}

func TestAComparisonFindsWhatIsNotWhatItWas(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	from, to := queueQ()
	fill(ctx, t, client, from, 150)
	m, err := New(client, Options{From: from, To: to, ActiveTimeout: -1, WorkersStopped: true})
	if err != nil {
		t.Fatal(err)
	}
	before, err := m.Snapshot(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Move(ctx); err != nil {
		t.Fatal(err)
	}
	client.HSet(ctx, to.Key("7"), "data", `{"n":8}`)
	client.LRem(ctx, to.Key("wait"), 1, "9")
	client.Del(ctx, to.Key("9"))
	c, err := m.Compare(ctx, before)
	if err != nil {
		t.Fatal(err)
	}
	if c.Same || c.Compared != 149 || c.Gone != 1 || len(c.Differences) != 1 || c.Differences[0].JobID != "7" {
		t.Errorf("same %v, %d compared, %d gone, differences %v; want job 7 to differ and job 9 to be gone", c.Same, c.Compared, c.Gone, c.Differences)
	}
}

func TestTheOrderOfAQueueIsPartOfItsDigest(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	from, to := queueQ()
	m, err := New(client, Options{From: from, To: to})
	if err != nil {
		t.Fatal(err)
	}
	digest := func(first, second int) Digest {
		client.FlushAll(ctx)
		for _, id := range []int{first, second} {
			stamp := 1795380456459
			client.HSet(ctx, from.Key(fmt.Sprint(id)), "name", "a", "data", "{}", "timestamp", stamp, "delay", 0, "priority", 0,
				"opts", fmt.Sprintf(`{"attempts":1,"delay":0,"timestamp":%d}`, stamp))
			client.LPush(ctx, from.Key("wait"), id)
		}
		s, err := m.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		return s.Digests[Waiting]
	}
	a, b := digest(1, 2), digest(2, 1)
	if a.Sum != b.Sum || a.Order == b.Order || a.Count != 2 {
		t.Errorf("two jobs in either order: %+v and %+v, want equal sums and different orders", a, b)
	}
}
