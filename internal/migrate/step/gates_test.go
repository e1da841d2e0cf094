package step_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
)

func TestDefaultsOnTheWholeRedisWaitForADayAndNeverForAMoment(t *testing.T) {
	asked := step.QueueGates{Errors: -1, P95: -1, JobSuccess: -1, BacklogGrowth: -1, CommandsPerDay: 50_000, Connections: 100}
	usual := asked
	usual.CommandsDefault, usual.ConnectionsDefault = true, true
	const day = 24 * time.Hour
	for name, tt := range map[string]struct {
		gates  step.QueueGates
		length time.Duration
		want   []migrate.Gate // of commands and connections, without what is always so
	}{
		"defaults of a week":     {usual, 7 * day, []migrate.Gate{{MinWindow: day, Held: true}, {}}},
		"defaults of an hour":    {usual, time.Hour, []migrate.Gate{{MinWindow: day, Held: true, Optional: true}, {}}},
		"defaults of a moment":   {usual, -1, []migrate.Gate{{MinWindow: day, Held: true, Optional: true}, {Optional: true}}},
		"asked for over a week":  {asked, 7 * day, []migrate.Gate{{MinWindow: day}, {}}},
		"asked for over an hour": {asked, time.Hour, []migrate.Gate{{MinWindow: time.Hour}, {}}},
		"asked for at once":      {asked, -1, []migrate.Gate{{}, {}}},
		"switched off":           {step.QueueGates{Errors: -1, P95: -1, JobSuccess: -1, BacklogGrowth: -1}, day, []migrate.Gate{}},
	} {
		if len(tt.want) == 2 {
			tt.want[0].KPI, tt.want[0].Unit, tt.want[0].Limit = migrate.KPICommandsPerDay, "commands/day", 50_000
			tt.want[1].KPI, tt.want[1].Unit, tt.want[1].Limit = migrate.KPIConnections, "connections", 100
		}
		if diff := cmp.Diff(tt.want, tt.gates.Gates(false, tt.length)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if step.DesignedCommandsPerDay(step.Phase3Name) != 15_000 || step.DesignedCommandsPerDay("phase4") != 0 {
		t.Error("the design says 450,000 a month after phase 3, and nothing of phase 4")
	}
}

// counted is a Watch that knows commands a day and connections alone.
type counted map[string]float64

func (c counted) Read(_ context.Context, kpi string, from, to time.Time) (migrate.Evidence, error) {
	v, ok := c[kpi]
	e := migrate.Evidence{Value: v, Known: ok, From: from, To: to, Samples: 300, Coverage: 1}
	if !ok {
		e.Missing = []string{"INFO does not tell it"}
	}
	return e, nil
}

func TestPhase1IsJudgedByCommandsADayAndConnectionsWhereItCanReachThem(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		before float64 // 0: nobody knows
		now    counted
		asked  bool
		fails  string // the gate; empty: it passes
		waits  bool
	}{
		"105,000 before and after: this phase changes none": {before: 105_000, now: counted{migrate.KPICommandsPerDay: 105_000, migrate.KPIConnections: 40}},
		"below before, beyond after":                        {before: 60_000, now: counted{migrate.KPICommandsPerDay: 71_000, migrate.KPIConnections: 40}, fails: migrate.KPICommandsPerDay},
		"nobody knows how it was":                           {now: counted{migrate.KPICommandsPerDay: 105_000, migrate.KPIConnections: 40}},
		"somebody asked for it all the same":                {before: 105_000, now: counted{migrate.KPICommandsPerDay: 105_000, migrate.KPIConnections: 40}, asked: true, fails: migrate.KPICommandsPerDay},
		"more connections than the plan allows":             {before: 60_000, now: counted{migrate.KPICommandsPerDay: 60_000, migrate.KPIConnections: 101}, fails: migrate.KPIConnections},
		"INFO tells nothing, and it could be reached":       {before: 60_000, now: counted{migrate.KPIConnections: 40}, waits: true},
		"INFO tells nothing, and it could not":              {before: 105_000, now: counted{migrate.KPIConnections: 40}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				notes := map[string]json.RawMessage{"phase1.ramp-100": json.RawMessage(`{"p95_ms":{"cache":5},"samples":{"cache":1000}}`)}
				if tt.before > 0 {
					text, err := json.Marshal(migrate.BaselineNote{Evidence: map[string]migrate.Evidence{
						migrate.KPICommandsPerDay: {Value: tt.before, Known: true},
					}})
					if err != nil {
						t.Fatal(err)
					}
					notes["phase1.preflight"] = text
				}
				p, err := step.NewPhase1(struct{ redis.UniversalClient }{}, step.Phase1Plan{
					Percentages: []float64{100}, Replicas: []string{"http://replica"},
					Gates: step.Phase1Gates{CommandsPerDay: 70_000, CommandsDefault: !tt.asked, Connections: 100, ConnectionsDefault: true},
				}, migrate.Env{
					Watch: tt.now, Last: func(name string) json.RawMessage { return notes[name] },
					Checkpoint: func(_ context.Context, name string, detail any) (err error) {
						notes[name], err = json.Marshal(detail)
						return err
					},
				})
				if err != nil {
					t.Fatal(err)
				}
				p.Fleet.Client = &http.Client{Transport: telling(func(time.Time, time.Time) replica.Stats { return busy() })}
				steps := p.Steps()
				ctx, cancel := context.WithTimeout(t.Context(), 7*24*time.Hour)
				defer cancel()
				err = steps[len(steps)-1].Apply(ctx)
				gate, failed := errors.AsType[*migrate.GateError](err)
				switch {
				case tt.fails != "" && (!failed || gate.Results[0].Gate.KPI != tt.fails):
					t.Errorf("the soak ended with %v, want %s to fail", err, tt.fails)
				case tt.waits && !errors.Is(err, context.DeadlineExceeded):
					t.Errorf("the soak ended with %v, want it to wait for evidence", err)
				case tt.fails == "" && !tt.waits && err != nil:
					t.Errorf("the soak ended with %v, want it to pass", err)
				}
				if note := string(notes["phase1.soak"]); !strings.Contains(note, `"commands_per_day"`) || !strings.Contains(note, `"connections"`) {
					t.Errorf("the journal says %s, want both gates in it", note)
				}
			})
		})
	}
}
