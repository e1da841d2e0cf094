package bench

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"
)

// wait returns at the moment at, or when ctx has ended. The runtime's timers are kept to a millisecond on
// this system, which would be all of the lateness that a 10 ms budget allows; the kernel's own are kept
// to some ten microseconds, and block a thread for the last 20 ms.
func wait(ctx context.Context, at time.Time) {
	const patience = 20 * time.Millisecond
	waitTimer(ctx, at.Add(-patience))
	for ctx.Err() == nil {
		left := time.Until(at)
		if left <= 0 {
			return
		}
		ts := unix.NsecToTimespec(left.Nanoseconds())
		if err := unix.Nanosleep(&ts, nil); err != nil && !errors.Is(err, unix.EINTR) {
			waitTimer(ctx, at)
		}
	}
}
