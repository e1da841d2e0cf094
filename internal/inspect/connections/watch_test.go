package connections

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

// A fakeServer answers INFO, CLIENT LIST and CLIENT ID from memory; nothing is dialled.
type fakeServer struct {
	mu       sync.Mutex
	clients  map[int64]string // id to name
	next     int64
	received int64
	down     bool
}

func newFakeServer(n int) *fakeServer {
	f := &fakeServer{clients: make(map[int64]string), next: 1}
	f.open(n)
	return f
}

func (f *fakeServer) open(n int) {
	for range n {
		f.clients[f.next] = ""
		f.next++
		f.received++
	}
}

func (f *fakeServer) close(n int) {
	for id := range f.clients {
		if n == 0 {
			return
		}
		delete(f.clients, id)
		n--
	}
}

func (f *fakeServer) change(do func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	do()
}

func (f *fakeServer) client(t *testing.T) redis.UniversalClient {
	rdb := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}, Dialer: func(context.Context, string, string) (net.Conn, error) {
		return nil, errors.New("nothing is dialled")
	}})
	rdb.AddHook(f)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func (f *fakeServer) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (f *fakeServer) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }

func (f *fakeServer) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.down {
			for _, cmd := range cmds {
				cmd.SetErr(errors.New("connection refused"))
			}
			return errors.New("connection refused")
		}
		for _, cmd := range cmds {
			switch c := cmd.(type) {
			case *redis.IntCmd:
				c.SetVal(999_999)
			case *redis.StringCmd:
				if c.Name() == "info" {
					c.SetVal(fmt.Sprintf("redis_version:7.0.15\nrun_id:a\nmaxclients:100\ntotal_connections_received:%d\nrejected_connections:0\n", f.received))
					continue
				}
				var b strings.Builder
				for id, name := range f.clients {
					fmt.Fprintf(&b, "id=%d addr=10.0.0.1:%d name=%s age=1 idle=1 flags=N cmd=get\n", id, 1000+id, name)
				}
				c.SetVal(b.String())
			}
		}
		return nil
	}
}

// watch runs a watch of d with a sample a second while act changes the server between samples.
func watch(t *testing.T, f *fakeServer, d time.Duration, act func(second int)) (*WatchReport, []Sample) {
	t.Helper()
	a, err := New(f.client(t), Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.lookup = func([]socket) (map[socket]owner, error) { return nil, nil }
	ctx, cancel := context.WithTimeout(t.Context(), d+500*time.Millisecond)
	defer cancel()
	var got []Sample
	seconds := 0
	r, err := a.Watch(ctx, time.Second, func(s Sample) {
		got = append(got, s)
		seconds++
		f.change(func() { act(seconds) })
	})
	if err != nil {
		t.Fatal(err)
	}
	return r, got
}

func TestWatchFindsWhatOneLookCannot(t *testing.T) {
	for _, tc := range []struct {
		name string
		act  func(f *fakeServer, second int)
		want []string
	}{
		{"a quiet server shows nothing", func(*fakeServer, int) {}, nil},
		{"short-lived connections are churn although no sample sees them", func(f *fakeServer, _ int) { f.received += 4 }, []string{"connection-churn"}},
		{"a process that only grows leaks", func(f *fakeServer, s int) {
			if s%6 == 0 {
				f.open(1)
			}
		}, []string{"connection-leak"}},
		{"a deploy that adds connections once is no leak", func(f *fakeServer, s int) {
			if s == 30 {
				f.open(8)
			}
		}, nil},
		{"one cut of every connection is a reconnect storm", func(f *fakeServer, s int) {
			if s == 20 {
				f.close(10)
				f.open(10)
			}
		}, []string{"reconnect-storm"}},
		{"a gap in the samples is told", func(f *fakeServer, s int) { f.down = s == 10 }, []string{"watch-gap"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFakeServer(10)
				r, samples := watch(t, f, time.Minute, func(s int) { tc.act(f, s) })
				var got []string
				for _, x := range r.Findings {
					if !slices.Contains(got, x.Rule) {
						got = append(got, x.Rule)
					}
				}
				if !slices.Equal(got, tc.want) {
					t.Errorf("findings %q, want %q: %+v", got, tc.want, r.Findings)
				}
				if len(samples) != 61 || len(r.Samples) != 61 {
					t.Errorf("%d samples emitted and %d kept in a minute, want 61", len(samples), len(r.Samples))
				}
			})
		})
	}
}

func TestAnHourOfWatchingEndsWithItsContextAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer(3)
		r, _ := watch(t, f, time.Hour, func(int) {})
		if r.Duration < time.Hour || r.Commands != 3*len(r.Samples) {
			t.Errorf("watched %s with %d commands for %d samples, want an hour and 3 each", r.Duration, r.Commands, len(r.Samples))
		}
	})
}

func TestAWatchOfAServerThatIsDownFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFakeServer(1)
		f.down = true
		a, err := New(f.client(t), Options{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := a.Watch(t.Context(), time.Second, nil); err == nil {
			t.Error("no error")
		}
	})
}
