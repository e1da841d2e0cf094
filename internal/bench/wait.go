package bench

import (
	"context"
	"time"
)

// waitTimer returns at the moment at, or when ctx has ended, as exactly as the runtime's timers are.
func waitTimer(ctx context.Context, at time.Time) {
	left := time.Until(at)
	if left <= 0 {
		return
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}
