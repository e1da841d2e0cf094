package control

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestTheScript(t *testing.T) {
	server := redistest.Start(t)
	client := server.Client(t)
	inScript := int64(0)
	open := func(t *testing.T) *Control {
		t.Helper()
		c, err := Open(Options{Client: client, Timeout: time.Minute, InScript: func(_ string, n int64) { inScript += n }})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	stored := func(t *testing.T) string {
		t.Helper()
		text, err := client.Get(t.Context(), DefaultKey).Result()
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	a, b := open(t), open(t)

	t.Run("the first document, with the price it says", func(t *testing.T) {
		bell := server.Client(t).Subscribe(t.Context(), DefaultKey+":changed")
		defer func() { _ = bell.Close() }()
		if _, err := bell.Receive(t.Context()); err != nil {
			t.Fatal(err)
		}
		update(t, a, ramp("r", 10))
		message, err := bell.ReceiveMessage(t.Context())
		if err != nil || message.Payload != "1" {
			t.Errorf("the bell says %v, %v, want epoch 1", message, err)
		}
		if inScript != 3 {
			t.Errorf("%d commands in the script, want 3", inScript)
		}
	})
	t.Run("a change of somebody else in between", func(t *testing.T) {
		update(t, b, ramp("s", 20))
		update(t, a, ramp("t", 30))
		if got := a.Current(); got.Epoch != 3 || len(got.Ramps) != 3 {
			t.Errorf("in force: %+v, want epoch 3 with three routes", got)
		}
	})
	t.Run("many at once, none lost", func(t *testing.T) {
		// Each has a client of its own; a change that loses each of its ten attempts is tried again.
		var all sync.WaitGroup
		for i := range 4 {
			c, err := Open(Options{Client: server.Client(t), Timeout: time.Minute})
			if err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				for {
					err := c.Update(context.Background(), ramp("route"+strconv.Itoa(i), 1))
					if errors.Is(err, ErrContended) {
						continue
					}
					if err != nil {
						t.Error(err)
					}
					return
				}
			})
		}
		all.Wait()
		if err := a.Read(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := a.Current(); got.Epoch != 7 || len(got.Ramps) != 7 {
			t.Errorf("in force: %+v, want epoch 7 with seven routes", got)
		}
	})
	t.Run("the key was removed", func(t *testing.T) {
		if err := client.Del(t.Context(), DefaultKey).Err(); err != nil {
			t.Fatal(err)
		}
		update(t, a, ramp("u", 1))
		if got := stored(t); !strings.Contains(got, `"epoch":8`) {
			t.Errorf("stored %s, want epoch 8", got)
		}
	})
	for name, text := range map[string]string{
		"a newer schema": `{"schema":2,"epoch":1}`,
		"no document":    `hello`,
		"no object":      `3`,
	} {
		t.Run(name+" is not overwritten", func(t *testing.T) {
			if err := client.Set(t.Context(), DefaultKey, text, 0).Err(); err != nil {
				t.Fatal(err)
			}
			err := a.Update(t.Context(), ramp("u", 2))
			_, newer := errors.AsType[*SchemaError](err)
			_, damaged := errors.AsType[*DamagedError](err)
			if !newer && !damaged || stored(t) != text {
				t.Errorf("Update = %v, stored %s", err, stored(t))
			}
		})
	}
	t.Run("a key of another type", func(t *testing.T) {
		client.Del(t.Context(), DefaultKey)
		client.LPush(t.Context(), DefaultKey, "x")
		if err := a.Update(t.Context(), ramp("u", 2)); err == nil || !strings.Contains(err.Error(), "WRONGTYPE") {
			t.Errorf("Update = %v, want WRONGTYPE", err)
		}
		if err := a.Read(t.Context()); err == nil || !lasting(err) {
			t.Errorf("Read = %v, want an error that is not tried again at once", err)
		}
	})
}
