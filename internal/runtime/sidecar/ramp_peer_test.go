package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// TestANodeApplicationMovesItsKeysWithTheRealLibraries runs deploy/node/ramp.mjs between ioredis and
// @upstash/redis, the latter before a second sidecar's gateway.
func TestANodeApplicationMovesItsKeysWithTheRealLibraries(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Skip("needs node on PATH")
	}
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	peers := filepath.Join(root, "testdata", "peers")
	if _, err := os.Stat(filepath.Join(peers, "node_modules", "@upstash", "redis")); err != nil {
		t.Skip("needs the Node peers: run make deps")
	}
	old := redistest.Start(t)
	near := run(t, configured(t, map[string]string{"REDIS_URL": old.URL(), "REDISOPT_TOKEN": "near-token"}, ""), Options{})
	far := run(t, configured(t, map[string]string{"REDIS_URL": redistest.Start(t).URL(), "REDISOPT_TOKEN": "far-token"}, ""), Options{})
	spec, err := json.Marshal(map[string]string{
		"api": "http://" + near.API, "token": "near-token", "old": old.URL(), "gateway": "http://" + far.Gateway, "gatewayToken": "far-token",
		"vectors": filepath.Join(root, "testdata", "ramp", "vectors.json"),
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "ramp-peer.mjs", string(spec))
	cmd.Dir, cmd.WaitDelay = peers, time.Second
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs.String())
	}
	var got map[string]any
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	followed, _ := got["followed_ms"].(float64)
	if followed > 10_000 {
		t.Errorf("the application followed the ramp after %v ms, want within 10 s", followed)
	}
	t.Logf("the application followed the ramp after %v ms", followed)
	for _, name := range []string{"followed_ms", "compared", "examples"} {
		delete(got, name)
	}
	want := map[string]any{
		"vectors": 30.0, "unknown": 0.0, "same": 8.0, "parsed": 8.0, "ttl": true, "redacted": true, "read": 60.0, "moved": true, "deleted": true,
		"gone": true, "goneWrite": true, "hangs": true, "hangsDelete": "no answer within 50 ms",
		"otherHash": 0.0, "silence": 0.0, "silenceAfterwards": 100.0, "rest": true,
		"bad": 4.0, "lateDelete": "failed", "lateRead": true, "doubt": "failed", "order": []any{},
		"refused": "make the @upstash/redis client with automaticDeserialization: false, so that it gives the text that is stored",
		"stats":   map[string]any{"old": true, "new": true, "errors": true, "fell_back": true, "p95": true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the application saw (-want +got):\n%s", diff)
	}
}
