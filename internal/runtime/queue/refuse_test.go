package queue_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestARedisThatRefusesWritesLosesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		refuse, allow [2]string
		class         upstream.Class
	}{
		"no memory is left":     {[2]string{"maxmemory", "1"}, [2]string{"maxmemory", "0"}, upstream.Capacity},
		"it becomes a replica":  {[2]string{"replicaof", "127.0.0.1 1"}, [2]string{"replicaof", "no one"}, upstream.Permission},
		"it wants its replicas": {[2]string{"min-replicas-to-write", "1"}, [2]string{"min-replicas-to-write", "0"}, upstream.Loading},
	} {
		t.Run(name, func(t *testing.T) {
			s := redistest.Start(t)
			set := func(v [2]string) {
				t.Helper()
				c := s.Client(t)
				err := c.ConfigSet(t.Context(), v[0], v[1]).Err()
				if v[0] == "replicaof" {
					var a, b string
					_, _ = fmt.Sscan(v[1], &a, &b)
					err = c.ReplicaOf(t.Context(), a, b).Err()
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			entered, leave := make(chan struct{}, 10), make(chan struct{})
			var runs atomic.Int64
			r := run(t, s.URL(), []queue.Queue{works("q", func(context.Context, queue.Job) ([]byte, error) {
				runs.Add(1)
				entered <- struct{}{}
				<-leave
				return nil, nil
			})}, nil)
			first := r.add(t, queue.EnqueueRequest{Queue: "q", ID: "first"})
			<-entered
			set(c.refuse)
			_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q", ID: "refused", Unique: "k"})
			if e, ok := errors.AsType[*queue.RefusedError](err); !ok || e.Class != c.class {
				t.Errorf("Enqueue = %v, want a *RefusedError of class %s, not %s", err, c.class, upstream.Classify(err))
			}
			close(leave) // what the job has done cannot be written down now
			eventually(t, func() error {
				if n := r.GovernorStats().Dequeued; n != 1 || refusals(t, s) < 3 {
					return fmt.Errorf("%d refusals, want one of the addition and some of the end", refusals(t, s))
				}
				return nil
			})
			set(c.allow)
			r.state(t, "q", first.ID, queue.Completed)
			r.add(t, queue.EnqueueRequest{Queue: "q", ID: "refused", Unique: "k"}) // nothing of it was there
			r.state(t, "q", "refused", queue.Completed)
			if n := runs.Load(); n != 2 {
				t.Errorf("2 jobs ran %d times", n)
			}
		})
	}
}

// refusals is how many commands the server has answered with an error.
func refusals(t *testing.T, s *redistest.Server) int {
	t.Helper()
	info, err := s.Client(t).Info(t.Context(), "stats").Result()
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	_, after, _ := strings.Cut(info, "total_error_replies:")
	_, _ = fmt.Sscan(after, &n)
	return n
}

// A silent server takes connections, and can stop answering.
type silent struct {
	net.Listener
	target string
	mute   atomic.Bool
	mu     sync.Mutex
	conns  []net.Conn
}

func newSilent(t *testing.T, target string) *silent {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &silent{Listener: l, target: target}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := (&net.Dialer{}).Dial("tcp", target)
			if err != nil {
				_ = in.Close()
				continue
			}
			s.mu.Lock()
			s.conns = append(s.conns, in, out)
			s.mu.Unlock()
			wg.Go(func() { s.pump(out, in, false) })
			wg.Go(func() { s.pump(in, out, true) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		s.mu.Lock()
		for _, c := range s.conns {
			_ = c.Close()
		}
		s.mu.Unlock()
		wg.Wait()
	})
	return s
}

// pump carries bytes; replies vanish while it is mute.
func (s *silent) pump(to, from net.Conn, replies bool) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if err != nil {
			_ = to.Close()
			return
		}
		if replies && s.mute.Load() {
			continue
		}
		if _, err := to.Write(buf[:n]); err != nil {
			_ = from.Close()
			return
		}
	}
}

