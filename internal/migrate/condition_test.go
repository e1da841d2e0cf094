package migrate

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

func TestConditionsFollowFromJournalLeaseAndPulse(t *testing.T) {
	at := func(stage Stage, marks ...string) State {
		s := State{Stage: stage}
		for i := 0; i < len(marks); i += 2 {
			s.Steps = append(s.Steps, StepState{Name: marks[i], Mark: Mark(marks[i+1])})
		}
		return s
	}
	stopped := func(s State, why Stop) State { s.Stop = why; return s }
	held := &Holder{Owner: "ann"}
	for name, c := range map[string]struct {
		s    Standing
		want Condition
	}{
		"nothing was begun":               {Standing{State: at(NotStarted)}, Planned},
		"only the plan is in the journal": {Standing{State: at(Forward, "phase1.preflight", "pending")}, Planned},
		"a preflight":                     {Standing{State: at(Forward, "phase1.preflight", "applying"), Holder: held}, Preflight},
		"a shadow":                        {Standing{State: at(Forward, "phase1.preflight", "applied", "phase1.shadow", "applying"), Holder: held}, Shadow},
		"between two steps":               {Standing{State: at(Forward, "phase1.shadow", "applied", "phase1.ramp-1", "pending"), Holder: held}, Ramping},
		"a soak":                          {Standing{State: at(Forward, "phase1.hold-5", "applying"), Holder: held}, Soaking},
		"a comparison":                    {Standing{State: at(Forward, "phase3.verify", "applying"), Holder: held}, Verifying},
		"after the last step":             {Standing{State: at(Forward, "phase3.move", "applied"), Holder: held}, Verifying},
		"paused by an intent": {
			Standing{State: at(Forward, "phase3.move", "applying"), Holder: held, Pulse: &Pulse{Condition: Paused}}, Paused,
		},
		"throttled": {
			Standing{State: at(Forward, "phase3.move", "applying"), Holder: held, Pulse: &Pulse{Condition: Throttled}}, Throttled,
		},
		"held before completion":          {Standing{State: at(Complete), Holder: held, Pulse: &Pulse{Condition: OnHold}}, OnHold},
		"the word of a host that is gone": {Standing{State: at(Forward, "phase3.move", "applying"), Pulse: &Pulse{Condition: Throttled}}, FailedResumable},
		"stopped by a signal":             {Standing{State: stopped(at(Forward, "phase3.move", "applying"), StopPaused)}, Paused},
		"stopped by a failure":            {Standing{State: stopped(at(Forward, "phase3.move", "applying"), StopFailed)}, FailedResumable},
		"killed on the way back":          {Standing{State: at(Backward, "phase3.move", "undoing")}, FailedResumable},
		"on the way back":                 {Standing{State: at(Backward, "phase3.move", "undoing"), Holder: held}, RollingBack},
		"every step in place":             {Standing{State: at(Complete, "phase3.move", "applied")}, Verified},
		"a journal that cannot be read":   {Standing{Err: errors.New("damaged"), Holder: &Holder{}}, Unreadable},
		"killed while it was completed":   {Standing{State: at(Finishing)}, FailedResumable},
		"completed":                       {Standing{State: at(Finished)}, Completed},
		"rolled back":                     {Standing{State: at(RolledBack)}, WasRolledBack},
	} {
		t.Run(name, func(t *testing.T) {
			if got := c.s.Condition(); got != c.want {
				t.Errorf("Condition = %s, want %s", got, c.want)
			}
		})
	}
}

func TestWindowsOpenAndClose(t *testing.T) {
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct {
		window, now string
		open        bool
		next        string
	}{
		{"Mon-Fri 02:00-05:00 Europe/Vienna", "2026-11-30T01:30:00Z", true, "2026-11-30T04:00:00Z"},
		{"Mon-Fri 02:00-05:00 Europe/Vienna", "2026-11-28T01:30:00Z", false, "2026-11-30T01:00:00Z"},
		{"Sat,Sun 22:00-02:00", "2026-11-30T01:00:00Z", true, "2026-11-30T02:00:00Z"},
		{"Sat,Sun 22:00-02:00", "2026-11-28T01:00:00Z", false, "2026-11-28T22:00:00Z"},
		{"Fri-Mon 00:00-24:00", "2026-11-29T12:00:00Z", true, "2026-12-01T00:00:00Z"},
		{"daily 00:00-24:00", "2026-11-29T12:00:00Z", true, ""},
		// The clock goes from 01:59 to 03:00: what is to begin at 02:00 has begun at 03:00.
		{"daily 02:00-04:00 Europe/Vienna", "2026-03-29T01:00:00Z", true, "2026-03-29T02:00:00Z"},
	} {
		w, err := ParseWindow(c.window)
		if err != nil {
			t.Fatal(err)
		}
		open, next := InWindow([]Window{w}, at(c.now))
		if open != c.open || (c.next == "") != next.IsZero() || c.next != "" && !next.Equal(at(c.next)) {
			t.Errorf("%s at %s: %v until %s, want %v until %s", c.window, c.now, open, next.UTC().Format(time.RFC3339), c.open, c.next)
		}
	}
	if open, _ := InWindow(nil, time.Now()); !open {
		t.Error("no window at all is closed")
	}
	for _, bad := range []string{"", "Mon", "Mon-Fri 2-5", "Mon 02:00-02:00", "Mon 24:01-03:00", "Mon 02:00-05:00 Vienna", "Mon 02:00-05:00 Local", "Foo 02:00-05:00", "Mon- 02:00-05:00", "Mon 2:0-3:00"} {
		if w, err := ParseWindow(bad); err == nil {
			t.Errorf("ParseWindow(%q) = %v, want an error", bad, w)
		}
	}
}

