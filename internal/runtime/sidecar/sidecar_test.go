package sidecar

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// configured is the configuration of a file and an environment, on free ports and a directory of its own.
func configured(t testing.TB, env map[string]string, file string) *config.Config {
	t.Helper()
	conf, err := config.Load(sources(t, env, file))
	if err != nil {
		t.Fatal(err)
	}
	return conf
}

func sources(t testing.TB, env map[string]string, file string) config.Sources {
	t.Helper()
	dir := t.TempDir()
	return config.Sources{
		Env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(name string) ([]byte, error) {
			if name == config.DefaultFile {
				return []byte(file), nil
			}
			return os.ReadFile(name)
		},
		Flags: map[string]string{"listen": "127.0.0.1:0", "gateway-listen": "127.0.0.1:0", "state-dir": dir},
	}
}

// A lockedBuffer is a log that a test reads while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// A running sidecar, which ends with its test.
type running struct {
	Started
	Log  *lockedBuffer
	stop func() error
}

func run(t testing.TB, conf *config.Config, o Options) *running {
	t.Helper()
	r, err := tryRun(t, conf, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func tryRun(t testing.TB, conf *config.Config, o Options) (*running, error) {
	t.Helper()
	r := &running{Log: &lockedBuffer{}}
	o.Log = NewLogger(r.Log, "test", slog.LevelDebug)
	started := make(chan Started, 1)
	o.Started = func(s Started) { started <- s }
	s, err := New(conf, o)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	var once sync.Once
	var result error
	r.stop = func() error {
		once.Do(func() {
			cancel()
			result = <-ended
		})
		return result
	}
	select {
	case r.Started = <-started:
	case err := <-ended:
		cancel()
		return nil, errors.Join(errors.New("it ended"), err)
	}
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Errorf("Run = %v", err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", r.Log)
		}
	})
	return r, nil
}

// ask sends one request and returns status and body.
func ask(t *testing.T, method, url, body string, headers ...string) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// patience is how long what a test waits for may take on a machine that is busy, where time is not what is tested.
const patience = time.Minute

// patient is a configuration whose cache and limits wait so long for their Redis.
const patient = "cache: {deadline: 1m}\nlimits: {deadline: 1m}\n"

// eventually polls f until it is true.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !f() {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", patience, what)
		}
		<-tick.C
	}
}

