package outcome_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/outcome"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// looks takes a reading before and after what a test does, and returns what they say of jobs.
func looks(t *testing.T, client redis.UniversalClient, q mover.Endpoint, between func(ctx context.Context)) migrate.Evidence {
	t.Helper()
	path := filepath.Join(t.TempDir(), "readings")
	look := func() outcome.Reading {
		w, err := outcome.Open(outcome.Options{Path: path, Sources: []outcome.Source{outcome.NewQueues(client, q)}})
		if err != nil { // made anew each time, as after a restart
			t.Fatal(err)
		}
		r, err := w.Look(t.Context())
		if err != nil || len(r) != 1 {
			t.Fatalf("Look = %v, %v", r, err)
		}
		return r[0]
	}
	first := look()
	for !time.Now().After(first.At.Add(5 * time.Millisecond)) { // sets are told apart by milliseconds
		<-time.After(time.Millisecond)
	}
	between(t.Context())
	last := look()
	all, err := outcome.Readings(path, first.At, last.At)
	if err != nil {
		t.Fatal(err)
	}
	return outcome.Evidence(all, migrate.KPIJobSuccess, first.At, last.At)
}

func do(t *testing.T, client redis.UniversalClient, line string, args ...any) {
	t.Helper()
	var words []any
	for w := range strings.FieldsSeq(fmt.Sprintf(line, args...)) {
		words = append(words, w)
	}
	if err := client.Do(t.Context(), words...).Err(); err != nil {
		t.Fatalf("%v: %v", words, err)
	}
}

func TestWhatBecameOfJobsIsReadFromWhatTheirLibraryCounts(t *testing.T) {
	bull := mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"}
	mq := mover.Endpoint{Layout: mover.BullMQ, Major: 5, Prefix: "bullmq", Queue: "mail"}
	ours := mover.Endpoint{Layout: mover.Asynq, Prefix: "asynq", Queue: "mail"}
	now := func() int64 { return time.Now().UnixMilli() }
	tests := []struct {
		name    string
		queue   mover.Endpoint
		before  []string
		between func(ctx context.Context, client redis.UniversalClient)
		want    float64 // negative: not known
		jobs    int64
		why     string
	}{
		{"the metrics of workers", bull, []string{"HSET bull:mail:metrics:completed count 10"}, func(_ context.Context, c redis.UniversalClient) {
			do(t, c, "HSET bull:mail:metrics:completed count 28")
			do(t, c, "HSET bull:mail:metrics:failed count 2")
		}, 90, 20, "metrics that its workers keep"},
		{"the sets of Bull, when every job that ended is in one", bull, []string{"SET bull:mail:id 4", "RPUSH bull:mail:wait 1 2 3 4"}, func(_ context.Context, c redis.UniversalClient) {
			do(t, c, "DEL bull:mail:wait")
			do(t, c, "ZADD bull:mail:completed %d 1 %d 2 %d 3", now(), now(), now())
			do(t, c, "ZADD bull:mail:failed %d 4", now())
		}, 75, 4, "sets of completed and failed"},
		{"the sets of Bull, when completed jobs are removed", bull, []string{"SET bull:mail:id 4", "RPUSH bull:mail:wait 1 2 3 4"}, func(_ context.Context, c redis.UniversalClient) {
			do(t, c, "DEL bull:mail:wait")
			do(t, c, "ZADD bull:mail:failed %d 4", now())
		}, -1, 0, "removeOnComplete"},
		{"the events of BullMQ", mq, []string{"XADD bullmq:mail:events * event completed jobId 1"}, func(_ context.Context, c redis.UniversalClient) {
			for i := range 2500 {
				event := "completed"
				if i%10 == 0 {
					event = "failed"
				}
				do(t, c, "XADD bullmq:mail:events * event %s jobId %d", event, i)
				if i%5 == 0 {
					do(t, c, "XADD bullmq:mail:events * event active jobId %d", i)
				}
			}
		}, 90, 2500, "its events"},
		{"the events of BullMQ, when some were trimmed", mq, []string{"XADD bullmq:mail:events * event completed jobId 1"}, func(_ context.Context, c redis.UniversalClient) {
			do(t, c, "XADD bullmq:mail:events MAXLEN 1 * event completed jobId 2")
		}, -1, 0, "trimmed"},
		{"asynq's counters and archive", ours, []string{"SET asynq:{mail}:processed 100", "SET asynq:{mail}:failed 10", "SET asynq:{mail:low}:processed 1"}, func(_ context.Context, c redis.UniversalClient) {
			do(t, c, "SET asynq:{mail}:processed 130") // 27 done, 3 attempts failed, none of them for good
			do(t, c, "SET asynq:{mail}:failed 13")
		}, 100, 27, "asynq's counters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			for _, line := range tt.before {
				do(t, client, "%s", line)
			}
			e := looks(t, client, tt.queue, func(ctx context.Context) { tt.between(ctx, client) })
			text := e.Source + " " + strings.Join(e.Missing, " ")
			if tt.want < 0 && e.Known || tt.want >= 0 && (!e.Known || e.Value != tt.want || e.Samples != tt.jobs) || !strings.Contains(text, tt.why) {
				t.Errorf("got %+v, want %g%% of %d jobs by %q", e, tt.want, tt.jobs, tt.why)
			}
		})
	}
}

