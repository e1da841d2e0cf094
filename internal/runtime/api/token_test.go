package api

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// guarded are all operations that ask for a token, with a request to each that is otherwise in order.
func guarded() map[string]struct {
	scope Scope
	call  call
} {
	type op = struct {
		scope Scope
		call  call
	}
	post := func(path, body string) call { return call{method: http.MethodPost, path: path, body: body} }
	const subject = `{"rule":"api","subject":{"user":"42"}}`
	return map[string]op{
		"cache-get":            {ScopeCacheRead, call{path: "/v1/cache/keys/a"}},
		"cache-set":            {ScopeCacheWrite, call{method: http.MethodPut, path: "/v1/cache/keys/a", body: "1"}},
		"cache-delete":         {ScopeCacheWrite, call{method: http.MethodDelete, path: "/v1/cache/keys/a"}},
		"cache-get-many":       {ScopeCacheRead, post("/v1/cache/get", `{"keys":["a"]}`)},
		"cache-set-many":       {ScopeCacheWrite, post("/v1/cache/set", `{"entries":[{"key":"a","value":1}]}`)},
		"cache-delete-many":    {ScopeCacheWrite, post("/v1/cache/delete", `{"keys":["a"]}`)},
		"cache-invalidate":     {ScopeCacheWrite, post("/v1/cache/invalidate", `{"tags":["user:1"]}`)},
		"cache-delete-pattern": {ScopeCacheWrite, post("/v1/cache/delete-pattern", `{"pattern":"user:1:*"}`)},
		"cache-stats":          {ScopeCacheRead, call{path: "/v1/cache/stats"}},
		"limit-check":          {ScopeLimit, post("/v1/limit/check", subject)},
		"limit-check-many":     {ScopeLimit, post("/v1/limit/check-many", `{"requests":[`+subject+`]}`)},
		"limit-peek":           {ScopeLimit, post("/v1/limit/peek", subject)},
		"limit-reset":          {ScopeAdmin, post("/v1/limit/reset", subject)},
		"limit-rules":          {ScopeLimit, call{path: "/v1/limit/rules"}},
		"limit-stats":          {ScopeLimit, call{path: "/v1/limit/stats"}},
		"queue-list":           {ScopeQueue, call{path: "/v1/queues"}},
		"queue-depth":          {ScopeQueue, call{path: "/v1/queues/mail"}},
		"queue-pause":          {ScopeQueue, post("/v1/queues/spare/pause", `{}`)},
		"queue-resume":         {ScopeQueue, post("/v1/queues/spare/resume", `{}`)},
		"queue-drain":          {ScopeQueue, post("/v1/queues/spare/drain", `{}`)},
		"job-enqueue":          {ScopeQueue, post("/v1/queues/mail/jobs", `{"payload":{"user":42}}`)},
		"job-enqueue-bulk":     {ScopeQueue, post("/v1/queues/mail/jobs/bulk", `{"jobs":[{"payload":1},{"payload":2}]}`)},
		"job-list":             {ScopeQueue, call{path: "/v1/queues/mail/jobs"}},
		"job-get":              {ScopeQueue, call{path: "/v1/queues/mail/jobs/none"}},
		"job-cancel":           {ScopeQueue, call{method: http.MethodDelete, path: "/v1/queues/mail/jobs/none"}},
		"job-lease":            {ScopeQueue, post("/v1/queues/spare/lease", `{"max":1}`)},
		"lease-complete":       {ScopeQueue, post("/v1/queues/mail/leases/none/complete", `{}`)},
		"lease-fail":           {ScopeQueue, post("/v1/queues/mail/leases/none/fail", `{"reason":"broken"}`)},
		"lease-progress":       {ScopeQueue, post("/v1/queues/mail/leases/none/progress", `{"progress":42}`)},
		"lease-extend":         {ScopeQueue, post("/v1/queues/mail/leases/none/extend", `{}`)},
		"dead-retry":           {ScopeQueue, post("/v1/queues/mail/dead/retry", `{"dry_run":true}`)},
		"dead-delete":          {ScopeQueue, post("/v1/queues/mail/dead/delete", `{"filter":{"name":"send"}}`)},
		"schedule-list":        {ScopeQueue, call{path: "/v1/schedules"}},
		"schedule-put":         {ScopeQueue, call{method: http.MethodPut, path: "/v1/schedules/nightly", body: `{"queue":"mail","cron":"0 2 * * *","job":{"payload":{"userId":1}}}`}},
		"schedule-delete":      {ScopeQueue, call{method: http.MethodDelete, path: "/v1/schedules/none"}},
		"schedule-pause":       {ScopeQueue, call{method: http.MethodPost, path: "/v1/schedules/none/pause"}},
		"schedule-resume":      {ScopeQueue, call{method: http.MethodPost, path: "/v1/schedules/none/resume"}},
		"budget":               {ScopeControlRead, call{path: "/v1/budget"}},
		"fleet":                {ScopeControlRead, call{path: "/v1/fleet"}},
		"control-get":          {ScopeControlRead, call{path: "/v1/control"}},
		"control-override":     {ScopeAdmin, post("/v1/control", `{"reason":"test","kill":["phase1"]}`)},
		"control-override-end": {ScopeAdmin, call{method: http.MethodDelete, path: "/v1/control"}},
		"ramp-get":             {ScopeControlRead, call{path: "/v1/ramp"}},
		"ramp-stats":           {ScopeControlRead, call{path: "/v1/ramp/stats"}},
		"ramp-report":          {ScopeCacheWrite, post("/v1/ramp/report", `{"route":"cache","compared":{"match":1}}`)},
		"metrics":              {ScopeMetrics, call{path: "/metrics"}},
	}
}

