package gateway_test

import (
	"crypto/sha1" //nolint:gosec // the identity of a script in Redis is its SHA-1
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

func shaOf(script string) string {
	sum := sha1.Sum([]byte(script))
	return hex.EncodeToString(sum[:])
}

// TestLockFlag is what lets a client that asks a provider for locks on keys run on a plain Redis.
func TestLockFlag(t *testing.T) {
	t.Parallel()
	const script = "#!lua flags=allow-key-locking\nlocal n = redis.call('INCRBY', KEYS[1], ARGV[1])\nreturn n"
	original := shaOf(script)
	quoted := strings.ReplaceAll(script, "\n", `\n`)
	rewritten := shaOf(strings.Replace(script, "#!", "-- ", 1))
	evalsha := `["EVALSHA","` + original + `",1,"n",2]`
	noScript := `{"error":"NOSCRIPT No matching script. Please use EVAL."}`
	srv := redistest.Start(t)

	t.Run("a client begins with EVALSHA", func(t *testing.T) {
		url := serve(t, newGateway(t, srv.Addr, gateway.Options{}))
		for _, s := range []struct{ name, body, want string }{
			{"which nobody knows", evalsha, noScript},
			{"sends the text", `["EVAL","` + quoted + `",1,"n",1]`, `{"result":1}`},
			{"and from then on its name", evalsha, `{"result":3}`},
			{"in any case", strings.Replace(evalsha, original, strings.ToUpper(original), 1), `{"result":5}`},
			{"it exists", `["SCRIPT","EXISTS","` + original + `","` + strings.Repeat("0", 40) + `","` + rewritten + `"]`, `{"result":[1,0,1]}`},
			{"the read-only command knows it too", `["EVALSHA_RO","` + original + `",1,"n",1]`, "Write commands are not allowed from read-only scripts"},
			{"an error names the line it is in", `["EVAL","#!lua flags=allow-key-locking\nreturn 1 +\n{}",0]`, ":3: attempt to perform arithmetic"},
			{"other flags stay", `["EVAL","#!lua flags=no-writes,allow-key-locking\nreturn redis.call('INCR','n')",0]`, "Write commands are not allowed from read-only scripts"},
			{"a flag nobody knows is the Redis's to refuse", `["EVAL","#!lua flags=make-coffee\nreturn 1",0]`, "Unexpected flag in script shebang: make-coffee"},
			{"loading it answers with the name the client computes", `["SCRIPT","LOAD","#!lua flags=allow-key-locking\nreturn 'loaded'"]`, `{"result":"` + shaOf("#!lua flags=allow-key-locking\nreturn 'loaded'") + `"}`},
			{"so does loading it again", `["SCRIPT","LOAD","#!lua flags=allow-key-locking\nreturn 'loaded'"]`, `{"result":"` + shaOf("#!lua flags=allow-key-locking\nreturn 'loaded'") + `"}`},
			{"one that does not compile is an error", `["SCRIPT","LOAD","#!lua flags=allow-key-locking\nreturn return"]`, "Error compiling script"},
			{"one without the flag has its own name", `["SCRIPT","LOAD","return 'plain'"]`, `{"result":"` + shaOf("return 'plain'") + `"}`},
			{"and is found under it", `["EVALSHA","` + shaOf("#!lua flags=allow-key-locking\nreturn 'loaded'") + `",0]`, `{"result":"loaded"}`},
		} {
			if got := ask(t, "POST", url, s.body); !strings.Contains(got.body, s.want) {
				t.Errorf("%s: %s = %s, want %s", s.name, s.body, got.body, s.want)
			}
		}
		got := ask(t, "POST", url+"/multi-exec", "["+evalsha+`,["DEL","n"]]`)
		if want := `[{"result":7},{"result":1}]`; got.body != want {
			t.Errorf("in a transaction: %s, want %s", got.body, want)
		}
	})
	t.Run("a gateway that has just started knows nothing, and the client helps", func(t *testing.T) {
		url := serve(t, newGateway(t, srv.Addr, gateway.Options{}))
		if got := ask(t, "POST", url, evalsha); got.status != 400 || got.body != noScript {
			t.Errorf("%d %s, want 400 %s", got.status, got.body, noScript)
		}
		if got := ask(t, "POST", url, `["EVAL","`+quoted+`",1,"n",1]`); got.body != `{"result":1}` {
			t.Errorf("%d %s", got.status, got.body)
		}
		if got := ask(t, "POST", url, evalsha); got.body != `{"result":3}` {
			t.Errorf("%d %s", got.status, got.body)
		}
	})
	t.Run("what is remembered is bounded", func(t *testing.T) {
		g := newGateway(t, srv.Addr, gateway.Options{Open: true})
		var rep gateway.Reply
		for i := range 1100 {
			body := fmt.Sprintf(`["EVAL","#!lua flags=allow-key-locking\nreturn %d",0]`, i)
			g.Handle(t.Context(), &gateway.Request{Method: "POST", Path: []byte("/"), Body: []byte(body)}, &rep)
			if want := fmt.Sprintf(`{"result":%d}`, i); string(rep.Body) != want {
				t.Fatalf("%s = %s, want %s", body, rep.Body, want)
			}
		}
		if n := g.Stats().RewrittenScripts; n != 1024 {
			t.Errorf("%d scripts are remembered, want 1024", n)
		}
		for i, want := range map[int]string{0: "NOSCRIPT", 1099: `{"result":1099}`} {
			body := fmt.Sprintf(`["EVALSHA","%s",0]`, shaOf(fmt.Sprintf("#!lua flags=allow-key-locking\nreturn %d", i)))
			g.Handle(t.Context(), &gateway.Request{Method: "POST", Path: []byte("/"), Body: []byte(body)}, &rep)
			if !strings.Contains(string(rep.Body), want) {
				t.Errorf("script %d = %s, want %s", i, rep.Body, want)
			}
		}
	})
}

func TestScanWithType(t *testing.T) {
	t.Parallel()
	url, srv := start(t, gateway.Options{})
	c := srv.Client(t)
	c.Set(t.Context(), "s", "v", 0)
	c.LPush(t.Context(), "l\r\nx", "v")
	keys := func(body string) map[string]string {
		t.Helper()
		got := ask(t, "POST", url, body)
		rest, ok := strings.CutPrefix(got.body, `{"result":["0",[`)
		if !ok {
			t.Fatalf("%s = %d %s", body, got.status, got.body)
		}
		found := map[string]string{}
		parts := strings.Split(strings.TrimSuffix(rest, `]]}`), ",")
		for i := 0; i+1 < len(parts); i += 2 {
			found[parts[i]] = parts[i+1]
		}
		return found
	}
	want := map[string]string{`"s"`: `"string"`, `"l\r\nx"`: `"list"`}
	for _, body := range []string{`["SCAN",0,"WITHTYPE"]`, `["scan",0,"count",100,"withtype"]`, `["SCAN",0,"MATCH","*","WITHTYPE","COUNT",100]`} {
		if got := keys(body); len(got) != 2 || got[`"s"`] != want[`"s"`] || got[`"l\r\nx"`] != want[`"l\r\nx"`] {
			t.Errorf("%s = %v, want %v", body, got, want)
		}
	}
	got := ask(t, "POST", url+"/pipeline", `[["GET","s"],["SCAN",0,"TYPE","string","WITHTYPE"],["SCAN","x","WITHTYPE"],["BLPOP","x",1],["STRLEN","s"]]`)
	if want := `[{"result":"v"},{"result":["0",["s","string"]]},{"error":"ERR invalid cursor"},` + notREST("BLPOP") + `,{"result":1}]`; got.body != want {
		t.Errorf("in a pipeline = %s, want %s", got.body, want)
	}
	if got := ask(t, "POST", url, `["SCAN",0,"MATCH","WITHTYPE"]`); got.body != `{"result":["0",[]]}` {
		t.Errorf("a pattern of that name = %s", got.body)
	}
}
