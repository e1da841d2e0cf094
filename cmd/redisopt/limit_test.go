package main

import (
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/limit/simulate"
)

// limitDocuments are one document of each kind, of made up answers.
func limitDocuments(t *testing.T) map[string]report.Document {
	t.Helper()
	l, err := limit.New(limit.Options{HashKey: []byte("0123456789abcdef"), Instances: 2, Rules: []limit.Rule{
		{Name: "api", Tiers: map[string]int64{"pro": 6000}},
		limit.SMS(),
		{Name: "burst", Algorithm: limit.TokenBucket, Limit: 100, Burst: 20, Mode: limit.Warn, OnError: limit.Open},
		{Name: "export", Algorithm: limit.Calendar, Limit: 5, TimeZone: "Europe/Berlin"},
		{Name: "old", Algorithm: limit.SlidingLog, Legacy: "rate_limit:{user}:{type}"},
	}})
	if err != nil {
		t.Fatal(err)
	}
	rules, err := rulesOf(l, 2)
	if err != nil {
		t.Fatal(err)
	}
	req := limit.Request{Rule: "old", Subject: limit.Subject{User: "user-42"}}
	denied := limit.Result{
		Rule: "old", OverLimit: true, Reason: limit.ReasonChecked, Limit: 60, Used: 60, Period: time.Minute,
		ResetAfter: 12300 * time.Millisecond, ResetAt: time.Date(2026, 11, 22, 12, 0, 12, 300e6, time.UTC),
		RetryAfter: 12300 * time.Millisecond, Subject: "u=user-42", Commands: 5,
	}
	answer, err := limitAnswer(l, req, denied)
	if err != nil {
		t.Fatal(err)
	}
	allowed := denied
	allowed.Allowed, allowed.OverLimit, allowed.Used, allowed.Remaining, allowed.RetryAfter, allowed.NearLimit = true, false, 50, 10, 0, true
	look, err := limitAnswer(l, req, allowed)
	if err != nil {
		t.Fatal(err)
	}
	events, err := simulate.Generator{Rate: 72, For: 10 * time.Minute}.Events()
	if err != nil {
		t.Fatal(err)
	}
	result, err := simulate.Run(events, simulate.Options{Rule: limit.Rule{Limit: 60, Lease: limit.LeaseOn}, Replicas: 1})
	if err != nil {
		t.Fatal(err)
	}
	return map[string]report.Document{
		"limit.check":    limitDocument("limit.check/v1", answer),
		"limit.peek":     limitDocument("limit.peek/v1", look),
		"limit.reset":    limitResetDocument(limitResetData{Rule: "old", Key: answer.Key, Used: 60, Limit: 60, Changed: true}),
		"limit.rules":    limitRulesDocument(rules),
		"limit.simulate": limitSimulateDocument(result),
	}
}

func TestLimitsLookAsRecordedInEveryFormat(t *testing.T) {
	for name, doc := range limitDocuments(t) {
		for _, format := range report.Formats() {
			t.Run(name+" as "+string(format), func(t *testing.T) {
				wantGolden(t, name, format, doc)
			})
		}
	}
}

func TestRatesAreRequestsAndADuration(t *testing.T) {
	for text, want := range map[string]time.Duration{"12/1m": time.Minute, "12/m": time.Minute, "12/90s": 90 * time.Second, "12/1h30m": 90 * time.Minute} {
		if n, per, err := parseRate(text); err != nil || n != 12 || per != want {
			t.Errorf("parseRate(%s) = %v, %s, %v, want 12, %s", text, n, per, err, want)
		}
	}
	for _, text := range []string{"", "12", "/1m", "12/", "x/1m", "12/1", "12/x"} {
		if _, _, err := parseRate(text); err == nil {
			t.Errorf("parseRate(%q) is no error", text)
		}
	}
}
