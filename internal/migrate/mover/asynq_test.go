package mover

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// hourly is a timetable that does not look at what it is given.
func hourly(string, string, time.Duration) (Timetable, error) {
	return func(t time.Time) time.Time { return t.Add(time.Hour).Truncate(time.Hour) }, nil
}

func asynqQueue(queue string) Endpoint { return Endpoint{Layout: Asynq, Prefix: "asynq", Queue: queue} }

// recorded is soon after the keys of the capture were: asynq takes no dead letters of months ago.
func recorded() time.Time { return time.UnixMilli(1795381200000) }

func toAsynq(from Endpoint) Options {
	return Options{
		From: from, To: asynqQueue(from.Queue), ChunkSize: 6, ActiveTimeout: -1, WorkersStopped: true, Timetable: hourly, now: recorded,
	}
}

func fromAsynq(to Endpoint) Options {
	opts := toAsynq(to)
	opts.From, opts.To, opts.Reverse = opts.To, opts.From, true
	return opts
}

// otherThanBounded leaves out the problems of schedulers that redisopt's own schedules have no form for.
func otherThanBounded(problems []Problem) []Problem {
	return slices.DeleteFunc(slices.Clone(problems), func(p Problem) bool {
		return p.Rule == "scheduler-unlike" || p.Rule == "scheduler-legacy" || p.Rule == "scheduler-pending"
	})
}

func TestBullToAsynqAndBackEqualsTheCapture(t *testing.T) {
	for name, client := range map[string]*redis.Client{
		"redis-server": redistest.Start(t).Client(t),
		"miniredis":    redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()}),
	} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			before := withoutLocks(capturedBull(t))
			restore(ctx, t, client, before)
			for _, q := range capturedQueues() {
				from := Endpoint{Bull, 4, q[0], q[1]}
				there := mustMove(ctx, t, client, toAsynq(from))
				if left := otherThanBounded(there.Skipped); len(left) > 0 || len(there.Held) > 0 {
					t.Errorf("%s: skipped %v, held %v", q[1], left, there.Held)
				}
			}
			for _, q := range capturedQueues() {
				back := mustMove(ctx, t, client, fromAsynq(Endpoint{Bull, 4, q[0], q[1]}))
				if len(back.Skipped) > 0 || len(back.Held) > 0 {
					t.Errorf("%s: skipped %v, held %v", q[1], back.Skipped, back.Held)
				}
				left, err := counts(ctx, client, asynqQueue(q[1]))
				if err != nil || len(left) > 0 {
					t.Errorf("%s: left at asynq %v, %v", q[1], left, err)
				}
			}
			after := append(dump(ctx, t, client, "bull:*"), dump(ctx, t, client, "{bull}:token*")...)
			for _, d := range capture.Compare(before, after) {
				// The job whose worker died runs first of its band, and Bull's counter covers every id.
				if d.Key == "bull:suggestion-generation:wait" && strings.Replace(d.Is, " 12", "", 1) == d.Was {
					continue
				}
				if !allowedAfterRoundTrip(d) {
					t.Errorf("differs: %s", d)
				}
			}
			if left := dump(ctx, t, client, "asynq:{*}:t:*"); len(left) > 0 {
				t.Errorf("jobs left at asynq: %v", left)
			}
			if n, err := client.HLen(ctx, cronKey).Result(); err != nil || n != 2 {
				t.Errorf("%s has %d fields, %v, want schema and revision", cronKey, n, err)
			}
		})
	}
}

