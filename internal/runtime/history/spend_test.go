package history

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

var errLost = errors.New("no reply")

// A wire counts commands and can lose them on the way there or on the way back.
type wire struct {
	sent   []string
	before bool // lose the next command before the server sees it
	after  bool // lose the next command's reply
}

func (*wire) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*wire) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (w *wire) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "hello" { // a new connection introduces itself
			return next(ctx, cmd)
		}
		w.sent = append(w.sent, cmd.Name())
		if w.before {
			w.before = false
			cmd.SetErr(errLost)
			return errLost
		}
		err := next(ctx, cmd)
		if w.after {
			w.after = false
			cmd.SetErr(errLost)
			return errLost
		}
		return err
	}
}

// A world is one Redis and its server's counter.
type world struct {
	t      *testing.T
	server *miniredis.Miniredis
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, server: miniredis.RunT(t)}
	w.server.SetTime(noon)
	return w
}

func (w *world) replica(name string) (*Spend, *wire) {
	w.t.Helper()
	client := redis.NewClient(&redis.Options{Addr: w.server.Addr(), PoolSize: 1, MaxRetries: -1, DisableIdentity: true, Protocol: 2})
	w.t.Cleanup(func() { _ = client.Close() })
	line := &wire{}
	client.AddHook(line)
	s, err := NewSpend(SpendOptions{Client: client, Replica: name})
	if err != nil {
		w.t.Fatal(err)
	}
	return s, line
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func monthToDate(t *testing.T, s *Spend, now time.Time) MonthToDate {
	t.Helper()
	m, err := s.MonthToDate(t.Context(), now)
	must(t, err)
	return m
}

// reading is a server's counters without a restart and without an uptime.
func reading(run string, commands int64) Counters {
	return Counters{RunID: run, Uptime: -1, Commands: commands}
}

func TestTwoReplicasAddUpAndTheServerIsCountedOnce(t *testing.T) {
	w := newWorld(t)
	a, _ := w.replica("a")
	b, _ := w.replica("b")
	now := noon
	for i := range 10 {
		now = now.Add(15 * time.Minute)
		at := int64(1_000_000 + 500*i)
		must(t, a.Observe(t.Context(), reading("x", at), now))
		must(t, b.Observe(t.Context(), reading("x", at+20), now.Add(time.Minute)))
		a.Count(100, now)
		b.Count(50, now)
		must(t, a.Flush(t.Context(), now))
		must(t, b.Flush(t.Context(), now))
	}
	for _, s := range []*Spend{a, b} {
		m := monthToDate(t, s, now)
		if m.Fleet != 1500 || m.Replicas["a"] != 1000 || m.Replicas["b"] != 500 {
			t.Errorf("fleet = %d %v, want 1500", m.Fleet, m.Replicas)
		}
		want := int64(4500)
		if s == b {
			want = 4520
		}
		if m.Server != want || m.Commands() != want {
			t.Errorf("%s: server = %d, want %d", s.Replica, m.Server, want)
		}
		if first := noon.Add(15 * time.Minute); !m.Since.Equal(first) || m.Others() != Unknown {
			t.Errorf("since = %s, others = %d; nobody looked before %s", m.Since, m.Others(), first)
		}
	}
}

func TestARestartOfTheServerIsNoNegativeSpending(t *testing.T) {
	for name, x := range map[string]struct {
		before, after Counters
	}{
		"with run ids":              {reading("x", 5000), reading("y", 300)},
		"where nothing has a name":  {reading("", 5000), reading("", 300)},
		"statistics reset":          {reading("x", 5000), reading("x", 300)},
		"a restart that outran us":  {reading("x", 250), reading("y", 300)},
		"another server took over":  {Counters{RunID: "x", Uptime: time.Hour, Commands: 5000}, Counters{RunID: "y", Uptime: 1000 * time.Hour, Commands: 9_000_000}},
		"with an uptime to go with": {Counters{RunID: "x", Uptime: 1000 * time.Hour, Commands: 5000}, Counters{RunID: "y", Uptime: time.Minute, Commands: 300}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a, _ := w.replica("a")
			b, _ := w.replica("b")
			first := x.before
			first.Commands = 0
			for _, s := range []*Spend{a, b} {
				must(t, s.Observe(t.Context(), first, noon))
				must(t, s.Observe(t.Context(), x.before, noon.Add(15*time.Minute)))
			}
			for _, s := range []*Spend{a, b} {
				must(t, s.Observe(t.Context(), x.after, noon.Add(30*time.Minute)))
			}
			later := x.after
			later.Commands += 40
			later.Uptime += time.Hour
			late, _ := w.replica("late") // starts after the restart, knows nothing of it
			for _, s := range []*Spend{a, b, late} {
				must(t, s.Observe(t.Context(), later, noon.Add(90*time.Minute)))
				want := x.before.Commands + x.after.Commands + 40
				if x.after.Commands > x.before.Commands && x.after.Uptime > 0 {
					want = x.before.Commands + 40
				}
				m := monthToDate(t, s, noon.Add(90*time.Minute))
				if m.Server != want || m.Incomplete {
					t.Errorf("%s: server = %d incomplete %t, want %d", s.Replica, m.Server, m.Incomplete, want)
				}
			}
		})
	}
}