func TestEveryOperationAsksForItsScope(t *testing.T) {
	t.Parallel()
	o := engines(t, open(t))
	o.Tokens = tokens()
	a := newAPI(t, o)
	for name, op := range guarded() {
		for _, s := range Scopes() {
			op.call.header = bearer(secret(s))
			r := ask(t, a, op.call)
			if s == op.scope || s == ScopeAdmin {
				if r.StatusCode >= 500 || r.StatusCode == 401 || r.StatusCode == 403 {
					t.Errorf("%s with scope %s = %d, want it done: %s", name, s, r.StatusCode, r.body)
				}
				continue
			}
			if r.StatusCode != http.StatusForbidden {
				t.Errorf("%s with scope %s = %d, want 403", name, s, r.StatusCode)
				continue
			}
			p := r.problem(t)
			if p.Code != "insufficient_scope" || !strings.Contains(p.Hint, string(op.scope)) || !strings.Contains(r.Header.Get("WWW-Authenticate"), `scope="`+string(op.scope)+`"`) {
				t.Errorf("%s with scope %s: %+v, want the scope that is missing", name, s, p)
			}
		}
		for what, header := range map[string]map[string]string{
			"no token":            {},
			"an unknown token":    bearer("guessed"),
			"another scheme":      {"Authorization": "Basic " + secret(ScopeAdmin)},
			"no scheme":           {"Authorization": secret(ScopeAdmin)},
			"an empty token":      {"Authorization": "Bearer "},
			"half a token":        bearer(secret(ScopeAdmin)[:8]),
			"a token and more":    bearer(secret(ScopeAdmin) + "x"),
			"a very long token":   bearer(strings.Repeat("x", 10_000)),
			"a token in a cookie": {"Cookie": "token=" + secret(ScopeAdmin)},
		} {
			op.call.header = header
			r := ask(t, a, op.call)
			if r.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s with %s = %d, want 401", name, what, r.StatusCode)
				continue
			}
			if p := r.problem(t); p.Code != "unauthorized" || !strings.HasPrefix(r.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s with %s: %+v, want to hear how to authenticate", name, what, p)
			}
			if strings.Contains(r.body, "secret-of") {
				t.Errorf("%s with %s: the answer has a secret: %s", name, what, r.body)
			}
		}
	}
}

func TestTheTableOfScopesIsComplete(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{})
	table := guarded()
	for _, op := range operations(t, a) {
		row, listed := table[op.id]
		if open := op.scope == ""; open == listed {
			t.Errorf("%s asks for scope %q, and is listed as guarded: %v", op.id, op.scope, listed)
		}
		if listed && string(row.scope) != op.scope {
			t.Errorf("%s asks for scope %q, want %q", op.id, op.scope, row.scope)
		}
		delete(table, op.id)
	}
	for id := range table {
		t.Errorf("%s is listed and does not exist", id)
	}
}

func TestOneHeaderAuthorizationOnly(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{Tokens: tokens()})
	r := newRequest(t, "/v1/control")
	r.Header["Authorization"] = []string{"Bearer " + secret(ScopeAdmin), "Bearer other"}
	if got := serve(a, r).StatusCode; got != http.StatusUnauthorized {
		t.Errorf("two Authorization headers = %d, want 401", got)
	}
}

func TestATokenHasARateOfItsOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		all := tokens()
		all[0].MaxPerSecond, all[0].Burst = 2, 3
		a := newAPI(t, Options{Tokens: all})
		once := func(s Scope) answer { return ask(t, a, call{path: "/v1/cache/stats", header: bearer(secret(s))}) }
		for i := range 3 {
			if r := once(ScopeCacheRead); r.StatusCode == http.StatusTooManyRequests {
				t.Fatalf("request %d of a burst of 3 was refused", i)
			}
		}
		r := once(ScopeCacheRead)
		if r.StatusCode != http.StatusTooManyRequests {
			t.Fatalf("request 4 = %d, want 429", r.StatusCode)
		}
		p := r.problem(t)
		if p.Code != "token_rate_limited" || r.Header.Get("Retry-After") != "1" {
			t.Errorf("problem %+v, Retry-After %q; want a second to wait", p, r.Header.Get("Retry-After"))
		}
		if r := once(ScopeAdmin); r.StatusCode == http.StatusTooManyRequests {
			t.Error("another token was refused too")
		}
		wait, _ := strconv.Atoi(r.Header.Get("Retry-After"))
		time.Sleep(time.Duration(wait) * time.Second)
		if r := once(ScopeCacheRead); r.StatusCode == http.StatusTooManyRequests {
			t.Error("who waited as long as told was refused again")
		}
	})
}

func TestTokensAreReplacedWhileTheServerRuns(t *testing.T) {
	t.Parallel()
	limited := Token{Name: "limited", Secret: "l", Scopes: []Scope{ScopeMetrics}, MaxPerSecond: 0.001, Burst: 1}
	a := newAPI(t, Options{Tokens: []Token{{Name: "old", Secret: "o", Scopes: []Scope{ScopeMetrics}}, limited}})
	status := func(secret string) int { return ask(t, a, call{path: "/metrics", header: bearer(secret)}).StatusCode }
	if status("o") != 200 || status("n") != 401 || status("l") != 200 {
		t.Fatal("the first tokens do not work")
	}
	if err := a.SetTokens([]Token{{Name: "new", Secret: "n", Scopes: []Scope{ScopeMetrics}}, limited}); err != nil {
		t.Fatal(err)
	}
	if got := []int{status("o"), status("n"), status("l")}; !slices.Equal(got, []int{401, 200, 429}) {
		t.Errorf("old, new and limited token = %v, want the old refused, the new taken, and the limit to go on", got)
	}
	for what, tokens := range map[string][]Token{"none": nil, "a bad one": {{Name: "x"}}} {
		if err := a.SetTokens(tokens); err == nil {
			t.Errorf("SetTokens of %s = nil, want an error", what)
		}
	}
	if status("n") != 200 {
		t.Error("after a refused change the tokens in force do not work")
	}
	if err := newAPI(t, Options{}).SetTokens(tokens()); err == nil {
		t.Error("SetTokens of an open API = nil, want an error: it may listen for anybody")
	}
}

func TestWithoutTokensOnlyThisMachineIsAnswered(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{})
	for host, want := range map[string]int{
		"127.0.0.1:8080":   200,
		"localhost:8080":   200,
		"LOCALHOST":        200,
		"localhost.":       200,
		"[::1]:8080":       200,
		"127.9.9.9":        200,
		"evil.example":     421,
		"127.0.0.1.nip.io": 421,
		"10.0.0.1:8080":    421,
		"localhost.evil":   421,
	} {
		if got := ask(t, a, call{path: "/healthz", host: host}).StatusCode; got != want {
			t.Errorf("Host %s = %d, want %d", host, got, want)
		}
	}
	r := ask(t, a, call{method: http.MethodPost, path: "/v1/control", body: `{"reason":"x"}`, header: map[string]string{"Origin": "https://evil.example"}})
	if r.StatusCode != http.StatusForbidden || r.problem(t).Code != "cross_origin" {
		t.Errorf("a change from another origin = %d, want 403", r.StatusCode)
	}
}

func TestTokensThatCannotWorkAreRefusedTogether(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Tokens: []Token{
		{},
		{Name: "a", Secret: "has space", Scopes: []Scope{"nonsense"}},
		{Name: "a", Secret: "x", Scopes: []Scope{ScopeAdmin}, MaxPerSecond: -1},
		{Name: "b", Secret: "x", Scopes: []Scope{ScopeAdmin}, Burst: -1},
	}})
	if err == nil {
		t.Fatal("New = nil, want every problem")
	}
	for _, want := range []string{"no name", "no secret", "no scopes", "printable ASCII", `unknown scope "nonsense"`, "two of this name", "max per second", "burst", "the same secret"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("New = %v, want it to say %q", err, want)
		}
	}
	if strings.Contains(err.Error(), "has space") {
		t.Errorf("the error has a secret: %v", err)
	}
}
