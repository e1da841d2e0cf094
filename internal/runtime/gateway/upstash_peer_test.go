package gateway_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// peerTimeout bounds one run of a Node script; the scripts wait for a new window at most 15 seconds.
const peerTimeout = 5 * time.Minute

// TestUpstashRedis lets the unmodified @upstash/redis do all that an application does with it, in several
// versions, over a real redis-server and over the embedded one.
func TestUpstashRedis(t *testing.T) {
	t.Parallel()
	for i, c := range []struct{ library, version string }{
		{"@upstash/redis", "1.39.0"},
		{"upstash128", "1.28.0"},
		{"upstash134", "1.34.9"},
		{"upstash138", "1.38.2"},
	} {
		run := func(t *testing.T, url string) {
			nodePeer(t, c.version, "upstash-redis.js", c.library, url, secret, "reader")
		}
		if !raceEnabled || i == 0 { // the race detector sees the same of each
			overRedis(t, c.version, run)
		}
		if i == 0 || i == 1 && !raceEnabled {
			overEmbedded(t, c.version, run)
		}
	}
}

// TestUpstashRatelimit lets the unmodified @upstash/ratelimit enforce limits through the gateway, a hundred
// requests at once. From 2.2.0 its scripts begin with a flag that no Redis knows.
func TestUpstashRatelimit(t *testing.T) {
	t.Parallel()
	for i, c := range []struct{ library, version, redis string }{
		{"@upstash/ratelimit", "2.2.0", "@upstash/redis"},
		{"ratelimit2", "2.0.8", "upstash134"},
		{"ratelimit1", "1.2.1", "upstash128"},
	} {
		run := func(t *testing.T, url string) {
			nodePeer(t, c.version, "upstash-ratelimit.js", c.library, c.redis, url, secret)
		}
		if !raceEnabled || i == 0 {
			overRedis(t, c.version, run)
		}
		if i == 0 && !raceEnabled { // its Lua is slow enough without
			overEmbedded(t, c.version, run)
		}
	}
}

// overRedis runs f with a gateway over a redis-server.
func overRedis(t *testing.T, name string, f func(t *testing.T, url string)) {
	t.Helper()
	t.Run(name+" over redis-server", func(t *testing.T) {
		t.Parallel()
		f(t, wholeGateway(t, redistest.Start(t).Addr))
	})
}

// overEmbedded runs f with a gateway over the embedded Redis.
func overEmbedded(t *testing.T, name string, f func(t *testing.T, url string)) {
	t.Helper()
	t.Run(name+" over the embedded Redis", func(t *testing.T) {
		t.Parallel()
		server, err := embedded.Start(t.Context(), embedded.Options{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = server.Close() })
		f(t, wholeGateway(t, server.Addr()))
	})
}

// wholeGateway is the URL of a gateway with its bell, over an upstream that shares one connection.
func wholeGateway(t *testing.T, addr string) string {
	t.Helper()
	up, err := upstream.Open(t.Context(), upstream.Options{URL: "redis://" + addr, Shared: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	m, err := up.Mux()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Patient(gateway.Options{
		Mux: m, Bell: up.Bell(), Tokens: []gateway.Token{{Secret: secret}, {Secret: "reader", ReadOnly: true}},
	}, patience))
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, g)
}

// nodePeer runs a script of testdata/peers and makes a subtest of each case that it reports.
func nodePeer(t *testing.T, version, script string, args ...string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH")
	}
	dir, err := filepath.Abs("../../../testdata/peers")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@upstash", "redis")); err != nil {
		t.Skip("needs the Node peers: run make deps")
	}
	ctx, cancel := context.WithTimeout(t.Context(), peerTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{script}, args...)...)
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if errs.Len() > 0 {
		t.Logf("%s wrote: %s", script, errs.String())
	}
	if err != nil {
		t.Fatalf("%s: %v", script, errors.Join(err, ctx.Err()))
	}
	cases := 0
	for line := range bytes.Lines(out) {
		var said struct{ Version, Name, Error string }
		if err := json.Unmarshal(line, &said); err != nil {
			t.Fatalf("%s said %q: %v", script, line, err)
		}
		if said.Name == "" {
			if said.Version != version {
				t.Fatalf("%s runs version %s, want %s", script, said.Version, version)
			}
			continue
		}
		cases++
		t.Run(said.Name, func(t *testing.T) {
			if said.Error != "" {
				t.Error(said.Error)
			}
		})
	}
	if cases < 10 {
		t.Errorf("%s reported %d cases, want all", script, cases)
	}
}
