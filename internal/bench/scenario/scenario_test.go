package scenario_test

import (
	"context"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/bench/scenario"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// open reaches url as serve does.
func open(t testing.TB, url string) scenario.Target {
	t.Helper()
	up, err := upstream.Open(t.Context(), upstream.Options{URL: url, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	return scenario.Target{Upstream: up}
}

// restTarget is a Redis over HTTP alone: our gateway in front of a server.
func restTarget(t *testing.T) scenario.Target {
	t.Helper()
	behind := open(t, redistest.Start(t).URL())
	t.Cleanup(func() { nothingLeft(t, behind) })
	shared, err := behind.Upstream.Mux()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{Mux: shared, Tokens: []gateway.Token{{Secret: "secret"}}})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(g)
	t.Cleanup(server.Close)
	up, err := upstream.Open(t.Context(), upstream.Options{REST: upstream.REST{URL: server.URL, Token: "secret"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	return scenario.Target{Upstream: up}
}

// nothingLeft fails when a key of a benchmark is still there.
func nothingLeft(t *testing.T, target scenario.Target) {
	t.Helper()
	keys, err := target.Upstream.Client().Keys(context.Background(), "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if strings.Contains(key, "redisopt-bench") {
			t.Errorf("%s was left behind", key)
		}
	}
}

// run prepares s, runs it shortly and closes it, and returns the result and the commands it cost.
func run(t *testing.T, s scenario.Scenario, target scenario.Target, o scenario.Options) (*bench.Result, int64) {
	t.Helper()
	p, err := s.Prepare(t.Context(), target, o)
	if err != nil {
		t.Fatal(err)
	}
	before := target.Upstream.Spent()
	r, err := bench.Run(t.Context(), bench.Options{
		Pace: bench.Pace{Rate: 200, Duration: 300 * time.Millisecond}, WarmUp: -1, Timeout: 20 * time.Second,
	}, p.Operation)
	if err != nil {
		t.Fatal(err)
	}
	spent := target.Upstream.Spent()
	broken, err := p.Check(t.Context())
	if err != nil || broken != "" {
		t.Errorf("check: %q, %v", broken, err)
	}
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return r, spent.Commands + spent.InScript - before.Commands - before.InScript
}

func TestEveryScenarioRunsOnEveryKindOfTargetAndLeavesNothingBehind(t *testing.T) {
	for name, target := range map[string]func(t *testing.T) scenario.Target{
		"redis-server": func(t *testing.T) scenario.Target { return open(t, redistest.Start(t).URL()) },
		"REST":         restTarget,
		"embedded": func(t *testing.T) scenario.Target {
			server, err := embedded.Start(t.Context(), embedded.Options{})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = server.Close() })
			return open(t, server.URL())
		},
	} {
		t.Run(name, func(t *testing.T) {
			target := target(t)
			o := scenario.Options{Keys: 50, PayloadBytes: 200, Timeout: 20 * time.Second}
			chosen, err := scenario.Choose([]string{"all"}, target.Upstream.Transport() == "tcp")
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range chosen {
				t.Run(s.Name, func(t *testing.T) {
					r, spent := run(t, s, target, o)
					if r.Done == 0 || r.Failed() > 0 || r.Limited > 0 {
						t.Errorf("done %d, limited %d, errors %v (%s)", r.Done, r.Limited, r.Errors, r.FirstError)
					}
					if most := s.Commands(r.Started, o); spent > most {
						t.Errorf("%d operations cost %d commands, want at most the %d that were announced", r.Started, spent, most)
					}
				})
			}
			if target.Upstream.Transport() == "tcp" {
				nothingLeft(t, target)
			}
		})
	}
}

func TestWithoutTCPQueuesAreLeftOutAndMissedWhereTheyAreNamed(t *testing.T) {
	all, err := scenario.Choose([]string{"all"}, false)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range all {
		if s.TCP {
			t.Errorf("%s was chosen without TCP", s.Name)
		}
	}
	for name, want := range map[string]string{
		"queue-add": "queue-add needs a Redis over TCP", "queue": "need a Redis over TCP", "quue": `no scenario "quue"`,
	} {
		if _, err := scenario.Choose([]string{name}, false); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Choose(%s) = %v, want it to say %q", name, err, want)
		}
	}
	usual, err := scenario.Choose(nil, true)
	if err != nil || len(usual) < 8 || len(usual) >= len(scenario.All()) {
		t.Errorf("the usual ones are %d, %v", len(usual), err)
	}
}

func TestOptionsOutOfRangeAreRefusedAllAtOnce(t *testing.T) {
	err := scenario.Options{Keys: -1, Zipf: 9, PayloadBytes: -1, ReadShare: 2, TTL: 1}.Validate()
	for _, want := range []string{"keys: got -1", "zipf: got 9", "payload: got -1", "read share: got 2", "ttl: got 1ns"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Validate = %v, want it to say %q", err, want)
		}
	}
}