func TestBullMQToAsynqAndBackEqualsTheDump(t *testing.T) {
	client := redistest.Start(t).Client(t)
	for major, name := range map[int]string{5: "bullmq-5.81.5.json", 6: "bullmq-6.7.0.json"} {
		t.Run(name, func(t *testing.T) {
			ctx := t.Context()
			client.FlushAll(ctx)
			before := withoutLocks(loadDump(t, name))
			restore(ctx, t, client, before)
			for _, q := range capturedQueues() {
				there := mustMove(ctx, t, client, toAsynq(Endpoint{BullMQ, major, q[0], q[1]}))
				if left := otherThanBounded(there.Skipped); len(left) > 0 {
					t.Errorf("%s: skipped %v", q[1], left)
				}
			}
			for _, q := range capturedQueues() {
				mustMove(ctx, t, client, fromAsynq(Endpoint{BullMQ, major, q[0], q[1]}))
			}
			after := append(dump(ctx, t, client, "bull:*"), dump(ctx, t, client, "{bull}:token*")...)
			for _, d := range capture.Compare(before, after) {
				switch d.Key { // the job whose worker died waits for its next try
				case "bull:suggestion-generation:active":
					continue
				case "bull:suggestion-generation:wait":
					if strings.Replace(d.Is, " 10", "", 1) == d.Was {
						continue
					}
				}
				t.Errorf("differs: %s", d)
			}
		})
	}
}

// TestFromBullOverBullMQAndAsynqBackToBull takes the long way round.
func TestFromBullOverBullMQAndAsynqBackToBull(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	before := withoutLocks(capturedBull(t))
	restore(ctx, t, client, before)
	chains := map[string][]Options{}
	for _, q := range capturedQueues() {
		bull, mq := Endpoint{Bull, 4, q[0], q[1]}, Endpoint{BullMQ, 6, target(q[0]), q[1]}
		out := Options{From: bull, To: mq, ActiveTimeout: -1, WorkersStopped: true, SchedulerID: hashID}
		back := out
		back.From, back.To, back.Reverse = mq, bull, true
		chains[q[1]] = []Options{out, toAsynq(mq), fromAsynq(mq), back}
	}
	for queue, chain := range chains {
		for i, opts := range chain {
			r := mustMove(ctx, t, client, opts)
			if left := otherThanBounded(r.Skipped); len(left) > 0 {
				t.Errorf("%s, leg %d: skipped %v", queue, i, left)
			}
		}
	}
	after := append(dump(ctx, t, client, "bull:*"), dump(ctx, t, client, "{bull}:token*")...)
	for _, d := range capture.Compare(before, after) {
		if d.Key == "bull:suggestion-generation:wait" && strings.Replace(d.Is, " 12", "", 1) == d.Was {
			continue
		}
		if !allowedAfterRoundTrip(d) {
			t.Errorf("differs: %s", d)
		}
	}
}

// TestAsynqReadsWhatWasMoved asks asynq's own Inspector.
func TestAsynqReadsWhatWasMoved(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	ctx := t.Context()
	restore(ctx, t, client, withoutLocks(capturedBull(t)))
	from := Endpoint{Bull, 4, "bull", "suggestion-generation"}
	data := map[string]string{}
	for _, k := range capturedBull(t) {
		if fields, ok := k.Value.(map[string]string); ok && strings.HasPrefix(k.Name, from.Key("")) {
			data[asynqID(from.Queue, strings.TrimPrefix(k.Name, from.Key("")))] = fields["data"]
		}
	}
	mustMove(ctx, t, client, toAsynq(from))
	inspector := asynq.NewInspector(asynq.RedisClientOpt{Addr: server.Addr})
	defer func() { _ = inspector.Close() }()
	got := map[string]int{}
	for _, band := range []string{from.Queue, from.Queue + ":high", from.Queue + ":low"} {
		for what, list := range map[string]func(string, ...asynq.ListOption) ([]*asynq.TaskInfo, error){
			"pending": inspector.ListPendingTasks, "scheduled": inspector.ListScheduledTasks,
			"archived": inspector.ListArchivedTasks, "completed": inspector.ListCompletedTasks,
		} {
			tasks, err := list(band, asynq.PageSize(100))
			if err != nil && !errors.Is(err, asynq.ErrQueueNotFound) {
				t.Fatal(err)
			}
			for _, task := range tasks {
				got[what]++
				if string(task.Payload) != data[task.ID] {
					t.Errorf("%s: payload %q, want %q", task.ID, task.Payload, data[task.ID])
				}
				if task.Queue != band {
					t.Errorf("%s: queue %q, want %q", task.ID, task.Queue, band)
				}
			}
		}
	}
	want := map[string]int{"pending": 18, "scheduled": 5, "archived": 2, "completed": 5}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what asynq lists (-want +got):\n%s", diff)
	}
	info, err := inspector.GetTaskInfo(from.Queue, from.Queue+":8")
	if err != nil {
		t.Fatal(err)
	}
	if info.MaxRetry != 2 || info.Retried != 2 || info.LastErr != "boom 2" || info.State != asynq.TaskStateArchived ||
		info.LastFailedAt.UnixMilli()/1000 != 1795380453 {
		t.Errorf("dead letter: %+v", info)
	}
	info, err = inspector.GetTaskInfo(from.Queue, from.Queue+":14")
	if err != nil {
		t.Fatal(err)
	}
	if info.MaxRetry != 2 || info.Timeout != 7*time.Second || info.Type != "named" || info.Retention != 0 {
		t.Errorf("waiting job: %+v", info)
	}
}