func TestAJobThatIsArchivedLaterInTheSecondOfALookIsCountedAtTheNext(t *testing.T) {
	client := redistest.Start(t).Client(t)
	q := mover.Endpoint{Layout: mover.Asynq, Prefix: "asynq", Queue: "mail"}
	source := outcome.NewQueues(client, q)
	at := time.Date(2026, 11, 29, 12, 0, 7, 300_000_000, time.UTC)
	look := func(before *outcome.Reading, now time.Time) *outcome.Reading {
		t.Helper()
		r, err := source.Look(t.Context(), before, now)
		if err != nil {
			t.Fatal(err)
		}
		return &r
	}
	for _, band := range []string{"mail", "mail:high", "mail:low"} {
		do(t, client, "SET asynq:{%s}:processed 10", band)
	}
	do(t, client, "ZADD asynq:{mail}:archived %d early", at.Unix()) // earlier in this second: counted with it
	first := look(nil, at)
	do(t, client, "ZADD asynq:{mail}:archived %d late", at.Unix())
	do(t, client, "SET asynq:{mail}:processed 20")
	do(t, client, "SET asynq:{mail}:failed 2")
	second := look(first, at.Add(5*time.Minute))
	if got := second.Counts[outcome.Failed] - first.Counts[outcome.Failed]; got != 2 || second.Gap != "" {
		t.Errorf("failed for good = %g, gap %q, want both jobs of the first look's second", got, second.Gap)
	}
	e := outcome.Evidence([]outcome.Reading{*first, *second}, migrate.KPIJobSuccess, first.At, second.At)
	if !e.Known || e.Value != 80 || e.Samples != 10 {
		t.Errorf("Evidence = %+v, want 80%% of 10 jobs", e)
	}
	if third := look(second, at.Add(10*time.Minute)); third.Counts[outcome.Failed] != second.Counts[outcome.Failed] {
		t.Errorf("failed = %g after a look at nothing new, want %g: none is counted twice", third.Counts[outcome.Failed], second.Counts[outcome.Failed])
	}
}

func TestTheDayBeforeCountsFailedJobsOnlySinceTheOldestCompletedOneThatIsLeft(t *testing.T) {
	client := redistest.Start(t).Client(t)
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	ago := func(d time.Duration) int64 { return now.Add(-d).UnixMilli() }
	busy := mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "busy"}
	for i := range 9 { // removeOnComplete left an hour of them
		do(t, client, "ZADD bull:busy:completed %d %d", ago(time.Hour-time.Duration(i)*time.Minute), i)
	}
	do(t, client, "ZADD bull:busy:failed %d recent", ago(time.Minute))
	for i := range 23 { // removeOnFail leaves the whole day
		do(t, client, "ZADD bull:busy:failed %d old%d", ago(time.Duration(i+2)*time.Hour), i)
	}
	e, err := outcome.LastDay(t.Context(), client, []mover.Endpoint{busy}, now)
	if err != nil {
		t.Fatal(err)
	}
	if !e.Known || e.Value != 90 || e.Samples != 10 || e.Coverage < 0.04 || e.Coverage > 0.05 {
		t.Errorf("LastDay = %+v, want 90%% of the 10 jobs of the hour that both sets cover", e)
	}
	do(t, client, "ZADD bull:old:completed %d x", ago(30*time.Hour)) // kept for longer than the day
	do(t, client, "ZADD bull:old:completed %d y", ago(time.Hour))
	do(t, client, "ZADD bull:old:failed %d z", ago(23*time.Hour))
	old := busy
	old.Queue = "old"
	if e, err = outcome.LastDay(t.Context(), client, []mover.Endpoint{old}, now); err != nil || e.Value != 50 || e.Coverage != 1 {
		t.Errorf("LastDay = %+v, %v, want 50%% of a whole day", e, err)
	}
	old.Queue = "none"
	if e, err = outcome.LastDay(t.Context(), client, []mover.Endpoint{old}, now); err != nil || e.Known || e.Coverage != 0 {
		t.Errorf("LastDay = %+v, %v, want it unknown without a completed job", e, err)
	}
}

