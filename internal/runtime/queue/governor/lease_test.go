package governor

import (
	"context"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// asynq's clock stands still while a machine sleeps, so it goes on to extend leases that others hold by then.
func TestALeaseThatIsNotBelievedAnyMoreIsNeitherExtendedNorBelievedAgain(t *testing.T) {
	g, q := idle(t)
	now := time.Now().Round(0)
	q.own["aged"] = claim{at: now.Add(-g.believed() - time.Second)}
	q.own["due"] = claim{at: now.Add(-g.firm() - time.Second)}
	var sent []any
	next := func(ctx context.Context, cmd redis.Cmder) error {
		sent = cmd.Args()
		return ctx.Err()
	}
	extend := func(ids ...string) {
		t.Helper()
		args := []any{"zadd", keyOf("a", leasePart), "xx"}
		for _, id := range ids {
			args = append(args, float64(now.Unix()), id)
		}
		sent = nil
		if err := g.plain(t.Context(), redis.NewIntCmd(t.Context(), args...), next); err != nil {
			t.Fatal(err)
		}
	}
	extend("aged", "due", "unknown")
	if len(sent) != 5 || sent[4] != any("due") {
		t.Errorf("sent %v, want the lease of due alone", sent)
	}
	if extend("aged"); sent != nil {
		t.Errorf("sent %v, want nothing", sent)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	finish := func(id string) error {
		return g.mayFinish(ctx, call{keys: []string{keyOf("a", taskPrefix+id)}})
	}
	if finish("aged") == nil || finish("due") != nil {
		t.Errorf("may finish aged: %v, due: %v; want only due", finish("aged"), finish("due"))
	}
}

// The job is at the head of its queue before it is known here that it was put there.
func TestAJobThatIsTakenAgainBeforeItsEndIsKnownIsOurs(t *testing.T) {
	g, q := idle(t)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	message := append([]byte{taskIDField<<3 | bytesField, 1}, "1"...)
	take := func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.learn(q, message, q.ask(), time.Now(), nil)
	}
	for name, s := range map[string]script{"tried again": retryScript, "given back": requeueScript, "done, and added anew": doneScript} {
		again := true
		run := func() error {
			c := call{script: s, command: "evalsha", keys: []string{keyOf("a", activePart), keyOf("a", leasePart), keyOf("a", taskPrefix+"1")}}
			return g.run(ctx, c, redis.NewCmd(ctx), func(context.Context, redis.Cmder) error {
				if again {
					take()
				}
				return nil
			})
		}
		take()
		if err := run(); err != nil || !q.holds("1") {
			t.Errorf("%s: %v, and what was taken again is held: %t", name, err, q.holds("1"))
		}
		again = false
		if err := run(); err != nil || q.holds("1") {
			t.Errorf("%s: %v, and what has ended is held: %t", name, err, q.holds("1"))
		}
	}
}
