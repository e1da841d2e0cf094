package migrate_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// ttl is how long a lease of these tests lasts. A busy machine may stop for most of a second.
const ttl = 2 * time.Second

func leaseFor(owner string) migrate.LeaseOptions {
	return migrate.LeaseOptions{Key: "lease", Counter: "fence", Owner: owner, TTL: ttl}
}

func acquire(t *testing.T, client redis.UniversalClient) *migrate.Lease {
	t.Helper()
	l, err := migrate.Acquire(t.Context(), client, leaseFor("ann@alpha 100"))
	if err != nil {
		t.Fatalf("Acquire = %v", err)
	}
	return l
}

// until waits for claim, at most ten seconds.
func until(t *testing.T, what string, claim func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !claim() {
		select {
		case <-deadline:
			t.Fatalf("after 10s: %s did not happen", what)
		case <-tick.C:
		}
	}
}

func TestASecondOperatorIsToldWhoHoldsTheLeaseAndUntilWhen(t *testing.T) {
	client := redistest.Start(t).Client(t)
	first := acquire(t, client)
	_, err := migrate.Acquire(t.Context(), client, leaseFor("bob@beta 200"))
	var held *migrate.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("second Acquire = %v, want a HeldError", err)
	}
	if held.Owner != "ann@alpha 100" || held.Key != "lease" {
		t.Errorf("held = %+v, want it to name ann@alpha 100 and the key", held)
	}
	if left := time.Until(held.Expires); left <= 0 || left > ttl {
		t.Errorf("expires in %s, want up to 1s", left)
	}
	if h, err := migrate.Holding(t.Context(), client, "lease"); err != nil || h == nil || h.Fence != first.Fence() {
		t.Errorf("Holding = %+v, %v, want fence %d", h, err, first.Fence())
	}
	if strings.Contains(err.Error(), first.Token()) {
		t.Error("the error tells the holder's token")
	}
}

func TestALeaseIsRenewedWhileItIsNeededAndGivenBack(t *testing.T) {
	client := redistest.Start(t).Client(t)
	l := acquire(t, client)
	err := l.Hold(t.Context(), func(ctx context.Context) error {
		began := time.Now()
		until(t, "outliving the first TTL", func() bool { return time.Since(began) > ttl*6/5 })
		if got := client.Get(ctx, "lease").Val(); got != l.Token() {
			t.Errorf("after 1.2 TTLs the key holds %q, want the token", got)
		}
		return ctx.Err()
	})
	if err != nil {
		t.Errorf("Hold = %v", err)
	}
	if h, err := migrate.Holding(t.Context(), client, "lease"); err != nil || h != nil {
		t.Errorf("after Hold: %+v, %v, want nobody", h, err)
	}
}

func TestAnExpiredLeaseIsTakenOverWithAGreaterFence(t *testing.T) {
	client := redistest.Start(t).Client(t)
	first := acquire(t, client) // and never renewed: its process is paused
	var second *migrate.Lease
	until(t, "the expiry", func() bool {
		l, err := migrate.Acquire(t.Context(), client, leaseFor("bob@beta 200"))
		second = l
		return err == nil
	})
	if second.Fence() <= first.Fence() {
		t.Errorf("fence %d after %d, want it to grow", second.Fence(), first.Fence())
	}
	// The first wakes up: its next renewal tells it, and it must not give away what it no longer has.
	err := first.Hold(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, migrate.ErrLeaseLost) {
		t.Errorf("Hold of a lease taken over = %v, want ErrLeaseLost", err)
	}
	if got := client.Get(t.Context(), "lease").Val(); got != second.Token() && got != "" {
		t.Errorf("the key holds %q, want the second's token or nothing", got)
	}
}

func TestForcingTheLockTellsWhoHeldItAndCancelsTheirWork(t *testing.T) {
	s := redistest.Start(t)
	client := s.Client(t)
	l := acquire(t, client)
	err := l.Hold(t.Context(), func(ctx context.Context) error {
		shown, err := migrate.Holding(ctx, s.Client(t), "lease")
		if err != nil || shown == nil {
			t.Fatalf("Holding = %+v, %v, want ann", shown, err)
		}
		h, err := migrate.ForceUnlock(ctx, s.Client(t), "lease", *shown)
		if err != nil || h == nil || h.Owner != "ann@alpha 100" {
			t.Errorf("ForceUnlock = %+v, %v, want ann", h, err)
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-time.After(10 * time.Second):
			return errors.New("the work was not cancelled")
		}
	})
	if !errors.Is(err, migrate.ErrLeaseLost) {
		t.Errorf("Hold = %v, want ErrLeaseLost", err)
	}
	if h, err := migrate.ForceUnlock(t.Context(), client, "lease", migrate.Holder{}); err != nil || h != nil {
		t.Errorf("ForceUnlock of a free lease = %+v, %v, want nobody", h, err)
	}
}

func TestARedisThatGoesAwayLosesTheLeaseOnlyAfterItsTTL(t *testing.T) {
	s := redistest.Start(t)
	l := acquire(t, s.Client(t))
	began := time.Now()
	s.Kill(t)
	err := l.Hold(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, migrate.ErrLeaseLost) {
		t.Errorf("Hold without a Redis = %v, want ErrLeaseLost", err)
	}
	if took := time.Since(began); took < ttl {
		t.Errorf("lost after %s, want not before the TTL of %s", took, ttl)
	}
}

func TestTheWorksErrorComesBackAndTheLeaseIsStillGivenBack(t *testing.T) {
	client := redistest.Start(t).Client(t)
	l := acquire(t, client)
	broken := errors.New("broken")
	ctx, cancel := context.WithCancel(t.Context())
	err := l.Hold(ctx, func(context.Context) error { cancel(); return broken })
	if !errors.Is(err, broken) {
		t.Errorf("Hold = %v, want what the work returned", err)
	}
	if h, err := migrate.Holding(t.Context(), client, "lease"); err != nil || h != nil {
		t.Errorf("after Hold: %+v, %v, want nobody", h, err)
	}
}

func TestLeaseOptionsReportAllProblemsAtOnce(t *testing.T) {
	_, err := migrate.Acquire(t.Context(), nil, migrate.LeaseOptions{Owner: "a\nb", TTL: time.Millisecond})
	for _, want := range []string{"key", "counter", "owner", "ttl"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Acquire = %v, want it to name %s", err, want)
		}
	}
}

func TestForcingTheLockLeavesALeaseThatWasNotShown(t *testing.T) {
	client := redistest.Start(t).Client(t)
	first := acquire(t, client)
	shown, err := migrate.Holding(t.Context(), client, "lease")
	if err != nil || shown == nil {
		t.Fatalf("Holding = %+v, %v, want ann", shown, err)
	}
	client.Del(t.Context(), "lease") // it ends while the operator thinks, and another one begins
	second := acquire(t, client)
	var held *migrate.HeldError
	if h, err := migrate.ForceUnlock(t.Context(), client, "lease", *shown); h != nil || !errors.As(err, &held) {
		t.Errorf("ForceUnlock = %+v, %v, want a HeldError about the second", h, err)
	}
	if got := client.Get(t.Context(), "lease").Val(); got != second.Token() || got == first.Token() {
		t.Errorf("the key holds %q, want the second's token", got)
	}
}
