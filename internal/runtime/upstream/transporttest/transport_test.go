package transporttest_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
	"github.com/redisopt/redisopt/internal/runtime/upstream/transporttest"
)

const token = "transport-test-token"

// open opens o, patiently: the machine may have much else to do.
func open(t testing.TB, o upstream.Options) *upstream.Upstream {
	t.Helper()
	o.Timeout = time.Minute
	u, err := upstream.Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// way is the suite over o, directly to a server of its own.
func overServer(t *testing.T, o upstream.Options, caps transporttest.Caps) {
	t.Helper()
	s := redistest.Start(t)
	o.URL, caps.Server = s.URL(), look(t, s)
	transporttest.Run(t, func(t *testing.T) *upstream.Upstream { t.Helper(); return open(t, o) }, caps)
}

// look is a client that only looks.
func look(t testing.TB, s *redistest.Server) redis.UniversalClient {
	t.Helper()
	return s.Client(t)
}

// gatewayOver runs our gateway in front of a server and returns its address.
func gatewayOver(t testing.TB, s *redistest.Server) string {
	t.Helper()
	u := open(t, upstream.Options{URL: s.URL(), Shared: true})
	m, err := u.Mux()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Options{Mux: m, Bell: u.Bell(), Tokens: []gateway.Token{{Name: "test", Secret: token}}, Timeout: gateway.LongestTimeout})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- g.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("gateway: %v", err)
		}
		if err := u.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return "http://" + ln.Addr().String()
}

func overGateway(t *testing.T, o upstream.Options) {
	t.Helper()
	s := redistest.Start(t)
	o.REST = upstream.REST{URL: gatewayOver(t, s), Token: token}
	transporttest.Run(t, func(t *testing.T) *upstream.Upstream { t.Helper(); return open(t, o) }, transporttest.Caps{Server: look(t, s)})
	if n := redisClients(t, s); n > 3 {
		t.Errorf("%d connections to the Redis, want at most 3 of the gateway", n)
	}
}

// redisClients is how many connections CLIENT LIST shows, the looking one not among them.
func redisClients(t *testing.T, s *redistest.Server) int {
	t.Helper()
	list, err := s.Client(t).ClientList(t.Context()).Result()
	if err != nil {
		t.Fatal(err)
	}
	n := -2 // this one, and the one that compared counts
	for _, c := range list {
		if c == '\n' {
			n++
		}
	}
	return n
}

func TestTCP(t *testing.T) {
	t.Parallel()
	overServer(t, upstream.Options{}, transporttest.Caps{Binary: true, Blocking: true, Watch: true})
}

func TestTCPShared(t *testing.T) {
	t.Parallel()
	overServer(t, upstream.Options{Shared: true}, transporttest.Caps{Binary: true, Watch: true})
}

func TestEmbedded(t *testing.T) {
	t.Parallel()
	s, err := embedded.Start(t.Context(), embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	transporttest.Run(t, func(t *testing.T) *upstream.Upstream {
		t.Helper()
		return open(t, upstream.Options{URL: s.URL()})
	}, transporttest.Caps{Binary: true, Blocking: true, Watch: true})
}

func TestRESTOverOurGateway(t *testing.T) {
	t.Parallel()
	overGateway(t, upstream.Options{})
}

func TestRESTSharedOverOurGateway(t *testing.T) {
	t.Parallel()
	overGateway(t, upstream.Options{Shared: true})
}

func TestAnOutageBehindTheGateway(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
	u := open(t, upstream.Options{REST: upstream.REST{URL: gatewayOver(t, s), Token: token}})
	t.Cleanup(func() { _ = u.Close() })
	sub, err := u.Bell().Subscribe(t.Context(), "news")
	if err != nil {
		t.Fatal(err)
	}
	set := func() error { return u.Client().Set(t.Context(), "k", "v", 0).Err() }
	if err := set(); err != nil {
		t.Fatal(err)
	}
	s.Kill(t)
	for range 20 {
		begin := time.Now()
		err := set()
		switch c := upstream.Classify(err); c { //nolint:exhaustive // every other class is wrong
		case upstream.Loading, upstream.Unreachable, upstream.Reset, upstream.Timedout:
		default:
			t.Errorf("while the Redis is down = %v of class %q, want an error of the transport", err, c)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("an error took %s", took)
		}
	}
	s.Restart(t)
	back := time.Now()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for ; set() != nil; <-tick.C {
		if time.Since(back) > 20*time.Second {
			t.Fatal("not back within 20s of the Redis's return")
		}
	}
	t.Logf("back after %s", time.Since(back).Round(time.Millisecond))
	select {
	case <-sub.Gaps():
	case <-time.After(20 * time.Second):
		t.Error("the bell told no gap within 20s")
	}
	for { // until the gateway has subscribed again too
		if err := u.Client().Publish(t.Context(), "news", "again").Err(); err != nil {
			t.Fatal(err)
		}
		select {
		case m := <-sub.C():
			if string(m.Payload) != "again" {
				t.Errorf("message = %q", m.Payload)
			}
			return
		case <-tick.C:
		}
		if time.Since(back) > 40*time.Second {
			t.Fatal("no message within 40s of the Redis's return")
		}
	}
}
