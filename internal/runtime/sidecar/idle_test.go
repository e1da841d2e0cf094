package sidecar

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// processed is how often the server has run each command.
func processed(t *testing.T, look *redis.Client) map[string]int64 {
	t.Helper()
	text, err := look.Info(context.WithoutCancel(t.Context()), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]int64{}
	for _, m := range regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.ParseInt(m[2], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		all[m[1]] = n
	}
	return all
}

func listedIdle(t *testing.T, r *running) []api.IdleCommand {
	t.Helper()
	_, body := ask(t, http.MethodGet, "http://"+r.API+"/v1/budget", "")
	var budget api.BudgetState
	if err := json.Unmarshal([]byte(body), &budget); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return budget.Idle
}

// TestIdlingSendsWhatIsListed compares what the server counts with what GET /v1/budget lists. Intervals are as
// short as they may be configured, and those of the queues shorter. REDISOPT_IDLE=30m looks for so long.
func TestIdlingSendsWhatIsListed(t *testing.T) {
	t.Parallel()
	span := 15 * time.Second
	if text := os.Getenv("REDISOPT_IDLE"); text != "" {
		var err error
		if span, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	server := redistest.Start(t)
	file := someQueues(11) + "  schedules: [{name: yearly, queue: q0, cron: '0 0 1 1 *'}]\nserve: {control_sweep: 1m, sample_every: 1h}\nbudgets: {commands: {per_month: 500000}}\n"
	r := run(t, configured(t, map[string]string{"REDIS_URL": server.URL()}, file), Options{govern: func(o *governor.Options) {
		o.Sweep, o.Resync = 200*time.Millisecond, 2*time.Second
	}})
	for i := range 11 { // one delayed job in each queue
		post[any](t, "http://"+r.API+"/v1/queues/q"+strconv.Itoa(i)+"/jobs", `{"delay_ms":86400000}`, 201)
	}
	look := server.Client(t)
	// The start has read the delayed jobs, and looked for each with some EXISTS.
	eventually(t, "the delayed jobs are known", func() bool {
		return slices.ContainsFunc(listedIdle(t, r), func(c api.IdleCommand) bool { return c.Name == "resync of delayed jobs" && c.Commands == 11 })
	})
	settled := time.NewTimer(3 * time.Second)
	defer settled.Stop()
	<-settled.C
	for more := looks; ; more-- { // a machine that is busy for a moment has another one
		sent, most, least := idled(t, r, look, span)
		if float64(sent) <= most && float64(sent) >= least {
			return
		}
		text := fmt.Sprintf("sent %d, want %.1f to %.1f by what is listed", sent, least, most)
		if more == 1 {
			t.Fatal(text)
		}
		t.Log(text)
	}
}

// idled is how many commands the server has run in a time, and the most and the least that are right by what is
// listed.
func idled(t *testing.T, r *running, look *redis.Client, span time.Duration) (sent int64, most, least float64) {
	t.Helper()
	early := time.Now()
	before := processed(t, look)
	late := time.Now()
	timer := time.NewTimer(span)
	defer timer.Stop()
	<-timer.C
	shorter := time.Since(late).Seconds()
	after := processed(t, look)
	longer := time.Since(early).Seconds()
	for name, n := range after {
		if name != "info" { // ours, and the samples, which nobody bills
			sent += n - before[name]
			if n > before[name] {
				t.Logf("sent  %-20s %d", name, n-before[name])
			}
		}
	}
	listed := 0.0 // a second
	for _, c := range listedIdle(t, r) {
		if !c.Free {
			n := c.Commands * 1000 / float64(c.IntervalMS)
			listed += n
			t.Logf("listed %-24s %.1f", c.Name, n*longer)
		}
	}
	t.Logf("in %.1f s: sent %d, listed %.1f (%+.1f%%)", longer, sent, listed*longer, 100*(float64(sent)/listed/longer-1))
	// One resync of 12 commands more or less falls into the time. What runs late on a busy machine is sent less
	// often, never more often.
	return sent, 1.05*listed*longer + 12, 0.95*listed*shorter - 25
}
