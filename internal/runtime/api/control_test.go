package api

import (
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/control"
)

// unreachable is a client of a server that is not there.
func unreachable(t testing.TB) *redis.Client {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "127.0.0.1:1", ContextTimeoutEnabled: true, MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { _ = client.Close() })
	return client
}

func openControl(t testing.TB, client redis.UniversalClient, dir string) *control.Control {
	t.Helper()
	c, err := control.Open(control.Options{Client: client, StateDir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnOverrideWorksWhileTheUpstreamIsDown(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := openControl(t, unreachable(t), dir)
	a := newAPI(t, Options{Control: c, Tokens: tokens()})
	admin := bearer(secret(ScopeAdmin))
	r := ask(t, a, call{method: http.MethodPost, path: "/v1/control", header: admin, body: `{"kill":["phase1","phase1"],"reason":"incident 12"}`})
	got := decode[ControlState](t, r, http.StatusOK)
	if got.Source != "override" || len(got.Kill) != 1 || got.By != "token only admin" || got.Reason != "incident 12" || got.Updated.IsZero() {
		t.Errorf("override = %s, want it in force, with who and why", r.body)
	}
	if !c.Current().Killed("phase1") {
		t.Error("the switch is not thrown")
	}
	if again := openControl(t, unreachable(t), dir); !again.Current().Killed("phase1") {
		t.Error("the override does not survive a restart")
	}

	r = ask(t, a, call{method: http.MethodPost, path: "/v1/control", header: admin, body: `{"paused":["mail"],"reason":"more"}`})
	if got := decode[ControlState](t, r, http.StatusOK); len(got.Kill) != 1 || len(got.Paused) != 1 {
		t.Errorf("a second override = %s, want what it leaves out to stay", r.body)
	}
	r = ask(t, a, call{method: http.MethodDelete, path: "/v1/control", header: admin})
	if got := decode[ControlState](t, r, http.StatusOK); got.Source == "override" || len(got.Kill) != 0 {
		t.Errorf("after its end = %s, want the upstream's document", r.body)
	}
}

func TestControlIsReadConditionally(t *testing.T) {
	t.Parallel()
	a := newAPI(t, Options{Control: openControl(t, unreachable(t), t.TempDir())})
	first := ask(t, a, call{path: "/v1/control"})
	tag := first.Header.Get("ETag")
	if first.StatusCode != 200 || tag == "" || first.Header.Get("Cache-Control") != "private, no-cache" {
		t.Fatalf("control = %d %v, want an ETag and leave to keep it", first.StatusCode, first.Header)
	}
	for header, want := range map[string]int{tag: 304, "W/" + tag: 304, `"other", ` + tag: 304, "*": 304, `"other"`: 200} {
		r := ask(t, a, call{path: "/v1/control", header: map[string]string{"If-None-Match": header}})
		if r.StatusCode != want || want == 304 && (r.body != "" || r.Header.Get("ETag") != tag) {
			t.Errorf("If-None-Match %s = %d %q, want %d", header, r.StatusCode, r.body, want)
		}
	}
	change := func(header map[string]string) answer {
		return ask(t, a, call{method: http.MethodPost, path: "/v1/control", header: header, body: `{"kill":["x"],"reason":"r"}`})
	}
	if r := change(map[string]string{"If-Match": `"other"`}); r.StatusCode != http.StatusPreconditionFailed || r.problem(t).Code != "control_changed" {
		t.Errorf("an override of another state = %d, want 412", r.StatusCode)
	}
	if r := change(map[string]string{"If-Match": tag}); r.StatusCode != 200 || r.Header.Get("ETag") == tag {
		t.Errorf("an override of this state = %d with ETag %s, want 200 and another", r.StatusCode, r.Header.Get("ETag"))
	}
	if r := ask(t, a, call{path: "/v1/control", header: map[string]string{"If-None-Match": tag}}); r.StatusCode != 200 {
		t.Errorf("with the old ETag = %d, want the new state", r.StatusCode)
	}
}

func TestAnOverrideThatCannotBeKeptSaysSo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() == 0 {
		t.Log("as root a directory cannot be made unwritable; it is removed instead")
	}
	dir := t.TempDir() + "/state"
	a := newAPI(t, Options{Control: openControl(t, unreachable(t), dir)})
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir, nil, 0o600); err != nil { // a file where the directory was
		t.Fatal(err)
	}
	r := ask(t, a, call{method: http.MethodPost, path: "/v1/control", body: `{"kill":["x"],"reason":"r"}`})
	if p := r.problem(t); r.StatusCode != 500 || p.Code != "override_not_kept" || strings.Contains(r.body, dir) {
		t.Errorf("an override that is not kept = %d %s, want it said, without the path", r.StatusCode, r.body)
	}
}

func TestAKillSwitchStopsItsFeatureAlone(t *testing.T) {
	t.Parallel()
	o := engines(t, open(t))
	a := newAPI(t, o)
	if r := ask(t, a, call{method: http.MethodPost, path: "/v1/control", body: `{"kill":["cache"],"reason":"stale data"}`}); r.StatusCode != 200 {
		t.Fatalf("override = %d %s", r.StatusCode, r.body)
	}
	r := ask(t, a, call{path: "/v1/cache/keys/a"})
	if p := r.problem(t); r.StatusCode != 503 || p.Code != "switched_off" || !strings.Contains(p.Detail, "stale data") {
		t.Errorf("the cache = %d %s, want it switched off with the reason", r.StatusCode, r.body)
	}
	for _, path := range []string{"/v1/limit/rules", "/v1/control", "/healthz", "/readyz", "/metrics"} {
		if r := ask(t, a, call{path: path}); r.StatusCode != 200 {
			t.Errorf("%s = %d, want it to go on", path, r.StatusCode)
		}
	}
}
