package api

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestBadRequestsAreToldWhatIsWrong(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	check := func(body string) call { return call{method: http.MethodPost, path: "/v1/limit/check", body: body} }
	for name, tt := range map[string]struct {
		call   call
		status int
		code   string
		says   string // in the body
	}{
		"a path that does not exist":       {call{path: "/v1/nothing"}, 404, "not_found", "/openapi.json"},
		"a path that is not clean":         {call{path: "/v1/../healthz"}, 404, "not_found", "%2F"},
		"a method that is not possible":    {call{method: http.MethodPatch, path: "/v1/control"}, 405, "method_not_allowed", "GET"},
		"GET where POST is meant":          {call{path: "/v1/limit/check"}, 405, "method_not_allowed", "POST"},
		"a preflight of a browser":         {call{method: http.MethodOptions, path: "/v1/control"}, 405, "method_not_allowed", "GET"},
		"a method that nobody knows":       {call{method: "BREW", path: "/v1/control"}, 405, "method_not_allowed", "BREW"},
		"no body":                          {check(""), 415, "unsupported_content_type", "application/json"},
		"a body without content type":      {call{method: http.MethodPost, path: "/v1/limit/check", body: `{}`, header: map[string]string{"Content-Type": ""}}, 415, "unsupported_content_type", "missing"},
		"a form":                           {call{method: http.MethodPost, path: "/v1/limit/check", body: `a=b`, header: map[string]string{"Content-Type": "application/x-www-form-urlencoded"}}, 415, "unsupported_content_type", "application/json"},
		"plain text":                       {call{method: http.MethodPost, path: "/v1/limit/check", body: `{}`, header: map[string]string{"Content-Type": "text/plain"}}, 415, "unsupported_content_type", "application/json"},
		"bytes where JSON is meant":        {call{method: http.MethodPost, path: "/v1/limit/check", body: `{}`, header: map[string]string{"Content-Type": "application/octet-stream"}}, 415, "unsupported_content_type", "application/json"},
		"another charset":                  {call{method: http.MethodPost, path: "/v1/limit/check", body: `{}`, header: map[string]string{"Content-Type": "application/json; charset=latin1"}}, 415, "unsupported_content_type", "application/json"},
		"a content type that is garbage":   {call{method: http.MethodPost, path: "/v1/limit/check", body: `{}`, header: map[string]string{"Content-Type": "a/b/c;;="}}, 415, "unsupported_content_type", "application/json"},
		"a compressed body":                {call{method: http.MethodPost, path: "/v1/limit/check", body: `{}`, header: map[string]string{"Content-Encoding": "gzip"}}, 415, "unsupported_content_encoding", ""},
		"spaces for a body":                {check("  \n"), 400, "malformed_body", "empty"},
		"half of a document":               {check(`{"rule":`), 400, "malformed_body", "not JSON"},
		"two documents":                    {check(`{"rule":"api"}{}`), 400, "malformed_body", "not JSON"},
		"a comment":                        {check("{\"rule\":\"api\" // which\n}"), 400, "malformed_body", "line 1"},
		"a byte that is not UTF-8":         {check("{\"rule\":\"a\xffpi\"}"), 400, "malformed_body", "byte 10"},
		"a list":                           {check(`[]`), 422, "invalid_request", "body"},
		"null":                             {check(`null`), 422, "invalid_request", "body"},
		"a number":                         {check(`1`), 422, "invalid_request", "body"},
		"a field that does not exist":      {check(`{"rule":"api","subject":{"user":"1"},"costs":1}`), 422, "invalid_request", "body.costs"},
		"a field in another case":          {check(`{"Rule":"api","subject":{"user":"1"}}`), 400, "malformed_body", "lower case"},
		"a field twice, in two cases":      {check(`{"rule":"api","subject":{"user":"1"},"cost":1,"COST":-1}`), 400, "malformed_body", "lower case"},
		"a field that is missing":          {check(`{"rule":"api"}`), 422, "invalid_request", "subject"},
		"a negative cost":                  {check(`{"rule":"api","subject":{"user":"1"},"cost":-1}`), 422, "invalid_request", "body.cost"},
		"a cost of nothing":                {check(`{"rule":"api","subject":{"user":"1"},"cost":0}`), 422, "invalid_request", "body.cost"},
		"a cost in words":                  {check(`{"rule":"api","subject":{"user":"1"},"cost":"1"}`), 422, "invalid_request", "body.cost"},
		"half a cost":                      {check(`{"rule":"api","subject":{"user":"1"},"cost":1.5}`), 422, "invalid_request", "body.cost"},
		"a cost beyond all numbers":        {check(`{"rule":"api","subject":{"user":"1"},"cost":1e400}`), 400, "malformed_body", "body"},
		"a cost beyond 64 bits":            {check(`{"rule":"api","subject":{"user":"1"},"cost":99999999999999999999}`), 422, "invalid_request", "body"},
		"an object for a rule":             {check(`{"rule":{"a":1},"subject":{"user":"1"}}`), 422, "invalid_request", "body.rule"},
		"a rule that does not exist":       {check(`{"rule":"nope","subject":{"user":"1"}}`), 422, "unknown_rule", "api"},
		"nobody to count":                  {check(`{"rule":"api","subject":{}}`), 422, "no_identity", "rule"},
		"a user called undefined":          {check(`{"rule":"api","subject":{"user":"undefined"}}`), 422, "no_identity", "rule"},
		"an address that is none":          {check(`{"rule":"address","subject":{"ip":"300.1.1.1"}}`), 422, "invalid_request", "body.subject.ip"},
		"two addresses":                    {check(`{"rule":"address","subject":{"ip":"1.1.1.1","remote_addr":"1.1.1.1"}}`), 422, "invalid_request", "not both"},
		"a header that nobody vouches":     {check(`{"rule":"address","subject":{"forwarded_for":["1.1.1.1"]}}`), 422, "invalid_request", "forwarded_for"},
		"a list of no requests":            {call{method: http.MethodPost, path: "/v1/limit/check-many", body: `{"requests":[]}`}, 422, "invalid_request", "body.requests"},
		"no list at all":                   {call{method: http.MethodPost, path: "/v1/limit/check-many", body: `{"requests":null}`}, 422, "invalid_request", "body.requests"},
		"a second request that is bad":     {call{method: http.MethodPost, path: "/v1/limit/check-many", body: `{"requests":[{"rule":"api","subject":{"user":"1"}},{"rule":"api","subject":{"user":"1"},"cost":-5}]}`}, 422, "invalid_request", "body.requests[1].cost"},
		"a status that is no choice":       {call{method: http.MethodPost, path: "/v1/limit/check?denied=418", body: `{"rule":"api","subject":{"user":"1"}}`}, 422, "invalid_request", "query.denied"},
		"a parameter that does not exist":  {call{method: http.MethodPut, path: "/v1/cache/keys/a?ttl=5", body: `1`}, 422, "invalid_request", "query.ttl"},
		"a negative time to live":          {call{method: http.MethodPut, path: "/v1/cache/keys/a?ttl_seconds=-1", body: `1`}, 422, "invalid_request", "query.ttl_seconds"},
		"a time to live in words":          {call{method: http.MethodPut, path: "/v1/cache/keys/a?ttl_seconds=soon", body: `1`}, 422, "invalid_request", "query.ttl_seconds"},
		"a time to live that is no number": {call{method: http.MethodPut, path: "/v1/cache/keys/a?ttl_seconds=NaN", body: `1`}, 422, "invalid_request", "ttl_seconds"},
		"a time to live too short":         {call{method: http.MethodPut, path: "/v1/cache/keys/a?ttl_seconds=0.0000001", body: `1`}, 422, "invalid_request", "class"},
		"a class that does not exist":      {call{method: http.MethodPut, path: "/v1/cache/keys/a?class=NOPE", body: `1`}, 422, "invalid_request", "NOPE"},
		"a class for limits":               {call{method: http.MethodPut, path: "/v1/cache/keys/a?class=RATE_LIMIT", body: `1`}, 422, "invalid_request", "RATE_LIMIT"},
		"a class without a key to encrypt": {call{method: http.MethodPut, path: "/v1/cache/keys/session:1?class=SESSION", body: `1`}, 422, "invalid_request", "SESSION"},
		"a password in a value":            {call{method: http.MethodPut, path: "/v1/cache/keys/a", body: `{"password":"hunter2"}`}, 422, "cache_denied", "password"},
		"a key with an empty part":         {call{path: "/v1/cache/keys/user::profile"}, 422, "invalid_request", "path.key"},
		"a key that is a pattern":          {call{path: "/v1/cache/keys/user:*"}, 422, "invalid_request", "path.key"},
		"a key that is not UTF-8":          {call{path: "/v1/cache/keys/user:%FF"}, 422, "invalid_request", "path.key"},
		"a value that is no JSON":          {call{method: http.MethodPut, path: "/v1/cache/keys/a", body: `{"a"`}, 400, "malformed_body", "not JSON"},
		"a value twice":                    {call{method: http.MethodPost, path: "/v1/cache/set", body: `{"entries":[{"key":"a","value":1,"value_base64":"AA=="}]}`}, 422, "invalid_request", "exactly one"},
		"a value not at all":               {call{method: http.MethodPost, path: "/v1/cache/set", body: `{"entries":[{"key":"a"}]}`}, 422, "invalid_request", "body.entries[0]"},
		"base64 that is none":              {call{method: http.MethodPost, path: "/v1/cache/set", body: `{"entries":[{"key":"a","value_base64":"!!"}]}`}, 422, "invalid_request", "body"},
		"an override without a reason":     {call{method: http.MethodPost, path: "/v1/control", body: `{"kill":["a"]}`}, 422, "invalid_request", "reason"},
		"a ramp of 200 percent":            {call{method: http.MethodPost, path: "/v1/control", body: `{"reason":"x","ramps":{"phase1":200}}`}, 422, "invalid_request", "phase1"},
		"a switch without a name":          {call{method: http.MethodPost, path: "/v1/control", body: `{"reason":"x","kill":[""]}`}, 422, "invalid_request", "kill"},
	} {
		r := ask(t, a, tt.call)
		if r.StatusCode != tt.status {
			t.Errorf("%s = %d, want %d: %s", name, r.StatusCode, tt.status, r.body)
			continue
		}
		p := r.problem(t)
		if p.Code != tt.code || !strings.Contains(r.body, tt.says) {
			t.Errorf("%s: %s, want code %q and to hear of %q", name, r.body, tt.code, tt.says)
		}
		if p.Hint == "" {
			t.Errorf("%s: no hint: %s", name, r.body)
		}
		for _, leaked := range []string{"hunter2", "goroutine", ".go:", "127.0.0.1"} {
			if strings.Contains(r.body, leaked) {
				t.Errorf("%s: the answer has %q: %s", name, leaked, r.body)
			}
		}
	}
}