func TestAThrottleNamesWhatIsShort(t *testing.T) {
	limits := Throttle{MaxLatency: 20 * time.Millisecond, MaxConnections: 80, CommandsLeft: 1000, Reserve: 100}
	ok := reading{took: time.Millisecond, counters: history.Counters{Connections: 80, Commands: 5899}}
	for name, c := range map[string]struct {
		change func(*reading)
		want   string
	}{
		"room enough":          {func(*reading) {}, ""},
		"slow":                 {func(r *reading) { r.took = 21 * time.Millisecond }, "latency: INFO took 21ms, at most 20ms is allowed"},
		"full":                 {func(r *reading) { r.counters.Connections = 81 }, "connections: 81 are open, at most 80 are allowed"},
		"spent":                {func(r *reading) { r.counters.Commands = 5900 }, "budget: 100 commands are left of the plan, 100 are kept for others"},
		"silent":               {func(r *reading) { r.err = context.DeadlineExceeded }, "the Redis does not answer: context deadline exceeded"},
		"counting from 0 anew": {func(r *reading) { r.counters.Commands = 3 }, ""},
		"spent since it counts from 0 anew": {
			func(r *reading) { r.counters.RunID, r.counters.Commands = "anew", 900 },
			"budget: 100 commands are left of the plan, 100 are kept for others",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := ok
			c.change(&r)
			left := allowance{Left: 1000, Reserve: 100, Counted: 5000}.after(r.counters, r.at)
			if got := limits.judge(r, &left); got != c.want {
				t.Errorf("judge = %q, want %q", got, c.want)
			}
		})
	}
	for _, bad := range []Throttle{{MaxLatency: -1}, {MaxConnections: -1}, {CommandsLeft: -1}, {Every: time.Microsecond}} {
		if bad.Validate() == nil {
			t.Errorf("%+v is valid", bad)
		}
	}
}

func TestASoakGoesOnOutsideTheWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closed, err := ParseWindow("Mon 02:00-02:01") // the bubble begins on a Saturday
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		h := &host{opts: HostOptions{Windows: []Window{closed}}, session: &Session{Lease: &Lease{}}}
		h.setStop(cancel)
		h.event(Event{Kind: StepStarted, Step: "phase1.soak"})
		if ctx.Err() != nil {
			t.Error("a soak was interrupted by the end of the window")
		}
		h.event(Event{Kind: StepStarted, Step: "phase1.ramp-5"})
		if !errors.Is(context.Cause(ctx), ErrWindow) {
			t.Errorf("a ramp outside the window ended with %v, want %v", context.Cause(ctx), ErrWindow)
		}
	})
}

func FuzzParseIntent(f *testing.F) {
	f.Add([]byte(`{"schema":1,"id":"a","verb":"pause","by":"ann","at":"2026-11-29T00:00:00Z","expires":"2026-11-29T01:00:00Z"}`))
	f.Add([]byte(`{"schema":2,"verb":"dance"}`))
	f.Add([]byte(`{"schema":1,"id":"a","verb":"rate","rate":1e308}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		i, err := ParseIntent(text)
		if err != nil {
			return
		}
		if i.Schema > intentSchema || i.ID == "" || !i.Expires.After(i.At) || i.Rate < 0 {
			t.Errorf("ParseIntent(%q) = %+v", text, i)
		}
	})
}

func FuzzParseWindow(f *testing.F) {
	f.Add("Mon-Fri 02:00-05:00 Europe/Vienna")
	f.Add("Sat,Sun 22:00-02:00")
	f.Fuzz(func(t *testing.T, text string) {
		w, err := ParseWindow(text)
		if err != nil {
			return
		}
		now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
		if open, next := InWindow([]Window{w}, now); !open && next.IsZero() {
			t.Errorf("window %q never opens within a week", text)
		}
	})
}
