package commands

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A captured server answers from memory: one CLIENT LIST, INFO in turn, and something delayed or not.
type captured struct {
	list    string
	infos   []string
	delayed int64
	sent    []string
}

func (c *captured) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *captured) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return c.answer(cmd) }
}

func (c *captured) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := c.answer(cmd); err != nil {
				return err
			}
		}
		return nil
	}
}

func (c *captured) answer(cmd redis.Cmder) error {
	name := strings.TrimSpace(fmt.Sprintln(cmd.Args()...))
	verb := name
	if cmd.Name() == "zcard" {
		verb = "zcard"
	}
	c.sent = append(c.sent, verb)
	switch reply := cmd.(type) {
	case *redis.StringCmd:
		if name == "client list" {
			reply.SetVal(c.list)
			return nil
		}
		reply.SetVal(c.infos[0])
		if name == "info all" && len(c.infos) > 1 {
			c.infos = c.infos[1:]
		}
	case *redis.IntCmd:
		reply.SetVal(999_999)
		if verb == "zcard" {
			reply.SetVal(c.delayed)
		}
	case *redis.StringSliceCmd:
		reply.SetVal([]string{"bull:calendar-sync:delayed"})
	default:
		return errors.New("nothing captured for " + name)
	}
	return nil
}

func (c *captured) client(t *testing.T) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:1",
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("nothing is dialled")
		},
	})
	rdb.AddHook(c)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

const infoHead = "redis_version:7.0.15\nrun_id:a\nmaxclients:10000\ntotal_connections_received:70\n"

