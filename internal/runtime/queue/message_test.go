package queue

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func sample() message {
	return message{
		Type: "mail:send", Payload: []byte("\x00\xff{}"), ID: "id-1", Queue: "mail:high", Retry: 2, Retried: 1, Error: "no\nroute",
		Timeout: 1805, Deadline: 1_900_000_000, UniqueKey: "asynq:{mail}:unique:k", LastFailedAt: 1_800_000_000, Retention: 3600,
		CompletedAt: 1_800_000_001, Group: "g", Headers: map[string]string{"traceparent": "00-abc", "empty": ""},
	}
}

func TestAMessageIsReadAsItWasWritten(t *testing.T) {
	for _, m := range []message{sample(), {ID: "x", Headers: map[string]string{}}} {
		got, err := decode(m.encode())
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(m, got); diff != "" {
			t.Errorf("message (-want +got):\n%s", diff)
		}
	}
}

// asynq's own encoding of a task is read, and ours is read by asynq.
func TestAsynqAndWeReadTheSameMessage(t *testing.T) {
	s := redistest.Start(t)
	c := s.Client(t)
	_, err := asynq.NewClientFromRedisClient(c).Enqueue(
		asynq.NewTaskWithHeaders("mail:send", []byte("\x00\xff{}"), map[string]string{"traceparent": "00-abc"}),
		asynq.Queue("q"), asynq.TaskID("id-1"), asynq.MaxRetry(2), asynq.Timeout(90*time.Second), asynq.Retention(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := c.HGet(t.Context(), "asynq:{q}:t:id-1", "msg").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	got, err := decode(raw)
	if err != nil {
		t.Fatal(err)
	}
	want := message{
		Type: "mail:send", Payload: []byte("\x00\xff{}"), ID: "id-1", Queue: "q", Retry: 2, Timeout: 90, Retention: 3600,
		Headers: map[string]string{"traceparent": "00-abc"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("asynq's message (-want +got):\n%s", diff)
	}

	m := sample()
	m.Queue = "q"
	put(t, c, "q", m)
	info, err := asynq.NewInspectorFromRedisClient(c).GetTaskInfo("q", "id-1")
	if err != nil {
		t.Fatal(err)
	}
	if info.Type != m.Type || string(info.Payload) != string(m.Payload) || info.MaxRetry != 2 || info.Retried != 1 || info.LastErr != m.Error ||
		info.Timeout != 1805*time.Second || info.Deadline.Unix() != m.Deadline || info.Retention != time.Hour || info.Group != "g" ||
		info.LastFailedAt.Unix() != m.LastFailedAt || info.CompletedAt.Unix() != m.CompletedAt || info.Headers["traceparent"] != "00-abc" {
		t.Errorf("asynq reads %+v, want %+v", info, m)
	}
}

func put(t *testing.T, c redis.UniversalClient, band string, m message) {
	t.Helper()
	ctx := context.Background()
	if err := c.HSet(ctx, taskKey(band, m.ID), "msg", m.encode(), "state", "pending").Err(); err != nil {
		t.Fatal(err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(sample().encode())
	f.Add([]byte{0x0a, 0xff})
	f.Add([]byte(strings.Repeat("\xff", 20)))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		again, err := decode(m.encode())
		if err != nil {
			t.Fatalf("what was read cannot be read again: %v", err)
		}
		if diff := cmp.Diff(m, again); diff != "" {
			t.Errorf("read again (-first +second):\n%s", diff)
		}
	})
}
