package gateway_test

import (
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
)

func notREST(name string) string {
	return `{"error":"ERR Command \"` + name + `\" is not allowed in REST or it has a special context path"}`
}

func unavailable(name string) string {
	return `{"error":"ERR Command is not available: '` + name + `'. See docs/gateway.md of redisopt for details"}`
}

func noPermission(name string) string {
	return `{"error":"NOPERM this user has no permissions to run the '` + name + `' command or its subcommand"}`
}

func TestPolicy(t *testing.T) {
	t.Parallel()
	var steps []step
	add := func(name, want string, paths ...string) {
		for _, p := range paths {
			steps = append(steps, step{name: name + " " + p, path: p, status: 400, want: want})
		}
	}
	for _, p := range []string{
		"/blpop/k/1", "/BRPOP/k/1", "/brpoplpush/a/b/1", "/blmove/a/b/LEFT/RIGHT/1", "/bzpopmin/k/1", "/bzpopmax/k/1", "/wait/1/0",
		"/auth/x", "/multi", "/exec", "/discard", "/watch/k", "/unwatch", "/hello/3", "/reset", "/quit", "/select/0",
		"/client/list", "/client/kill/x", "/client/setname/x", "/unsubscribe", "/punsubscribe", "/ssubscribe/c",
	} {
		name, _, _ := strings.Cut(p[1:], "/")
		add("not by REST:", notREST(strings.ToUpper(name)), p)
	}
	add("XREAD must not wait", notREST("XREAD"), "/xread/BLOCK/0/STREAMS/s/$", "/XREAD/count/1/block/5/streams/s/$")
	add("XREADGROUP must not wait", notREST("XREADGROUP"), "/xreadgroup/GROUP/g/c/BLOCK/0/STREAMS/s/%3E")
	add("keys", unavailable("KEYS"), "/keys/*")
	add("flush", unavailable("FLUSHALL"), "/flushall", "/FlushAll/async")
	add("flush", unavailable("FLUSHDB"), "/flushdb")
	add("config", unavailable("CONFIG GET"), "/config/get/*")
	add("config", unavailable("CONFIG SET"), "/config/set/maxmemory/1")
	add("debug", unavailable("DEBUG"), "/debug/sleep/1", "/debug/jmap")
	add("shutdown", unavailable("SHUTDOWN"), "/shutdown/nosave")
	add("swapdb", unavailable("SWAPDB"), "/swapdb/0/1")
	add("replicaof", unavailable("REPLICAOF"), "/replicaof/127.0.0.1/1")
	add("acl", unavailable("ACL LIST"), "/acl/list")
	add("slowlog", unavailable("SLOWLOG GET"), "/slowlog/get")
	add("module", unavailable("MODULE LOAD"), "/module/load/x")
	add("function", unavailable("FUNCTION FLUSH"), "/function/flush")
	add("a command that does not exist", unavailable("NOPE"), "/nope/1/2")
	add("one that could not", unavailable("?"), "/no%20pe", "/"+strings.Repeat("x", 100), "/%0d%0a")
	steps = append(steps,
		step{name: "an SDK says who it is", path: "/", body: `["CLIENT","SETINFO","LIB-NAME","redis-js"]`, want: `{"result":"OK"}`},
		step{
			name: "a refusal in a pipeline is one item", path: "/pipeline", body: `[["SET","k","1"],["FLUSHALL"],["GET","k"]]`,
			want: `[{"result":"OK"},` + unavailable("FLUSHALL") + `,{"result":"1"}]`,
		},
		step{name: "and discards a transaction", path: "/multi-exec", body: `[["SET","k","2"],["BLPOP","l","1"]]`, status: 400, want: notREST("BLPOP")},
		step{name: "which did nothing", path: "/get/k", want: `{"result":"1"}`},
		step{name: "CLIENT SETINFO is fine in a transaction", path: "/multi-exec", body: `[["CLIENT","SETINFO","LIB-VER","1"],["GET","k"]]`, want: `[{"result":"OK"},{"result":"1"}]`},
		step{name: "only local ones", path: "/pipeline", body: `[["CLIENT","SETINFO","LIB-VER","1"],["WATCH","k"]]`, want: `[{"result":"OK"},` + notREST("WATCH") + `]`},
	)
	play(t, gateway.Options{}, steps)
}

