package bench

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestAResultFileComesBackWhole(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	r := steady(1000, time.Second)
	r.Latency = *latencies(random, 20, 50, true)
	r.Began = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	path := filepath.Join(t.TempDir(), "result.json")
	f := File{Program: "test", Target: "double", Scenarios: []Measured{{Name: "cache-get", Result: r, Commands: 1000}}}
	if err := f.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	got, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	back := got.Find("cache-get")
	for _, p := range []float64{0.5, 0.95, 0.99} {
		was, _ := r.Latency.Quantile(p)
		if is, err := back.Result.Latency.Quantile(p); err != nil || is != was {
			t.Errorf("p%g = %+v, %v, want %+v", p*100, is, err, was)
		}
	}
	if back.CommandsPerOperation() != 1 || got.Find("other") != nil {
		t.Errorf("commands for each operation = %g, want 1", back.CommandsPerOperation())
	}
}

func TestWhatIsNoResultFileIsRefusedWithItsReason(t *testing.T) {
	good, err := json.Marshal(File{Kind: fileKind, Schema: Schema, Scenarios: []Measured{{Name: "a", Result: steady(10, 1)}}})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"":                         "no result file",
		"[]":                       "no result file",
		`{"kind":"audit.keys/v1"}`: `kind "audit.keys/v1"`,
		string(good[:len(good)/2]): "no result file",
		`{"kind":"redisopt.bench","schema":1,"scenarios":[{"name":"a"}]}`:                                               "scenario 1 has no name or no result",
		strings.Replace(string(good), `"count":10`, `"count":11`, 1):                                                    "want the 11 that it says",
		strings.Replace(string(good), `"unit":"ns"`, `"unit":"us"`, 1):                                                  `unit "us"`,
		`{"kind":"redisopt.bench","schema":1,"scenarios":[{"name":"a","result":{"service":{"unit":"ns","hdr":"AA"}}}]}`: "histogram",
	} {
		if _, err := ParseFile([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseFile(%.60s) = %v, want it to say %s", text, err, want)
		}
	}
	_, err = ParseFile([]byte(`{"kind":"redisopt.bench","schema":9,"program":"2.0.0"}`))
	if other, ok := errors.AsType[*SchemaError](err); !ok || other.Got != 9 || !strings.Contains(err.Error(), "version 2.0.0") {
		t.Errorf("another version = %v, want a SchemaError that names it", err)
	}
	if _, err := ReadFile(filepath.Join(t.TempDir(), "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file = %v", err)
	}
}

func TestResultsOfTwoMachinesAddUp(t *testing.T) {
	at := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	random := rand.New(rand.NewPCG(9, 1))
	machine := func(began time.Time, rate float64) *Result {
		r := steady(600, time.Millisecond)
		r.Latency = *latencies(random, 10, 60, false)
		r.RatePerSecond, r.Began, r.Took = rate, began, 10*time.Second
		return r
	}
	together := machine(at, 60)
	together.Add(machine(at.Add(time.Second), 60))
	if together.RatePerSecond != 120 || together.Took != 10*time.Second || len(together.Latency.Slices) != 10 || together.Latency.All.Count() != 1200 {
		t.Errorf("side by side: %g a second, %s, %d slices, %d", together.RatePerSecond, together.Took, len(together.Latency.Slices), together.Latency.All.Count())
	}
	after := machine(at, 60)
	after.Add(machine(at.Add(time.Hour), 60))
	if after.RatePerSecond != 60 || after.Took != 20*time.Second || len(after.Latency.Slices) != 20 || after.Latency.Slices[19].At != 19*time.Second {
		t.Errorf("one after the other: %g a second, %s, %d slices", after.RatePerSecond, after.Took, len(after.Latency.Slices))
	}
}

func FuzzParseFile(f *testing.F) {
	good, err := json.Marshal(File{Kind: fileKind, Schema: Schema, Scenarios: []Measured{{Name: "a", Result: steady(10, time.Millisecond)}}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"kind":"redisopt.bench","schema":2}`))
	f.Fuzz(func(_ *testing.T, text []byte) {
		file, err := ParseFile(text)
		if err != nil {
			return
		}
		for _, m := range file.Scenarios {
			_, _ = m.Result.Latency.Quantile(0.95)
		}
	})
}

func FuzzParseAssertion(f *testing.F) {
	f.Add("cache.p95<100ms")
	f.Add("errors<0.1%")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAssertion(text)
		if err != nil {
			return
		}
		if again, err := ParseAssertion(a.String()); err == nil && again.Metric != a.Metric {
			t.Errorf("%q became %q", text, a.String())
		}
	})
}
