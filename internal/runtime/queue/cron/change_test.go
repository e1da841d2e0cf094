package cron

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestAChangeIsSeenByEveryReplicaAndSurvivesRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sleepUntil(t, "2000-05-01T00:00:30Z")
		s := newStore()
		a, b := start(t, s), start(t, s)
		add(t, a.Cron, Schedule{Name: "x", Cron: "*/10 * * * *", Job: []byte(`{"name":"first"}`)})
		synctest.Wait()
		if got := b.Known(); len(got) != 1 || string(got[0].Schedule.Job) != `{"name":"first"}` || !got[0].Next.Equal(instant(t, "2000-05-01T00:10:00Z")) {
			t.Errorf("the other replica knows %+v", got)
		}
		sleepUntil(t, "2000-05-01T00:10:30Z")
		if err := b.Pause(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		a.stop()
		b.crash(s)
		sleepUntil(t, "2000-05-01T00:50:30Z")
		c := start(t, s)
		synctest.Wait()
		if got := c.Known(); len(got) != 1 || !got[0].Schedule.Paused || !got[0].Next.IsZero() {
			t.Errorf("after the restart: %+v, want it paused", got)
		}
		sleepUntil(t, "2000-05-01T01:00:30Z")
		if err := c.Resume(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, "2000-05-01T01:15:00Z")
		want := map[int64]int{instant(t, "2000-05-01T00:10:00Z").Unix(): 1, instant(t, "2000-05-01T01:10:00Z").Unix(): 1}
		if diff := cmp.Diff(want, s.ran("x")); diff != "" {
			t.Errorf("what fell into the pause is not made up for; ran (-want +got):\n%s", diff)
		}
		// Another job keeps the times going, other times begin anew.
		add(t, c.Cron, Schedule{Name: "x", Cron: "*/10 * * * *", Job: []byte(`{"name":"second"}`)})
		synctest.Wait()
		if got := c.Known()[0]; !got.Schedule.Since.Equal(instant(t, "2000-05-01T01:00:30Z")) || got.Last.IsZero() {
			t.Errorf("another job made it begin at %s with the last tick %s", got.Schedule.Since, got.Last)
		}
		add(t, c.Cron, Schedule{Name: "x", Cron: "*/5 * * * *"})
		synctest.Wait()
		if got := c.Known()[0]; !got.Schedule.Since.Equal(time.Now()) {
			t.Errorf("other times begin at %s", got.Schedule.Since)
		}
		if err := c.Remove(t.Context(), "x"); err != nil {
			t.Fatal(err)
		}
		sleepUntil(t, "2000-05-01T02:00:00Z")
		if got := s.ran("x"); len(got) != 2 || len(c.Known()) != 0 {
			t.Errorf("removed, and ran %v", got)
		}
		for _, f := range []func(context.Context, string) error{c.Remove, c.Pause, c.Resume} {
			if err := f(t.Context(), "x"); !errors.Is(err, ErrUnknown) {
				t.Errorf("got %v, want ErrUnknown", err)
			}
		}
		c.stop()
	})
}

func TestWithoutABellTheSweepFindsChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a, b := start(t, s), start(t, s, func(o *Options) { o.Subscribe = nil })
		synctest.Wait()
		add(t, a.Cron, Schedule{Name: "x", Cron: "@hourly"})
		time.Sleep(DefaultSweep - time.Second)
		if got := b.Known(); len(got) != 0 {
			t.Errorf("before the sweep: %+v", got)
		}
		time.Sleep(2 * time.Second)
		if got := b.Known(); len(got) != 1 {
			t.Errorf("after the sweep: %+v", got)
		}
		a.stop()
		b.stop()
	})
}

func TestAMonthWithoutWorkCostsTheSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := start(t, s)
		add(t, a.Cron, Schedule{Name: "x", Cron: "0 0 1 1 *"})
		synctest.Wait()
		before := s.cost()
		time.Sleep(30*24*time.Hour + time.Minute)
		got := map[string]int{}
		for command, n := range s.cost() {
			if n -= before[command]; n > 0 {
				got[command] = n
			}
		}
		p := a.Periodic()
		if want := int(30 * 24 * time.Hour / p[0].Interval * time.Duration(p[0].Commands)); want != 120 || got["hmget"] != want || len(got) != 1 {
			t.Errorf("a month cost %v, want %d HMGET and nothing else", got, want)
		}
		a.stop()
	})
}

