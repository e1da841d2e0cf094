package main

import (
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/cause"
)

func TestConnectionErrorsLookAsRecordedInEveryFormat(t *testing.T) {
	l, err := cause.ReadLog(strings.NewReader(strings.Repeat("2026-11-22T11:00:00Z Error: read ECONNRESET\n", 3) +
		"2026-11-22T11:05:00Z ReplyError: NOAUTH Authentication required.\n2026-11-22T11:06:00Z started\n"))
	if err != nil {
		t.Fatal(err)
	}
	secure := true
	d := judgeErrors(l, "app.log", cause.Facts{
		Connections: 40, Limit: 10_000, TLS: &secure, Reached: true, Uptime: 24 * time.Hour, Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC),
	}, false)
	for _, format := range report.Formats() {
		wantGolden(t, "audit.connections.errors", format, errorsDocument(d))
	}
}
