package migrate

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestWhatIsLeftOfAPlanIsRememberedByTheNextHost(t *testing.T) {
	client := redistest.Start(t).Client(t)
	path := filepath.Join(t.TempDir(), "allowance.json")
	throttled := func(said Throttle) string {
		said.Every = 10 * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		pace := &Pace{}
		told := ""
		go func() { // until it was looked, and kept
			for readAllowance(path, time.Now()) == nil || pace.Throttled() == "" && said.CommandsLeft == 0 {
				select {
				case <-ctx.Done():
					return
				case <-time.After(5 * time.Millisecond):
				}
			}
			cancel()
		}()
		said.remember(path, time.Now()).run(ctx, &gauge{client: client}, pace, func() bool { return false }, func(why string) { told = why })
		return told
	}
	if told := throttled(Throttle{CommandsLeft: 60, Reserve: 10}); told != "" {
		t.Fatalf("the first host waits: %s", told)
	}
	for range 60 {
		if err := client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if told := throttled(Throttle{}); kind(told) != "budget" {
		t.Errorf("the next host says %q, want it to wait: others spent what was left", told)
	}
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
