package sidecar

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

const pushSecret = "0123456789abcdef0123456789abcdef"

// someQueues is a file with n queues whose jobs are fetched.
func someQueues(n int) string {
	var b strings.Builder
	b.WriteString("version: 1\nqueues:\n  list:\n")
	for i := range n {
		fmt.Fprintf(&b, "    - {name: q%d, mode: lease}\n", i)
	}
	return b.String()
}

// post sends JSON and decodes the answer, which must have the status.
func post[T any](t testing.TB, url, body string, status int) (out T) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status {
		t.Fatalf("POST %s = %d, want %d: %s", url, resp.StatusCode, status, text)
	}
	if len(text) > 0 {
		if err := json.Unmarshal(text, &out); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	return out
}

type leased struct {
	Jobs []struct {
		ID, Lease string
		Payload   json.RawMessage
	}
}

func TestIdlingCostsWhatWasPromised(t *testing.T) {
	env := map[string]string{"REDIS_URL": "redis://127.0.0.1:1/0"}
	file := someQueues(11) + "  schedules:\n    - {name: nightly, queue: q1, cron: '0 2 * * *'}\nbudgets: {connections: {fleet: 9}, commands: {per_month: 500000}}\n"
	conf := configured(t, env, file)
	one, further := api.IdlePerMonth(Idle(conf, true, false)), api.IdlePerMonth(Idle(conf, false, false))
	// One delayed job in each of 11 queues: when the first is due is read again with every resync.
	delayed := 11 * float64(30*24*time.Hour) / float64(queueResync)
	t.Logf("billed commands in 30 days: one replica %.0f, with a delayed job in each queue %.0f, each further one %.0f", one, one+delayed, further)
	for _, c := range append(Idle(conf, true, false), Idle(conf, false, false)...) {
		t.Logf("%-10s %-24s %8.0f free=%v", c.Component, c.Name, c.PerMonth, c.Free)
	}
	if one+delayed > 10_000 {
		t.Errorf("one replica: %.0f, want at most 10,000", one+delayed)
	}
	if further > 3_000 {
		t.Errorf("a further replica: %.0f, want at most 3,000", further)
	}
}

func TestElevenOrAHundredQueuesShareTwoConnections(t *testing.T) {
	for _, n := range []int{11, 100} {
		t.Run(fmt.Sprint(n, " queues"), func(t *testing.T) {
			server := redistest.Start(t)
			r := run(t, configured(t, map[string]string{"REDIS_URL": server.URL()}, someQueues(n)+"serve: {shutdown_timeout: 1s}\n"), Options{})
			observer := server.Client(t)
			transport := &http.Transport{MaxIdleConnsPerHost: 500}
			defer transport.CloseIdleConnections()
			client := &http.Client{Transport: transport}
			send := func(path, body string) error {
				req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, "http://"+r.API+path, strings.NewReader(body))
				if err != nil {
					return err
				}
				req.Header.Set("Content-Type", "application/json")
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				text, err := io.ReadAll(resp.Body)
				if resp.StatusCode >= 300 && err == nil {
					err = fmt.Errorf("%s: %s: %s", path, resp.Status, text)
				}
				return errors.Join(err, resp.Body.Close())
			}
			var all sync.WaitGroup
			errs := make(chan error, 500)
			for i := range 500 {
				all.Go(func() {
					path := fmt.Sprintf("/v1/queues/q%d/", i/2%n)
					if i%2 == 0 {
						errs <- send(path+"jobs", `{"payload":{"i":1}}`)
					} else {
						errs <- send(path+"lease", `{"max":1,"wait_ms":1000}`)
					}
				})
			}
			most, done := 0, make(chan struct{})
			go func() { all.Wait(); close(done) }()
			for open := true; open; {
				list, err := observer.ClientList(t.Context()).Result()
				if err != nil {
					t.Fatal(err)
				}
				most = max(most, strings.Count(list, "\n")-1) // without the observer
				select {
				case <-done:
					open = false
				default:
				}
			}
			close(errs)
			for err := range errs {
				if err != nil {
					t.Error(err)
					break
				}
			}
			if most != 2 {
				t.Errorf("%d connections by CLIENT LIST, want 2", most)
			}
			t.Logf("%d connections by CLIENT LIST with %d queues under 500 clients", most, n)
		})
	}
}

