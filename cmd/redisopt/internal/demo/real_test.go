package demo

import (
	"bytes"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// TestRealBullLooksLikeTheSimulatedOne holds the simulation to the real library: eleven real Bull
// queues on the same embedded Redis are attributed as the simulated ones are.
func TestRealBullLooksLikeTheSimulatedOne(t *testing.T) {
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH")
	}
	modules, err := filepath.Abs("../../../../testdata/peers/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(modules); err != nil {
		t.Skip("needs the Node libraries of testdata/peers (npm ci)")
	}
	s, c := startEmbedded(t)
	_, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, filepath.Join("testdata", "idle.js"), port, "11")
	cmd.Env = append(os.Environ(), "NODE_PATH="+modules)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var r *connections.Report
	settled := func() bool { // a connection says what it is for by its commands, after it was made
		return r != nil && len(r.Queues) == 11 && r.Total == 33 && r.Unknown == 0 &&
			!slices.ContainsFunc(r.Queues, func(q connections.Queue) bool { return q.Connections != 3 || q.Workers != 1 })
	}
	for !settled() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("after 2 minutes not 33 connections of 11 queues, 3 and a worker each: %+v; node: %s", r, errs.String())
		}
		if r, err = connections.Audit(ctx, c, connections.Options{}); err != nil {
			t.Fatal(err)
		}
	}
	for _, q := range r.Queues {
		if q.Library != connections.LibraryBull {
			t.Errorf("queue %s is of %s; want bull", q.Queue, q.Library)
		}
	}
	c.RPush(ctx, "stop", "1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("node: %v: %s", err, errs.String())
	}
}