func TestEveryProblemOfARequestIsToldAtOnce(t *testing.T) {
	t.Parallel()
	a := newAPI(t, engines(t, open(t)))
	p := ask(t, a, call{method: http.MethodPost, path: "/v1/limit/check?denied=1&x=2", body: `{"rule":"","subject":{"usr":"1"},"cost":-1}`}).problem(t)
	if len(p.Errors) < 1 {
		t.Fatalf("problem = %+v, want its parts", p)
	}
	p = ask(t, a, call{method: http.MethodPost, path: "/v1/limit/check", body: `{"rule":"","subject":{"usr":"1"},"cost":-1}`}).problem(t)
	var where []string
	for _, e := range p.Errors {
		where = append(where, e.Location)
	}
	for _, want := range []string{"body.rule", "body.subject.usr", "body.cost"} {
		if !strings.Contains(strings.Join(where, " "), want) {
			t.Errorf("errors at %v, want %s among them", where, want)
		}
	}
}

func TestARequestKeepsItsIDIfItIsSane(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{})
	for id, kept := range map[string]bool{
		"abc-123_4.5:6":                   true,
		strings.Repeat("a", 128):          true,
		strings.Repeat("a", 129):          false,
		"has space":                       false,
		"<script>":                        false,
		"00-4bf92f3577b34da6a3ce929d0e0e": true,
		"":                                false,
		"über":                            false,
	} {
		got := ask(t, a, call{path: "/healthz", header: map[string]string{"X-Request-Id": id}}).Header.Get("X-Request-Id")
		if (got == id) != kept || got == "" {
			t.Errorf("X-Request-Id %q was answered with %q, want it kept: %v", id, got, kept)
		}
	}
}

