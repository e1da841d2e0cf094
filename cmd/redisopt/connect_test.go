package main

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A silent listener accepts connections and never says a word.
func silent(t *testing.T) string {
	t.Helper()
	var config net.ListenConfig
	l, err := config.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestARedisThatCannotBeUsedIsExplained(t *testing.T) {
	open := redistest.Start(t)
	locked := redistest.Start(t, "--requirepass", "s3cret")
	if err := open.Client(t).Do(t.Context(), "ACL", "SETUSER", "shy", "on", ">pw", "+ping", "+hello").Err(); err != nil {
		t.Fatal(err)
	}
	at := strings.TrimPrefix(open.URL(), "redis://")
	lockedAt := locked.URL()[strings.LastIndex(locked.URL(), "@")+1:]

	cases := []struct {
		name string
		url  string
		args []string
		want int
		says []string // on stderr
	}{
		{"no URL at all", "", nil, 2, []string{"REDIS_URL"}},
		{"a REST address where TCP is meant", "https://eu1-x.upstash.io", nil, 2, []string{"REST", "UPSTASH_REDIS_REST_URL"}},
		{"something that is no URL", "localhost 6379", nil, 2, []string{"REDIS_URL"}},
		{"a host that does not resolve", "redis://nowhere.invalid", []string{"--timeout", "2s"}, 5, []string{"nowhere.invalid", "check the host name"}},
		{"nothing listens there", "redis://127.0.0.1:9", nil, 5, []string{"127.0.0.1:9", "connection refused", "redis-cli"}},
		{"TLS where none is spoken", "rediss://" + at, []string{"--timeout", "2s"}, 5, []string{"TLS", "redis://"}},
		{"no answer in time", "redis://" + silent(t), []string{"--timeout", "50ms"}, 5, []string{"--timeout"}},
		{"no password where one is needed", "redis://" + lockedAt, nil, 6, []string{"REDIS_URL"}},
		{"a wrong password", "redis://:wr0ng@" + lockedAt, nil, 6, []string{"REDIS_URL"}},
		{"a user who may do almost nothing", "redis://shy:pw@" + at, nil, 6, []string{"ACL"}},
		{"fewer commands than it takes", open.URL(), []string{"--max-commands", "3"}, 3, []string{"--max-commands", "cost: 2 commands, 0 writes"}},
		{"all is well", open.URL(), nil, 0, []string{"cost: ", " commands, 0 writes"}},
		{"all is well with a password", locked.URL(), nil, 0, []string{"cost: "}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var printed recorder
			s := printed.streams()
			s.env = environment("REDIS_URL", c.url)
			args := append([]string{"audit", "connections", "--config", emptyConfig(t), "-o", "json"}, c.args...)
			began := time.Now()
			if got := run(t.Context(), args, s); got != c.want {
				t.Errorf("exit code %d, want %d", got, c.want)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("took %s", took)
			}
			text := printed.err.String()
			for _, want := range c.says {
				if !strings.Contains(text, want) {
					t.Errorf("stderr is\n%s\nwant %q in it", text, want)
				}
			}
			for _, secret := range []string{"s3cret", "wr0ng", ":pw@"} {
				if strings.Contains(text+printed.out.String(), secret) {
					t.Errorf("a password was printed:\n%s", text)
				}
			}
			if (c.want == 0) != json.Valid(printed.out.Bytes()) {
				t.Errorf("exit code %d with this on stdout: %q", c.want, printed.out.String())
			}
			if c.want != 0 && !strings.Contains(lastLine(text), `"kind":"error/v1"`) {
				t.Errorf("the last line of stderr is no error document: %s", lastLine(text))
			}
		})
	}
}

// emptyConfig keeps the test from reading a file of the working directory.
func emptyConfig(t *testing.T) string {
	t.Helper()
	file := t.TempDir() + "/redisopt.yaml"
	if err := os.WriteFile(file, []byte("version: 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

func lastLine(text string) string {
	text = strings.TrimSuffix(text, "\n")
	return text[strings.LastIndexByte(text, '\n')+1:]
}