// TestAThousandJobsArePushedOnceEach is the design's load test: 1,000 jobs of 10 ms, ten at a time.
func TestAThousandJobsArePushedOnceEach(t *testing.T) {
	var (
		mu   sync.Mutex
		runs = map[string]int{}
	)
	app := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(10 * time.Millisecond)
		defer timer.Stop()
		<-timer.C
		mu.Lock()
		defer mu.Unlock()
		runs[r.Header.Get("Redisopt-Job-Id")]++
	}))
	defer app.Close()
	server := redistest.Start(t)
	file := fmt.Sprintf("version: 1\nqueues:\n  push: {secret: %s}\n  list:\n    - {name: mail, mode: push, endpoint: '%s', concurrency: 10, completed: {count: 2000}}\n", pushSecret, app.URL)
	r := run(t, configured(t, map[string]string{"REDIS_URL": server.URL()}, file), Options{})
	begin := time.Now()
	for part := range 10 {
		var jobs []string
		for i := range 100 {
			jobs = append(jobs, fmt.Sprintf(`{"id":"job-%d","payload":{"n":%d}}`, part*100+i, i))
		}
		out := post[struct{ Added int }](t, "http://"+r.API+"/v1/queues/mail/jobs/bulk", `{"jobs":[`+strings.Join(jobs, ",")+`]}`, 200)
		if out.Added != 100 {
			t.Fatalf("added %d, want 100", out.Added)
		}
	}
	eventually(t, "all jobs are done", func() bool {
		_, body := ask(t, http.MethodGet, "http://"+r.API+"/v1/queues", "")
		return strings.Contains(body, `"done":1000`)
	})
	took := time.Since(begin)
	mu.Lock()
	defer mu.Unlock()
	for id, n := range runs {
		if n != 1 {
			t.Errorf("%s ran %d times", id, n)
		}
	}
	if len(runs) != 1000 {
		t.Errorf("%d jobs ran, want 1000", len(runs))
	}
	if _, body := ask(t, http.MethodGet, "http://"+r.API+"/v1/queues", ""); !strings.Contains(body, `"failed_attempts":0,"failed_permanently":0`) {
		t.Errorf("errors: %s", body)
	}
	t.Logf("1000 jobs of 10 ms, 10 at a time, over HTTP push: %s, %.0f a second", took.Round(time.Millisecond), 1000/took.Seconds())
}

