package redistest_test

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestServer(t *testing.T) {
	t.Run("with an append-only file a killed server keeps what it acknowledged", func(t *testing.T) {
		s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
		c := s.Client(t)
		if err := c.Set(t.Context(), "k", "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
		pid, addr := s.PID(), s.Addr
		s.Kill(t)
		if s.PID() != 0 {
			t.Errorf("PID() after Kill = %d, want 0", s.PID())
		}
		s.Restart(t)
		if s.PID() == pid || s.Addr != addr {
			t.Errorf("after Restart: pid %d (was %d), addr %s, want another pid on %s", s.PID(), pid, s.Addr, addr)
		}
		// The first command meets the dead connection.
		_ = c.Ping(t.Context()).Err()
		if got, err := c.Get(t.Context(), "k").Result(); err != nil || got != "v" {
			t.Errorf("GET k = %q, %v, want v", got, err)
		}
	})

	t.Run("a password among the arguments is in the URL and the client", func(t *testing.T) {
		s := redistest.Start(t, "--requirepass", "hush")
		if err := s.Client(t).Ping(t.Context()).Err(); err != nil {
			t.Errorf("PING: %v", err)
		}
		if want := "redis://:hush@" + s.Addr; s.URL() != want {
			t.Errorf("URL() = %s, want %s", s.URL(), want)
		}
	})

	t.Run("nobody is given the port of a server that is down for a while", func(t *testing.T) {
		s := redistest.Start(t)
		_, port, err := net.SplitHostPort(s.Addr)
		if err != nil {
			t.Fatal(err)
		}
		if n, err := strconv.Atoi(port); err != nil || n >= 32_768 {
			t.Errorf("port %s, %v, want one that no system gives to whoever asks for any", port, err)
		}
		s.Kill(t)
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", net.JoinHostPort("127.0.0.2", port))
		switch {
		case errors.Is(err, syscall.EADDRNOTAVAIL):
			t.Skip("needs 127.0.0.2")
		case err == nil:
			_ = l.Close()
			t.Error("another test could hold its port")
		}
		s.Restart(t)
		if err := s.Client(t).Ping(t.Context()).Err(); err != nil {
			t.Errorf("PING: %v", err)
		}
	})

	t.Run("two servers have two addresses", func(t *testing.T) {
		a, b := redistest.Start(t), redistest.Start(t)
		if a.Addr == b.Addr {
			t.Errorf("both on %s", a.Addr)
		}
	})
}
