package main

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

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// Applications move to serve by changing two variables, with the libraries of Upstash as they are. Package
// gateway lets more of their versions do the same.
func TestUnmodifiedUpstashLibrariesAgainstServe(t *testing.T) {
	env := []string{"REDISOPT_TOKEN=secret", "REDISOPT_READONLY_TOKEN=reader"}
	servers := map[string]func(t *testing.T) *served{
		"before a redis-server": func(t *testing.T) *served {
			t.Helper()
			return startServe(t, append(env, "REDIS_URL="+redistest.Start(t).URL()))
		},
	}
	if !raceEnabled { // which makes scripts in the embedded Redis too slow for the libraries
		servers["embedded"] = func(t *testing.T) *served { t.Helper(); return startServe(t, env, "--embedded") }
	}
	for name, start := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t)
			upstashPeer(t, "upstash-redis.js", "@upstash/redis", s.Gateway, "secret", "reader")
			upstashPeer(t, "upstash-ratelimit.js", "@upstash/ratelimit", "@upstash/redis", s.Gateway, "secret")
		})
	}
}

// upstashPeer runs a script of testdata/peers, which prints an object for each of its cases.
func upstashPeer(t *testing.T, script string, args ...string) {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH")
	}
	dir, err := filepath.Abs("../../testdata/peers")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "node_modules", "@upstash", "redis")); err != nil {
		t.Skip("needs the Node peers: run make deps")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, append([]string{script}, args...)...)
	cmd.Dir, cmd.WaitDelay = dir, time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", script, errors.Join(err, ctx.Err()), &errs)
	}
	cases := 0
	for line := range bytes.Lines(out) {
		var c struct{ Name, Error string }
		if err := json.Unmarshal(line, &c); err != nil {
			t.Fatalf("%s printed %q: %v", script, line, err)
		}
		cases++
		if c.Error != "" {
			t.Errorf("%s: %s: %s", script, c.Name, c.Error)
		}
	}
	if cases < 10 {
		t.Errorf("%s ran %d cases, want more", script, cases)
	}
}
