package tend_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestWorkersThatDoNotPollAreToldOfWhatWasAddedResumedAndRetried(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	ears := redis.NewClient(&redis.Options{Addr: server.Addr, DisableIdentity: true})
	t.Cleanup(func() { _ = ears.Close() })
	heard := ears.Subscribe(t.Context(), "redisopt:0:queue:~bell")
	t.Cleanup(func() { _ = heard.Close() })
	if _, err := heard.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect := func(what, want string) {
		t.Helper()
		m, err := heard.ReceiveTimeout(t.Context(), patience)
		got, ok := m.(*redis.Message)
		if err != nil || !ok || got.Payload != want {
			t.Errorf("%s: heard %v, %v, want %q", what, m, err, want)
		}
	}
	q := tend.At(client, mover.Endpoint{Layout: tend.Asynq, Queue: "mail"})
	enqueue(t, q, tend.NewJob{Name: "send", Band: "high"})
	expect("added", "1 tend\np mail%3Ahigh\n")
	enqueue(t, q, tend.NewJob{Name: "send", Delay: 10 * time.Second, Now: time.Unix(1795000000, 0)})
	expect("scheduled", "1 tend\ns mail 1795000010 u\n")
	if _, out := act(t, q, tend.Retry, tend.Criteria{States: []mover.State{mover.Delayed}}); out.Done != 1 {
		t.Fatalf("%+v", out)
	}
	expect("run at once", "1 tend\np mail\n")
	if _, err := q.Resume(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect("resumed", "1 tend\np mail%3Ahigh\np mail\np mail%3Alow\n")
}
