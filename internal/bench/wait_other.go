//go:build !linux

package bench

import (
	"context"
	"time"
)

// wait returns at the moment at, or when ctx has ended.
func wait(ctx context.Context, at time.Time) { waitTimer(ctx, at) }
