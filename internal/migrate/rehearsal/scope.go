package rehearsal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
)

// ScopeOf is what has to be copied to walk legs.
func ScopeOf(legs []Leg) (Scope, error) {
	var s Scope
	for _, leg := range legs {
		if err := s.add(leg); err != nil {
			return s, planError(leg, err)
		}
	}
	return s, nil
}

func (s *Scope) add(leg Leg) error {
	begun := len(leg.Begun) > 0
	switch leg.Target.Phase {
	case step.Phase1Name:
		var plan step.Phase1Plan
		if err := json.Unmarshal(leg.Options, &plan); err != nil {
			return err
		}
		s.Others = true
		s.Prefixes = append(s.Prefixes, plan.KeyPrefixes...)
		if begun {
			s.Own = append(s.Own, cmp.Or(plan.ControlKey, control.DefaultKey))
		}
	case step.Phase2Name:
		var plan step.Phase2Plan
		if err := json.Unmarshal(leg.Options, &plan); err != nil {
			return err
		}
		for _, q := range plan.Queues {
			s.queue(q.Queue)
			if begun {
				s.Own = append(s.Own, step.PauseNoteKey(q))
			}
		}
		if begun {
			s.Own = append(s.Own, cmp.Or(plan.ControlKey, control.DefaultKey))
		}
	case step.Phase3Name:
		route, err := step.ReadRoute(leg.Options)
		if err != nil {
			return err
		}
		s.queue(route.From)
		s.queue(route.To)
		if begun {
			for _, part := range mover.LedgerParts() {
				s.Own = append(s.Own, step.LedgerKey(route.From)+":"+part)
			}
			s.Own = append(s.Own, cron.DefaultKey)
		}
	case step.Phase4Name:
		var plan step.Phase4Plan
		if err := json.Unmarshal(leg.Options, &plan); err != nil {
			return err
		}
		s.Prefixes = append(s.Prefixes, plan.Prefixes...)
	default:
		return &step.PhaseError{Phase: leg.Target.Phase}
	}
	return nil
}

func (s *Scope) queue(e mover.Endpoint) {
	same := func(known mover.Endpoint) bool { return known.Key("") == e.Key("") && known.Layout == e.Layout }
	if !slices.ContainsFunc(s.Queues, same) {
		s.Queues = append(s.Queues, e)
	}
}

// A Price is what copying would ask of the Redis at most.
type Price struct {
	Keys     int64   `json:"keys"`     // that are copied at most
	Commands int64   `json:"commands"` // all of which only read
	Seconds  float64 `json:"seconds"`  // at the rate that was asked for
	Database int64   `json:"database_keys"`
}

// Estimate says what Read would cost at most. It only reads. Price: 1 command, and for each queue of scope 8,
// or 18 of asynq's.
func Estimate(ctx context.Context, client redis.UniversalClient, scope Scope, bounds Bounds) (Price, error) {
	bounds = bounds.withDefaults()
	var p Price
	var err error
	if p.Database, err = client.DBSize(ctx).Result(); err != nil {
		return p, fmt.Errorf("count the keys: %w", err)
	}
	for _, e := range scope.Queues {
		counts, err := mover.Counts(ctx, client, e)
		if err != nil {
			return p, err
		}
		bands := int64(len(bandsOf(e)))
		containers := bands * int64(len(containersOf(e.Layout))+len(besides(e.Layout)))
		jobs := int64(0)
		for _, n := range counts {
			jobs += min(n, bands*int64(bounds.Jobs))
		}
		schedules := int64(bounds.Jobs)
		if counts[mover.Delayed] == 0 && counts[mover.Waiting] == 0 {
			schedules = 0
		}
		parts := int64(len(partsOf(e.Layout))) + 1 // and the mark against doubles
		p.Keys += containers + jobs + schedules
		p.Commands += 6*containers + jobs*(5+4*parts) + 6*schedules
	}
	own := int64(len(scope.Own))
	p.Keys += own
	p.Commands += 5 * own
	if bounds.Keys > 0 && (scope.Others || len(scope.Prefixes) > 0) {
		others := min(int64(bounds.Keys), p.Database)
		p.Keys += others
		p.Commands += 5*others + min(p.Database, bounds.Scan)/(scanPage/4) + 4
	}
	if bounds.Rate > 0 {
		p.Seconds = float64(p.Keys) / bounds.Rate
	}
	return p, nil
}
