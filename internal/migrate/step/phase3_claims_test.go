package step_test

import (
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
)

func TestPhase3SaysWhichGoalsItsEngineCanReach(t *testing.T) {
	client := loaded(t)
	tuned := 25_920.0
	for name, c := range map[string]struct {
		to    mover.Endpoint
		facts *step.Phase3Facts
		reach [3]bool // connections, commands a job, commands a month
		says  []string
	}{
		"BullMQ none of them": {
			to:    mover.Endpoint{Layout: mover.BullMQ, Major: 5, Prefix: "bullmq", Queue: "suggestion-generation"},
			facts: &step.Phase3Facts{Queues: 11, Measured: true, Connections: 3, Workers: 1},
			says: []string{
				"11 queues hold 12 in one process that shares all others, and 33 with plain options", "this queue holds 3 now",
				"22.1 now and 33.4 then, +51%", "so 11 queues take 6,652,800", "at least every 10 s",
			},
		},
		"BullMQ no more with slow settings while something is delayed": {
			to:    mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bullmq", Queue: "suggestion-generation"},
			facts: &step.Phase3Facts{Queues: 11, Idle: &tuned},
			says:  []string{"604,800 with the settings in the code", "22.1 now and 33.2 then"},
		},
		"our engine all": {
			to:    mover.Endpoint{Layout: mover.Asynq, Prefix: "asynq", Queue: "suggestion-generation"},
			facts: &step.Phase3Facts{Queues: 11},
			reach: [3]bool{true, true, true},
			says:  []string{"holds 2 for any number of queues", "22% fewer than Bull", "about 9,763 a month", "about 18,117 jobs"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := route()
			r.To = c.to
			phase, err := step.NewQueuePhase(client, step.Phase3Options{Route: r, WorkersStopped: true}, migrate.Env{})
			if err != nil {
				t.Fatal(err)
			}
			phase.Facts = c.facts
			o, err := phase.Plan(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if len(o.Claims) != 3 || len(o.KPIs) != 2 {
				t.Fatalf("claims %v and KPIs %v, want 3 and 2", o.Claims, o.KPIs)
			}
			text := ""
			for i, claim := range o.Claims {
				text += claim.Why + "\n"
				if claim.Reachable != c.reach[i] {
					t.Errorf("%s: reachable %t, want %t: %s", claim.Target, claim.Reachable, c.reach[i], claim.Why)
				}
			}
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("claims do not say %q:\n%s", want, text)
				}
			}
		})
	}
}
