package migrate

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestEvidenceOfSamples(t *testing.T) {
	from := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	to := from.Add(10 * time.Minute)
	var samples []history.Sample
	for i := range 10 {
		s := history.Sample{
			Time: from.Add(time.Duration(i+1) * time.Minute), Span: time.Minute, Commands: 100, Errors: 1,
			Connections: int64(30 + i), Writes: history.Unknown, InScript: history.Unknown,
		}
		if i == 4 { // no answer
			s.Span, s.Commands, s.Errors, s.Connections = 0, history.Unknown, history.Unknown, history.Unknown
		}
		samples = append(samples, s)
	}
	for kpi, want := range map[string]struct {
		value    float64
		samples  int64
		coverage float64
	}{
		KPIConnections:      {39, 9, 0.9},
		KPICommandsPerDay:   {144000, 9, 0.9},
		KPICommandsPerMonth: {4320000, 9, 0.9},
		KPIErrorReplies:     {9, 9, 0.9},
		KPIConnectionErrors: {1, 10, 1},
	} {
		e := SampleEvidence(samples, kpi, from, to)
		if !e.Known || e.Value != want.value || e.Samples != want.samples || e.Coverage != want.coverage {
			t.Errorf("%s = %g of %d samples over %g, want %+v", kpi, e.Value, e.Samples, e.Coverage, want)
		}
	}
	for _, kpi := range []string{KPIHitRate, KPIConnections} {
		s := samples
		if kpi == KPIConnections {
			s = nil
		}
		if e := SampleEvidence(s, kpi, from, to); e.Known || len(e.Missing) == 0 {
			t.Errorf("%s = %+v, want what is missing", kpi, e)
		}
	}
}

func TestSamplesSurviveARestartAndAnOutage(t *testing.T) {
	server := redistest.Start(t)
	dir := t.TempDir()
	began := time.Now().Add(-time.Second)
	sampled := func(enough func(errors, connections Evidence) bool) {
		t.Helper()
		s, err := NewSampler(SamplerOptions{Client: server.Client(t), Dir: dir, Every: 10 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- s.Run(ctx) }()
		for deadline := time.Now().Add(30 * time.Second); ; {
			failed, err := s.Read(ctx, KPIConnectionErrors, began, time.Now().Add(time.Second))
			open, err2 := s.Read(ctx, KPIConnections, began, time.Now().Add(time.Second))
			if errors.Join(err, err2) != nil {
				t.Fatal(err, err2)
			}
			if enough(failed, open) {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("no more than %+v and %+v", failed, open)
			}
			<-time.After(5 * time.Millisecond)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Fatal(err)
		}
	}
	sampled(func(_, open Evidence) bool { return open.Known && open.Samples >= 3 && open.Value >= 1 })
	server.Stop(t)
	sampled(func(failed, open Evidence) bool { return failed.Value >= 2 && open.Samples >= 3 })
}
