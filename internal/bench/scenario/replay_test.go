package scenario_test

import (
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

const monitored = `OK
1764417600.100000 [0 10.0.0.7:51234] "SET" "user:1" "a \"b\" \x00\n"
1764417600.150000 [0 10.0.0.7:51234] "GET" "user:1"
1764417600.200000 [0 lua] "GET" "user:1"
1764417600.200000 [0 10.0.0.7:51234] "FLUSHALL"
1764417600.300000 [0 10.0.0.7:51234] "DEL" "user:1" "user:2"
1764417600.400000 [0 10.0.0.7:51234] "INCR" "user:2"
`

func TestATraceIsSentAgainUnderKeysOfItsOwn(t *testing.T) {
	trace, err := scenario.ReadTrace(strings.NewReader(strings.Replace(monitored, "[0 lua]", "[0 10.0.0.7:51234 lua]", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if len(trace.Commands) != 3 || trace.Skipped["lua"] != 1 || trace.Skipped["flushall"] != 1 || trace.Skipped["del"] != 1 {
		t.Fatalf("%d commands, left out %v; want 3, and lua, flushall and del once each", len(trace.Commands), trace.Skipped)
	}
	if got := trace.Commands[0].Args[2]; got != "a \"b\" \x00\n" {
		t.Errorf("value = %q", got)
	}
	server := redistest.Start(t)
	client := server.Client(t)
	client.Set(t.Context(), "user:2", "not a number", 0) // INCR would fail, if it were sent to this key
	target := open(t, server.URL())
	p, err := scenario.Replaying(trace).Prepare(t.Context(), target, scenario.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r, err := bench.Run(t.Context(), bench.Options{Pace: bench.Pace{Times: trace.Times(2)}, WarmUp: -1}, p.Operation)
	if err != nil || r.Done != 3 || r.Failed() != 0 || r.Took < 140*time.Millisecond {
		t.Errorf("done %d, errors %v (%s) in %s, %v; want 3 in 150ms", r.Done, r.Errors, r.FirstError, r.Took, err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if got := client.Keys(t.Context(), "*").Val(); len(got) != 1 || client.Get(t.Context(), "user:2").Val() != "not a number" {
		t.Errorf("keys afterwards = %v, want user:2 alone and as it was", got)
	}
}

func TestALineThatIsNoneOfMonitorIsRefusedByItsNumber(t *testing.T) {
	for text, want := range map[string]string{
		"OK\nhello":                       "line 2: want a line of MONITOR",
		`1764417600.1 [0 x] "GET" "a`:     "line 1: want a line of MONITOR",
		`1764417600.1 [0 x] "GET" "\x0g"`: "line 1: escape",
		`1764417600.1 [0 x] "GET" "\q"`:   "line 1: an escape",
		`nan [0 x] "GET" "a"`:             "line 1: want",
		"":                                "the trace is empty",
		`1764417600.1 [0 x] "PING"`:       "left out ping 1",
	} {
		if _, err := scenario.ReadTrace(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ReadTrace(%q) = %v, want it to say %q", text, err, want)
		}
	}
}

func FuzzReadTrace(f *testing.F) {
	f.Add(monitored)
	f.Fuzz(func(t *testing.T, text string) {
		trace, err := scenario.ReadTrace(strings.NewReader(text))
		if err != nil {
			return
		}
		times := trace.Times(1)
		for i, c := range trace.Commands {
			if len(c.Args) < 2 || times[i] < 0 || i > 0 && times[i] < times[i-1] {
				t.Fatalf("command %d: %q at %s", i, c.Args, times[i])
			}
		}
	})
}
