package connections

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestNames(t *testing.T) {
	for _, tc := range []struct {
		name, in string
		want     Name
		ok       bool
	}{
		{"a worker is prefix and queue", "bull:Y2FsZW5kYXItc3luYw==", Name{Prefix: "bull", Queue: "calendar-sync"}, true},
		{"a BullMQ worker may add its own name", "bull:Y2FsZW5kYXItc3luYw==:w:wk-1", Name{Prefix: "bull", Queue: "calendar-sync", Worker: "wk-1"}, true},
		{"a worker's own name may contain colons", "bull:Y2FsZW5kYXItc3luYw==:w:a:w:b", Name{Prefix: "bull", Queue: "calendar-sync", Worker: "a:w:b"}, true},
		{"a QueueEvents ends in qe", "bull:Y2FsZW5kYXItc3luYw==:qe", Name{Prefix: "bull", Queue: "calendar-sync", Events: true}, true},
		{"a prefix may contain colons", "team:a:bull:Y2FsZW5kYXItc3luYw==", Name{Prefix: "team:a:bull", Queue: "calendar-sync"}, true},
		{"a prefix may be a hash tag", "{bull}:mq:Y2FsZW5kYXItc3luYw==", Name{Prefix: "{bull}:mq", Queue: "calendar-sync"}, true},
		{"a queue may be written in any script", "bull:" + base64.StdEncoding.EncodeToString([]byte("очередь")), Name{Prefix: "bull", Queue: "очередь"}, true},
		{"base64 without its padding is another's name", "bull:Y2FsZW5kYXItc3luYw", Name{}, false},
		{"base64 of binary is another's name", "app:main", Name{}, false},
		{"an application's own name", "cache", Name{}, false},
		{"no prefix is no queue", ":Y2FsZW5kYXItc3luYw==", Name{}, false},
		{"nothing", "", Name{}, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, ok := ParseName(tc.in)
			if ok != tc.ok {
				t.Fatalf("ParseName(%q) ok = %v, want %v (%+v)", tc.in, ok, tc.ok, got)
			}
			if diff := cmp.Diff(tc.want, got); ok && diff != "" {
				t.Errorf("ParseName(%q) (-want +got):\n%s", tc.in, diff)
			}
		})
	}
}

func TestMalformedLinesAreReportedAndTheOthersCount(t *testing.T) {
	list := strings.Join([]string{
		"id=1 addr=127.0.0.1:5000 laddr=127.0.0.1:6379 name= age=1 idle=0 flags=N sub=0 psub=0 cmd=get future-field=x",
		"id=x addr=127.0.0.1:5001 cmd=get",
		"addr=127.0.0.1:5002 cmd=get",
		"id=4 name=no-address",
		"id=5 addr=127.0.0.1:5003 age=99999999999999999999",
		"",
		"id=6 addr=/tmp/redis.sock:0 name= flags=U cmd=NULL tot-cmds=17",
	}, "\r\n")
	clients, bad := ParseClientList(list)
	if len(clients) != 2 || len(bad) != 4 {
		t.Fatalf("got %d clients and %d malformed, want 2 and 4: %q", len(clients), len(bad), bad)
	}
	if clients[0].Commands != -1 || clients[1].Commands != 17 {
		t.Errorf("tot-cmds = %d and %d, want -1 and 17", clients[0].Commands, clients[1].Commands)
	}
}

func FuzzParseClientList(f *testing.F) {
	f.Add("id=1 addr=127.0.0.1:5000 name=bull:Y2FsZW5kYXItc3luYw== age=1 idle=0 flags=b sub=0 cmd=bzpopmin tot-cmds=3\n")
	f.Add("id=-1 addr= \n=\n\x00")
	f.Fuzz(func(t *testing.T, text string) {
		clients, bad := ParseClientList(text)
		if n := strings.Count(text, "\n") + 1; len(clients)+len(bad) > n {
			t.Errorf("%d clients and %d malformed from %d lines", len(clients), len(bad), n)
		}
		conns := make([]Connection, 0, len(clients))
		for _, c := range clients {
			if c.ID < 0 || c.Age < 0 || c.Idle < 0 {
				t.Errorf("negative field in %+v", c)
			}
			id, _ := processID(c, nil)
			conns = append(conns, Connection{ID: c.ID, Name: c.Name, Addr: c.Addr, Process: id, client: c})
		}
		attribute(conns, []string{"bull:x:delayed"}, make(memory))
		for _, c := range conns {
			if c.Role == "" || c.Why == "" {
				t.Errorf("connection without a role or a reason: %+v", c)
			}
		}
	})
}

func FuzzParseName(f *testing.F) {
	f.Add("bull:Y2FsZW5kYXItc3luYw==:w:x")
	f.Add("a:b:c:d")
	f.Fuzz(func(t *testing.T, s string) {
		n, ok := ParseName(s)
		if !ok {
			return
		}
		again := n.Prefix + ":" + base64.StdEncoding.EncodeToString([]byte(n.Queue))
		switch {
		case n.Events:
			again += ":qe"
		case strings.Contains(s[len(again):], ":w:"):
			again += ":w:" + n.Worker
		}
		if again != s {
			t.Errorf("ParseName(%q) = %+v, which writes %q", s, n, again)
		}
	})
}
