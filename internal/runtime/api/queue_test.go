package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// queues runs an engine over the Redis of client.
func queues(t testing.TB, client redis.UniversalClient) *queue.Engine {
	t.Helper()
	addr := client.(*redis.Client).Options().Addr
	another := func() *redis.Client {
		c := newClient(addr)
		t.Cleanup(func() { _ = c.Close() })
		return c
	}
	e, err := queue.New(queue.Options{Client: another(), Jobs: another(), Replica: "replica-1", CommandTimeout: patience, Queues: []queue.Queue{
		{Name: "mail", Mode: queue.Lease, Attempts: 2, MaxPayload: 1000},
		{Name: "spare", Mode: queue.Lease},
		{Name: "checked", Mode: queue.Lease, Schema: json.RawMessage(`{"type":"object","required":["user"]}`)},
		{Name: "vital", Mode: queue.Lease, Critical: true},
		{Name: "full", Mode: queue.Lease, Backlog: queue.Backlog{Limit: 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the queues ended: %v", err)
		}
	})
	return e
}

func queueAPI(t *testing.T) *API {
	t.Helper()
	return newAPI(t, Options{Queue: queues(t, open(t)), InstanceID: "replica-1", Timeout: patience})
}

// posted is what a request answers, decoded.
func posted[T any](t *testing.T, a *API, path, body string, want int) T {
	t.Helper()
	r := ask(t, a, call{method: http.MethodPost, path: path, body: body})
	if r.StatusCode != want {
		t.Fatalf("POST %s %s = %d: %s, want %d", path, body, r.StatusCode, r.body, want)
	}
	var out T
	if len(r.body) > 0 {
		if err := json.Unmarshal([]byte(r.body), &out); err != nil {
			t.Fatal(err)
		}
	}
	return out
}

type leasedJobs struct{ Jobs []LeasedJob }

func TestAJobIsAddedFetchedAndCompleted(t *testing.T) {
	t.Parallel()
	a := queueAPI(t)
	added := posted[queue.Enqueued](t, a, "/v1/queues/mail/jobs", `{"id":"one","name":"send","payload":{"user":42},"headers":{"traceparent":"00-x"}}`, 201)
	if added.ID != "one" || added.State != queue.Pending {
		t.Errorf("added %+v, want job one, pending", added)
	}
	got := posted[leasedJobs](t, a, "/v1/queues/mail/lease", `{"max":5,"wait_ms":20000}`, 200)
	if len(got.Jobs) != 1 {
		t.Fatalf("leased %d jobs, want 1", len(got.Jobs))
	}
	job := got.Jobs[0]
	if job.ID != "one" || job.Name != "send" || job.Attempt != 1 || job.MaxAttempts != 2 || string(job.Payload) != `{"user":42}` ||
		job.Headers["traceparent"] != "00-x" || job.LeaseMS < 1000 || job.Lease == "" {
		t.Errorf("leased %+v, want what was added", job)
	}
	held := "/v1/queues/mail/leases/" + job.Lease
	posted[struct{}](t, a, held+"/progress", `{"progress":{"done":1}}`, 204)
	if until := posted[struct {
		LeaseUntil time.Time `json:"lease_until"`
	}](t, a, held+"/extend", `{"ms":60000}`, 200).LeaseUntil; time.Until(until) < 30*time.Second {
		t.Errorf("extended until %s, want a minute from now", until)
	}
	for what, body := range map[string]string{"complete": `{}`, "fail": `{"reason":"x"}`, "progress": `{"progress":1}`, "extend": `{}`} {
		p := posted[Problem](t, a, "/v1/queues/other/leases/"+job.Lease+"/"+what, body, 404)
		if p.Code != "lease_of_other_queue" || !strings.Contains(p.Detail, "queue mail") {
			t.Errorf("%s under another queue: %+v, want lease_of_other_queue", what, p)
		}
	}
	posted[struct{}](t, a, held+"/complete", `{"result":{"sent":true}}`, 204)
	if p := posted[Problem](t, a, held+"/complete", `{}`, 404); p.Code != "unknown_lease" {
		t.Errorf("completed twice: %+v, want unknown_lease", p)
	}
	r := ask(t, a, call{path: "/v1/queues/mail/jobs/one"})
	var kept QueuedJob
	if err := json.Unmarshal([]byte(r.body), &kept); err != nil {
		t.Fatal(err)
	}
	if kept.State != "completed" || string(kept.Result) != `{"sent":true}` || kept.CompletedAt == nil {
		t.Errorf("kept %s, want it completed with its result", r.body)
	}
}

func TestWhatIsNoJSONTravelsAsBase64(t *testing.T) {
	t.Parallel()
	a := queueAPI(t)
	posted[queue.Enqueued](t, a, "/v1/queues/mail/jobs", `{"payload_base64":"/wAB"}`, 201)
	got := posted[leasedJobs](t, a, "/v1/queues/mail/lease", `{"wait_ms":20000}`, 200)
	if len(got.Jobs) != 1 || string(got.Jobs[0].PayloadBase64) != "\xff\x00\x01" || got.Jobs[0].Payload != nil {
		t.Fatalf("leased %+v, want the bytes", got.Jobs)
	}
	posted[struct{}](t, a, "/v1/queues/mail/leases/"+got.Jobs[0].Lease+"/complete", `{"result_base64":"/wAB"}`, 204)
}

func TestADeadLetterIsListedTriedAgainAndDeleted(t *testing.T) {
	t.Parallel()
	a := queueAPI(t)
	die := func() {
		t.Helper()
		got := posted[leasedJobs](t, a, "/v1/queues/mail/lease", `{"wait_ms":20000}`, 200)
		if len(got.Jobs) != 1 {
			t.Fatalf("leased %d jobs, want 1", len(got.Jobs))
		}
		posted[struct{}](t, a, "/v1/queues/mail/leases/"+got.Jobs[0].Lease+"/fail", `{"reason":"no such user","dead":true}`, 204)
	}
	posted[queue.Enqueued](t, a, "/v1/queues/mail/jobs", `{"id":"one"}`, 201)
	die()
	r := ask(t, a, call{path: "/v1/queues/mail/jobs?state=archived"})
	if r.StatusCode != 200 || !strings.Contains(r.body, `"no such user"`) || !strings.Contains(r.body, `"total":1`) {
		t.Errorf("dead letters: %d %s, want one with its reason", r.StatusCode, r.body)
	}
	type concerned struct{ Jobs int }
	for _, c := range []struct {
		path, body string
		want       int
	}{
		{"retry", `{"dry_run":true}`, 1},
		{"retry", `{"filter":{"reason":"other"}}`, 0},
		{"retry", `{"filter":{"ids":["one"]}}`, 1},
		{"retry", `{}`, 0},
	} {
		if got := posted[concerned](t, a, "/v1/queues/mail/dead/"+c.path, c.body, 200); got.Jobs != c.want {
			t.Errorf("dead/%s %s concerned %d, want %d", c.path, c.body, got.Jobs, c.want)
		}
	}
	die()
	if got := posted[concerned](t, a, "/v1/queues/mail/dead/delete", `{}`, 200); got.Jobs != 1 {
		t.Errorf("deleted %d, want 1", got.Jobs)
	}
}

func TestWhatTheQueuesRefuseHasACode(t *testing.T) {
	t.Parallel()
	a := queueAPI(t)
	posted[queue.Enqueued](t, a, "/v1/queues/spare/jobs", `{"id":"there"}`, 201)
	posted[struct{}](t, a, "/v1/queues/full/pause", `{}`, 204)
	posted[queue.Enqueued](t, a, "/v1/queues/full/jobs", `{}`, 201)
	for _, c := range []struct {
		path, body string
		status     int
		code       string
	}{
		{"nosuch/jobs", `{}`, 404, "unknown_queue"},
		{"nosuch/lease", `{}`, 404, "unknown_queue"},
		{"nosuch/pause", `{}`, 404, "unknown_queue"},
		{"checked/jobs", `{"payload":{}}`, 422, "invalid_payload"},
		{"checked/jobs", `{"payload_base64":"/wAB"}`, 422, "invalid_payload"},
		{"mail/jobs", fmt.Sprintf(`{"payload":%q}`, strings.Repeat("x", 1001)), 413, "payload_too_large"},
		{"spare/jobs", `{"id":"there"}`, 409, "duplicate_job"},
		{"full/jobs", `{}`, 503, "backlog_full"},
		{"vital/pause", `{}`, 409, "queue_guarded"},
		{"mail/jobs", `{"payload":1,"payload_base64":"AAA="}`, 422, "invalid_request"},
		{"mail/jobs", `{"priority":"urgent"}`, 422, "invalid_request"},
		{"mail/jobs", `{"headers":{"redisopt-x":"y"}}`, 422, "invalid_request"},
		{"mail/jobs", `{"delay_ms":-1}`, 422, "invalid_request"},
		{"mail/jobs", `{"batch":"b","unique":"u","payload":1}`, 422, "invalid_request"},
		{"mail/jobs/bulk", `{"jobs":[]}`, 422, "invalid_request"},
		{"mail/leases/none/fail", `{"reason":"x","dead":true,"retry_after_ms":5}`, 422, "invalid_request"},
		{"mail/leases/none/complete", `{"result":1,"result_base64":"AAA="}`, 422, "invalid_request"},
		{"mail/leases/none/extend", `{}`, 404, "unknown_lease"},
		{"mail/lease", `{"wait_ms":60001}`, 422, "invalid_request"},
	} {
		if p := posted[Problem](t, a, "/v1/queues/"+c.path, c.body, c.status); p.Code != c.code || p.Hint == "" {
			t.Errorf("%s %s: %+v, want %s with a hint", c.path, c.body, p, c.code)
		}
	}
	bulk := posted[struct {
		Added   int
		Results []JobResult
	}](t, a, "/v1/queues/spare/jobs/bulk", `{"jobs":[{"id":"new"},{"id":"there"}]}`, 200)
	if bulk.Added != 1 || bulk.Results[0].Job == nil || bulk.Results[1].Problem == nil || bulk.Results[1].Problem.Code != "duplicate_job" {
		t.Errorf("bulk %+v, want one added and one refused", bulk)
	}
}

func TestWhoWaitsForAJobIsAnsweredWhenTheServerStops(t *testing.T) {
	t.Parallel()
	a := queueAPI(t)
	answered := make(chan answer, 1)
	go func() {
		answered <- ask(t, a, call{method: http.MethodPost, path: "/v1/queues/spare/lease", body: `{"wait_ms":60000}`})
	}()
	eventually(t, "the request waits", func() bool { return len(a.waiting) == 1 })
	if len(a.slots) != 0 {
		t.Errorf("%d of the slots for other requests are taken, want none", len(a.slots))
	}
	a.stopNow()
	if r := <-answered; r.StatusCode != 200 || !strings.Contains(r.body, `"jobs":[]`) {
		t.Errorf("answered %d %s, want no jobs", r.StatusCode, r.body)
	}
}