func TestAnOriginDeclaresExactlyItsSchedules(t *testing.T) {
	s := newStore()
	c, err := New(Options{Client: s.client(nil)})
	if err != nil {
		t.Fatal(err)
	}
	names := func() string {
		t.Helper()
		list, err := c.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		for _, e := range list {
			fmt.Fprintf(&b, "%s:%s:%s:%t ", e.Schedule.Name, e.Schedule.Cron, e.Schedule.Origin, e.Schedule.Paused)
		}
		return b.String()
	}
	add(t, c, Schedule{Name: "own", Cron: "@daily"})
	of := func(list ...string) (schedules []Schedule) {
		for i := 0; i < len(list); i += 2 {
			schedules = append(schedules, Schedule{Name: list[i], Queue: "q", Cron: list[i+1]})
		}
		return schedules
	}
	if err := c.Declare(t.Context(), "config", of("a", "@daily", "b", "@hourly")); err != nil {
		t.Fatal(err)
	}
	if err := c.Pause(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	before := s.cost()["evalsha"]
	if err := c.Declare(t.Context(), "config", of("a", "@daily", "b", "@hourly")); err != nil || s.cost()["evalsha"] != before {
		t.Errorf("declaring the same again: %v, %d scripts", err, s.cost()["evalsha"]-before)
	}
	if err := c.Declare(t.Context(), "config", of("a", "@weekly", "c", "@hourly")); err != nil {
		t.Fatal(err)
	}
	if got, want := names(), "a:@weekly:config:true c:@hourly:config:false own:@daily::false "; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, bad := range [][]Schedule{of("own", "@daily"), of("a", "@daily", "a", "@hourly"), of("a", "x")} {
		if err := c.Declare(t.Context(), "config", bad); err == nil {
			t.Errorf("%v was taken", bad)
		}
	}
}

func TestANewerSchemaIsRefusedAndDamageIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := start(t, s)
		add(t, a.Cron, Schedule{Name: "good", Every: time.Minute}, Schedule{Name: "bad", Every: time.Minute})
		synctest.Wait()
		s.mu.Lock()
		s.hash[scheduleField+"bad"] = `{"name":"bad","queue":"q","cron":"* * * *"}`
		s.hash[scheduleField+"good"] = strings.Replace(s.hash[scheduleField+"good"], "{", `{"colour":"12345678901234567890",`, 1)
		s.mu.Unlock()
		b := start(t, s)
		time.Sleep(time.Minute)
		if got := b.Known(); len(got) != 1 || got[0].Schedule.Name != "good" {
			t.Errorf("beside a damaged one: %+v", got)
		}
		list, err := b.List(t.Context())
		if _, ok := errors.AsType[*DamagedError](err); !ok || len(list) != 1 {
			t.Errorf("List = %v, %v", list, err)
		}
		if err := b.Pause(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		if text := s.field(scheduleField + "good"); !strings.Contains(text, `"colour":"12345678901234567890"`) || !strings.Contains(text, `"paused":true`) {
			t.Errorf("a pause left %s", text)
		}
		if err := b.Resume(t.Context(), "good"); err != nil {
			t.Fatal(err)
		}
		// Removing what is damaged works.
		if err := b.Remove(t.Context(), "bad"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait() // until both have read that it goes on

		s.mu.Lock()
		s.hash[schemaField] = "2"
		s.mu.Unlock()
		for name, err := range map[string]error{
			"Add": b.Add(t.Context(), Schedule{Name: "y", Queue: "q", Every: time.Minute}), "Remove": b.Remove(t.Context(), "good"),
		} {
			if e, ok := errors.AsType[*SchemaError](err); !ok || e.Got != 2 || e.Known != 1 {
				t.Errorf("%s = %v, want a *SchemaError", name, err)
			}
		}
		time.Sleep(DefaultSweep + 30*time.Second)
		before := len(s.ran("good"))
		time.Sleep(10 * time.Minute)
		if got := len(s.ran("good")) - before; got != 10 {
			t.Errorf("%d ticks in 10 minutes, want what was known to go on", got)
		}
		a.stop()
		b.stop()
	})
}

func TestALostHashDoesNotStopWhatIsKnown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newStore()
		a := start(t, s)
		add(t, a.Cron, Schedule{Name: "x", Every: time.Minute})
		time.Sleep(time.Minute + time.Second)
		s.mu.Lock()
		clear(s.hash)
		s.mu.Unlock()
		time.Sleep(DefaultSweep)
		if got := a.Stats(); got.Err == nil || got.Fired != 361 {
			t.Errorf("stats %+v, want 361 fired and the loss as error", got)
		}
		add(t, a.Cron, Schedule{Name: "y", Every: time.Minute})
		synctest.Wait()
		if got := a.Known(); len(got) != 1 || got[0].Schedule.Name != "y" || a.Stats().Err != nil {
			t.Errorf("after an addition: %+v, %v", got, a.Stats().Err)
		}
		a.stop()
	})
}

