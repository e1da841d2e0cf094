package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A captured server answers the audits from what a real one with eleven Bull queues answered.
type captured struct {
	list  string
	infos []string // of INFO all, in turn; the last one repeats
}

func (c *captured) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *captured) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return c.answer(cmd) }
}

func (c *captured) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := c.answer(cmd); err != nil {
				return err
			}
		}
		return nil
	}
}

func (c *captured) answer(cmd redis.Cmder) error {
	name := strings.TrimSpace(fmt.Sprintln(cmd.Args()...))
	switch reply := cmd.(type) {
	case *redis.StringCmd:
		switch name {
		case "info":
			reply.SetVal(c.infos[0])
		case "info all":
			reply.SetVal(c.infos[0])
			if len(c.infos) > 1 {
				c.infos = c.infos[1:]
			}
		case "client list":
			reply.SetVal(c.list)
		}
	case *redis.IntCmd:
		reply.SetVal(762) // the line of whoever captured it
	case *redis.StringSliceCmd:
		reply.SetVal([]string{"bull:calendar-sync:delayed"})
	default:
		return errors.New("nothing captured for " + name)
	}
	return nil
}

func capturedBull(t *testing.T) *captured {
	t.Helper()
	list, err := os.ReadFile(filepath.Join("..", "..", "internal", "inspect", "connections", "testdata", "client-list-bull.txt"))
	if err != nil {
		t.Fatal(err)
	}
	head := "redis_version:7.0.15\nrun_id:a\nmaxclients:10000\nconnected_clients:34\ntotal_connections_received:70\nrejected_connections:0\n"
	first := head + "total_commands_processed:1000\ntotal_reads_processed:700\ncmdstat_brpoplpush:calls=100,usec=1\ncmdstat_evalsha:calls=110,usec=1\n"
	second := head + "total_commands_processed:1624\ntotal_reads_processed:988\ncmdstat_brpoplpush:calls=232,usec=1\ncmdstat_evalsha:calls=264,usec=1\n" +
		"cmdstat_zrangebyscore:calls=132,usec=1\ncmdstat_zrange:calls=132,usec=1\ncmdstat_exists:calls=22,usec=1\ncmdstat_set:calls=16,usec=1\n" +
		"cmdstat_smembers:calls=16,usec=1\ncmdstat_lrange:calls=16,usec=1\ncmdstat_info:calls=1,usec=1\ncmdstat_client|list:calls=1,usec=1\ncmdstat_client|id:calls=1,usec=1\n" +
		"cmdstat_pubsub|channels:calls=1,usec=1\n"
	return &captured{list: string(list), infos: []string{first, second}}
}

func (c *captured) client(t *testing.T) redis.UniversalClient {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{
		Addr:                     "127.0.0.1:1",
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("nothing is dialled")
		},
	})
	rdb.AddHook(c)
	t.Cleanup(func() { _ = rdb.Close() })
	return rdb
}

func TestAuditsLookAsRecordedInEveryFormat(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	conns, err := connections.Audit(t.Context(), capturedBull(t).client(t), connections.Options{Max: 30})
	if err != nil {
		t.Fatal(err)
	}
	conns.At = at
	cf := connectionsFlags{max: 30}
	mf := commandsFlags{by: choice{value: "component"}, provider: choice{value: "upstash-free"}}
	var spent *commands.Report
	synctest.Test(t, func(t *testing.T) { // a minute of fake time
		spent, err = commands.Audit(t.Context(), capturedBull(t).client(t), commands.Options{Provider: "upstash-free"})
	})
	if err != nil {
		t.Fatal(err)
	}
	spent.From, spent.To = at, at.Add(time.Minute)
	for name, doc := range map[string]report.Document{
		"audit.connections": connectionsDocument(connectionsData{Report: conns}, cf, true),
		"audit.commands":    commandsDocument(commandsData{Report: spent}, mf),
	} {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) {
				wantGolden(t, name, format, doc)
			})
		}
	}
}