func TestOneProcessServesCacheLimitsAndGateway(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := run(t, configured(t, map[string]string{"REDIS_URL": server.URL()}, patient), Options{})
	api, gateway := "http://"+r.API, "http://"+r.Gateway

	if code, body := ask(t, http.MethodPost, gateway, `["SET","greeting","hello"]`); code != 200 || !strings.Contains(body, "OK") {
		t.Errorf("gateway SET: %d %s", code, body)
	}
	if got := server.Client(t).Get(t.Context(), "greeting").Val(); got != "hello" {
		t.Errorf("in the Redis: %q", got)
	}
	if code, body := ask(t, http.MethodPut, api+"/v1/cache/keys/user:1", `"value"`, "Content-Type", "application/json"); code >= 300 {
		t.Errorf("cache PUT: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, api+"/v1/cache/keys/user:1", ""); code != 200 || !strings.Contains(body, "value") {
		t.Errorf("cache GET: %d %s", code, body)
	}
	check := `{"rule":"api","subject":{"user":"u1"}}`
	if code, body := ask(t, http.MethodPost, api+"/v1/limit/check", check, "Content-Type", "application/json"); code != 200 || !strings.Contains(body, `"allowed":true`) {
		t.Errorf("limit: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, api+"/readyz", ""); code != 200 || !strings.Contains(body, `"ready":true`) {
		t.Errorf("ready: %d %s", code, body)
	}
	eventually(t, "the request is in the metrics", func() bool { // it is counted when it has been answered
		code, body := ask(t, http.MethodGet, api+"/metrics", "")
		return code == 200 && strings.Contains(body, `redisopt_gateway_requests_total{status="200"} 1`) && strings.Contains(body, "redisopt_control_epoch")
	})
	if err := r.stop(); err != nil {
		t.Errorf("Run = %v", err)
	}
	if log := r.Log.String(); !strings.Contains(log, `"event":"stopped"`) || !strings.Contains(log, `"service":"test"`) {
		t.Errorf("log:\n%s", log)
	}
}

func TestAtMostThreeConnectionsUnderFiveHundredClients(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := run(t, configured(t, map[string]string{"REDIS_URL": server.URL()}, ""), Options{})
	observer := server.Client(t)
	transport := &http.Transport{MaxIdleConnsPerHost: 500}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	post := func(url, body string) error {
		req, err := http.NewRequestWithContext(context.WithoutCancel(t.Context()), http.MethodPost, url, strings.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		if resp.StatusCode != 200 && err == nil {
			err = fmt.Errorf("%s: %s", url, resp.Status)
		}
		return errors.Join(err, resp.Body.Close())
	}
	var all sync.WaitGroup
	errs := make(chan error, 1000)
	for i := range 500 {
		all.Go(func() {
			if i%2 == 0 {
				errs <- post("http://"+r.Gateway+"/pipeline", fmt.Sprintf(`[["SET","k%d","v"],["GET","k%d"]]`, i, i))
			} else {
				errs <- post("http://"+r.API+"/v1/limit/check", fmt.Sprintf(`{"rule":"api","subject":{"user":"u%d"}}`, i))
			}
		})
	}
	most := 0
	done := make(chan struct{})
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
	if most > 3 || most < 1 {
		t.Errorf("%d connections by CLIENT LIST, want 1 to 3", most)
	}
	t.Logf("at most %d connections by CLIENT LIST under 500 clients", most)
}

func TestOnRESTAloneNoConnectionIsHeld(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	far := run(t, configured(t, map[string]string{"REDIS_URL": server.URL(), "REDISOPT_TOKEN": "far-token"}, ""), Options{})
	env := map[string]string{"UPSTASH_REDIS_REST_URL": "http://" + far.Gateway, "UPSTASH_REDIS_REST_TOKEN": "far-token"}
	near := run(t, configured(t, env, ""), Options{})
	if len(near.Upstreams) != 1 || near.Upstreams[0].Transport != "rest" || near.Upstreams[0].MaxConnections != 0 {
		t.Errorf("upstreams = %+v, want one over REST", near.Upstreams)
	}
	api, look := "http://"+near.API, server.Client(t)
	eventually(t, "a value is in the Redis", func() bool { // a write has 150 ms, which a busy machine may miss
		if code, body := ask(t, http.MethodPut, api+"/v1/cache/keys/user:1", `"value"`, "Content-Type", "application/json"); code >= 300 {
			t.Errorf("cache PUT: %d %s", code, body)
		}
		return len(look.Keys(t.Context(), "*user*1*").Val()) > 0
	})
	if code, body := ask(t, http.MethodPost, api+"/v1/limit/check", `{"rule":"api","subject":{"user":"u1"}}`, "Content-Type", "application/json"); code != 200 {
		t.Errorf("limit: %d %s", code, body)
	}
	_, metrics := ask(t, http.MethodGet, api+"/metrics", "")
	for line := range strings.Lines(metrics) {
		if strings.HasPrefix(line, "redisopt_upstream_connections{") && !strings.HasSuffix(strings.TrimSpace(line), " 0") {
			t.Errorf("a connection is held: %s", line)
		}
	}
	eventually(t, "CLIENT LIST has at most the 3 connections of the far one", func() bool { // it sees ends late
		list, err := look.ClientList(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Count(list, "\n")-1 <= 3 // without the observer
	})
}

func TestCacheAndLimitsPreferRESTAndTheRestUsesTCP(t *testing.T) {
	t.Parallel()
	far := run(t, configured(t, map[string]string{"REDISOPT_TOKEN": "far-token"}, ""), Options{Embedded: true})
	server := redistest.Start(t)
	env := map[string]string{
		"UPSTASH_REDIS_REST_URL": "http://" + far.Gateway, "UPSTASH_REDIS_REST_TOKEN": "far-token", "REDIS_URL": server.URL(),
	}
	r := run(t, configured(t, env, ""), Options{})
	if len(r.Upstreams) != 2 || r.Upstreams[0].Name != "rest" || r.Upstreams[1].Name != "tcp" {
		t.Fatalf("upstreams = %+v", r.Upstreams)
	}
	if code, body := ask(t, http.MethodPut, "http://"+r.API+"/v1/cache/keys/user:1", `"v"`, "Content-Type", "application/json"); code >= 300 {
		t.Errorf("cache PUT: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodPost, "http://"+r.Gateway, `["SET","plain","1"]`); code != 200 {
		t.Errorf("gateway: %d %s", code, body)
	}
	client := server.Client(t)
	if n := client.Exists(t.Context(), "cache:user:1").Val(); n != 0 {
		t.Error("the cache's entry went over TCP")
	}
	if n := client.Exists(t.Context(), "plain").Val(); n != 1 {
		t.Error("the gateway's key did not go over TCP")
	}
}

// freePort is an address that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func TestAnUpstreamThatIsOurselvesIsRefused(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"gateway-listen", "listen"} {
		var addr string
		var err error
		for taken := true; taken; { // by somebody else, who was quicker
			addr = freePort(t)
			s := sources(t, map[string]string{"UPSTASH_REDIS_REST_URL": "http://" + addr, "UPSTASH_REDIS_REST_TOKEN": "t"}, "")
			s.Flags[key] = addr
			conf, wrong := config.Load(s)
			if wrong != nil {
				t.Fatal(wrong)
			}
			_, err = tryRun(t, conf, Options{})
			taken = isA[*ListenError](err)
		}
		if loop, ok := errors.AsType[*LoopError](err); !ok || loop.Addr != addr {
			t.Errorf("%s: Run = %v, want a *LoopError", key, err)
		}
		eventually(t, key+": the listener is not left", func() bool { // somebody else's ends
			again, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", addr)
			if err == nil {
				_ = again.Close()
			}
			return err == nil
		})
	}
}

func TestWhatEndsTheStartLeavesNothing(t *testing.T) {
	t.Parallel()
	t.Run("a directory that another sidecar uses", func(t *testing.T) {
		s := sources(t, nil, "")
		conf, err := config.Load(s)
		if err != nil {
			t.Fatal(err)
		}
		first := run(t, conf, Options{Embedded: true})
		if _, err := tryRun(t, conf, Options{Embedded: true}); !errors.Is(err, history.ErrLocked) {
			t.Errorf("Run = %v, want ErrLocked", err)
		}
		if err := first.stop(); err != nil {
			t.Fatal(err)
		}
		run(t, conf, Options{Embedded: true})
	})
	t.Run("an address that is taken", func(t *testing.T) {
		l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = l.Close() }()
		s := sources(t, nil, "")
		s.Flags["gateway-listen"] = l.Addr().String()
		conf, err := config.Load(s)
		if err != nil {
			t.Fatal(err)
		}
		_, err = tryRun(t, conf, Options{Embedded: true})
		if taken, ok := errors.AsType[*ListenError](err); !ok || taken.Key != "serve.gateway_listen" {
			t.Errorf("Run = %v, want a *ListenError", err)
		}
	})
	t.Run("a control document of a newer program", func(t *testing.T) {
		server := redistest.Start(t)
		if err := server.Client(t).Set(t.Context(), control.DefaultKey, `{"schema":99}`, 0).Err(); err != nil {
			t.Fatal(err)
		}
		conf := configured(t, map[string]string{"REDIS_URL": server.URL()}, "")
		s, err := New(conf, Options{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		err = s.Run(ctx)
		if newer, ok := errors.AsType[*control.SchemaError](err); !ok || newer.Got != 99 {
			t.Errorf("Run = %v, want a *control.SchemaError", err)
		}
	})
	t.Run("without an upstream", func(t *testing.T) {
		_, err := New(configured(t, nil, ""), Options{})
		if err == nil || !strings.Contains(err.Error(), "UPSTASH_REDIS_REST_URL") || !strings.Contains(err.Error(), "REDIS_URL") {
			t.Errorf("New = %v, want the variables named", err)
		}
	})
}

func TestItStartsWhileTheUpstreamIsDownAndSaysSo(t *testing.T) {
	t.Parallel()
	r := run(t, configured(t, map[string]string{"REDIS_URL": "redis://127.0.0.1:1"}, ""), Options{})
	if code, body := ask(t, http.MethodGet, "http://"+r.API+"/healthz", ""); code != 200 {
		t.Errorf("healthz: %d %s", code, body)
	}
	if code, body := ask(t, http.MethodGet, "http://"+r.API+"/readyz", ""); code != 503 || !strings.Contains(body, "refused") {
		t.Errorf("readyz: %d %s, want 503 with the cause", code, body)
	}
	if code, body := ask(t, http.MethodPost, "http://"+r.Gateway, `["GET","x"]`); code < 500 || !strings.Contains(body, "error") {
		t.Errorf("gateway: %d %s, want an error of the protocol", code, body)
	}
	if code, body := ask(t, http.MethodPost, "http://"+r.API+"/v1/limit/check", `{"rule":"api","subject":{"user":"u"}}`, "Content-Type", "application/json"); code != 200 {
		t.Errorf("a rule that counts locally: %d %s", code, body)
	}
	eventually(t, "the refused connection is logged", func() bool {
		return strings.Contains(r.Log.String(), eventUpstreamRefused)
	})
}

func TestTheStoreInThisProcessIsNamedEverywhere(t *testing.T) {
	t.Parallel()
	r := run(t, configured(t, nil, ""), Options{Embedded: true})
	if !r.Embedded || r.Guarded {
		t.Errorf("started = %+v", r.Started)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := ask(t, http.MethodGet, "http://"+r.API+path, ""); code != 200 || !strings.Contains(body, `"embedded":true`) {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	if _, body := ask(t, http.MethodGet, "http://"+r.API+"/metrics", ""); !strings.Contains(body, "redisopt_api_embedded 1") {
		t.Errorf("metrics do not say embedded=true")
	}
	if !strings.Contains(r.Log.String(), `"embedded":true`) {
		t.Error("the log does not say embedded")
	}
	// The rule for text messages works without a key to hash numbers by: it has one of its own.
	if code, body := ask(t, http.MethodPost, "http://"+r.API+"/v1/limit/check", `{"rule":"sms","subject":{"phone":"+4917012345"}}`, "Content-Type", "application/json"); code != 200 {
		t.Errorf("sms: %d %s", code, body)
	}
}

func TestATokenOpensOnlyItsOwnDoors(t *testing.T) {
	t.Parallel()
	file := `
serve:
  tokens:
    - {name: app, token: application-secret-1, gateway: read}
    - {name: api, token: application-secret-2, scopes: ["cache:read"]}
`
	r := run(t, configured(t, nil, file), Options{Embedded: true})
	gateway, cache := "http://"+r.Gateway, "http://"+r.API+"/v1/cache/keys/x"
	for name, x := range map[string]struct {
		method, url, body, token string
		want                     int
	}{
		"the gateway without a token":            {http.MethodPost, gateway, `["GET","x"]`, "", 401},
		"the gateway with the other's token":     {http.MethodPost, gateway, `["GET","x"]`, "application-secret-2", 401},
		"the gateway with its token":             {http.MethodPost, gateway, `["GET","x"]`, "application-secret-1", 200},
		"a write with a token that reads":        {http.MethodPost, gateway, `["SET","x","1"]`, "application-secret-1", 400},
		"the API without a token":                {http.MethodGet, cache, "", "", 401},
		"the API with the gateway's token":       {http.MethodGet, cache, "", "application-secret-1", 401},
		"the API with its token":                 {http.MethodGet, cache, "", "application-secret-2", 404},
		"a delete with a token that reads":       {http.MethodDelete, cache, "", "application-secret-2", 403},
		"the API's health needs no token at all": {http.MethodGet, "http://" + r.API + "/healthz", "", "", 200},
	} {
		headers := []string{}
		if x.token != "" {
			headers = []string{"Authorization", "Bearer " + x.token}
		}
		if code, body := ask(t, x.method, x.url, x.body, headers...); code != x.want {
			t.Errorf("%s: %d %s, want %d", name, code, body, x.want)
		}
	}
	if strings.Contains(r.Log.String(), "application-secret") {
		t.Error("a token is in the log")
	}
}

func TestAChangeOfTheFileIsTakenWhileItRuns(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "redisopt.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil { // as editors do
			t.Fatal(err)
		}
	}
	write("limits: {rules: {api: {limit: 5}}}\n")
	s := sources(t, nil, "")
	s.File = file
	s.ReadFile = os.ReadFile
	load := func() (*config.Config, error) { return config.Load(s) }
	conf, err := load()
	if err != nil {
		t.Fatal(err)
	}
	reload := make(chan struct{})
	level := &slog.LevelVar{}
	r := run(t, conf, Options{Embedded: true, Load: load, File: file, Reload: reload, Level: level})
	limit := func() string {
		_, body := ask(t, http.MethodPost, "http://"+r.API+"/v1/limit/check", `{"rule":"api","subject":{"user":"u"}}`, "Content-Type", "application/json")
		var result struct {
			Limit json.Number `json:"limit"`
		}
		_ = json.Unmarshal([]byte(body), &result)
		return result.Limit.String()
	}
	if got := limit(); got != "5" {
		t.Errorf("limit = %s, want 5", got)
	}
	write("limits: {rules: {api: {limit: 7}}}\nserve: {log_level: debug}\ncache: {l1_bytes: 1000000}\n")
	eventually(t, "the new limit is in force", func() bool { return limit() == "7" })
	eventually(t, "what needs a restart is named", func() bool {
		log := r.Log.String()
		return strings.Contains(log, "limits.rules.api.limit: 5 -> 7") && strings.Contains(log, eventRestart) &&
			strings.Contains(log, "cache.l1_bytes: 67108864 -> 1000000") && level.Level() == slog.LevelDebug
	})
	write("limits: {rules: {api: {limit: -1}}}\n")
	reload <- struct{}{}
	eventually(t, "a wrong file is refused", func() bool {
		return strings.Contains(r.Log.String(), eventInvalid) && strings.Contains(r.Log.String(), "got -1, want at least 1")
	})
	if got := limit(); got != "7" {
		t.Errorf("after a wrong file: limit = %s, want the 7 of before", got)
	}
}

func TestAChangeOfControlReachesARunningSidecar(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	r := run(t, configured(t, map[string]string{"REDIS_URL": server.URL()}, ""), Options{})
	elsewhere, err := control.Open(control.Options{Client: server.Client(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := elsewhere.Update(t.Context(), func(d *control.Document) error {
		d.Kill, d.By, d.Reason = []string{"limit"}, "ops", "trying out"
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the kill switch is in force", func() bool {
		code, _ := ask(t, http.MethodPost, "http://"+r.API+"/v1/limit/check", `{"rule":"api","subject":{"user":"u"}}`, "Content-Type", "application/json")
		return code == 503
	})
	eventually(t, "it is logged", func() bool { return strings.Contains(r.Log.String(), eventControlChanged) })
}

func TestASampleIsOnDiskWhenItStops(t *testing.T) {
	t.Parallel()
	s := sources(t, nil, "")
	conf, err := config.Load(s)
	if err != nil {
		t.Fatal(err)
	}
	r := run(t, conf, Options{Embedded: true})
	if code, _ := ask(t, http.MethodPost, "http://"+r.Gateway, `["SET","a","1"]`); code != 200 {
		t.Errorf("gateway: %d", code)
	}
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	samples, err := history.Read(conf.Serve.StateDir, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	if err != nil || len(samples) != 1 || samples[0].Commands < 1 || samples[0].Source&history.Embedded == 0 {
		t.Errorf("samples = %+v, %v, want one of the embedded store with its commands", samples, err)
	}
}