func TestAllowedByName(t *testing.T) {
	t.Parallel()
	free := []string{"Authorization: Bearer free"}
	play(t, gateway.Options{
		Allow: []string{"FlushDB", "config|get", "client"},
		Tokens: []gateway.Token{
			{Secret: secret},
			{Secret: "free", Allow: []string{"keys"}},
			{Secret: "reader", ReadOnly: true, Allow: []string{"scan", "set"}},
		},
	}, []step{
		{name: "for all", path: "/flushdb", want: `{"result":"OK"}`},
		{name: "by its whole name", path: "/config/get/maxclients", want: `{"result":["maxclients","10000"]}`},
		{name: "and no further", path: "/config/set/maxclients/10", status: 400, want: unavailable("CONFIG SET")},
		{name: "by its verb", path: "/client/getname", want: `{"result":null}`},
		{name: "but not what a shared connection cannot carry", path: "/client/setname/x", status: 400, want: notREST("CLIENT")},
		{name: "for one token", path: "/keys/*", headers: free, want: `{"result":[]}`},
		{name: "and not for another", path: "/keys/*", status: 400, want: unavailable("KEYS")},
		{name: "an expensive read for a reader", path: "/scan/0", headers: []string{"Authorization: Bearer reader"}, want: `{"result":["0",[]]}`},
		{name: "but never a write", path: "/set/a/b", headers: []string{"Authorization: Bearer reader"}, status: 400, want: noPermission("set")},
		{name: "nor what is allowed to all", path: "/flushdb", headers: []string{"Authorization: Bearer reader"}, status: 400, want: noPermission("flushdb")},
	})
}

func TestReadOnlyToken(t *testing.T) {
	t.Parallel()
	var steps []step
	reader := []string{"Authorization: Bearer reader"}
	steps = append(steps, step{name: "somebody writes", path: "/set/k/v", want: `{"result":"OK"}`})
	for _, p := range []string{
		"/set/a/b", "/del/a", "/getex/a", "/publish/c/m", "/sort/l", "/eval/return%201/0", "/eval_ro/return%201/0", "/evalsha_ro/x/0", "/scan/0", "/keys/*", "/randomkey",
		"/lcs/a/b", "/flushall", "/xreadgroup/GROUP/g/c/STREAMS/s/0", "/script/flush", "/config/get/x", "/nope",
	} {
		name, _, _ := strings.Cut(p[1:], "/")
		steps = append(steps, step{name: "a reader may not " + name, path: p, headers: reader, status: 400, want: noPermission(name)})
	}
	steps = append(steps,
		step{name: "but read", path: "/get/k", headers: reader, want: `{"result":"v"}`},
		step{
			name: "cheaply", path: "/pipeline", body: `[["MGET","k","k"],["TTL","k"],["DEL","k"],["PING"]]`, headers: reader,
			want: `[{"result":["v","v"]},{"result":-1},` + noPermission("del") + `,{"result":"PONG"}]`,
		},
		step{name: "blocking is nobody's", path: "/blpop/a/1", headers: reader, status: 400, want: notREST("BLPOP")},
		step{name: "monitor shows everything", path: "/monitor", headers: reader, status: 400, want: noPermission("monitor")},
	)
	play(t, gateway.Options{}, steps)
}

func TestTokens(t *testing.T) {
	t.Parallel()
	want := `{"error":"WRONGPASS invalid or missing auth token. See docs/gateway.md of redisopt for details."}`
	var steps []step
	for name, h := range map[string]string{
		"no token": "", "another scheme": "Basic " + secret, "no scheme": secret, "an empty one": "Bearer ", "a prefix": "Bearer correct", "a longer one": "Bearer " + secret + "x",
		"the name of the token": "Bearer token-1",
	} {
		steps = append(steps, step{name: name, path: "/get/k", headers: []string{"Authorization: " + h}, status: 401, want: want})
	}
	steps = append(steps,
		step{name: "a wrong one in the query", path: "/get/k?_token=wrong", headers: []string{"Authorization: "}, status: 401, want: want},
		step{name: "one that cannot be decoded", path: "/get/k?_token=%zz", headers: []string{"Authorization: "}, status: 401, want: want},
		step{name: "the header counts, not the query", path: "/get/k?_token=" + secret, headers: []string{"Authorization: Bearer wrong"}, status: 401, want: want},
		step{name: "the scheme in any case", path: "/get/k", headers: []string{"Authorization: bearer " + secret}, want: `{"result":null}`},
		step{name: "what is asked does not matter", path: "/pipeline", body: `{`, headers: []string{"Authorization: "}, status: 401, want: want},
	)
	play(t, gateway.Options{}, steps)
}