func TestAuditsEndWithTheCodeOfTheirVerdict(t *testing.T) {
	server := redistest.Start(t)
	locked := redistest.Start(t, "--requirepass", "secret")
	admin := server.Client(t)
	if err := admin.Do(t.Context(), "acl", "setuser", "narrow", "on", ">pw", "~*", "-@all", "+hello", "+ping", "+info").Err(); err != nil {
		t.Fatal(err)
	}
	url := "redis://" + server.Addr
	narrow := "redis://narrow:pw@" + server.Addr
	for _, c := range []struct {
		name, url string
		args      []string
		want      int
		out, err  string
	}{
		{"a quiet server passes", url, []string{"audit", "connections"}, 0, "By process", "cost: "},
		{"more connections than --max", url, []string{"audit", "connections", "--max", "1"}, 0, "at most 1", "0 writes"},
		{"a watch ends with its time", url, []string{"audit", "connections", "--watch", "2s", "--every", "100ms"}, 0, "watched", "0 closed"},
		{"too little rights leave a part", narrow, []string{"audit", "connections"}, 0, "CLIENT LIST refused", "cost: "},
		{"too little rights under --strict", narrow, []string{"audit", "connections", "--strict"}, 8, "CLIENT LIST refused", "inconclusive"},
		{"an idle second", url, []string{"audit", "commands", "--window", "1s"}, 0, "nothing was sent", "0 writes"},
		{"an idle second by queue on a plan", url, []string{"audit", "commands", "--window", "1s", "--by", "queue", "--provider", "upstash-free"}, 0, "pass", "cost: "},
		{"clients not visible under --strict", narrow, []string{"audit", "commands", "--window", "1s", "--strict"}, 8, "CLIENT LIST", "inconclusive"},
		{"nobody answers", "redis://127.0.0.1:1", []string{"audit", "connections"}, 5, "", "hint: "},
		{"nobody answers commands either", "redis://127.0.0.1:1", []string{"audit", "commands"}, 5, "", "hint: "},
		{"a wrong password", "redis://:wrong@" + locked.Addr, []string{"audit", "connections"}, 6, "", "error: "},
		{"our own limit of commands", url, []string{"audit", "connections", "--max-commands", "3"}, 3, "", "max-commands"},
		{"no Redis at all", "", []string{"audit", "connections"}, 2, "", "REDIS_URL"},
		{"a window of nothing", url, []string{"audit", "commands", "--window", "0s"}, 2, "", "--window"},
		{"shares by nobody", url, []string{"audit", "commands", "--by", "nobody"}, 2, "", "component, command, queue, client"},
		{"a plan nobody sells", url, []string{"audit", "commands", "--provider", "x"}, 2, "", "upstash-payg"},
		{"a negative gate", url, []string{"audit", "connections", "--max", "-1"}, 2, "", "max"},
		{"a severity that is none", url, []string{"audit", "connections", "--fail-on", "all"}, 2, "", "critical, warn"},
		{"audit of what", url, []string{"audit", "nonsense"}, 2, "", "unknown command"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := &recorder{}
			s := r.streams()
			s.env = func(name string) (string, bool) {
				if name != "REDIS_URL" || c.url == "" {
					return "", false
				}
				return c.url, true
			}
			t.Chdir(t.TempDir())
			if got := run(t.Context(), c.args, s); got != c.want {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", got, c.want, &r.out, &r.err)
			}
			if c.out == "" && r.out.Len() > 0 {
				t.Errorf("stdout = %s, want nothing", &r.out)
			}
			if !strings.Contains(r.out.String(), c.out) || !strings.Contains(r.err.String(), c.err) {
				t.Errorf("stdout lacks %q or stderr lacks %q\nstdout: %s\nstderr: %s", c.out, c.err, &r.out, &r.err)
			}
		})
	}
}

func TestAGateCountsConnectionsOfOthersOnly(t *testing.T) {
	f := gateFlags{failOn: choice{value: "critical"}}
	r, err := connections.Audit(t.Context(), capturedBull(t).client(t), connections.Options{Max: 33})
	if err != nil {
		t.Fatal(err)
	}
	if err := f.verdict(r.Findings, r.Missing); err != nil {
		t.Errorf("33 of 33: %v, want a pass: the observer is ours", err)
	}
	for name, opts := range map[string]connections.Options{"a gate of 32": {Max: 32}, "a plan of 40": {Limit: 40}} {
		r, err = connections.Audit(t.Context(), capturedBull(t).client(t), opts)
		if err != nil {
			t.Fatal(err)
		}
		if code := exitCode(f.verdict(r.Findings, r.Missing), false); code != exitViolated {
			t.Errorf("33 under %s: exit %d, want 3", name, code)
		}
	}
}

func TestWarningsFailOnlyWhenAsked(t *testing.T) {
	var spent *commands.Report
	var err error
	synctest.Test(t, func(t *testing.T) {
		spent, err = commands.Audit(t.Context(), capturedBull(t).client(t), commands.Options{})
	})
	if err != nil {
		t.Fatal(err)
	}
	for failOn, want := range map[string]int{"critical": exitOK, "warn": exitViolated} {
		f := gateFlags{failOn: choice{value: failOn}}
		if got := exitCode(f.verdict(spent.Findings, spent.Missing), false); got != want {
			t.Errorf("--fail-on %s: exit %d, want %d", failOn, got, want)
		}
	}
	if !slices.ContainsFunc(reportFindings(spent.Findings), func(f report.Finding) bool { return f.Rule == "idle-polling" }) {
		t.Error("eleven idle queues show no idle polling")
	}
}
