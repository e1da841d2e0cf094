package embedded_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
)

func needsRedis(t *testing.T) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("needs redis-server on PATH")
	}
}

// dataDir is outside the test's own directory, whose removal would race with a server that was killed.
func dataDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embedded") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func TestDataDirectoryKeepsWhatWasWritten(t *testing.T) {
	needsRedis(t)
	dir := dataDir(t)
	ctx := t.Context()
	first, err := embedded.Start(ctx, embedded.Options{DataDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if first.Volatile() || first.Describe().Volatile || first.Describe().Engine != "redis-server" {
		t.Errorf("Describe() = %+v, want a durable redis-server", first.Describe())
	}
	c := client(t, first.Addr())
	if err := c.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got := c.ConfigGet(ctx, "append*").Val(); got["appendonly"] != "yes" || got["appendfsync"] != "everysec" {
		t.Errorf("CONFIG GET append* = %v, want appendonly yes and appendfsync everysec", got)
	}

	if _, err := embedded.Start(ctx, embedded.Options{DataDir: dir}); err == nil || !strings.Contains(err.Error(), "served already") {
		t.Errorf("second server on one directory: %v, want it refused", err)
	}

	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := first.Close(); err != nil {
		t.Errorf("closing twice: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := client(t, first.Addr()).Ping(short).Err(); err == nil {
		t.Error("redis-server still answers after Close")
	}

	second := start(t, embedded.Options{DataDir: dir})
	if got, err := client(t, second.Addr()).Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Errorf("GET k after a restart = %q, %v, want v", got, err)
	}
}

// The server listens, and answers INFO, while it still loads its file.
func TestStartReturnsWhenTheFileHasBeenLoaded(t *testing.T) {
	needsRedis(t)
	dir := dataDir(t)
	var file bytes.Buffer
	for i := range 50_000 {
		key := fmt.Sprintf("key:%05d", i)
		fmt.Fprintf(&file, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$1\r\nv\r\n", len(key), key)
	}
	if err := os.WriteFile(filepath.Join(dir, "appendonly.aof"), file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, embedded.Options{DataDir: dir})
	if got, err := client(t, s.Addr()).Get(t.Context(), "key:49999").Result(); err != nil || got != "v" {
		t.Errorf("GET of the last key = %q, %v, want v", got, err)
	}
}

func TestDataDirectoryMustExist(t *testing.T) {
	needsRedis(t)
	dir := dataDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{filepath.Join(dir, "none"): "create it first", file: "is a file"} {
		if _, err := embedded.Start(t.Context(), embedded.Options{DataDir: name}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Start with %s: %v, want %q", name, err, want)
		}
	}
}

func TestARedisServerThatCannotStartSaysWhy(t *testing.T) {
	needsRedis(t)
	taken := start(t, embedded.Options{})
	_, err := embedded.Start(t.Context(), embedded.Options{DataDir: dataDir(t), Addr: taken.Addr()})
	if err == nil || !strings.Contains(err.Error(), taken.Addr()) {
		t.Errorf("Start on a taken port: %v, want an error that names it", err)
	}
}

func TestACancelledStartLeavesNoServer(t *testing.T) {
	needsRedis(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := embedded.Start(ctx, embedded.Options{DataDir: dataDir(t)}); !errors.Is(err, context.Canceled) {
		t.Errorf("Start: %v, want context.Canceled", err)
	}
}
