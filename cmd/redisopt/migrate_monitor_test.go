package main

import (
	"bufio"
	"fmt"
	"net"
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
