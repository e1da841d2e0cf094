package main

import (
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
)

func TestServeLooksAsRecordedInEveryFormat(t *testing.T) {
	both := sidecar.Started{
		API: "10.0.0.1:8080", Gateway: "10.0.0.1:8079", TLS: true, Guarded: true, Instance: "INSTANCE", Replica: "host-1",
		Upstreams: []sidecar.Upstream{
			{Name: "rest", Transport: "rest", Addr: "https://db.example", For: []string{"cache", "limit"}},
			{Name: "tcp", Transport: "tcp", Addr: "db.example:6379", For: []string{"gateway", "control", "history"}, MaxConnections: 3},
		},
	}
	kept := sidecar.Started{
		API: "127.0.0.1:8080", Gateway: "127.0.0.1:8079", Instance: "INSTANCE", Replica: "host-1", Embedded: true, DataDir: "data",
		Upstreams: []sidecar.Upstream{{Name: "embedded", Transport: "embedded", Addr: "127.0.0.1:33503", For: []string{"cache"}, MaxConnections: 3}},
	}
	conf := config.Default()
	for name, started := range map[string]sidecar.Started{"serve": both, "serve.embedded": kept} {
		doc := serveDocument(started, conf)
		data, ok := doc.Data.(serveData)
		if !ok {
			t.Fatalf("%T is no serveData", doc.Data)
		}
		data.Version = "v0.0.0"
		doc.Data = data
		for _, format := range report.Formats() {
			wantGolden(t, name, format, doc)
		}
	}
}

// A sample is one line of a stream, which is JSON; people are shown a note.
func TestASampleOfAWatchLooksAsRecorded(t *testing.T) {
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	wantGolden(t, "audit.connections.sample", report.FormatJSON, sampleDocument(connections.Sample{
		At: at, Total: 33, Opened: 2, Closed: 1, ShortLived: 4, OpenedPerSecond: 0.6, Rejected: 1,
	}))
	wantGolden(t, "audit.connections.sample.failed", report.FormatJSON, sampleDocument(connections.Sample{
		At: at, ShortLived: -1, Problem: "db:6379: no reply after 5s",
	}))
}