// TestAClockThatIsSet plays rounds at times of its own, as nothing sets the clock of a test.
func TestAClockThatIsSet(t *testing.T) {
	s := newStore()
	c, err := New(Options{Client: s.client(nil), Enqueue: s.enqueue})
	if err != nil {
		t.Fatal(err)
	}
	r := &runner{Cron: c, pause: firstPause, owed: map[string]time.Time{}}
	add(t, c, Schedule{Name: "x", Every: 10 * time.Minute})
	now := wallNow().Add(-48 * time.Hour).Truncate(time.Hour)
	for field, text := range s.hash {
		if strings.HasPrefix(field, scheduleField) {
			s.hash[field] = strings.Replace(text, `"since":"20`, `"since":"19`, 1)
		}
	}
	table, err := c.read(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := c.take(table, now); err != nil {
		t.Fatal(err)
	}
	r.entries["x"].done = now
	for _, step := range []struct {
		name string
		at   time.Duration
		want int
	}{
		{"a tick", 10 * time.Minute, 1},
		{"set back by a minute: not again", 9 * time.Minute, 0},
		{"and it comes again", 10*time.Minute + time.Second, 0},
		{"the next tick", 20 * time.Minute, 1},
		{"set forward by 3 hours: one run for all between", 3*time.Hour + 20*time.Minute, 1},
		{"set back by 3 hours", 21 * time.Minute, 0},
		{"ticks go on", 30 * time.Minute, 1},
		{"with every one", 40 * time.Minute, 1},
		{"but not the one that ran early", 3*time.Hour + 20*time.Minute, 0},
		{"and go on", 3*time.Hour + 30*time.Minute, 1},
	} {
		before := len(s.order)
		wait := r.round(t.Context(), now.Add(step.at))
		if got := len(s.order) - before; got != step.want || wait > maxSleep {
			t.Errorf("%s: ran %d, want %d; sleeps %s", step.name, got, step.want, wait)
		}
	}
}

func TestAgainstARealServer(t *testing.T) {
	server := redistest.Start(t)
	client := redis.NewClient(&redis.Options{Addr: server.Addr, Protocol: 2, DisableIdentity: true})
	defer client.Close()
	inScript := int64(0)
	c, err := New(Options{Client: client, InScript: func(_ string, n int64) { inScript += n }})
	if err != nil {
		t.Fatal(err)
	}
	sub := client.Subscribe(t.Context(), c.channel())
	defer sub.Close()
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	add(t, c, Schedule{Name: "a", Cron: "@daily"}, Schedule{Name: "b", Every: time.Hour, Jitter: 1500 * time.Millisecond, Misfire: All, Zone: ""})
	if msg, err := sub.ReceiveMessage(t.Context()); err != nil || msg.Payload != "1" {
		t.Errorf("the bell said %v, %v", msg, err)
	}
	if inScript != 5+5 { // HDEL of the mark included
		t.Errorf("%d commands in scripts, want 10", inScript)
	}
	ticks := map[string]time.Time{"a": time.Unix(1000, 0), "b": time.Unix(2000, 0)}
	if err := c.mark(t.Context(), ticks); err != nil {
		t.Fatal(err)
	}
	if err := c.raise(t.Context(), map[string]time.Time{"a": time.Unix(999, 0), "b": time.Unix(2001, 0)}); err != nil {
		t.Fatal(err)
	}
	list, err := c.List(t.Context())
	if err != nil || len(list) != 2 || list[0].Last.Unix() != 1000 || list[1].Last.Unix() != 2001 {
		t.Fatalf("List = %+v, %v", list, err)
	}
	if got := list[1].Schedule; got.Every != time.Hour || got.Jitter != 1500*time.Millisecond || got.Misfire != All || got.MisfireMax != defaultMisses {
		t.Errorf("read back %+v", got)
	}
	if n, err := c.lookup(t.Context()); err != nil || n != 2 {
		t.Errorf("revision %d, %v; want 2", n, err)
	}
	// A change against a revision that others left behind does nothing.
	if code, err := c.swap(t.Context(), 1, edit{set: map[string]string{"x": "y"}}); err != nil || code != 0 {
		t.Errorf("swap = %d, %v; want 0", code, err)
	}
	if err := c.Remove(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	if fields := client.HKeys(t.Context(), DefaultKey).Val(); len(fields) != 4 {
		t.Errorf("fields %q, want schema, revision, and schedule and mark of b", fields)
	}
	client.HSet(t.Context(), DefaultKey, "schema", "2")
	if _, err := c.swap(t.Context(), 3, edit{set: map[string]string{"x": "y"}}); err == nil {
		t.Error("the script wrote into a newer schema")
	}
	client.Del(t.Context(), DefaultKey)
	client.Set(t.Context(), DefaultKey, "text", 0)
	if _, err := c.List(t.Context()); err == nil || !lasting(err) {
		t.Errorf("List of a string = %v", err)
	}
}

func TestOptionsReportAllTheirProblems(t *testing.T) {
	_, err := New(Options{Key: strings.Repeat("k", 600), Sweep: time.Second, Grace: time.Millisecond, Retain: time.Second, Timeout: -1})
	for _, want := range []string{"client:", "key:", "sweep:", "grace:", "retain:", "timeout:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	c, err := New(Options{Client: newStore().client(nil)})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Run(t.Context()); err == nil {
		t.Error("Run without Enqueue succeeded")
	}
}