// normal takes out what depends on the time at which a move ran.
func normal(keys []capture.Key) []capture.Key {
	since := regexp.MustCompile(`,"since":"[^"]*"`)
	for i, k := range keys {
		switch v := k.Value.(type) {
		case string:
			if strings.HasSuffix(k.Name, ":paused") {
				keys[i].Value = "now"
			}
		case [][2]string:
			if strings.HasPrefix(k.Name, "asynq:") && strings.HasSuffix(k.Name, ":completed") {
				for n := range v {
					v[n][1] = "later"
				}
				slices.SortFunc(v, func(a, b [2]string) int { return strings.Compare(a[0], b[0]) })
			}
		case map[string]string:
			for name, text := range v {
				v[name] = since.ReplaceAllString(text, "")
			}
			spellOut(v)
		}
	}
	return keys
}

// spellOut gives the hash of a job that went to asynq by its shape the fields that one has which was claimed.
func spellOut(hash map[string]string) {
	var o origin
	task, err := parseTask(withoutPayload(hash["msg"]))
	if !o.parseMovedFrom(hash["moved_from"]) || o.kept == nil || err != nil {
		return
	}
	env, _ := task.unseal()
	var v view
	if !o.kept.fill(&v, o.id, strconv.FormatInt(env.At, 10)) {
		return
	}
	for f := range fieldState {
		if v.has[f] {
			hash[f.String()] = v.val[f]
		}
	}
	hash["moved_from"] = fmt.Sprintf("%s %s - 1 %s", o.layout, o.state, o.id)
}

func TestACrashAtAnyScriptOfAMoveToAsynqAndBackEndsLikeAnUninterruptedRun(t *testing.T) {
	for _, back := range []bool{false, true} {
		t.Run(fmt.Sprintf("back %v", back), func(t *testing.T) {
			t.Parallel()
			client := redistest.Start(t).Client(t)
			hook := &crashHook{at: -1}
			client.AddHook(hook)
			begin := func() {
				hook.at, hook.calls = -1, 0
				client.FlushAll(t.Context())
				restore(t.Context(), t, client, withoutLocks(capturedBull(t)))
				if back {
					for _, q := range capturedQueues() {
						mustMove(t.Context(), t, client, toAsynq(Endpoint{Bull, 4, q[0], q[1]}))
					}
				}
				hook.calls = 0
			}
			options := func(q [2]string) Options {
				if back {
					return fromAsynq(Endpoint{Bull, 4, q[0], q[1]})
				}
				return toAsynq(Endpoint{Bull, 4, q[0], q[1]})
			}
			for range 2 { // the first time every script is sent twice
				begin()
				for _, q := range capturedQueues() {
					mustMove(t.Context(), t, client, options(q))
				}
			}
			want, calls := normal(everything(t, client)), hook.calls
			step := 1
			if RaceEnabled {
				step = 7
			}
			for at := 0; at < calls; at += step {
				for _, after := range []bool{false, true} {
					begin()
					hook.at, hook.after = at, after
					crashed := crashOnce(t.Context(), t, client, hook, options)
					if !crashed {
						t.Fatalf("no crash at script call %d", at)
					}
					for _, d := range capture.Compare(want, normal(everything(t, client))) {
						t.Errorf("crash at %d (after: %v): %s", at, after, d)
					}
				}
			}
		})
	}
}