func TestAHistogramGoesOnWhereTheHostBeforeReadItAndItsWholeLifeIsNoEvidence(t *testing.T) {
	fast, slow := 0, 1000 // slow calls of long ago
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, "took_seconds_bucket{le=\"0.1\"} %d\ntook_seconds_bucket{le=\"5\"} %d\ntook_seconds_bucket{le=\"+Inf\"} %d\n", fast, fast+slow, fast+slow)
	}))
	defer page.Close()
	path := filepath.Join(t.TempDir(), "readings")
	look := func() outcome.Reading { // each as by a host that has just started
		t.Helper()
		source, err := outcome.NewMetrics(outcome.MetricsOptions{URL: page.URL, Series: map[string]string{outcome.P95: "took_seconds"}})
		if err != nil {
			t.Fatal(err)
		}
		w, err := outcome.Open(outcome.Options{Path: path, Sources: []outcome.Source{source}})
		if err != nil {
			t.Fatal(err)
		}
		r, err := w.Look(t.Context())
		if err != nil || len(r) != 1 {
			t.Fatalf("Look = %v, %v", r, err)
		}
		<-time.After(2 * time.Millisecond)
		return r[0]
	}
	first := look()
	if !first.Life || first.Levels[outcome.P95] < 1000 {
		t.Errorf("first look = %+v, want the seconds of the whole life, marked as such", first)
	}
	for range 2 {
		fast += 100
		if r := look(); r.Life || !(r.Levels[outcome.P95] <= 100) {
			t.Errorf("look after a restart = %+v, want at most 100 ms: only what came since", r)
		}
	}
	all, err := outcome.Readings(path, first.At, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if e := outcome.Evidence(all, migrate.KPILatencyP95, first.At, all[len(all)-1].At); !e.Known || e.Value > 100 || e.Samples != 2 {
		t.Errorf("Evidence = %+v, want that of 2 readings, without the whole life", e)
	}
}

func TestALookOnlyReadsAndCostsWhatItSays(t *testing.T) {
	for layout, most := range map[mover.Layout]int64{mover.Bull: 11, mover.BullMQ: 8, mover.Asynq: 12} {
		client := redistest.Start(t).Client(t)
		q := mover.Endpoint{Layout: layout, Prefix: string(layout), Queue: "mail"}
		do(t, client, "PING")
		if err := client.ConfigResetStat(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		if _, err := outcome.NewQueues(client, q).Look(t.Context(), nil, time.Now()); err != nil {
			t.Fatal(err)
		}
		stats := client.Info(t.Context(), "commandstats").Val()
		sent := int64(0)
		for line := range strings.Lines(stats) {
			name, rest, ok := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":calls=")
			if !ok || name == "config|resetstat" {
				continue
			}
			var n int64
			if _, err := fmt.Sscanf(rest, "%d,", &n); err != nil {
				t.Fatal(err)
			}
			if !slices.Contains([]string{"hget", "llen", "zcard", "zcount", "get", "xrevrange", "xrange"}, name) {
				t.Errorf("%s: it sent %s, want only commands that read", layout, name)
			}
			sent += n
		}
		if sent > most {
			t.Errorf("%s: a look cost %d commands, want at most %d", layout, sent, most)
		}
	}
}

func TestAMetricsPageTellsWhatItsSeriesMean(t *testing.T) {
	done, status := 100, http.StatusOK
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		w.WriteHeader(status)
		_, _ = fmt.Fprintf(w, "jobs_total{state=\"done\"} %d\njobs_total{state=\"failed\"} 3\nlatency_seconds{quantile=\"0.95\"} 0.02\n", done)
	}))
	defer page.Close()
	source, err := outcome.NewMetrics(outcome.MetricsOptions{URL: page.URL, Token: "secret", Series: map[string]string{
		outcome.Done: `jobs_total{state="done"}`, outcome.Failed: `jobs_total{state="failed"}`, outcome.P95: "latency_seconds", outcome.Errors: "connection_errors_total",
	}})
	if err != nil {
		t.Fatal(err)
	}
	w, err := outcome.Open(outcome.Options{Path: filepath.Join(t.TempDir(), "readings"), Sources: []outcome.Source{source}})
	if err != nil {
		t.Fatal(err)
	}
	from := time.Now().Add(-time.Second)
	look := func() {
		t.Helper()
		if _, err := w.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(2 * time.Millisecond)
	}
	look()
	done = 150
	look()
	read := func(kpi string) migrate.Evidence {
		t.Helper()
		e, err := w.Read(t.Context(), kpi, from, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if e := read(migrate.KPIJobSuccess); !e.Known || e.Value != 100 || e.Samples != 50 {
		t.Errorf("job success = %+v, want 100%% of 50 jobs", e)
	}
	if e := read(migrate.KPILatencyP95); !e.Known || e.Value != 20 {
		t.Errorf("p95 = %+v, want 20 ms", e)
	}
	if e := read(migrate.KPIConnectionErrors); !e.Known || e.Value != 0 {
		t.Errorf("errors = %+v, want none: a counter that is not there has counted nothing", e)
	}
	status = http.StatusBadGateway
	look()
	if e := read(migrate.KPIJobSuccess); !e.Known || len(e.Missing) != 1 || !strings.Contains(e.Missing[0], "HTTP status 502") {
		t.Errorf("with a page that does not answer: %+v, want the reason among what is missing", e)
	}
}

func TestAPageThatCannotBeAskedIsRefusedWithAllReasons(t *testing.T) {
	_, err := outcome.NewMetrics(outcome.MetricsOptions{URL: "https://ann:pw@app/metrics", Series: map[string]string{"speed": "x", outcome.Done: "x{"}})
	for _, want := range []string{"user or password", `got "speed"`, "done: labels without an end"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to say %q", err, want)
		}
	}
	if err != nil && strings.Contains(err.Error(), "pw") {
		t.Error("the error has the password in it")
	}
}
