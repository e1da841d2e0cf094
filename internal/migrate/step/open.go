package step

import (
	"encoding/json"
	"fmt"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
)

// An opener makes a phase from what a journal keeps of it. It touches nothing yet.
type opener func(client redis.UniversalClient, options json.RawMessage, env migrate.Env) (migrate.Phase, error)

// openers are all phases by name. Each phase adds its own line here, and nothing else has to know it.
func openers() map[string]opener {
	return map[string]opener{
		Phase1Name: openPhase1,
		Phase2Name: openPhase2,
		Phase4Name: openPhase4,
		Phase3Name: openPhase3,
	}
}

// Open makes the phase of target again from the options that its journal, a plan file or an intent
// keeps. It touches nothing yet. A phase that this version does not know is a *PhaseError.
func Open(
	client redis.UniversalClient, target migrate.Target, options json.RawMessage, env migrate.Env,
) (migrate.Phase, error) {
	open := openers()[target.Phase]
	if open == nil {
		return nil, &PhaseError{Phase: target.Phase}
	}
	phase, err := open(client, options, env)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", target, err)
	}
	if got := phase.Target(); got != target {
		return nil, fmt.Errorf("%s: its options are those of %s", target, got)
	}
	return phase, nil
}

// A PhaseError reports a phase that this version does not know.
type PhaseError struct{ Phase string }

func (e *PhaseError) Error() string {
	return fmt.Sprintf("phase %q is not known to this version", e.Phase)
}
