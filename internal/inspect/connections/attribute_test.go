package connections

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A line is one client of an invented CLIENT LIST, in the order of ids.
type line struct{ host, name, cmd, flags, sub string }

func listOf(lines ...line) string {
	var b strings.Builder
	for i, l := range lines {
		if l.host == "" {
			l.host = "10.0.0.1"
		}
		if l.flags == "" {
			l.flags = "N"
		}
		if l.sub == "" {
			l.sub = "0"
		}
		fmt.Fprintf(&b, "id=%d addr=%s:%d laddr=10.9.9.9:6379 name=%s age=60 idle=1 flags=%s sub=%s psub=0 cmd=%s\n",
			i+10, l.host, 40000+i, l.name, l.flags, l.sub, l.cmd)
	}
	return b.String()
}

const (
	mail  = "bull:bWFpbA==" // mail
	video = "bull:dmlkZW8=" // video
)

func TestAttribution(t *testing.T) {
	for _, tc := range []struct {
		name     string
		lines    []line
		channels []string
		want     map[string]int
	}{
		{
			"a worker with its own name can only be BullMQ",
			[]line{{name: mail + ":w:a", cmd: "client|setname"}, {cmd: "evalsha"}},
			nil,
			map[string]int{"bullmq worker": 1, "bullmq worker-client": 1},
		},
		{
			"a busy worker whose queue has a subscriber is Bull's",
			[]line{{name: mail, cmd: "client|setname"}, {cmd: "subscribe", flags: "P", sub: "1"}, {cmd: "evalsha"}},
			[]string{"bull:mail:delayed"},
			map[string]int{"bull worker": 1, "bull subscriber": 1, "bull queue-client": 1},
		},
		{
			"a busy worker beside BullMQ workers is BullMQ's",
			[]line{{name: mail, cmd: "client|setname"}, {name: video, cmd: "bzpopmin", flags: "b"}, {cmd: "evalsha"}, {cmd: "evalsha"}},
			nil,
			map[string]int{"bullmq worker": 2, "bullmq worker-client": 2},
		},
		{
			"a busy worker alone stays undecided",
			[]line{{name: mail, cmd: "client|setname"}},
			nil,
			map[string]int{"bull-or-bullmq worker": 1},
		},
		{
			"a host is not told from another host's arithmetic",
			[]line{
				{name: mail, cmd: "brpoplpush", flags: "b"},
				{cmd: "evalsha"},
				{cmd: "subscribe", flags: "P", sub: "1"},
				{host: "10.0.0.2", name: video, cmd: "bzpopmin", flags: "b"},
				{host: "10.0.0.2", cmd: "evalsha"},
				{host: "10.0.0.2", cmd: "hset"},
			},
			[]string{"bull:mail:delayed"},
			map[string]int{"bull worker": 1, "bull queue-client": 1, "bull subscriber": 1, "bullmq worker": 1, "bullmq worker-client": 1, "bullmq queue-client": 1},
		},
		{
			"a cache and a limiter beside Bull are told by what they run",
			[]line{
				{cmd: "get"},
				{cmd: "zremrangebyscore"},
				{cmd: "evalsha"},
				{cmd: "subscribe", flags: "P", sub: "1"},
				{name: mail, cmd: "brpoplpush", flags: "b"},
			},
			[]string{"bull:mail:delayed"},
			map[string]int{"cache": 1, "limiter": 1, "bull queue-client": 1, "bull subscriber": 1, "bull worker": 1},
		},
		{
			"a producer without workers is likely of the only library seen",
			[]line{{name: mail, cmd: "bzpopmin", flags: "b"}, {cmd: "evalsha"}, {host: "10.0.0.3", cmd: "evalsha"}, {host: "10.0.0.3", cmd: "hset"}},
			nil,
			map[string]int{"bullmq worker": 1, "bullmq worker-client": 1, "bullmq queue-client": 2},
		},
		{
			"replicas, monitors and other subscribers are no queues",
			[]line{{cmd: "replconf", flags: "S"}, {cmd: "monitor", flags: "O"}, {cmd: "subscribe", flags: "P", sub: "1"}, {name: "events", cmd: "psubscribe", flags: "P"}},
			[]string{"news"},
			map[string]int{"replica": 1, "monitor": 1, "pubsub": 2},
		},
		{
			"a connection that only said PING is unknown",
			[]line{{cmd: "ping"}, {cmd: "NULL"}},
			nil,
			map[string]int{"unknown": 2},
		},
		{
			"a worker that shares its connection with nobody needs one",
			[]line{{name: mail, cmd: "brpoplpush", flags: "b"}, {cmd: "subscribe", flags: "P", sub: "1"}, {cmd: "info"}, {cmd: "evalsha"}},
			[]string{"bull:mail:delayed"},
			map[string]int{"bull worker": 1, "bull subscriber": 1, "bull queue-client": 2},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := fromList(t, listOf(tc.lines...), tc.channels...)
			if diff := cmp.Diff(tc.want, byRole(r)); diff != "" {
				t.Errorf("roles (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAWorkerSeenBlockingStaysKnownWhileBusy(t *testing.T) {
	a, err := New(nil, Options{})
	if err != nil {
		t.Fatal(err)
	}
	a.lookup = func([]socket) (map[socket]owner, error) { return nil, nil }
	look := func(cmd, flags string) Connection {
		clients, _ := ParseClientList(listOf(line{name: mail, cmd: cmd, flags: flags}))
		return a.report([]*view{{clients: clients, own: -1}}).Connections[0]
	}
	if c := look("client|setname", "N"); c.Library != LibraryEither {
		t.Fatalf("before it blocked: library %q, want %q", c.Library, LibraryEither)
	}
	look("bzpopmin", "b")
	if c := look("client|setname", "N"); c.Library != LibraryBullMQ || c.Confidence != Certain {
		t.Errorf("after it blocked: %s, %s, want bullmq, certain", c.Library, c.Confidence)
	}
}

func TestOneQueueServedByBothLibrariesIsCritical(t *testing.T) {
	r := fromList(t, listOf(
		line{name: mail, cmd: "brpoplpush", flags: "b"},
		line{host: "10.0.0.2", name: mail, cmd: "bzpopmin", flags: "b"},
	))
	for _, f := range r.Findings {
		if f.Rule == "queue-two-libraries" {
			return
		}
	}
	t.Errorf("findings %q lack queue-two-libraries", rules(r))
}
