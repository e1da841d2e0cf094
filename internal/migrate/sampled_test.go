package migrate

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func TestOwnCommandsAreNoPartOfADay(t *testing.T) {
	from := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	var samples []history.Sample
	for i := range 12 {
		samples = append(samples, history.Sample{
			Time: from.Add(time.Duration(i+1) * 5 * time.Minute), Span: 5 * time.Minute, Commands: 110, Own: 10, Source: history.FromInfo,
		})
	}
	e := SampleEvidence(samples, KPICommandsPerDay, from, from.Add(time.Hour))
	const how = "INFO of the whole Redis, every 1 to 5 minutes, less 120 of our own, extrapolated from 1200 in 1h0m0s"
	if !e.Known || e.Value != 28_800 || e.Coverage != 1 || e.Samples != 12 || e.Source != how {
		t.Errorf("evidence = %+v, want 28800 a day, %s", e, how)
	}
	for i := range samples {
		samples[i].Source = history.FromProvider
	}
	if e := SampleEvidence(samples, KPICommandsPerMonth, from, from.Add(time.Hour)); e.Value != 864_000 || !strings.HasPrefix(e.Source, "the provider's own count") {
		t.Errorf("evidence = %+v, want 864000 a month of the provider", e)
	}
}

func TestARedisThatDoesNotTellIsThereAndSaysWhatWouldTell(t *testing.T) {
	from := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	first := look{at: from, answered: true}
	second := look{at: from.Add(5 * time.Minute), answered: true}
	x, ok := second.since(first)
	if !ok || x.Span != 5*time.Minute || x.Commands != history.Unknown {
		t.Fatalf("sample = %+v, %t, want that it answered and told nothing", x, ok)
	}
	all := []history.Sample{x}
	if e := SampleEvidence(all, KPIConnectionErrors, from, second.at); !e.Known || e.Value != 0 || e.Coverage != 1 {
		t.Errorf("connection errors = %+v, want none", e)
	}
	e := SampleEvidence(all, KPICommandsPerDay, from, second.at)
	if e.Known || e.Coverage != 0 || len(e.Missing) != 1 || !strings.Contains(e.Missing[0], "UPSTASH_API_KEY") {
		t.Errorf("commands = %+v, want what would tell them", e)
	}
}

func TestASampleIsOfTheTimeBetweenTwoLooks(t *testing.T) {
	at := time.Date(2026, 11, 29, 0, 0, 0, 0, time.UTC)
	counted := func(source history.Source, after time.Duration, id string, commands, own int64) look {
		return look{
			at: at.Add(after), answered: true, source: source, own: own,
			counters: history.Counters{RunID: id, Commands: commands, Writes: -1, Errors: -1, Connections: 3, MemoryBytes: -1},
		}
	}
	first := counted(history.FromInfo, 0, "a", 1000, 40)
	type want struct {
		commands, own int64
		source        history.Source
		span          time.Duration
	}
	for name, tt := range map[string]struct {
		last, now look
		want      want
	}{
		"commands and our own":         {first, counted(history.FromInfo, time.Minute, "a", 1100, 52), want{100, 12, history.FromInfo, time.Minute}},
		"never more own than all":      {first, counted(history.FromInfo, time.Minute, "a", 1005, 52), want{5, 5, history.FromInfo, time.Minute}},
		"a restart":                    {first, counted(history.FromInfo, time.Minute, "b", 7, 41), want{7, 1, history.FromInfo | history.Restarted, time.Minute}},
		"a new month of the provider":  {counted(history.FromProvider, 0, "10", 9000, 0), counted(history.FromProvider, time.Minute, "11", 3, 0), want{3, 0, history.FromProvider | history.Restarted, time.Minute}},
		"another one told":             {first, counted(history.FromProvider, time.Minute, "11", 9000, 50), want{history.Unknown, 0, history.FromInfo, time.Minute}},
		"no answer covers no time":     {first, look{at: at.Add(time.Minute)}, want{history.Unknown, 0, history.FromInfo, 0}},
		"the first answer has no span": {look{}, first, want{}},
	} {
		x, _ := tt.now.since(tt.last)
		if diff := cmp.Diff(tt.want, want{x.Commands, x.Own, x.Source, x.Span}, cmp.AllowUnexported(want{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestHowItWasBeforeIsTheDayBeforeOrSaysWhyNot(t *testing.T) {
	client := redistest.Start(t).Client(t)
	now := time.Now()
	got := Before(t.Context(), client, nil, now)
	if e := got[KPICommandsPerDay]; e.Known || len(e.Missing) != 1 || !strings.Contains(e.Missing[0], "less than 1h0m0s tells nothing of a day") {
		t.Errorf("commands of a server that has just started = %+v, want that nobody knows", e)
	}
	if e := got[KPIConnections]; !e.Known || e.Value < 1 {
		t.Errorf("connections = %+v, want ours at least", e)
	}
	got = Before(t.Context(), client, told{Value: 1234, Known: true, Samples: 288, Coverage: 0.99}, now)
	if e := got[KPICommandsPerDay]; !e.Known || e.Value != 1234 || e.To.Sub(e.From) != day {
		t.Errorf("commands = %+v, want those of the day before", e)
	}
	note := BaselineNote{Evidence: got}
	if e := note.Against(KPICommandsPerDay, Evidence{}); e.Before == nil || *e.Before != 1234 {
		t.Errorf("Against = %+v, want 1234 before", e)
	}
	if err := client.Do(t.Context(), "ACL", "SETUSER", "default", "-info").Err(); err != nil {
		t.Fatal(err)
	}
	got = Before(t.Context(), client, nil, now)
	for _, kpi := range []string{KPICommandsPerDay, KPIConnections} {
		if e := got[kpi]; e.Known || len(e.Missing) != 1 || !strings.Contains(e.Missing[0], "NOPERM") {
			t.Errorf("%s without INFO = %+v, want the reason", kpi, e)
		}
	}
	s, err := NewSampler(SamplerOptions{Client: client, Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	if l := s.look(t.Context(), 0); !l.answered || l.source != 0 {
		t.Errorf("look = %+v, want an answer that tells nothing", l)
	}
}
