package step

import (
	"errors"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

func TestABridgeWaitsLongerForHeldJobsAndNeverLongerThanEvery(t *testing.T) {
	b := &bridge{opts: BridgeOptions{Every: 5 * time.Minute}, left: map[mover.State]int64{}, sum: Bridged{Held: 1}}
	for i, want := range []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute} {
		if got := b.wait(nil); got != want {
			t.Errorf("wait %d is %s, want %s", i+1, got, want)
		}
	}
	for range 200 { // a job can be held for days
		if got := b.wait(errors.New("no answer")); got != 5*time.Minute {
			t.Fatalf("after a long time it waits %s, want 5m", got)
		}
	}
	b.sum.Held = 0
	if got := b.wait(nil); got != 5*time.Minute {
		t.Errorf("with nothing held it waits %s, want 5m", got)
	}
	b.sum.Held = 1
	if got := b.wait(nil); got != bridgeHeld {
		t.Errorf("the next held job is waited for %s, want %s", got, bridgeHeld)
	}
}
