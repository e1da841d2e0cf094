package main

import (
	"context"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

func environment(pairs ...string) func(string) (string, bool) {
	values := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		values[pairs[i]] = pairs[i+1]
	}
	return func(name string) (string, bool) {
		value, ok := values[name]
		return value, ok
	}
}

func TestColourIsOnlyForTerminalsThatWantIt(t *testing.T) {
	cases := []struct {
		name     string
		env      []string
		mode     colorMode
		terminal bool
		noANSI   bool
		want     bool
	}{
		{name: "a terminal", mode: colorAuto, terminal: true, want: true},
		{name: "a pipe", mode: colorAuto, want: false},
		{name: "NO_COLOR is set", mode: colorAuto, terminal: true, env: []string{"NO_COLOR", "1"}, want: false},
		{name: "NO_COLOR is set but empty", mode: colorAuto, terminal: true, env: []string{"NO_COLOR", ""}, want: true},
		{name: "a dumb terminal", mode: colorAuto, terminal: true, env: []string{"TERM", "dumb"}, want: false},
		{name: "a console that shows escapes as text", mode: colorAuto, terminal: true, noANSI: true, want: false},
		{name: "never", mode: colorNever, terminal: true, want: false},
		{name: "always goes before everything", mode: colorAlways, env: []string{"NO_COLOR", "1"}, want: true},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			s := streams{env: environment(c.env...), ansi: !c.noANSI}
			if got := s.colorful(c.mode, c.terminal); got != c.want {
				t.Errorf("colorful = %t, want %t", got, c.want)
			}
		})
	}
}

func TestChangesNeedAYes(t *testing.T) {
	plan := report.Document{Kind: "example.plan/v1", Title: "Plan: rename 3 keys"}
	cases := []struct {
		name     string
		terminal bool
		yes      bool
		typed    string
		wantCode int
		wantText string
	}{
		{name: "typed yes", terminal: true, typed: "yes\n", wantText: "Rename them? Type yes to go on:"},
		{name: "typed y without a newline", terminal: true, typed: "y"},
		{name: "typed no", terminal: true, typed: "no\n", wantCode: 2, wantText: "Plan: rename 3 keys"},
		{name: "typed nothing", terminal: true, typed: "\n", wantCode: 2},
		{name: "input ended", terminal: true, wantCode: 2},
		{name: "--yes asks nothing", yes: true, wantText: "Plan: rename 3 keys"},
		{name: "no terminal and no --yes", typed: "yes\n", wantCode: 2, wantText: "Plan: rename 3 keys"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var printed recorder
			s := printed.streams()
			s.in, s.inTerminal, s.errTerminal = strings.NewReader(c.typed), c.terminal, c.terminal
			a := &app{streams: s, now: time.Now}
			a.flags.yes = c.yes
			err := a.confirm(t.Context(), plan, "Rename them?")
			if got := exitCode(err, false); got != c.wantCode {
				t.Errorf("confirm = %v with exit code %d, want %d", err, got, c.wantCode)
			}
			if !strings.Contains(printed.err.String(), c.wantText) {
				t.Errorf("stderr is %q, want %q in it", printed.err.String(), c.wantText)
			}
			if c.yes && strings.Contains(printed.err.String(), "Type yes") {
				t.Error("asked although --yes was given")
			}
			if printed.out.Len() > 0 {
				t.Errorf("stdout is %q, want nothing before the work is done", printed.out.String())
			}
		})
	}
}

func TestASignalEndsTheWaitForAnAnswer(t *testing.T) {
	reader, writer := io.Pipe()
	t.Cleanup(func() { _ = writer.Close() })
	var printed recorder
	s := printed.streams()
	s.in, s.inTerminal, s.errTerminal = reader, true, true
	a := &app{streams: s, now: time.Now}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errInterrupted)
	err := a.confirm(ctx, report.Document{Kind: "example.plan/v1"}, "Go?")
	if got := exitCode(err, interrupted(ctx)); got != exitInterrupted {
		t.Errorf("confirm = %v with exit code %d, want %d", err, got, exitInterrupted)
	}
}

func TestTheCauseOfASignalIsAnInterruption(t *testing.T) {
	if got := exitCode(errInterrupted, true); got != exitInterrupted {
		t.Errorf("exit %d, want %d", got, exitInterrupted)
	}
}

func TestProgressIsPlainLinesWithoutATerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var printed recorder
		a := &app{streams: printed.streams(), now: time.Now}
		p := a.progress("jobs")
		p.begin("copy mail", 5000)
		for done := int64(50); done <= 5000; done += 50 {
			time.Sleep(20 * time.Millisecond)
			p.update(done, 0)
		}
		p.begin("verify", 0)
		time.Sleep(time.Second)
		p.begin("clean up", 1)
		p.update(1, 1)
		p.finish()
		p.finish()
		want := "copy mail: 5000 jobs\ncopy mail: 5000 jobs in 2s (2500 jobs/s)\n" +
			"verify\nverify: done in 1s\nclean up: 1 job\n"
		if got := printed.err.String(); got != want {
			t.Errorf("stderr is %q, want %q", got, want)
		}
	})
}

func TestProgressOnATerminalShowsRateAndTimeLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var printed recorder
		s := printed.streams()
		s.errTerminal = true
		a := &app{streams: s, now: time.Now}
		p := a.progress("jobs")
		p.begin("copy mail", 5000)
		for done := int64(50); done <= 1000; done += 50 {
			time.Sleep(20 * time.Millisecond)
			p.update(done, 0)
		}
		if want := "copy mail: 1000/5000 jobs, 20%, 2500 jobs/s, 1.6s left"; !strings.Contains(printed.err.String(), want) {
			t.Errorf("stderr is %q, want %q in it", printed.err.String(), want)
		}
		if n := strings.Count(printed.err.String(), "\r"); n > 6 {
			t.Errorf("drew %d times in 400 ms, want at most one every %s", n, redrawEvery)
		}
		p.finish()
		if want := "\r\x1b[Kcopy mail: 1000 jobs in 400ms (2500 jobs/s)\n"; !strings.HasSuffix(printed.err.String(), want) {
			t.Errorf("stderr is %q, want it to end in %q", printed.err.String(), want)
		}
	})
}

func TestQuietHidesNotesAndProgressButNeverErrors(t *testing.T) {
	var printed recorder
	a := &app{streams: printed.streams(), now: time.Now}
	a.flags.quiet = true
	a.note("a note")
	a.detail("a detail")
	p := a.progress("jobs")
	p.begin("copy", 10)
	p.update(10, 10)
	p.finish()
	a.cost(upstream.Cost{Commands: 3})
	if got := printed.err.String(); got != "" {
		t.Errorf("stderr is %q, want nothing", got)
	}
	a.printError(errors.New("no"), exitFailure)
	if got, want := printed.err.String(), "error: no\n"; got != want {
		t.Errorf("stderr is %q, want %q", got, want)
	}
}

func TestTheCostLine(t *testing.T) {
	cases := map[string]upstream.Cost{
		"cost: 6 commands, 0 writes\n":                                       {Commands: 6},
		"cost: 1 command, 1 write\n":                                         {Commands: 1, Writes: 1},
		"cost: 4 commands, 2 writes, 90 more inside scripts, 1 unanswered\n": {Commands: 4, Writes: 2, InScript: 90, Unanswered: 1},
	}
	for want, cost := range cases {
		var printed recorder
		a := &app{streams: printed.streams(), now: time.Now}
		a.cost(cost)
		if got := printed.err.String(); got != want {
			t.Errorf("cost(%+v) prints %q, want %q", cost, got, want)
		}
	}
}

func TestTheFirstSignalStopsAtASafePointAndTheSecondNow(t *testing.T) {
	signals := make(chan os.Signal)
	done := make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	killed := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		watchSignals(signals, done, cancel, func() { close(killed) })
	}()
	signals <- os.Interrupt
	<-ctx.Done()
	if !interrupted(ctx) {
		t.Errorf("cause is %v, want errInterrupted", context.Cause(ctx))
	}
	select {
	case <-killed:
		t.Fatal("killed after one signal")
	default:
	}
	signals <- os.Interrupt
	<-killed
	<-ended
}

func TestWatchingForSignalsEndsWithTheCommand(t *testing.T) {
	ctx, stop := interruptible(t.Context(), func() { t.Error("killed without a signal") })
	stop()
	if interrupted(ctx) {
		t.Error("a command that ended counts as interrupted")
	}
}