// serverOf answers as the captured server did, over the captured window.
func serverOf(t *testing.T, c capture) *captured {
	t.Helper()
	file := map[string]string{"bull": "client-list-bull.txt", "bullmq": "client-list-bullmq6.txt"}[c.Library]
	raw, err := os.ReadFile(filepath.Join("..", "connections", "testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	// The capture has one QueueEvents; the measurements have none, or one for each queue.
	lines := slices.DeleteFunc(strings.Split(string(raw), "\n"), func(s string) bool {
		return strings.Contains(s, ":qe ") || strings.Contains(s, "name=observer")
	})
	if c.Calls["xread"] > 0 {
		for i, l := range slices.Clone(lines) {
			if strings.Contains(l, "cmd=bzpopmin") {
				l = strings.NewReplacer(" age=", ":qe age=", "cmd=bzpopmin", "cmd=xread", "id=", fmt.Sprintf("id=9%d", i)).Replace(l)
				lines = append(lines, l)
			}
		}
	}
	second := infoHead + "cmdstat_info:calls=1,usec=1\ncmdstat_client|list:calls=1,usec=1\ncmdstat_client|id:calls=1,usec=1\n"
	total, ownReads := int64(3), int64(1)
	if c.Library == "bull" { // somebody subscribes
		second += "cmdstat_pubsub|channels:calls=1,usec=1\n"
		total++
		ownReads++
	}
	for name, n := range c.Calls {
		second += fmt.Sprintf("cmdstat_%s:calls=%d,usec=1\n", name, n)
		total += n
	}
	second += fmt.Sprintf("total_commands_processed:%d\ntotal_reads_processed:%d\n", total, c.Top+ownReads)
	first := infoHead + "# Commandstats\ntotal_commands_processed:0\ntotal_reads_processed:0\n"
	return &captured{list: strings.Join(lines, "\n"), infos: []string{first, second}}
}

func measure(t *testing.T, s *captured, opts Options) *Report {
	t.Helper()
	var r *Report
	synctest.Test(t, func(t *testing.T) {
		var err error
		if r, err = Audit(t.Context(), s.client(t), opts); err != nil {
			t.Fatal(err)
		}
	})
	return r
}

func TestEveryCaptureIsProjectedAndItsSettingsAreReadBack(t *testing.T) {
	for name, want := range map[string]struct {
		poll, guard, stalled, events float64
		delayed                      int64
		top, all                     float64 // millions a month, after the published table
	}{
		"bull-default":     {poll: 5, guard: 5, stalled: 30, top: 12.3, all: 26.9},
		"mq5-default":      {poll: 5, stalled: 30, top: 12.3, all: 51.5},
		"mq6-default":      {poll: 5, stalled: 30, top: 12.3, all: 51.3},
		"mq5-default-qe":   {poll: 5, stalled: 30, events: 10, top: 15.0, all: 53.0},
		"bull-tuned":       {poll: 60, guard: 60, stalled: 120, top: 1.19, all: 3.1},
		"mq5-tuned":        {poll: 60, stalled: 120, top: 1.19, all: 5.3},
		"mq6-tuned":        {poll: 60, stalled: 120, top: 1.19, all: 5.4},
		"bull-d300":        {poll: 305, guard: 305, stalled: 305, top: 0.280, all: 0.84},
		"mq5-d300":         {poll: 305, stalled: 305, top: 0.280, all: 1.40},
		"mq5-d300-delayed": {poll: 10, stalled: 305, delayed: 1, top: 5.70, all: 23.1},
		"mq6-d300-delayed": {poll: 10, stalled: 305, delayed: 1, top: 5.70, all: 23.0},
	} {
		t.Run(name, func(t *testing.T) {
			c := captures(t)[name]
			s := serverOf(t, c)
			s.delayed = want.delayed
			r := measure(t, s, Options{Window: time.Duration(c.Seconds) * time.Second, Deep: true})
			near := func(what string, got, want float64) {
				if math.Abs(got-want) > 0.05*want {
					t.Errorf("%s = %.3f, want %.3f", what, got, want)
				}
			}
			near("top-level", r.Projection.TopPerMonth/1e6, want.top)
			near("all", r.Projection.AllPerMonth/1e6, want.all)
			if len(r.Polling) != 1 {
				t.Fatalf("polling = %+v, want one library", r.Polling)
			}
			p := r.Polling[0]
			near("poll", p.PollSeconds, want.poll)
			near("guard", p.GuardSeconds, want.guard)
			near("stalled", p.StalledSeconds, want.stalled)
			near("events", p.EventsSeconds, want.events)
			near("polling top-level", p.TopPerMonth/1e6, want.top)
			if p.Pinned != (want.delayed > 0) || (p.DelayedQueues == 11) != (want.delayed > 0) {
				t.Errorf("pinned %v with %d queues delayed, want %v", p.Pinned, p.DelayedQueues, want.delayed > 0)
			}
			if want.delayed > 0 && p.AfterTop < 0.9*p.TopPerMonth {
				t.Errorf("the remedy promises %.0f of %.0f although something stays delayed", p.AfterTop, p.TopPerMonth)
			}
			for _, name := range s.sent {
				if !slices.Contains([]string{"info all", "client list", "client id", "pubsub channels", "zcard"}, name) {
					t.Errorf("sent %q, which is not on the list of reads", name)
				}
			}
			if r.Sent != len(s.sent) {
				t.Errorf("says it sent %d commands, sent %d", r.Sent, len(s.sent))
			}
		})
	}
}

func TestFreeCommandsAreNotBilled(t *testing.T) {
	s := &captured{infos: []string{
		infoHead + "# Commandstats\n",
		infoHead + "cmdstat_ping:calls=600,usec=1\ncmdstat_info:calls=61,usec=1\ncmdstat_get:calls=100,usec=1\n",
	}}
	r := measure(t, s, Options{Provider: "upstash-payg"})
	perMonth := 100.0 / 60 * secondsInMonth
	if got := r.Bills[0]; got.Provider.Name != "upstash-payg" || math.Abs(got.BilledPerMonth-perMonth) > 1 {
		t.Errorf("bill = %+v, want %.0f billed: PING and INFO are free", got, perMonth)
	}
	if want := perMonth / 100_000 * 0.20; math.Abs(r.Bills[0].USDPerMonth-want) > 0.01 {
		t.Errorf("usd = %.2f, want %.2f", r.Bills[0].USDPerMonth, want)
	}
	if r.Split.All != 760 {
		t.Errorf("all = %d, want 760: one INFO was ours", r.Split.All)
	}
}

func TestAServerWithoutCommandstatsGivesATotalAndNoVerdict(t *testing.T) {
	head := "upstash_version:1.17.2\nredis_version:8.2.0\n"
	s := &captured{infos: []string{head + "total_commands_processed:1000\n", head + "total_commands_processed:7001\n"}}
	r := measure(t, s, Options{})
	if r.Observable != TotalOnly || r.Split.All != 6000 || r.Conclusive() {
		t.Errorf("observable %s, all %d, conclusive %v, want total, 6000, false", r.Observable, r.Split.All, r.Conclusive())
	}
	if len(r.Missing) == 0 || !strings.Contains(strings.Join(r.Missing, " "), "commandstats") {
		t.Errorf("missing = %q, want commandstats named", r.Missing)
	}
	if r.Bills[0].Provider.Name != "upstash-free" || r.Bills[0].BudgetMultiple < 500 {
		t.Errorf("bill = %+v, want the free plan, far exceeded", r.Bills[0])
	}
	for _, f := range r.Findings {
		if f.Severity == "critical" {
			t.Errorf("finding %+v fails a gate on too little evidence", f)
		}
	}
	none := measure(t, &captured{infos: []string{"redis_version:1\n"}}, Options{})
	if none.Observable != Nothing || len(none.Measures) != 0 {
		t.Errorf("observable %s with %d measures, want nothing", none.Observable, len(none.Measures))
	}
}

func TestOptionsReportEveryProblemAtOnce(t *testing.T) {
	_, err := Audit(t.Context(), nil, Options{Window: time.Millisecond, Budget: -1, Provider: "x"})
	for _, want := range []string{"window", "budget", "provider"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v does not name %s", err, want)
		}
	}
}
