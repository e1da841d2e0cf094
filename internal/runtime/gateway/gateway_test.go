package gateway_test

import (
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
)

// A step is one request and what it must be answered.
type step struct {
	name    string
	method  string // POST when empty
	path    string
	body    string
	headers []string
	status  int // 200 when 0
	want    string
}

// play sends the steps in order to a gateway over a fresh Redis.
func play(t *testing.T, opts gateway.Options, steps []step) {
	t.Helper()
	url, _ := start(t, opts)
	for _, s := range steps {
		t.Run(s.name, func(t *testing.T) {
			method, status := s.method, s.status
			if method == "" {
				method = "POST"
			}
			if status == 0 {
				status = 200
			}
			got := ask(t, method, url+s.path, s.body, s.headers...)
			if got.status != status || got.body != s.want {
				t.Errorf("%s %s %s = %d %s, want %d %s", method, s.path, s.body, got.status, got.body, status, s.want)
			}
		})
	}
}

func TestForms(t *testing.T) {
	t.Parallel()
	play(t, gateway.Options{}, []step{
		{name: "a command is a path", method: "GET", path: "/set/foo/bar", want: `{"result":"OK"}`},
		{name: "and its name in any case", method: "GET", path: "/GeT/foo", want: `{"result":"bar"}`},
		{name: "HEAD runs it and answers no body", method: "HEAD", path: "/append/foo/!", want: ``},
		{name: "PUT is fine", method: "PUT", path: "/get/foo", want: `{"result":"bar!"}`},
		{name: "a slash at the end is nothing", method: "GET", path: "/get/foo/", want: `{"result":"bar!"}`},
		{name: "segments are percent-encoded", method: "GET", path: "/set/a%2Fb%20c/%22%0A", want: `{"result":"OK"}`},
		{name: "and come back so", method: "GET", path: "/get/a%2Fb%20c", want: `{"result":"\"\n"}`},
		{name: "a plus sign in a path is one", method: "GET", path: "/echo/1+1", want: `{"result":"1+1"}`},
		{name: "an empty segment in between is an empty argument", method: "GET", path: "/set//x", want: `{"result":"OK"}`},
		{name: "a body is the last argument", path: "/set/foo", body: `{"any":"thing"}`, want: `{"result":"OK"}`},
		{name: "whatever it is", path: "/get/foo", want: `{"result":"{\"any\":\"thing\"}"}`},
		{name: "the query comes after the body", path: "/set/foo?EX=100&GET", body: "v2", want: `{"result":"{\"any\":\"thing\"}"}`},
		{name: "and was understood", method: "GET", path: "/ttl/foo", want: `{"result":100}`},
		{name: "a flag may have an equals sign", path: "/set/foo?NX=", body: "v3", want: `{"result":null}`},
		{name: "the body may be binary", path: "/set/bin", body: "\xff\x00\xfe", want: `{"result":"OK"}`},
		{name: "which JSON cannot show", path: "/get/bin", want: "{\"result\":\"\uFFFD\\u0000\uFFFD\"}"},
		{name: "but base64 can", path: "/get/bin", headers: []string{"Upstash-Encoding: base64"}, want: `{"result":"/wD+"}`},
		{name: "the path may be binary too", path: "/set/bin/%FF%00", want: `{"result":"OK"}`},
		{name: "the token may be in the query", method: "GET", path: "/echo/x?_token=" + secret, headers: []string{"Authorization: "}, want: `{"result":"x"}`},
		{name: "a body array", path: "/", body: `["SET","n",1]`, want: `{"result":"OK"}`},
		{name: "with white space", path: "/", body: "\n [ \"incr\" ,\t\"n\" ] \r\n", want: `{"result":2}`},
		{name: "numbers, booleans and null are their text", path: "/", body: `["RPUSH","l",1.50,-2e3,true,false,null]`, want: `{"result":5}`},
		{name: "and stay so", path: "/", body: `["LRANGE","l",0,-1]`, want: `{"result":["1.50","-2e3","true","false","null"]}`},
		{name: "escapes", path: "/", body: `["ECHO","\u00e9\ud83d\ude00\ud83d\n\/\\\""]`, want: "{\"result\":\"é😀\uFFFD\\n/\\\\\\\"\"}"},
		{
			name: "a pipeline", path: "/pipeline", body: `[["SET","p","1"],["LPUSH","p","x"],["INCR","p"],["GET","none"]]`,
			want: `[{"result":"OK"},{"error":"WRONGTYPE Operation against a key holding the wrong kind of value"},{"result":2},{"result":null}]`,
		},
		{
			name: "a transaction", path: "/multi-exec", body: `[["SET","t","1"],["LPUSH","t","x"],["INCR","t"],["MGET","t","none"]]`,
			want: `[{"result":"OK"},{"error":"WRONGTYPE Operation against a key holding the wrong kind of value"},{"result":2},{"result":["2",null]}]`,
		},
		{
			name: "an aborted transaction is one error", path: "/multi-exec", body: `[["SET","t","9"],["GET"]]`, status: 400,
			want: `{"error":"ERR wrong number of arguments for 'get' command"}`,
		},
		{name: "and changes nothing", path: "/get/t", want: `{"result":"2"}`},
		{name: "nested replies", path: "/", body: `["EVAL","return {1,{2,'x',{false}},redis.status_reply('FINE'),'OK'}",0]`, want: `{"result":[1,[2,"x",[null]],"FINE","OK"]}`},
	})
}