func TestARestartThatNobodySawIsSaidToBeMissing(t *testing.T) {
	w := newWorld(t)
	a, _ := w.replica("a")
	must(t, a.Observe(t.Context(), reading("x", 0), noon))
	b, _ := w.replica("b")
	must(t, b.Observe(t.Context(), reading("y", 70), noon.Add(time.Hour)))
	if m := monthToDate(t, b, noon.Add(time.Hour)); !m.Incomplete || m.Others() != Unknown {
		t.Errorf("month = %+v, want it incomplete", m)
	}
}

func TestAServerThatIsYoungerThanTheMonthIsCountedFromItsStart(t *testing.T) {
	w := newWorld(t)
	a, _ := w.replica("a")
	must(t, a.Observe(t.Context(), Counters{RunID: "x", Uptime: time.Hour, Commands: 800}, noon))
	m := monthToDate(t, a, noon)
	if m.Server != 800 || !m.Since.Equal(noon.Add(-time.Hour)) {
		t.Errorf("server = %d since %s, want 800 since an hour ago", m.Server, m.Since)
	}
}

func TestTheMonthChangesInTheMiddleOfAFlush(t *testing.T) {
	w := newWorld(t)
	a, line := w.replica("a")
	b, _ := w.replica("b")
	before, after := time.Date(2026, 11, 30, 23, 50, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 5, 0, 0, time.UTC)
	w.server.SetTime(before)
	must(t, a.Observe(t.Context(), reading("x", 10_000), before))
	must(t, b.Observe(t.Context(), reading("x", 10_000), before))
	a.Count(1, before)
	must(t, a.Flush(t.Context(), before))

	w.server.SetTime(after)
	a.Count(90, before)
	line.sent = nil
	must(t, a.Observe(t.Context(), reading("x", 11_500), after))
	must(t, a.Flush(t.Context(), after))
	must(t, b.Observe(t.Context(), reading("x", 11_500), after))
	if got, most := len(line.sent), 7; got > most {
		t.Errorf("the change of month cost %d commands (%v), want at most %d", got, line.sent, most)
	}

	december := monthToDate(t, b, after)
	if december.Fleet != 30 || december.Server != 500 || !december.Since.Equal(december.Start) || december.Others() != 470 {
		t.Errorf("december = %+v, want a third of both, known from its start", december)
	}
	november := monthToDate(t, b, before)
	if november.Fleet != 61 || november.Server != 1000 || november.Incomplete {
		t.Errorf("november = %+v, want 61 and 1000", november)
	}
	for _, key := range []string{"redisopt:spend:2026-11", "redisopt:spend:2026-12"} {
		if ttl := w.server.TTL(key); ttl < 60*24*time.Hour || ttl > keptFor {
			t.Errorf("%s expires in %s", key, ttl)
		}
	}
	must(t, a.Observe(t.Context(), reading("x", 11_600), after.Add(time.Minute)))
	a.Count(5, after)
	must(t, a.Flush(t.Context(), after.Add(time.Minute)))
	if m := monthToDate(t, a, after.Add(time.Minute)); m.Fleet != 35 || m.Server != 600 {
		t.Errorf("december goes on as %+v, want 35 and 600", m)
	}
}

func TestTheServerRestartsInTheNightOfTheMonth(t *testing.T) {
	w := newWorld(t)
	a, _ := w.replica("a")
	before, after := time.Date(2026, 11, 30, 23, 50, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 5, 0, 0, time.UTC)
	must(t, a.Observe(t.Context(), reading("x", 0), before.Add(-time.Hour)))
	must(t, a.Observe(t.Context(), reading("x", 9000), before))
	must(t, a.Observe(t.Context(), Counters{RunID: "y", Uptime: time.Minute, Commands: 7}, after))
	if m := monthToDate(t, a, before); m.Server != 9000 || m.Incomplete {
		t.Errorf("november = %+v, want 9000", m)
	}
	if m := monthToDate(t, a, after); m.Server != 7 || m.Incomplete {
		t.Errorf("december = %+v, want 7", m)
	}
}

