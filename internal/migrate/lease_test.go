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

// How long leases of these tests last: brief ones are to end in the test, long ones are not, however slow the
// machine is, and a steady one is renewed every 3 seconds and outlives a machine that stops for 6.
const (
	brief  = time.Second
	steady = 9 * time.Second
	long   = time.Hour
)

func leaseFor(owner string, ttl time.Duration) migrate.LeaseOptions {
	return migrate.LeaseOptions{Key: "lease", Counter: "fence", Owner: owner, TTL: ttl}
}

func acquire(t *testing.T, client redis.UniversalClient, ttl time.Duration) *migrate.Lease {
	t.Helper()
	l, err := migrate.Acquire(t.Context(), client, leaseFor("ann@alpha 100", ttl))
	if err != nil {
		t.Fatalf("Acquire = %v", err)
	}
	return l
}

// until waits for claim, at most a minute.
func until(t *testing.T, what string, claim func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for !claim() {
		select {
		case <-deadline:
			t.Fatalf("after a minute: %s did not happen", what)
		case <-tick.C:
		}
	}
}

func TestASecondOperatorIsToldWhoHoldsTheLeaseAndUntilWhen(t *testing.T) {
	client := redistest.Start(t).Client(t)
	first := acquire(t, client, long)
	_, err := migrate.Acquire(t.Context(), client, leaseFor("bob@beta 200", long))
	var held *migrate.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("second Acquire = %v, want a HeldError", err)
	}
	if held.Owner != "ann@alpha 100" || held.Key != "lease" {
		t.Errorf("held = %+v, want it to name ann@alpha 100 and the key", held)
	}
	if left := time.Until(held.Expires); left <= 0 || left > long {
		t.Errorf("expires in %s, want up to %s", left, long)
	}
	if h, err := migrate.Holding(t.Context(), client, "lease"); err != nil || h == nil || h.Fence != first.Fence() {
		t.Errorf("Holding = %+v, %v, want fence %d", h, err, first.Fence())
	}
	if strings.Contains(err.Error(), first.Token()) {
		t.Error("the error tells the holder's token")
	}
}

func TestALeaseIsRenewedWhileItIsNeededAndGivenBack(t *testing.T) {
	t.Parallel() // it waits for a renewal
	client := redistest.Start(t).Client(t)
	l := acquire(t, client, steady)
	err := l.Hold(t.Context(), func(ctx context.Context) error {
		least := steady
		until(t, "a renewal", func() bool {
			left := client.PTTL(ctx, "lease").Val()
			renewed := left > least
			least = min(least, left)
			return renewed
		})
		if got := client.Get(ctx, "lease").Val(); got != l.Token() {
			t.Errorf("after it was renewed the key holds %q, want the token", got)
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
	first := acquire(t, client, brief) // and never renewed: its process is paused
	var second *migrate.Lease
	until(t, "the expiry", func() bool {
		l, err := migrate.Acquire(t.Context(), client, leaseFor("bob@beta 200", long))
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
	if got := client.Get(t.Context(), "lease").Val(); got != second.Token() {
		t.Errorf("the key holds %q, want the second's token", got)
	}
}

func TestForcingTheLockTellsWhoHeldItAndCancelsTheirWork(t *testing.T) {
	t.Parallel() // it waits for a renewal
	s := redistest.Start(t)
	client := s.Client(t)
	l := acquire(t, client, steady)
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
		case <-time.After(time.Minute):
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
	client := s.Client(t)
	began := time.Now() // the lease counts from when it was asked for, not from the answer
	l := acquire(t, client, brief)
	s.Kill(t)
	err := l.Hold(t.Context(), func(ctx context.Context) error {
		<-ctx.Done()
		return ctx.Err()
	})
	if !errors.Is(err, migrate.ErrLeaseLost) {
		t.Errorf("Hold without a Redis = %v, want ErrLeaseLost", err)
	}
	if took := time.Since(began); took < brief {
		t.Errorf("lost after %s, want not before the TTL of %s", took, brief)
	}
}

func TestTheWorksErrorComesBackAndTheLeaseIsStillGivenBack(t *testing.T) {
	client := redistest.Start(t).Client(t)
	l := acquire(t, client, long)
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
	first := acquire(t, client, long)
	shown, err := migrate.Holding(t.Context(), client, "lease")
	if err != nil || shown == nil {
		t.Fatalf("Holding = %+v, %v, want ann", shown, err)
	}
	client.Del(t.Context(), "lease") // it ends while the operator thinks, and another one begins
	second := acquire(t, client, long)
	var held *migrate.HeldError
	if h, err := migrate.ForceUnlock(t.Context(), client, "lease", *shown); h != nil || !errors.As(err, &held) {
		t.Errorf("ForceUnlock = %+v, %v, want a HeldError about the second", h, err)
	}
	if got := client.Get(t.Context(), "lease").Val(); got != second.Token() || got == first.Token() {
		t.Errorf("the key holds %q, want the second's token", got)
	}
}

// interrupting calls end once, when the server has run a script and before it has told.
type interrupting struct{ end func() }

func (*interrupting) DialHook(next redis.DialHook) redis.DialHook { return next }

func (i *interrupting) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if end := i.end; err == nil && end != nil && strings.HasPrefix(cmd.Name(), "eval") {
			i.end = nil
			end()
			cmd.SetErr(context.Canceled)
			return context.Canceled
		}
		return err
	}
}

func (*interrupting) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func TestALeaseWhoseTakingWasInterruptedIsGivenBack(t *testing.T) {
	server := redistest.Start(t)
	client, look := server.Client(t), server.Client(t)
	ctx, cancel := context.WithCancel(t.Context())
	var taken int64
	client.AddHook(&interrupting{func() {
		taken = look.Exists(t.Context(), "lease").Val()
		cancel()
	}})
	if _, err := migrate.Acquire(ctx, client, leaseFor("ann@alpha 100", long)); !errors.Is(err, context.Canceled) || taken != 1 {
		t.Fatalf("Acquire = %v with %d leases taken, want it interrupted after it was taken", err, taken)
	}
	if h, err := migrate.Holding(t.Context(), look, "lease"); err != nil || h != nil {
		t.Errorf("after it was interrupted: %+v, %v, want nobody", h, err)
	}
	theirs := acquire(t, look, long)
	cancelled, end := context.WithCancel(t.Context())
	end()
	if _, err := migrate.Acquire(cancelled, look, leaseFor("ann@alpha 100", long)); err == nil {
		t.Error("Acquire after the end = nil")
	}
	if got := look.Get(t.Context(), "lease").Val(); got != theirs.Token() {
		t.Errorf("the key holds %q, want the other's token", got)
	}
}