func TestWhatIsNotEnabledSaysSo(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{})
	for name, op := range guarded() {
		if name == "metrics" {
			continue
		}
		r := ask(t, a, op.call)
		if p := r.problem(t); r.StatusCode != http.StatusNotFound || p.Code != "not_enabled" || !strings.Contains(p.Hint, "configuration") {
			t.Errorf("%s without its engine = %d %+v, want 404 not_enabled", name, r.StatusCode, p)
		}
	}
}

func TestAFaultIsAnsweredAndHidden(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{})
	a.handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("secret state") })
	r := ask(t, a, call{path: "/healthz"})
	if p := r.problem(t); r.StatusCode != http.StatusInternalServerError || p.Code != "internal" || strings.Contains(r.body, "secret") {
		t.Errorf("a panic = %d %s, want 500 and nothing of it", r.StatusCode, r.body)
	}
	if r := ask(t, a, call{path: "/healthz"}); r.StatusCode != http.StatusInternalServerError {
		t.Errorf("after it = %d, want the server to go on", r.StatusCode)
	}
}

func TestEveryAnswerSaysWhoAnsweredAndIsNotGuessedAt(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{InstanceID: "replica-1"})
	for _, path := range []string{"/healthz", "/nothing", "/metrics"} {
		h := ask(t, a, call{path: path}).Header
		if h.Get("Redisopt-Instance") != "replica-1" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: headers %v, want instance, nosniff and no-store", path, h)
		}
	}
}