// crashOnce moves every queue of the capture, and again the one whose move crashed.
func crashOnce(ctx context.Context, t *testing.T, client *redis.Client, hook *crashHook, options func([2]string) Options) bool {
	t.Helper()
	crashed := false
	for _, q := range capturedQueues() {
		m, err := New(client, options(q))
		if err != nil {
			t.Fatal(err)
		}
		if _, err = m.Move(ctx); errors.Is(err, errCrash) {
			crashed = true
			hook.at = -1
			_, err = m.Move(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return crashed
}

// TestPlainJobsWithALossAreCountedWithIt: jobs that look alike move unseen, and lose alike.
func TestPlainJobsWithALossAreCountedWithIt(t *testing.T) {
	client := redistest.Start(t).Client(t)
	ctx := t.Context()
	from, _ := queueQ()
	const n = 1000
	fillWith(ctx, t, client, from, n, func(i int) (string, string) {
		return fmt.Sprint(i), fmt.Sprintf(`{"attempts":3,"removeOnFail":5,"backoff":{"type":"exponential","delay":10},"delay":0,"timestamp":%d}`, 1795380456459+i)
	})
	m, err := New(client, toAsynq(from))
	if err != nil {
		t.Fatal(err)
	}
	plan, err := m.Plan(ctx)
	if err != nil {
		t.Fatal(err)
	}
	m.opts.ChunkSize = defaultChunk
	r, err := m.Move(ctx)
	if err != nil || r.Moved[Waiting] != n || r.Losses != 2*n {
		t.Errorf("moved %v with %d losses, %v, want %d jobs with 2 each", r.Moved, r.Losses, err, n)
	}
	var perJob int64
	for _, l := range plan.Losses {
		if l.JobID == "1" || l.JobID == "1000" {
			perJob++
		}
	}
	if queue := plan.LossesTotal - r.Losses; queue < 1 || queue > 10 || perJob == 0 {
		t.Errorf("planned %d losses in all, want the %d of the jobs and some of the queue", plan.LossesTotal, r.Losses)
	}
	if kept := client.HGet(ctx, m.ledgerKey("counts"), "losses").Val(); kept != fmt.Sprint(r.Losses) {
		t.Errorf("the ledger counts %s losses, want %d", kept, r.Losses)
	}
	if r.Scripts > n/15 {
		t.Errorf("%d scripts for %d jobs that look alike", r.Scripts, n)
	}
}

// TestAPauseThatCameAlongStaysWhenTheMoveIsCompletedAndGoesWithTheWayBack: completing forgets the ledger too.
func TestAPauseThatCameAlongStaysWhenTheMoveIsCompletedAndGoesWithTheWayBack(t *testing.T) {
	for _, back := range []bool{false, true} {
		client := redistest.Start(t).Client(t)
		ctx := t.Context()
		restore(ctx, t, client, withoutLocks(capturedBull(t)))
		bull := Endpoint{Bull, 4, "bull", "calendar-sync"} // which is paused
		mustMove(ctx, t, client, toAsynq(bull))
		m, err := New(client, fromAsynq(bull))
		if err != nil {
			t.Fatal(err)
		}
		if back {
			if _, err := m.Move(ctx); err != nil {
				t.Fatal(err)
			}
		}
		if err := m.Forget(ctx); err != nil {
			t.Fatal(err)
		}
		paused := client.Exists(ctx, pauseFlags(asynqQueue("calendar-sync"))...).Val()
		if want := map[bool]int64{false: numBands, true: 0}[back]; paused != want {
			t.Errorf("back %v: %d bands are paused, want %d", back, paused, want)
		}
	}
}
