package migrate

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

func TestWhatIsLeftOfAPlanIsRememberedByTheNextHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client := &counting{}
		client.commands.Store(1000)
		path := filepath.Join(t.TempDir(), "allowance.json")
		pace, end := throttling(t, Throttle{CommandsLeft: 60, Reserve: 10}, client, path)
		if why := pace.Throttled(); why != "" {
			t.Errorf("the first host waits: %s", why)
		}
		end()
		client.commands.Add(60)
		pace, end = throttling(t, Throttle{}, client, path)
		defer end()
		if kind(pace.Throttled()) != "budget" {
			t.Errorf("the next host says %q, want it to wait: others spent what was left", pace.Throttled())
		}
	})
}

func TestAnAllowanceEndsWithTheMonthAndSurvivesARestartOfTheServer(t *testing.T) {
	at := time.Date(2026, 11, 30, 23, 0, 0, 0, time.UTC)
	a := allowance{Left: 1000, At: at, RunID: "x", Counted: 5000}
	if got := a.after(history.Counters{RunID: "x", Commands: 5300}, at).Left; got != 700 {
		t.Errorf("300 commands later %d are left, want 700", got)
	}
	if got := a.after(history.Counters{RunID: "y", Commands: 200}, at).Left; got != 800 {
		t.Errorf("after a restart and 200 commands %d are left, want 800", got)
	}
	path := filepath.Join(t.TempDir(), "allowance.json")
	a.write(path)
	if got := readAllowance(path, at.Add(time.Minute)); got == nil || got.Left != 1000 {
		t.Errorf("in the same month it says %+v, want 1000", got)
	}
	if got := readAllowance(path, at.Add(2*time.Hour)); got != nil {
		t.Errorf("in the next month it says %+v, want nothing", got)
	}
}

// counting is a Redis that has counted so many commands since it started as the so many-th.
type counting struct {
	redis.UniversalClient
	commands, start atomic.Int64
}

func (c *counting) Info(ctx context.Context, _ ...string) *redis.StringCmd {
	cmd := redis.NewStringCmd(ctx)
	cmd.SetVal("run_id:" + strconv.FormatInt(c.start.Load(), 10) + "\r\ntotal_commands_processed:" + strconv.FormatInt(c.commands.Load(), 10) + "\r\n")
	return cmd
}

// throttling runs said in the background, in a bubble; the returned function ends it.
func throttling(t *testing.T, said Throttle, client redis.UniversalClient, path string) (*Pace, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	pace, ended := &Pace{}, make(chan struct{})
	go func() {
		defer close(ended)
		said.remember(path, time.Now()).run(ctx, &gauge{client: client}, pace, func() bool { return false }, func(string) {})
	}()
	synctest.Wait() // for its first look
	return pace, func() {
		cancel()
		<-ended
	}
}

func TestAHostThatRunsOverTheEndOfTheMonthStopsCountingWhatWasLeftOfIt(t *testing.T) {
	for name, found := range map[string]bool{"as it was told": false, "as an earlier host left it": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "allowance.json")
				time.Sleep(time.Until(time.Date(2026, 11, 30, 23, 50, 30, 0, time.UTC)))
				client := &counting{}
				client.commands.Store(1000)
				said := Throttle{CommandsLeft: 50, Reserve: 10, MaxConnections: 100}
				if found {
					allowance{Left: 50, Reserve: 10, At: time.Now(), RunID: "0", Counted: 1000}.write(path)
					said.CommandsLeft, said.Reserve = 0, 0
				}
				pace, end := throttling(t, said, client, path)
				defer end()
				client.commands.Add(45)
				time.Sleep(5 * time.Minute)
				if kind(pace.Throttled()) != "budget" {
					t.Errorf("in November it says %q, want it to wait: 5 commands are left", pace.Throttled())
				}
				time.Sleep(9 * time.Minute)
				if why := pace.Throttled(); why != "" {
					t.Errorf("in December it says %q, want nothing", why)
				}
				if got := readAllowance(path, time.Now()); got != nil {
					t.Errorf("the file says %+v in December, want nothing", got)
				}
				var last allowance
				if text, err := os.ReadFile(path); err != nil || json.Unmarshal(text, &last) != nil || last.Left != 5 {
					t.Errorf("the file says %s (%v), want what was left in November", text, err)
				}
				client.commands.Add(1000)
				time.Sleep(time.Hour)
				if why := pace.Throttled(); why != "" {
					t.Errorf("later in December it says %q, want nothing", why)
				}
			})
		})
	}
}

func TestAThrottleThatWasOnlyForTheMonthIsLookedAfterNoLonger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(time.Until(time.Date(2026, 11, 30, 23, 59, 0, 0, time.UTC)))
		client := &informed{}
		_, end := throttling(t, Throttle{CommandsLeft: 50}, client, filepath.Join(t.TempDir(), "allowance.json"))
		defer end()
		time.Sleep(2 * time.Minute)
		before := client.asked.Load()
		time.Sleep(time.Hour)
		if n := client.asked.Load() - before; n != 0 {
			t.Errorf("%d looks in an hour, want none: there is nothing to look for", n)
		}
	})
}

func TestWhatWasSpentBeforeAndAfterARestartOfTheServerIsJudgedAsItIsKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "allowance.json")
		client := &counting{}
		client.commands.Store(1000)
		pace, end := throttling(t, Throttle{CommandsLeft: 100, Reserve: 10}, client, path)
		defer end()
		time.Sleep(2 * time.Minute)
		client.commands.Add(60)
		time.Sleep(2 * time.Minute)
		if why := pace.Throttled(); why != "" {
			t.Errorf("with 40 commands left it says %q, want nothing", why)
		}
		client.start.Add(1)
		client.commands.Store(35)
		time.Sleep(2 * time.Minute)
		if kind(pace.Throttled()) != "budget" {
			t.Errorf("with 5 commands left it says %q, want it to wait", pace.Throttled())
		}
		if kept := readAllowance(path, time.Now()); kept == nil || kept.Left != 5 {
			t.Errorf("it keeps %+v, want 5 left", kept)
		}
	})
}
