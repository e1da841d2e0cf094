package upstash

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/upstash/upstashtest"
)

func TestADatabaseIsParsedWithoutItsSecrets(t *testing.T) {
	var d Database
	if err := json.Unmarshal([]byte(upstashtest.Database()), &d); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(fmt.Sprintf("%+v", d), "not-to-be-kept") {
		t.Error("a credential was kept")
	}
	if !d.ACL || d.IdleTimeout != 6*time.Hour || d.ScriptTimeout != 250*time.Millisecond || d.ScriptTimePerMinute != 10*time.Second {
		t.Errorf("database = %+v", d)
	}
	if !d.Serves("SHOP-1.upstash.example:6379") || d.Serves("other.example:6379") {
		t.Error("the address does not tell the database")
	}
}

func TestTimesOfTheAPIAreReadWithAnyFraction(t *testing.T) {
	for in, want := range map[string]string{
		"2025-08-31 15:12:52.799 +0000 UTC":             "2025-08-31T15:12:52.799Z",
		"2025-08-31 15:12:52 +0000 UTC":                 "2025-08-31T15:12:52Z",
		"2025-08-31 15:12:52.123456789 +0200 CEST":      "2025-08-31T13:12:52.123456789Z",
		"2025-08-31 15:12:52.7 +0000 UTC m=+0.00000001": "2025-08-31T15:12:52.7Z",
		"2025-08-31T15:12:52Z":                          "2025-08-31T15:12:52Z",
	} {
		if got, ok := parseTime(in); !ok || got.Format(time.RFC3339Nano) != want {
			t.Errorf("parseTime(%q) = %s, %v, want %s", in, got.Format(time.RFC3339Nano), ok, want)
		}
	}
	for _, in := range []string{"", "yesterday", "2025-13-31 15:12:52 +0000 UTC"} {
		if _, ok := parseTime(in); ok {
			t.Errorf("parseTime(%q) is a time", in)
		}
	}
}

func TestNullAndOddPointsAreLeftOut(t *testing.T) {
	var s Series
	err := json.Unmarshal([]byte(`[null, {"x":"2025-08-31 15:12:52 +0000 UTC","y":1}, {"x":"2025-08-31 15:12:53 +0000 UTC","y":null}, {"x":5,"y":2}, {"y":3}, 7]`), &s)
	if err != nil || len(s) != 1 || s[0].Value != 1 {
		t.Errorf("series = %v, %v, want the one whole point", s, err)
	}
}

func FuzzAnswersAreReadOrRefused(f *testing.F) {
	f.Add([]byte(upstashtest.Database()))
	f.Add([]byte(upstashtest.Stats()))
	f.Add([]byte(`{"database_id":1,"read_regions":{"a":1},"command_counts":[[],{"metric_identifier":"GET","data_points":[{"x":"","y":"1e999"}]}]}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		d, s := &Database{}, &Stats{}
		if json.Unmarshal(raw, d) != nil {
			d = &Database{ID: "a"}
		}
		if json.Unmarshal(raw, s) != nil {
			return
		}
		u := usageOf(d, s, middle)
		for _, m := range u.Measures() {
			if math.IsNaN(m.Value) {
				t.Errorf("%s is no number", m.Name)
			}
		}
		if _, err := json.Marshal(u); err != nil {
			t.Errorf("usage cannot be written: %v", err)
		}
	})
}
