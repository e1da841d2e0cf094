package gateway_test

import (
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
)

func TestEncodings(t *testing.T) {
	t.Parallel()
	base64 := []string{"Upstash-Encoding: base64"}
	resp2 := []string{"Upstash-Response-Format: resp2"}
	play(t, gateway.Options{}, []step{
		{name: "the status OK is not encoded", path: "/set/k/OK", headers: base64, want: `{"result":"OK"}`},
		{name: "a value that reads OK is", path: "/get/k", headers: base64, want: `{"result":"T0s="}`},
		{name: "another status is", path: "/ping", headers: base64, want: `{"result":"UE9ORw=="}`},
		{name: "a number is not", path: "/strlen/k", headers: base64, want: `{"result":2}`},
		{name: "nil is not", path: "/get/none", headers: base64, want: `{"result":null}`},
		{
			name: "in arrays every string is", path: "/", body: `["EVAL","return {redis.status_reply('OK'),'OK',1,false,{'x'}}",0]`, headers: base64,
			want: `{"result":["T0s=","T0s=",1,null,["eA=="]]}`,
		},
		{name: "the text of an error is not", path: "/incr/k", headers: base64, status: 400, want: `{"error":"ERR value is not an integer or out of range"}`},
		{
			name: "the items of a pipeline are encoded alike", path: "/pipeline", body: `[["SET","k","1"],["GET","k"],["INCRBY","k","x"]]`, headers: base64,
			want: `[{"result":"OK"},{"result":"MQ=="},{"error":"ERR value is not an integer or out of range"}]`,
		},
		{name: "and those of a transaction", path: "/multi-exec", body: `[["SET","k","1"],["GET","k"]]`, headers: base64, want: `[{"result":"OK"},{"result":"MQ=="}]`},
		{name: "the encoding in any case", path: "/get/k", headers: []string{"Upstash-Encoding: BASE64"}, want: `{"result":"MQ=="}`},
		{
			name: "another encoding does not exist", path: "/get/k", headers: []string{"Upstash-Encoding: rot13"}, status: 400,
			want: `{"error":"ERR invalid encoding. Upstash-Encoding is base64 or not sent"}`,
		},

		{name: "resp2 is what the Redis said", path: "/get/k", headers: resp2, want: "$1\r\n1\r\n"},
		{name: "nil", path: "/get/none", headers: resp2, want: "$-1\r\n"},
		{name: "an error keeps its status", path: "/incrby/k/x", headers: resp2, status: 400, want: "-ERR value is not an integer or out of range\r\n"},
		{name: "a refusal too", path: "/blpop/k/1", headers: resp2, status: 400, want: "-ERR Command \"BLPOP\" is not allowed in REST or it has a special context path\r\n"},
		{
			name: "a pipeline is an array", path: "/pipeline", body: `[["GET","k"],["WATCH","k"],["MGET","k","none"],["CLIENT","SETINFO","LIB-NAME","x"]]`, headers: resp2,
			want: "*4\r\n$1\r\n1\r\n-ERR Command \"WATCH\" is not allowed in REST or it has a special context path\r\n*2\r\n$1\r\n1\r\n$-1\r\n+OK\r\n",
		},
		{name: "json may be asked for by name", path: "/get/k", headers: []string{"Upstash-Response-Format: json"}, want: `{"result":"1"}`},
		{
			name: "resp2 with base64 makes no sense", path: "/get/k", headers: []string{"Upstash-Response-Format: resp2", "Upstash-Encoding: base64"}, status: 400,
			want: `{"error":"ERR invalid response format. resp2 cannot be combined with base64"}`,
		},
		{
			name: "a transaction has no resp2", path: "/multi-exec", body: `[["GET","k"]]`, headers: resp2, status: 400,
			want: `{"error":"ERR invalid response format. /multi-exec answers in json only"}`,
		},
		{
			name: "resp3 does not exist", path: "/get/k", headers: []string{"Upstash-Response-Format: resp3"}, status: 400,
			want: `{"error":"ERR invalid response format. Upstash-Response-Format is json or resp2"}`,
		},
	})
}

func TestHeaders(t *testing.T) {
	t.Parallel()
	url, _ := start(t, gateway.Options{InstanceID: "me-1"})
	for _, c := range []struct {
		name, path, id string
		status         int
	}{
		{"an answer names the process", "/ping", "", 200},
		{"an error too", "/nope", "", 400},
		{"a request id is taken over", "/ping", "abc.DEF_1-2", 200},
		{"unless it could not stand in a log", "/ping", "<script>", 200},
	} {
		t.Run(c.name, func(t *testing.T) {
			got := ask(t, "POST", url+c.path, "", "X-Request-Id: "+c.id, "Upstash-Sync-Token: whatever")
			if got.status != c.status {
				t.Errorf("status = %d, want %d", got.status, c.status)
			}
			if id := got.header.Get(gateway.InstanceHeader); id != "me-1" {
				t.Errorf("%s = %q, want %q", gateway.InstanceHeader, id, "me-1")
			}
			if got.header.Get("Upstash-Sync-Token") == "" {
				t.Error("no sync token")
			}
			if ct := got.header.Get("Content-Type"); ct != "application/json" {
				t.Errorf("Content-Type = %q", ct)
			}
			switch id := got.header.Get("X-Request-Id"); {
			case c.id == "abc.DEF_1-2" && id != c.id:
				t.Errorf("X-Request-Id = %q, want %q", id, c.id)
			case id == "" || id == "<script>":
				t.Errorf("X-Request-Id = %q, want one of the gateway's own", id)
			}
		})
	}
}
