package sidecar

import (
	"context"
	"fmt"
	"time"
)

// A LoopError means that an upstream is this very process: an application's environment, which points at
// the gateway, was given to the gateway itself.
type LoopError struct{ Addr string }

// Error says which address and what to change.
func (e *LoopError) Error() string {
	return fmt.Sprintf("the upstream %s is this process itself; UPSTASH_REDIS_REST_URL must be the address of the Redis that is paid for, and only applications use the gateway's", e.Addr)
}

// guardTime is how long the start waits to find out whether an upstream is ourselves.
const guardTime = 2 * time.Second

// guard asks every upstream over REST once, with a PING, which Upstash does not bill, and is a
// *LoopError when one of them answers with our own instance id. An upstream that does not answer is not
// refused. Doors must be waiting, or a loop would call itself.
func guard(ctx context.Context, ups *upstreams, instance string) error {
	ctx, cancel := context.WithTimeout(ctx, guardTime)
	defer cancel()
	for _, up := range ups.every() {
		if up.Transport() != nameREST {
			continue
		}
		_ = up.Client().Ping(ctx).Err() // whether it is up is for readiness to say
	}
	return ups.looped(instance)
}

// looped looks at who answered last. It sends nothing.
func (u *upstreams) looped(instance string) error {
	for _, up := range u.every() {
		if up.Instance() == instance {
			return &LoopError{up.Addr()}
		}
	}
	return nil
}
