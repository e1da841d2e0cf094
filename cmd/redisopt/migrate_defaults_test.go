package main

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/inspect/upstash/upstashtest"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
)

func TestTheDefaultsOfTheFlagsAreThoseOfTheConfiguration(t *testing.T) {
	conf := config.Default()
	none := func(string) bool { return false }
	one, queues := newPhase1Flags(), newSoakFlags()
	was, wasQueues := one, queues
	one.configure(conf, none, 0)
	queues.configure(conf, none, step.Phase2Name, 0)
	was.gates.CommandsPerDay, was.gates.CommandsDefault = 70_000, true
	wasQueues.gates.CommandsPerDay, wasQueues.gates.CommandsDefault = 50_000, true
	if one.step != was.step || one.soak != was.soak || one.gates != was.gates {
		t.Errorf("phase 1: %s, %s, %+v of the configuration, %s, %s, %+v of the flags", one.step, one.soak, one.gates, was.step, was.soak, was.gates)
	}
	if queues.gates != wasQueues.gates || queues.failures != wasQueues.failures || queues.coolDown != wasQueues.coolDown || queues.page != "" || len(queues.series) > 0 {
		t.Errorf("queues: %+v of the configuration, %+v of the flags", queues, wasQueues)
	}
	if conf.Migrate.Phase2.Soak != phase2Soak || conf.Migrate.Phase3.Soak != 7*24*time.Hour {
		t.Errorf("soaks of %s and %s, want 48h and 168h", conf.Migrate.Phase2.Soak, conf.Migrate.Phase3.Soak)
	}
}

func TestAFlagGoesBeforeTheConfigurationAndThatBeforeTheBudgetAndTheServer(t *testing.T) {
	limits := func(change func(c *config.Config), flags map[string]float64) step.QueueGates {
		conf := config.Default()
		change(conf)
		f := newSoakFlags()
		f.gates.CommandsPerDay, f.gates.Connections = flags["max-commands-per-day"], flags["max-connections"]
		f.configure(conf, func(name string) bool { _, ok := flags[name]; return ok }, step.Phase3Name, 10_000)
		return step.QueueGates{
			CommandsPerDay: f.gates.CommandsPerDay, CommandsDefault: f.gates.CommandsDefault,
			Connections: f.gates.Connections, ConnectionsDefault: f.gates.ConnectionsDefault,
		}
	}
	budget := func(c *config.Config) {
		c.Budgets.Commands.PerMonth, c.Budgets.Connections.PlanLimit = 500_000, 100
	}
	configured := func(c *config.Config) {
		budget(c)
		c.Migrate.Gates.MaxCommandsPerDay, c.Migrate.Gates.MaxConnections = 7000, -1
	}
	for name, tt := range map[string]struct{ got, want step.QueueGates }{
		"nobody says anything": {limits(func(*config.Config) {}, nil), step.QueueGates{CommandsPerDay: 15_000, CommandsDefault: true, Connections: 10_000, ConnectionsDefault: true}},
		"a budget":             {limits(budget, nil), step.QueueGates{CommandsPerDay: 15_000, CommandsDefault: true, Connections: 100, ConnectionsDefault: true}},
		"the configuration":    {limits(configured, nil), step.QueueGates{CommandsPerDay: 7000}},
		"flags":                {limits(configured, map[string]float64{"max-commands-per-day": -1, "max-connections": 9}), step.QueueGates{Connections: 9}},
		"a flag of 0":          {limits(configured, map[string]float64{"max-commands-per-day": 0, "max-connections": 9}), step.QueueGates{CommandsPerDay: 15_000, CommandsDefault: true, Connections: 9}},
	} {
		if diff := cmp.Diff(tt.want, tt.got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestTheProvidersOwnCountIsAskedOnlyWithCredentials(t *testing.T) {
	env := map[string]string{}
	a := &app{
		now:     func() time.Time { return time.Date(2026, 11, 16, 0, 0, 0, 0, time.UTC) },
		streams: streams{env: func(name string) (string, bool) { v, ok := env[name]; return v, ok }},
	}
	if a.providerCount() != nil {
		t.Error("somebody is asked without credentials")
	}
	env["UPSTASH_EMAIL"], env["UPSTASH_API_KEY"] = upstashtest.Email, upstashtest.Key
	env["UPSTASH_API_URL"], env["UPSTASH_DATABASE"] = upstashtest.Start(t).URL, upstashtest.Name
	count := a.providerCount()
	if count == nil {
		t.Fatal("nobody is asked")
	}
	c, err := count(t.Context())
	if err != nil || c.Commands != 6_000_000 || c.RunID != "upstash 2026-11" || c.Connections >= 0 {
		t.Errorf("count = %+v, %v, want the requests of November", c, err)
	}
	env["UPSTASH_API_KEY"] = "wrong"
	if _, err := a.providerCount()(t.Context()); err == nil {
		t.Error("a wrong key counts")
	}
}