func TestReload(t *testing.T) {
	t.Parallel()
	url, g := startBoth(t, gateway.Options{})
	if err := g.Reload([]gateway.Token{{Secret: "second"}}, []string{"keys"}); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, "POST", url+"/keys/*", ""); got.status != 401 {
		t.Errorf("the old token: %d, want 401", got.status)
	}
	if got := ask(t, "POST", url+"/keys/*", "", "Authorization: Bearer second"); got.status != 200 {
		t.Errorf("the new token: %d %s, want 200", got.status, got.body)
	}
	if err := g.Reload(nil, nil); err == nil {
		t.Error("Reload without tokens succeeded, want an error")
	}
	if got := ask(t, "POST", url+"/ping", "", "Authorization: Bearer second"); got.status != 200 {
		t.Errorf("after a refused reload: %d, want 200", got.status)
	}
}

func TestOpen(t *testing.T) {
	t.Parallel()
	play(t, gateway.Options{Open: true}, []step{
		{name: "no token", path: "/set/k/v", headers: []string{"Authorization: "}, want: `{"result":"OK"}`},
		{name: "any token", path: "/get/k", headers: []string{"Authorization: Bearer any"}, want: `{"result":"v"}`},
		{name: "the policy still holds", path: "/flushall", status: 400, want: unavailable("FLUSHALL")},
	})
}

func TestRateLimit(t *testing.T) {
	t.Parallel()
	url, g := startBoth(t, gateway.Options{Tokens: []gateway.Token{{Name: "app", Secret: secret, MaxPerSecond: 5}, {Secret: "other"}}})
	limited, begin := 0, time.Now()
	for range 20 {
		got := ask(t, "POST", url+"/ping", "")
		switch {
		case got.status == 200:
		case got.status == 429 && got.body == `{"error":"ERR max requests per second exceeded. Limit: 5"}` && got.header.Get("Retry-After") == "1":
			limited++
		default:
			t.Fatalf("%d %s", got.status, got.body)
		}
	}
	// Five at once, and five more in each second that this has taken.
	if admitted := 20 - limited; admitted < 5 || float64(admitted) > 5+5*time.Since(begin).Seconds() {
		t.Errorf("%d of 20 requests were admitted in %s", admitted, time.Since(begin))
	}
	if got := ask(t, "POST", url+"/ping", "", "Authorization: Bearer other"); got.status != 200 {
		t.Errorf("another token: %d, want 200", got.status)
	}
	if s := g.Stats().Tokens[0]; s.Name != "app" || s.Requests != 20 || s.Refused != int64(limited) {
		t.Errorf("Stats = %+v, want 20 requests and %d refused", s, limited)
	}
}

func TestConcurrencyLimit(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	stalled := fakeRedis(t, func(c *fakeConn) {
		for c.command() == nil {
			<-release
			if _, err := io.WriteString(c, "+OK\r\n"); err != nil {
				return
			}
		}
	})
	answerAll := sync.OnceFunc(func() { close(release) })
	t.Cleanup(answerAll)
	g := newGateway(t, stalled, gateway.Options{Tokens: []gateway.Token{{Secret: secret, MaxConcurrent: 2}}})
	url := serve(t, g)
	results := make(chan int, 2)
	for range 2 {
		go func() { results <- ask(t, "POST", url+"/get/k", "").status }()
	}
	eventually(t, func() bool { return g.Stats().Tokens[0].Active == 2 })
	if got := ask(t, "POST", url+"/get/k", ""); got.status != 429 || got.body != `{"error":"ERR max concurrent requests exceeded. Limit: 2"}` {
		t.Errorf("a third request: %d %s, want 429", got.status, got.body)
	}
	answerAll()
	for range 2 {
		if status := <-results; status != 200 {
			t.Errorf("one that was stalled: %d, want 200", status)
		}
	}
	eventually(t, func() bool { return g.Stats().Tokens[0].Active == 0 })
}
