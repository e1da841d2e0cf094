package main

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// monitored returns the commands that the server ran while f did, as MONITOR shows them: the first word,
// in lower case, of every one that did not come from MONITOR's own connection.
func monitored(t *testing.T, client *redis.Client, f func()) []string {
	t.Helper()
	conn, err := (&net.Dialer{Timeout: 5 * time.Second}).DialContext(t.Context(), "tcp", client.Options().Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := fmt.Fprint(conn, "MONITOR\r\n"); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("MONITOR answers %q", lines.Text())
	}
	f()
	const last = "the last one"
	if err := client.Echo(t.Context(), last).Err(); err != nil {
		t.Fatal(err)
	}
	if err := conn.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	var words []string
	for lines.Scan() {
		line := lines.Text()
		if strings.Contains(line, last) {
			return words
		}
		if _, command, ok := strings.Cut(line, "] \""); ok {
			word, _, _ := strings.Cut(command, "\"")
			words = append(words, strings.ToLower(word))
		}
	}
	t.Fatalf("MONITOR ended early: %v", lines.Err())
	return nil
}

// wantNoWrites fails for every command that can write, by the server's own table.
func wantNoWrites(t *testing.T, client *redis.Client, words []string) {
	t.Helper()
	if len(words) == 0 {
		t.Fatal("no command at all was seen")
	}
	slices.Sort(words)
	for _, word := range slices.Compact(words) {
		table, err := client.Do(t.Context(), "command", "info", word).Slice()
		if err != nil {
			t.Fatal(err)
		}
		if len(table) == 0 || table[0] == nil {
			t.Errorf("the server does not know %q", word)
			continue
		}
		flags := fmt.Sprint(table[0].([]any)[2])
		if strings.Contains(flags, "write") || strings.HasPrefix(word, "eval") || word == "fcall" || word == "publish" {
			t.Errorf("%s was sent, which can write: %s", word, flags)
		}
	}
}

func TestPlansAndDryRunsSendNoWriteCommand(t *testing.T) {
	o := newOperator(t)
	config := filepath.Join(t.TempDir(), "redisopt.yaml")
	text := "version: 1\nqueues:\n  list:\n    - name: suggestion-generation\n    - name: calendar-sync\n      criticality: critical\n"
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.wants(0, o.mixed().there()...)
	for name, args := range map[string][]string{
		"the plan of everything":   {"migrate", "plan", "all", "--engine", "bullmq", "--bullmq-major", "6", "--config", config, "--out", filepath.Join(t.TempDir(), "plan.json")},
		"the plan of one phase":    {"migrate", "plan", "phase2", "--config", config},
		"phase 2":                  {"migrate", "phase2", "--config", config, "--dry-run"},
		"phase 3":                  append(journey{queue: "token-refresh", prefix: "{bull}"}.there(), "--dry-run"),
		"phase 3 again":            append(o.mixed().there(), "--dry-run"),
		"the way back":             append(o.mixed().back(), "--dry-run"),
		"completing":               append(o.mixed().args("migrate", "complete"), "--dry-run"),
		"hosting what is open":     {"migrate", "run", "--dry-run"},
		"the way back of no phase": {"rollback", "phase2", "--dry-run"},
		"verifying":                {"migrate", "verify", "--queue", mixedQueue},
		"the status":               {"migrate", "status"},
	} {
		t.Run(name, func(t *testing.T) {
			o := o
			o.t = t
			wantNoWrites(t, o.client, monitored(t, o.client, func() { o.wants(0, args...) }))
		})
	}
}
