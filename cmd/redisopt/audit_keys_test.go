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
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/keys"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A storedKey is one key of a server that exists only in a test, so that sizes are the same everywhere.
type storedKey struct {
	kind     string
	ttl      time.Duration // -1 for never
	bytes    int64
	elements int64
	value    string
}

// storedKeys answers an audit of keys as Upstash would.
type storedKeys map[string]storedKey

func (s storedKeys) DialHook(next redis.DialHook) redis.DialHook { return next }

func (s storedKeys) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return s.answer(cmd) }
}

func (s storedKeys) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(_ context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			if err := s.answer(cmd); err != nil {
				return err
			}
		}
		return nil
	}
}

func (s storedKeys) answer(cmd redis.Cmder) error {
	word := func(i int) string {
		if i >= len(cmd.Args()) {
			return ""
		}
		return fmt.Sprint(cmd.Args()[i])
	}
	k := s[word(1)]
	switch reply := cmd.(type) {
	case *redis.ScanCmd:
		var names []string
		for name := range s {
			names = append(names, name)
		}
		slices.Sort(names)
		reply.SetVal(names, 0)
	case *redis.StatusCmd:
		reply.SetVal(k.kind)
	case *redis.DurationCmd:
		reply.SetVal(k.ttl)
	case *redis.StringCmd:
		reply.SetVal(k.value)
		if word(0) == "info" {
			reply.SetVal("upstash_version:1.9.0\nredis_version:6.2.6\nmaxmemory_policy:optimistic-volatile\n")
		}
	case *redis.IntCmd:
		switch word(0) {
		case "dbsize":
			reply.SetVal(int64(len(s)))
		case "memory":
			reply.SetVal(s[word(2)].bytes)
		default:
			reply.SetVal(k.elements)
		}
	default:
		return errors.New("nothing stored for " + word(0))
	}
	return nil
}

func TestAnAuditOfKeysLooksAsRecordedInEveryFormat(t *testing.T) {
	s := storedKeys{
		"bull:mail:completed":              {kind: "zset", ttl: -1, bytes: 1_800_000, elements: 20_000},
		"bull:mail:meta":                   {kind: "hash", ttl: -1, bytes: 120, elements: 3},
		"@upstash/ratelimit:events:490000": {kind: "zset", ttl: -1, bytes: 240_000, elements: 2500},
		"audit-log:all":                    {kind: "list", ttl: -1, bytes: 15_600_000, elements: 150_000},
		"note:1":                           {kind: "string", ttl: -1, bytes: 72, value: "plain words"},
		"note:2":                           {kind: "string", ttl: -1, bytes: 72, value: `{"a":1}`},
		"flag:1":                           {kind: "string", ttl: 40 * 24 * time.Hour, bytes: 56, value: "1"},
	}
	for i := range 20 {
		k := storedKey{kind: "string", ttl: time.Hour, bytes: 104, value: `{"name":"x"}`}
		if i%4 == 0 {
			k.ttl = -1
		}
		s[fmt.Sprintf("cache:user:%d", i)] = k
	}
	rdb := redis.NewClient(&redis.Options{
		MaintNotificationsConfig: &maintnotifications.Config{Mode: maintnotifications.ModeDisabled},
		Dialer:                   func(context.Context, string, string) (net.Conn, error) { return nil, errors.New("nothing is dialled") },
	})
	t.Cleanup(func() { _ = rdb.Close() })
	rdb.AddHook(s)
	r, err := keys.Audit(t.Context(), rdb, keys.Options{})
	if err != nil {
		t.Fatal(err)
	}
	r.At = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	doc := keysDocument(keysData{Report: r})
	for _, format := range report.Formats() {
		t.Run(string(format), func(t *testing.T) { wantGolden(t, "audit.keys", format, doc) })
	}
}

func TestAnAuditOfKeysEndsWithTheCodeOfItsVerdict(t *testing.T) {
	server := redistest.Start(t, "--maxmemory-policy", "allkeys-lru", "--maxmemory", "1gb")
	admin := server.Client(t)
	if err := admin.Do(t.Context(), "acl", "setuser", "narrow", "on", ">pw", "~*", "-@all", "+hello", "+ping", "+info", "+dbsize", "+scan", "+type", "+pttl").Err(); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bull:mail:id", "bull:mail:wait", "cache:a", "cache:b"} {
		admin.Set(t.Context(), name, "12", 0)
	}
	if err := admin.Save(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	dump := filepath.Join(server.Dir, "dump.rdb")
	wrong := filepath.Join(t.TempDir(), "notes.txt")
	if err := os.WriteFile(wrong, []byte("not a dump"), 0o600); err != nil {
		t.Fatal(err)
	}
	url, narrow := "redis://"+server.Addr, "redis://narrow:pw@"+server.Addr
	for _, c := range []struct {
		name, url string
		args      []string
		want      int
		out, err  string
	}{
		{"warnings alone pass", url, nil, 0, "queue-eviction", "estimate: at most 200 commands and 0 writes"},
		{"warnings fail when asked", url, []string{"--fail-on", "warn"}, 3, "queue-eviction", "maxmemory-policy"},
		{"a budget just enough", url, []string{"--max-commands", "26"}, 0, "cache", "0 writes"},
		{"a budget too small", url, []string{"--max-commands", "10"}, 2, "", "at least 26"},
		{"part of the names", url, []string{"--match", "cache:*", "-o", "json"}, 0, `"names_read": 2`, "cost: "},
		{"a prefix", url, []string{"--prefix", "bull:mail", "-o", "json"}, 0, `"names_read": 2`, "cost: "},
		{"both", url, []string{"--prefix", "a", "--match", "b"}, 2, "", "one of them"},
		{"too little rights leave a part", narrow, nil, 0, "MEMORY USAGE is not observable here", "cost: "},
		{"too little rights under --strict", narrow, []string{"--strict"}, 8, "not observed", "inconclusive"},
		{"nobody answers", "redis://127.0.0.1:1", nil, 5, "", "hint: "},
		{"no Redis at all", "", nil, 2, "", "REDIS_URL"},
		{"a dump needs none", "", []string{"--rdb", dump}, 0, "4 keys, 0 expired since", "cost: 0 commands on any Redis of yours"},
		{"a file that is no dump", "", []string{"--rdb", wrong}, 2, "", "is no RDB file"},
		{"a file that is not there", "", []string{"--rdb", wrong + ".gone"}, 2, "", "no such file"},
		{"a negative sample", url, []string{"--sample", "-1"}, 2, "", "sample"},
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
			if got := run(t.Context(), append([]string{"audit", "keys"}, c.args...), s); got != c.want {
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

func TestWithoutARedisServerADumpIsBlocked(t *testing.T) {
	if got := exitCode(fmt.Errorf("load: %w", keys.ErrNoServer), false); got != exitBlocked {
		t.Errorf("exit %d, want %d", got, exitBlocked)
	}
}
