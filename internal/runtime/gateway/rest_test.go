package gateway_test

import (
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// TestInFrontOfREST puts a gateway in front of an upstream that is itself reached over REST: another one.
func TestInFrontOfREST(t *testing.T) {
	t.Parallel()
	back, _, srv := startUpstream(t, gateway.Options{})
	up, err := upstream.Open(t.Context(), upstream.Options{REST: upstream.REST{URL: back, Token: secret}, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = up.Close() })
	m, err := up.Mux()
	if err != nil {
		t.Fatal(err)
	}
	g, err := gateway.New(gateway.Patient(gateway.Options{Mux: m, Bell: up.Bell(), Tokens: []gateway.Token{{Secret: secret}}}, patience))
	if err != nil {
		t.Fatal(err)
	}
	url := serve(t, g)
	for _, s := range []step{
		{name: "a command", path: "/set/k/v", want: `{"result":"OK"}`},
		{name: "an error", path: "/incr/k", status: 400, want: `{"error":"ERR value is not an integer or out of range"}`},
		{
			name: "a pipeline", path: "/pipeline", body: `[["GET","k"],["LPUSH","k","x"],["BLPOP","k",1],["STRLEN","k"]]`,
			want: `[{"result":"v"},{"error":"WRONGTYPE Operation against a key holding the wrong kind of value"},` + notREST("BLPOP") + `,{"result":1}]`,
		},
		{
			name: "a transaction", path: "/multi-exec", body: `[["SET","t","1"],["LPUSH","t","x"],["INCR","t"],["MGET","t","none"]]`,
			want: `[{"result":"OK"},{"error":"WRONGTYPE Operation against a key holding the wrong kind of value"},{"result":2},{"result":["2",null]}]`,
		},
		{
			name: "one that is discarded", path: "/multi-exec", body: `[["SET","t","9"],["GET"]]`, status: 400,
			want: `{"error":"EXECABORT Transaction discarded because of: ERR wrong number of arguments for 'get' command"}`,
		},
		{name: "which changed nothing", path: "/get/t", want: `{"result":"2"}`},
		{name: "a script with the flag", path: "/", body: `["EVAL","#!lua flags=allow-key-locking\nreturn 7",0]`, want: `{"result":7}`},
		{name: "types of keys", path: "/", body: `["SCAN",0,"MATCH","k","WITHTYPE"]`, want: `{"result":["0",["k","string"]]}`},
		{name: "characters beyond ASCII", path: "/echo/%C3%A9", want: `{"result":"é"}`},
	} {
		status := s.status
		if status == 0 {
			status = 200
		}
		if got := ask(t, "POST", url+s.path, s.body); got.status != status || got.body != s.want {
			t.Errorf("%s: %d %s, want %d %s", s.name, got.status, got.body, status, s.want)
		}
	}
	got := ask(t, "POST", url+"/set/bin", "\xff\xfe")
	if got.status != 400 || !strings.HasPrefix(got.body, `{"error":"ERR argument 2 of SET is not UTF-8`) {
		t.Errorf("a binary argument: %d %s, want an error rather than another value", got.status, got.body)
	}
	if n := srv.Client(t).Exists(t.Context(), "bin").Val(); n != 0 {
		t.Error("the binary argument was stored as something")
	}
	e := follow(t, "POST", url+"/subscribe/ch")
	e.want("data: subscribe,ch,1")
	if err := srv.Client(t).Publish(t.Context(), "ch", "hello, you").Err(); err != nil {
		t.Fatal(err)
	}
	e.want("data: message,ch,hello, you")
	if got := ask(t, "POST", url+"/monitor", ""); got.status != 400 {
		t.Errorf("monitor: %d %s, want 400: there is no connection for it", got.status, got.body)
	}
}