// FuzzBodies sends anything as the body of every operation that takes one: the answer is always whole
// JSON, never a fault.
func FuzzBodies(f *testing.F) {
	o := engines(f, open(f))
	a := newAPI(f, o)
	paths := []string{
		"/v1/limit/check", "/v1/limit/check-many?denied=429", "/v1/limit/peek", "/v1/limit/reset",
		"/v1/cache/get", "/v1/cache/set", "/v1/cache/delete", "/v1/cache/invalidate", "/v1/cache/delete-pattern", "/v1/control",
	}
	for _, op := range guarded() {
		f.Add(uint8(0), op.call.body)
	}
	for i, seed := range []string{
		`{"rule":"api","subject":{"user":"1"},"cost":1e400}`, `{"requests":[{"rule":"api","subject":{}}]}`, `{"keys":["a","a","\u0000"]}`,
		`{"entries":[{"key":"x","value":null}]}`, `{"entries":[{"key":"x","value_base64":"AA==","ttl_seconds":1e308}]}`, `{"tags":["a:b"]}`,
		`{"pattern":"*","max_commands":9223372036854775807}`, `{"reason":"x","ramps":{"a":1}}`, `[[[[[[`, "\xff\xfe", `{"a":{"a":{"a":{}}}}`,
	} {
		f.Add(uint8(i), seed)
	}
	f.Fuzz(func(t *testing.T, which uint8, body string) {
		path := paths[int(which)%len(paths)]
		if path == "/v1/control" && strings.Contains(body, "kill") {
			return // it would switch off what is tested
		}
		r := ask(t, a, call{method: http.MethodPost, path: path, body: body})
		if r.StatusCode >= 500 {
			t.Errorf("%s with %q = %d %s", path, body, r.StatusCode, r.body)
		}
		if !json.Valid([]byte(r.body)) || !utf8.ValidString(r.body) {
			t.Errorf("%s with %q: the answer is no JSON: %q", path, body, r.body)
		}
		if r.StatusCode >= 400 {
			r.problem(t)
		}
	})
}