func TestQueuesThatCannotBeServedAreRefusedByKey(t *testing.T) {
	dir := t.TempDir()
	schema := filepath.Join(dir, "schema.json")
	if err := os.WriteFile(schema, []byte(`{"type": "nothing"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	rest := map[string]string{"UPSTASH_REDIS_REST_URL": "https://example.test", "UPSTASH_REDIS_REST_TOKEN": "secret-token"}
	tcp := map[string]string{"REDIS_URL": "redis://127.0.0.1:1"}
	for name, c := range map[string]struct {
		env        map[string]string
		file, want string
	}{
		"over REST alone":            {rest, someQueues(1), "queues need a Redis over TCP"},
		"a schema that is none":      {tcp, "version: 1\nqueues: {list: [{name: a, mode: lease, schema_file: " + schema + "}]}\n", "queues.list[0].schema_file: "},
		"a schema that is not there": {tcp, "version: 1\nqueues: {list: [{name: a, mode: lease, schema_file: /nowhere}]}\n", "queues.list[0].schema_file: "},
		"a schedule that is none":    {tcp, "version: 1\nqueues: {list: [{name: a, mode: lease}], schedules: [{name: s, queue: a, cron: 'x y'}]}\n", "queues.schedules[0]: "},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := New(configured(t, c.env, c.file), Options{})
			problems := config.Problems(err)
			if len(problems) != 1 || !strings.Contains(problems[0].Error(), c.want) {
				t.Errorf("New = %v, want one problem with %q", err, c.want)
			}
		})
	}
}

func TestSchedulesOfTheConfigurationFireAndFollowIt(t *testing.T) {
	t.Parallel()
	file := "version: 1\nqueues:\n  list: [{name: a, mode: lease}]\n  schedules: [{name: tick, queue: a, every: 1s, payload: '{\"userId\":1}'}]\n"
	conf := configured(t, nil, file)
	next := configured(t, nil, strings.ReplaceAll(file, "tick", "tock"))
	reload := make(chan struct{})
	r := run(t, conf, Options{Embedded: true, Reload: reload, Load: func() (*config.Config, error) {
		next.Serve = conf.Serve
		return next, nil
	}})
	url := "http://" + r.API + "/v1/"
	got := post[leased](t, url+"queues/a/lease", `{"wait_ms":20000}`, 200)
	if len(got.Jobs) != 1 || !strings.HasPrefix(got.Jobs[0].ID, "cron:tick:") || string(got.Jobs[0].Payload) != `{"userId":1}` {
		t.Fatalf("leased %+v, want a tick", got)
	}
	post[struct{}](t, url+"queues/a/leases/"+got.Jobs[0].Lease+"/complete", `{}`, 204)
	reload <- struct{}{}
	eventually(t, "the other schedule is in force", func() bool {
		_, body := ask(t, http.MethodGet, url+"schedules", "")
		return strings.Contains(body, `"tock"`) && !strings.Contains(body, `"tick"`)
	})
	if code, body := ask(t, http.MethodDelete, url+"schedules/tock", ""); code != 409 || !strings.Contains(body, "configured_schedule") {
		t.Errorf("DELETE = %d %s, want 409", code, body)
	}
	if strings.Contains(r.Log.String(), "config_restart_needed") {
		t.Errorf("a restart is asked for:\n%s", r.Log)
	}
}

func TestAQueueThatTheControlDocumentPausesGivesNoJobs(t *testing.T) {
	r := run(t, configured(t, nil, someQueues(1)), Options{Embedded: true})
	url := "http://" + r.API + "/v1/"
	post[any](t, url+"control", `{"paused":["q0"],"reason":"test"}`, 200)
	eventually(t, "it is paused", func() bool {
		_, body := ask(t, http.MethodGet, url+"queues", "")
		return strings.Contains(body, `"paused":true`)
	})
	post[any](t, url+"queues/q0/jobs", `{"id":"one"}`, 201)
	if got := post[leased](t, url+"queues/q0/lease", `{"wait_ms":300}`, 200); len(got.Jobs) != 0 {
		t.Errorf("leased %+v, want none", got)
	}
	post[any](t, url+"control", `{"paused":[],"reason":"test"}`, 200)
	got := post[leased](t, url+"queues/q0/lease", `{"wait_ms":20000}`, 200)
	if len(got.Jobs) != 1 {
		t.Fatalf("leased %+v, want the job", got)
	}
	post[struct{}](t, url+"queues/q0/leases/"+got.Jobs[0].Lease+"/complete", `{}`, 204)
	post[any](t, url+"control", `{"kill":["queue"],"reason":"test"}`, 200)
	if code, body := ask(t, http.MethodGet, url+"queues", ""); code != 503 || !strings.Contains(body, "switched_off") {
		t.Errorf("with the kill switch: %d %s", code, body)
	}
}

func TestAReplicaWaitsForItsPlaceInTheFleetAndNamesWhoHoldsIt(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	env := map[string]string{"REDIS_URL": server.URL(), "REDISOPT_REPLICA": "one"}
	const file = "version: 1\nupstream: {fleet_connections: 3}\n"
	first := run(t, configured(t, env, file), Options{})
	if _, body := ask(t, http.MethodGet, "http://"+first.API+"/v1/fleet", ""); !strings.Contains(body, `"replica":"one"`) || !strings.Contains(body, `"connections_max":3`) {
		t.Fatalf("fleet: %s", body)
	}
	env2 := map[string]string{"REDIS_URL": server.URL(), "REDISOPT_REPLICA": "two"}
	started := make(chan *running, 1)
	go func() {
		r, err := tryRun(t, configured(t, env2, file), Options{})
		if err != nil {
			t.Error(err)
		}
		started <- r
	}()
	eventually(t, "the second one waits in line", func() bool {
		_, body := ask(t, http.MethodGet, "http://"+first.API+"/v1/fleet", "")
		return strings.Contains(body, `"since"`) && strings.Contains(body, `"replica":"two"`)
	})
	select {
	case <-started:
		t.Fatal("it started beside the first one")
	default:
	}
	if err := first.stop(); err != nil {
		t.Fatal(err)
	}
	select {
	case second := <-started:
		if second == nil || !strings.Contains(second.Log.String(), "fleet_waiting") || !strings.Contains(second.Log.String(), `"holders":["one"]`) {
			t.Errorf("it did not say for whom it waited")
		}
	case <-time.After(time.Minute):
		t.Fatal("the second one does not start")
	}
}

func TestASilentRedisEndsASidecarThatServesQueues(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	conf := configured(t, map[string]string{"REDIS_URL": server.URL()}, someQueues(1)+"  watchdog: 1s\nserve: {shutdown_timeout: 1s}\n")
	started := make(chan struct{})
	s, err := New(conf, Options{
		Started: func(Started) { close(started) },
		govern:  func(o *governor.Options) { o.Sweep = 200 * time.Millisecond },
	})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	defer cancel()
	go func() { ended <- s.Run(ctx) }()
	<-started
	server.Kill(t)
	select {
	case err := <-ended:
		if !isA[*queue.UnreachableError](err) {
			t.Errorf("Run = %v, want a *queue.UnreachableError", err)
		}
	case <-time.After(time.Minute):
		t.Error("it goes on without its Redis")
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func TestQueuesAreServedFromACluster(t *testing.T) {
	t.Parallel()
	node := redistest.Start(t, "--cluster-enabled", "yes")
	look := node.Client(t)
	if err := look.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster is complete", func() bool { return look.Do(t.Context(), "set", "ready", "1").Err() == nil })
	file := someQueues(3) + "  schedules: [{name: tick, queue: q2, every: 1s}]\nupstream: {max_connections: 8, cluster: ['" + node.Addr + "']}\n"
	r := run(t, configured(t, nil, file), Options{})
	url := "http://" + r.API + "/v1/queues/"
	post[any](t, url+"q1/jobs", `{"id":"one"}`, 201)
	for name, want := range map[string]string{"q1": "one", "q2": "cron:tick:"} {
		got := post[leased](t, url+name+"/lease", `{"wait_ms":30000}`, 200)
		if len(got.Jobs) != 1 || !strings.HasPrefix(got.Jobs[0].ID, want) {
			t.Fatalf("leased %+v of %s, want %s", got, name, want)
		}
		post[struct{}](t, url+name+"/leases/"+got.Jobs[0].Lease+"/complete", `{}`, 204)
	}
}