func TestAnAdditionWithoutAnAnswerIsUncertainAndNotRepeated(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	way := newSilent(t, s.Addr)
	r := open(t, "redis://"+way.Addr().String(), []queue.Queue{waits("q")}, func(o *queue.Options) { o.CommandTimeout = 3 * time.Second })
	r.add(t, queue.EnqueueRequest{Queue: "q", ID: "known"})
	way.mute.Store(true)
	_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q", ID: "perhaps"})
	if u, ok := errors.AsType[*queue.UncertainError](err); !ok || u.ID != "perhaps" {
		t.Fatalf("Enqueue = %v, want an *UncertainError that names the job", err)
	}
	// It is there, once, and adding it again under its id says so.
	ids, err := s.Client(t).LRange(t.Context(), "asynq:{q}:pending", 0, -1).Result()
	if err != nil || len(ids) != 2 || ids[0] != "perhaps" {
		t.Errorf("pending are %v, %v, want perhaps and known", ids, err)
	}
	way.mute.Store(false)
	again := open(t, s.URL(), []queue.Queue{waits("q")}, nil)
	_, err = again.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q", ID: "perhaps"})
	if d, ok := errors.AsType[*queue.DuplicateError](err); !ok || d.State != queue.Pending {
		t.Errorf("Enqueue = %v, want a *DuplicateError", err)
	}
}

func TestARedisThatIsDownIsSaidToBe(t *testing.T) {
	s := redistest.Start(t)
	r := open(t, s.URL(), []queue.Queue{waits("q")}, nil)
	s.Kill(t)
	_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q"})
	if e, ok := errors.AsType[*queue.RefusedError](err); ok && e.Class != upstream.Refused && e.Class != upstream.Reset {
		t.Errorf("Enqueue = %v, class %s", err, e.Class)
	} else if _, uncertain := errors.AsType[*queue.UncertainError](err); !ok && !uncertain {
		t.Errorf("Enqueue = %v, want that Redis cannot be reached", err)
	}
}

func TestRunEndsWithAnErrorWhenRedisStaysSilent(t *testing.T) {
	s := redistest.Start(t)
	var reconnects atomic.Int64
	r := open(t, s.URL(), []queue.Queue{works("q", done)}, func(o *queue.Options) {
		o.Watchdog = time.Second
		o.Governor.Sweep = time.Second
		o.Reconnect = func(context.Context) error {
			reconnects.Add(1)
			return nil
		}
	})
	ended := make(chan error, 1)
	go func() { ended <- r.Run(context.WithoutCancel(t.Context())) }()
	id := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
	r.state(t, "q", id, queue.Completed)
	s.Kill(t)
	_, _ = r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q"}) // somebody wants something
	select {
	case err := <-ended:
		if u, ok := errors.AsType[*queue.UnreachableError](err); !ok || u.Err == nil || time.Since(u.Since) < 2*time.Second {
			t.Errorf("Run = %v, want an *UnreachableError after twice the bound", err)
		}
	case <-time.After(patience):
		t.Fatal("Run goes on")
	}
	if n := reconnects.Load(); n != 1 {
		t.Errorf("reconnected %d times, want once", n)
	}
}

func TestARedisThatComesBackInTimeIsUsedAgain(t *testing.T) {
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	r := run(t, s.URL(), []queue.Queue{works("q", done)}, func(o *queue.Options) { o.Governor.Sweep = time.Second })
	first := r.add(t, queue.EnqueueRequest{Queue: "q"}).ID
	r.state(t, "q", first, queue.Completed)
	s.Kill(t)
	_, _ = r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q", ID: "meanwhile"})
	s.Restart(t)
	eventually(t, func() error {
		_, err := r.Enqueue(t.Context(), queue.EnqueueRequest{Queue: "q", ID: "afterwards"})
		if _, ok := errors.AsType[*queue.DuplicateError](err); ok {
			return nil
		}
		return err
	})
	r.state(t, "q", "afterwards", queue.Completed)
}
