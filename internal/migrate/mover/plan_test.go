package mover

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// calls reads how often each command ran since the counters were reset.
func calls(t *testing.T, client *redis.Client) map[string]int64 {
	t.Helper()
	text, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	m := map[string]int64{}
	for line := range strings.Lines(text) {
		name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
		var n int64
		if _, err := fmt.Sscanf(rest, "%d", &n); ok && err == nil {
			m[name] = n
		}
	}
	return m
}

func TestPlanVerifyAndListOnlyRead(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	restore(ctx, t, client, capturedBull(t))
	allowed := []string{
		"client|list", "config|resetstat", "exec", "exists", "get", "hget", "hgetall", "hexists", "hmget", "info", "lindex", "llen", "lpos",
		"lrange", "multi", "pubsub|numsub", "scan", "time", "type", "zcard", "zrange", "zscore",
	}
	before := everything(t, client)
	if err := client.ConfigResetStat(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	for _, q := range capturedQueues() {
		m, err := New(client, Options{From: Endpoint{Bull, 4, q[0], q[1]}, To: Endpoint{BullMQ, 6, target(q[0]), q[1]}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Plan(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Verify(ctx); err != nil {
			t.Fatal(err)
		}
		if _, err := Show(ctx, client, Endpoint{Prefix: q[0], Queue: q[1]}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := List(ctx, client, ListOptions{}); err != nil {
		t.Fatal(err)
	}
	for name := range calls(t, client) {
		if !slices.Contains(allowed, name) {
			t.Errorf("ran %s, which is not on the list of reading commands", name)
		}
	}
	report(t, capture.Compare(before, everything(t, client)))
}

func TestPlanNamesWhatTheCaptureWouldLose(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	restore(ctx, t, client, capturedBull(t))
	var got []string
	for _, q := range capturedQueues() {
		m, err := New(client, Options{From: Endpoint{Bull, 4, q[0], q[1]}, To: Endpoint{BullMQ, 6, target(q[0]), q[1]}})
		if err != nil {
			t.Fatal(err)
		}
		plan, err := m.Plan(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range plan.Losses {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s %s %s>%s", l.JobID, l.Field, l.Was, l.Becomes)))
		}
		for _, p := range plan.Problems {
			got = append(got, p.JobID+" "+p.Rule)
		}
	}
	want := []string{
		"12 opts.timeout 60000>", "20 priority 5000000>2097151", "20 opts.priority 5000000>2097151",
		"0:zero id 0:zero>x0:zero", "14 opts.timeout 1234>", "12 live-lock",
		"10 opts.backoff 1d, 3d, 7d, 15d>1d, 2d, 4d, 8d", "30 order before plain jobs>after plain jobs",
		"limiter option of the queue, limited jobs wait in delayed>option of the worker, limited jobs stay waiting",
		"repeat:68577e5f45867a398a91fdf09a9ee910:1795380600000 opts.backoff 1d, 3d, 7d, 15d>1d, 2d, 4d, 8d",
		"repeat:a06a2832ec655511cc4cfabd44c75725:1795384800000 opts.timeout 5000>",
		"repeat:a06a2832ec655511cc4cfabd44c75725:1795384800000 order before plain jobs>after plain jobs",
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("the plan says\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestPlanPriceIsCloseToWhatAMoveCosts(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	from, bullMQ := queueQ()
	for name, load := range map[string]func(){
		"plain jobs":             func() { fill(ctx, t, client, from, 3000) },
		"plain jobs to asynq":    func() { fill(ctx, t, client, from, 3000) },
		"jobs with ids to asynq": func() { fillWith(ctx, t, client, from, 3000, editedJob) },
		"jobs that need an edit": func() {
			fill(ctx, t, client, from, 3000)
			for i := 1; i <= 3000; i++ {
				client.HSet(ctx, from.Key(fmt.Sprint(i)), "attemptsMade", "1", "processedOn", "1795380456459")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			client.FlushAll(ctx)
			load()
			to := bullMQ
			if strings.HasSuffix(name, "asynq") {
				to = asynqQueue(from.Queue)
			}
			m, err := New(client, Options{From: from, To: to})
			if err != nil {
				t.Fatal(err)
			}
			plan, err := m.Plan(ctx)
			if err != nil {
				t.Fatal(err)
			}
			client.ConfigResetStat(ctx)
			if _, err := m.Move(ctx); err != nil {
				t.Fatal(err)
			}
			got := calls(t, client)
			total := int64(0)
			for _, n := range got {
				total += n
			}
			planned := plan.Commands.TopLevel + plan.Commands.InScript
			if total < planned*7/10 || total > planned*13/10 {
				t.Errorf("cost %d commands, the plan said %d", total, planned)
			}
		})
	}
}

func TestListFindsQueuesOfEveryLayout(t *testing.T) {
	ctx := t.Context()
	client := redistest.Start(t).Client(t)
	restore(ctx, t, client, capturedBull(t))
	mq := loadDump(t, "bullmq-6.7.0.json")
	for i := range mq {
		mq[i].Name = strings.Replace(mq[i].Name, "bull", "bullmq", 1)
	}
	restore(ctx, t, client, mq)
	client.Set(ctx, "app:user:id", "not a counter", 0)
	client.HSet(ctx, "app:user:wait", "a", "b")
	client.HSet(ctx, "session:1:meta", "user", "x")

	queues, err := List(ctx, client, ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, q := range queues {
		got = append(got, fmt.Sprintf("%s waiting=%d paused=%v repeats=%d", q.Endpoint, q.Counts[Waiting]+q.Counts[Paused], q.Paused, q.Repeats))
	}
	want := []string{
		"bull 4 bull:calendar-sync waiting=4 paused=true repeats=0",
		"bull 4 bull:suggestion-generation waiting=17 paused=false repeats=0",
		"bullmq 6 bullmq:calendar-sync waiting=2 paused=true repeats=0",
		"bullmq 6 bullmq:suggestion-generation waiting=6 paused=false repeats=0",
		"bullmq 5 bullmq:webhook-renewal waiting=2 paused=false repeats=0",
		"bullmq 6 {bullmq}:token-refresh waiting=1 paused=false repeats=5",
		"bull 4 {bull}:token-refresh waiting=0 paused=false repeats=5",
	}
	if !slices.Equal(got, want) {
		t.Errorf("found\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	some, err := DetectQueues(ctx, client, ListOptions{Prefix: "{bull}"})
	if err != nil || len(some) != 1 || some[0].Queue != "token-refresh" {
		t.Errorf("under {bull}: %v, %v", some, err)
	}
	detail, err := Show(ctx, client, Endpoint{Prefix: "{bull}", Queue: "token-refresh"})
	if err != nil || len(detail.Repeated) != 5 || detail.Repeated[4].TZ != "Europe/Berlin" {
		t.Errorf("show: %+v, %v", detail, err)
	}
	if _, err := Show(ctx, client, Endpoint{Prefix: "bull", Queue: "nothing"}); err == nil || !strings.Contains(err.Error(), "no such queue") {
		t.Errorf("show of nothing: %v", err)
	}
}