func TestALostReplyNeitherLosesNorDoublesCommands(t *testing.T) {
	for _, where := range []string{"before the server", "after the server"} {
		for _, restart := range []bool{false, true} {
			t.Run(fmt.Sprintf("lost %s, in the first flush %t", where, restart), func(t *testing.T) {
				w := newWorld(t)
				a, line := w.replica("a")
				want := int64(0)
				flush := func(n int64) error {
					a.Count(n, noon)
					want += n
					return a.Flush(t.Context(), noon)
				}
				if !restart {
					must(t, flush(10))
				} else {
					a.written = 0 // as after the look at the field's value
				}
				for range 3 {
					line.before, line.after = where == "before the server", where == "after the server"
					if err := flush(7); !errors.Is(err, errLost) {
						t.Fatalf("Flush = %v, want the lost reply", err)
					}
				}
				must(t, flush(5))
				must(t, a.Flush(t.Context(), noon))
				if got := w.server.HGet("redisopt:spend:2026-11", "replica:a"); got != fmt.Sprint(want) {
					t.Errorf("stored %s, want %d", got, want)
				}
			})
		}
	}
}

func TestAReplicaThatStartsAgainGoesOnCounting(t *testing.T) {
	w := newWorld(t)
	for range 3 {
		a, line := w.replica("a")
		a.Count(10, noon)
		must(t, a.Flush(t.Context(), noon))
		must(t, a.Flush(t.Context(), noon))
		if diff := cmp.Diff([]string{"hget", "hincrby", "expireat"}, line.sent); diff != "" {
			t.Errorf("commands of a start (-want +got):\n%s", diff)
		}
	}
	a, _ := w.replica("other")
	a.Count(1, noon)
	if m := monthToDate(t, a, noon); m.Fleet != 31 || m.Replicas["a"] != 30 {
		t.Errorf("month = %+v, want 30 of a and the 1 that is not written yet", m)
	}
}

func TestWhatIsStoredWrongIsRefused(t *testing.T) {
	w := newWorld(t)
	a, _ := w.replica("a")
	w.server.HSet("redisopt:spend:2026-11", "schema", "2")
	var newer *SchemaError
	if _, err := a.MonthToDate(t.Context(), noon); !errors.As(err, &newer) {
		t.Errorf("a newer schema: %v", err)
	}
	w.server.HSet("redisopt:spend:2026-11", "schema", "1", "replica:b", "many")
	if _, err := a.MonthToDate(t.Context(), noon); err == nil || !strings.Contains(err.Error(), `"replica:b"`) {
		t.Errorf("a field that is no number: %v", err)
	}
	w.server.Del("redisopt:spend:2026-11")
	must(t, w.server.Set("redisopt:spend:2026-11", "x"))
	a.Count(1, noon)
	if err := a.Flush(t.Context(), noon); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
		t.Errorf("a key of another type: %v", err)
	}
}

func TestSpendOptions(t *testing.T) {
	_, err := NewSpend(SpendOptions{Replica: "a b", Every: time.Second})
	for _, want := range []string{"client: missing", `replica: got "a b"`, "every: got 1s"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("NewSpend = %v, want %q in it", err, want)
		}
	}
}

// TestThePriceOfAMonth runs a whole 30-day month in no time, against a Redis of its own on the other
// end of a hook, because a socket would leave the bubble.
func TestThePriceOfAMonth(t *testing.T) {
	for name, of := range map[string]struct {
		each int64 // commands between two looks at them
		want int
	}{"with work": {200, 2880}, "idle": {3, 360}} {
		t.Run(name, func(t *testing.T) { priceOfAMonth(t, of.each, of.want) })
	}
}

func priceOfAMonth(t *testing.T, each int64, want int) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		client := redis.NewClient(&redis.Options{
			Addr: "127.0.0.1:1", MaxRetries: -1,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return nil, errLost },
		})
		defer func() { _ = client.Close() }()
		fake := &fakeHash{fields: map[string]int64{}, commands: map[string]int{}}
		client.AddHook(fake)
		s, err := NewSpend(SpendOptions{Client: client, Replica: "a"})
		must(t, err)

		own := int64(0)
		ctx, cancel := context.WithTimeout(t.Context(), 30*24*time.Hour)
		defer cancel()
		must(t, s.Run(ctx, func() int64 { own += each; return own }, func(context.Context) (Counters, error) {
			return reading("x", 2*own), nil
		}, func(err error) { t.Error(err) }))

		// The bubble's clock begins on 1 January 2000, so this is the month's first 30 days.
		if got := fake.commands["hincrby"]; got < want || got > want+1 {
			t.Errorf("HINCRBY = %d, want %d, and one more at the end", got, want)
		}
		others := -fake.commands["hincrby"]
		for _, n := range fake.commands {
			others += n
		}
		if others > 7 {
			t.Errorf("besides HINCRBY %d commands (%v), want at most 7", others, fake.commands)
		}
		if got := fake.fields["replica:a"]; got != own {
			t.Errorf("stored %d, want all %d", got, own)
		}
	})
}

