package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// counted is how many commands a server has run, as it counts itself.
func counted(t *testing.T, client *redis.Client) int {
	t.Helper()
	text, err := client.Info(t.Context(), "commandstats").Result()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, m := range regexp.MustCompile(`calls=(\d+)`).FindAllStringSubmatch(text, -1) {
		n, err := strconv.Atoi(m[1])
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	return total
}

func TestAskingARunningRedisCostsAtMostTenCommands(t *testing.T) {
	server := redistest.Start(t)
	opts, err := redis.ParseURL(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	client := redis.NewClient(opts)
	t.Cleanup(func() { _ = client.Close() })
	sub := client.Subscribe(t.Context(), "bull:mail:resumed") // what makes the audit look at channels too
	t.Cleanup(func() { _ = sub.Close() })
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 3 {
		if err := client.ZAdd(t.Context(), "bull:mail:delayed", redis.Z{Score: float64(i), Member: i}).Err(); err != nil {
			t.Fatal(err)
		}
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "redisopt.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nbudgets:\n  connections: {fleet: 1, per_process: 1}\n  commands: {per_month: 500000}\n  money: {usd_per_month: 5}\n  require: [live]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	before := counted(t, client)
	var out recorder
	code := run(t.Context(), []string{"audit", "budget", "--code", "", "--budget", file, "--redis-url", server.URL(), "--window", "1s", "-o", "json"}, out.streams())
	spent := counted(t, client) - before - 1 // our own count before
	if spent < 1 || spent > 10 {
		t.Errorf("connections, commands and budgets together cost %d commands, want 1 to 10: %s", spent, out.err.String())
	}
	if !strings.Contains(out.err.String(), "cost: "+strconv.Itoa(spent)+" commands, 0 writes") {
		t.Errorf("the server counted %d, and we say %s", spent, out.err.String())
	}
	var doc struct {
		Data gate.Report `json:"data"`
	}
	if err := json.Unmarshal(out.out.Bytes(), &doc); err != nil {
		t.Fatalf("%v: %s", err, out.out.String())
	}
	if code != exitOK {
		t.Errorf("exit %d, want 0: this process's own connections do not count; %s", code, out.err.String())
	}
	got := map[string]gate.Verdict{}
	for _, n := range doc.Data.Judgements {
		got[n.Budget] = n.Verdict
		if n.Verdict != gate.Inconclusive && n.Evidence != "live" {
			t.Errorf("%s is judged by %s evidence", n.Budget, n.Evidence)
		}
	}
	if got["connections.fleet"] != gate.Pass || got["commands.per_month"] != gate.Pass || got["connections.plan_limit"] != gate.Pass {
		t.Errorf("verdicts %v", got)
	}
}

func TestWhatOtherAuditsMeasuredIsNotAskedAgain(t *testing.T) {
	server := redistest.Start(t)
	dir := t.TempDir()
	save := func(name string, args ...string) string {
		t.Helper()
		var out recorder
		if code := run(t.Context(), append([]string{"audit"}, append(args, "--redis-url", server.URL(), "-o", "json")...), out.streams()); code != exitOK {
			t.Fatalf("%v: exit %d: %s", args, code, out.err.String())
		}
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, out.out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	connections := save("c.json", "connections")
	commands := save("k.json", "commands", "--window", "1s")
	file := filepath.Join(dir, "redisopt.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nbudgets:\n  connections: {fleet: 3}\n  commands: {per_month: 500000}\n  require: [live]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var out recorder
	code := run(t.Context(), []string{"audit", "budget", "--code", "", "--budget", file, "--live", connections, "--live", commands}, out.streams())
	if code != exitOK || strings.Contains(out.err.String(), "cost:") {
		t.Errorf("exit %d, want 0 without asking anybody: %s", code, out.err.String())
	}
	for _, want := range []string{"fleet (live): 0 connections open, 3 allowed", "per_month (live): 0 commands a month"} {
		if !strings.Contains(strings.Join(strings.Fields(out.out.String()), " "), want) {
			t.Errorf("%q is not in %s", want, out.out.String())
		}
	}
	out = recorder{}
	if code := run(t.Context(), []string{"audit", "budget", "--code", "", "--live", file}, out.streams()); code != exitUsage || !strings.Contains(out.err.String(), "is no document of an audit") {
		t.Errorf("a file that is no document: exit %d: %s", code, out.err.String())
	}
}
