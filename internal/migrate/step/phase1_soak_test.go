package step_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
)

// telling answers every request with what a replica would have counted at the moment.
type telling func(from, to time.Time) replica.Stats

func (f telling) RoundTrip(r *http.Request) (*http.Response, error) {
	parse := func(name string) time.Time {
		t, _ := time.Parse(time.RFC3339Nano, r.URL.Query().Get(name))
		return t
	}
	text, err := json.Marshal(f(parse("from"), parse("to")))
	return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(bytes.NewReader(text)), Header: http.Header{}, Request: r}, err
}

// soakOf is the last step of phase 1, a soak of a day, and where it keeps its notes.
func soakOf(t *testing.T, tell telling) (soak migrate.Step, looks *int) {
	t.Helper()
	notes := map[string]json.RawMessage{"phase1.ramp-100": json.RawMessage(`{"p95_ms":{"cache":5},"samples":{"cache":1000}}`)}
	nobody := struct{ redis.UniversalClient }{} // a soak sends no command
	p, err := step.NewPhase1(nobody, step.Phase1Plan{Percentages: []float64{100}, Replicas: []string{"http://replica"}}, migrate.Env{
		Checkpoint: func(_ context.Context, name string, detail any) (err error) {
			notes[name], err = json.Marshal(detail)
			return err
		},
		Last: func(name string) json.RawMessage { return notes[name] },
	})
	if err != nil {
		t.Fatal(err)
	}
	looks = new(int)
	p.Fleet.Client = &http.Client{Transport: telling(func(from, to time.Time) replica.Stats {
		*looks++
		return tell(from, to)
	})}
	steps := p.Steps()
	return steps[len(steps)-1], looks
}

func TestASoakOfADayPassesWhenADayWasWell(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		soak, looks := soakOf(t, func(time.Time, time.Time) replica.Stats { return busy() })
		began := time.Now()
		if err := soak.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took < 24*time.Hour || took > 24*time.Hour+2*time.Minute {
			t.Errorf("the soak took %s, want a day", took)
		}
		if err := soak.Verify(t.Context()); err != nil {
			t.Errorf("Verify: %v", err)
		}
		if *looks == 0 {
			t.Error("nobody looked")
		}
	})
}

func TestASoakOfADayFailsWithinMinutesOfAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		soak, _ := soakOf(t, func(time.Time, time.Time) replica.Stats {
			s := busy()
			if time.Since(began) > 20*time.Hour {
				s.Routes[0].New.Errors = 1
			}
			return s
		})
		err := soak.Apply(t.Context())
		if gate, ok := errors.AsType[*migrate.GateError](err); !ok || gate.Results[0].Gate.KPI != "new_side_errors" {
			t.Fatalf("the soak ended with %v, want the gate to fail", err)
		}
		if after := time.Since(began) - 20*time.Hour; after > 5*time.Minute {
			t.Errorf("it failed %s after the error, want after three looks", after)
		}
		if err := soak.Verify(t.Context()); !errors.Is(err, migrate.ErrNotApplied) {
			t.Errorf("Verify: %v, want that it is not in place", err)
		}
	})
}

func TestARestartedReplicaMakesTheSoakLongerAndNeverPassesByItself(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		restarted := began.Add(10 * time.Hour)
		soak, _ := soakOf(t, func(from, to time.Time) replica.Stats {
			s := busy()
			if to.After(restarted) && from.Before(restarted) { // it counts only since then
				s.Covered = to.Sub(restarted).Seconds() / to.Sub(from).Seconds()
			}
			return s
		})
		if err := soak.Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		// 95% of a day must be covered: 22.8 hours after the restart.
		if took := time.Since(began); took < 32*time.Hour+40*time.Minute || took > 33*time.Hour {
			t.Errorf("the soak took %s, want until 95%% of a day were covered", took)
		}
	})
}

func TestASoakWithoutTrafficWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		soak, _ := soakOf(t, func(time.Time, time.Time) replica.Stats { return replica.Stats{Covered: 1} })
		ctx, cancel := context.WithTimeout(t.Context(), 7*24*time.Hour)
		defer cancel()
		if err := soak.Apply(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("after a week without traffic: %v, want it to wait still", err)
		}
	})
}