// A fakeHash answers the commands of a Spend from memory.
type fakeHash struct {
	fields   map[string]int64
	commands map[string]int
}

func (*fakeHash) DialHook(next redis.DialHook) redis.DialHook { return next }

func (*fakeHash) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (f *fakeHash) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		f.commands[cmd.Name()]++
		args := cmd.Args()
		switch c := cmd.(type) {
		case *redis.IntCmd:
			name := args[2].(string)
			f.fields[name] += args[3].(int64)
			c.SetVal(f.fields[name])
		case *redis.BoolCmd:
			if cmd.Name() == "hsetnx" {
				if _, ok := f.fields[args[2].(string)]; !ok {
					f.fields[args[2].(string)] = args[3].(int64)
				}
			}
			c.SetVal(true)
		case *redis.MapStringStringCmd:
			all := map[string]string{}
			for name, n := range f.fields {
				all[name] = fmt.Sprint(n)
			}
			c.SetVal(all)
		case *redis.StringCmd:
			c.SetErr(redis.Nil)
			return redis.Nil
		default:
			return fmt.Errorf("unexpected %s", cmd.Name())
		}
		return nil
	}
}

func TestInfoOfARealServer(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	read := func() Counters {
		text, err := client.Info(t.Context()).Result()
		must(t, err)
		c, err := ParseInfo(text)
		must(t, err)
		return c
	}
	before := read()
	for range 10 {
		must(t, client.Incr(t.Context(), "n").Err())
	}
	script := "for i = 1, 5 do redis.call('INCR', 'n') end return 1"
	must(t, client.Eval(t.Context(), script, []string{"n"}).Err())
	_ = client.Do(t.Context(), "NO-SUCH-COMMAND").Err() // an error reply, which is counted
	after := read()
	got := after.Since(before, time.Minute, noon)
	// The first INFO, 10 INCR, EVAL with 5 INCR inside. Redis counts what a script runs, and does not
	// count what it refuses before running it.
	if want := int64(1 + 10 + 1 + 5); got.Commands != want {
		t.Errorf("commands = %d, want %d", got.Commands, want)
	}
	if got.Errors != 1 || got.Connections != 1 || got.MemoryBytes <= 0 || got.Writes != Unknown || after.RunID == "" || after.Uptime < 0 {
		t.Errorf("sample = %+v, counters = %+v", got, after)
	}
	server.Restart(t)
	if again := read().Since(after, time.Minute, noon); again.Source&Restarted == 0 || again.Commands < 0 {
		t.Errorf("after a restart: %+v", again)
	}
}

func TestInfoOfUpstash(t *testing.T) {
	c, err := ParseInfo("# Server\r\nupstash_version:1.21.7\r\n\r\n# Stats\r\nconnected_clients:4\r\nused_memory:1000\r\ntotal_data_size:5000\r\n" +
		"total_commands_processed:900\r\ntotal_writes_processed:300\r\n")
	must(t, err)
	want := Counters{Uptime: -1, Commands: 900, Writes: 300, Errors: Unknown, Connections: 4, MemoryBytes: 5000}
	if c != want {
		t.Errorf("counters = %+v, want %+v", c, want)
	}
	if _, err := ParseInfo("# Server\r\nredis_version:7\r\n"); err == nil {
		t.Error("an INFO without a counter is taken")
	}
	if s := (Counters{Commands: 5, Writes: 2, Errors: 9}).Since(Counters{Commands: 3, Writes: Unknown, Errors: 10}, time.Minute, noon); s.Commands != 2 || s.Writes != Unknown || s.Errors != Unknown {
		t.Errorf("a counter that fell while others rose: %+v, want it unknown", s)
	}
}

func FuzzParseInfo(f *testing.F) {
	f.Add("run_id:x\r\nuptime_in_seconds:99999999999999\r\ntotal_commands_processed:1\r\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := ParseInfo(text)
		if err == nil && (c.Commands < 0 || c.Uptime > 101*366*24*time.Hour) {
			t.Errorf("ParseInfo(%q) = %+v", text, c)
		}
	})
}
