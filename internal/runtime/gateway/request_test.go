package gateway_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
)

// TestPercent is apart because an HTTP client refuses to send such a path.
func TestPercent(t *testing.T) {
	t.Parallel()
	g := newGateway(t, "127.0.0.1:1", gateway.Options{Open: true})
	for _, path := range []string{"/get/%", "/get/%2", "/get/a%zz", "/get/%2/x", "/get/x?%=1", "/get/x?EX=%1"} {
		var rep gateway.Reply
		p, q, _ := strings.Cut(path, "?")
		g.Handle(t.Context(), &gateway.Request{Method: "GET", Path: []byte(p), Query: []byte(q)}, &rep)
		want := `{"error":"ERR failed to parse command: a percent sign is not followed by two hexadecimal digits"}`
		if rep.Status != 400 || string(rep.Body) != want {
			t.Errorf("%s = %d %s, want 400 %s", path, rep.Status, rep.Body, want)
		}
	}
}

func TestBadRequests(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 10000)
	const cmd, pipe, tx = "ERR failed to parse command: ", "ERR failed to parse pipeline request: ", "ERR failed to parse transaction request: "
	steps := []step{
		{name: "another method", method: "DELETE", path: "/get/k", status: 405, want: `{"error":"ERR method not allowed. Use HEAD, GET, POST or PUT"}`},
		{name: "OPTIONS", method: "OPTIONS", path: "/", status: 405, want: `{"error":"ERR method not allowed. Use HEAD, GET, POST or PUT"}`},
		{name: "one nobody knows", method: "BREW", path: "/", status: 405, want: `{"error":"ERR method not allowed. Use HEAD, GET, POST or PUT"}`},
		{name: "an empty array", path: "/", body: `[]`, status: 400, want: `{"error":"ERR empty command"}`},
		{name: "an empty pipeline", path: "/pipeline", body: `[]`, status: 400, want: `{"error":"ERR empty pipeline request"}`},
		{name: "an empty transaction", path: "/multi-exec", body: `[]`, status: 400, want: `{"error":"ERR empty transaction request"}`},
		{name: "an empty command among others", path: "/pipeline", body: `[["GET","a"],[]]`, status: 400, want: `{"error":"` + pipe + `command 2 is empty"}`},
		{name: "a pipeline's name as a command", method: "GET", path: "/pipeline/x", status: 400, want: unavailable("PIPELINE")},
	}
	for _, c := range []struct{ body, want string }{
		{``, "the body is not a JSON array"},
		{`{}`, "the body is not a JSON array"},
		{`"GET"`, "the body is not a JSON array"},
		{`null`, "the body is not a JSON array"},
		{`["SET","k",{"a":1}]`, "an argument is a JSON object; send it as a string"},
		{`["SET","k",["a"]]`, "an argument is an array; send its members as arguments of their own"},
		{deep, "an argument is an array; send its members as arguments of their own"},
		{`["GET","k"`, "the body is not valid JSON"},
		{`["GET","k"]]`, "the body is not valid JSON"},
		{`["GET","k",]`, "the body is not valid JSON"},
		{`["GET" "k"]`, "the body is not valid JSON"},
		{`["GET","k]`, "the body is not valid JSON"},
		{`["GET","\x"]`, "the body is not valid JSON"},
		{`["GET","\u12"]`, "the body is not valid JSON"},
		{`["GET","\`, "the body is not valid JSON"},
		{"[\"GET\",\"a\nb\"]", "the body is not valid JSON"},
		{`["GET",01]`, "the body is not valid JSON"},
		{`["GET",1.]`, "the body is not valid JSON"},
		{`["GET",-]`, "the body is not valid JSON"},
		{`["GET",1e]`, "the body is not valid JSON"},
		{`["GET",nul]`, "the body is not valid JSON"},
		{`["GET",NaN]`, "the body is not valid JSON"},
		{"[\"GET\",\"\xff\"]", "the body is not valid UTF-8; send binary arguments as a raw body after a path"},
	} {
		steps = append(steps, step{name: "a body of " + strings.ToValidUTF8(c.body[:min(20, len(c.body))], "?"), path: "/", body: c.body, status: 400, want: `{"error":"` + cmd + c.want + `"}`})
	}
	for _, c := range []struct{ body, want string }{
		{`{}`, "the body is not a JSON array of arrays"},
		{``, "the body is not a JSON array of arrays"},
		{`["GET","k"]`, "the body is not a JSON array of arrays"},
		{`[["SET","k","v"],["GET",{}]]`, "an argument is a JSON object; send it as a string"},
		{`[["SET","k","v"],["GET","k"]`, "the body is not valid JSON"},
	} {
		steps = append(steps,
			step{name: "a pipeline of " + c.body, path: "/pipeline", body: c.body, status: 400, want: `{"error":"` + pipe + c.want + `"}`},
			step{name: "a transaction of " + c.body, path: "/multi-exec", body: c.body, status: 400, want: `{"error":"` + tx + c.want + `"}`})
	}
	steps = append(steps, step{name: "nothing of it ran", path: "/get/k", want: `{"result":null}`})
	play(t, gateway.Options{}, steps)
}

func TestSizes(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 3000)
	reply := func(n int) string {
		return fmt.Sprintf(`{"error":"ERR max request size exceeded. Limit: 4000 bytes, Actual: %d bytes"}`, n)
	}
	play(t, gateway.Options{MaxRequestBytes: 4000, MaxReplyBytes: 4000, MaxBodyBytes: 100_000, MaxPipeline: 3}, []step{
		{name: "below the limit", path: "/set/k", body: long, want: `{"result":"OK"}`},
		{
			name: "arguments above it", path: "/", body: `["MSET","k","` + long + `","l","` + long + `"]`, status: 413,
			want: `{"error":"ERR max request size exceeded. Limit: 4000 bytes, Actual: 6006 bytes"}`,
		},
		{
			name: "in a pipeline", path: "/pipeline", body: `[["SET","k","v"],["MSET","k","` + long + `","l","` + long + `"]]`, status: 413,
			want: `{"error":"ERR max request size exceeded. Limit: 4000 bytes, Actual: 6006 bytes"}`,
		},
		{name: "nothing of it ran", path: "/strlen/k", want: `{"result":3000}`},
		{name: "a reply above it", path: "/mget/k/k", status: 400, want: reply(6022)},
		{name: "is one item of a pipeline", path: "/pipeline", body: `[["MGET","k","k"],["STRLEN","k"]]`, want: "[" + reply(6022) + `,{"result":3000}]`},
		{name: "and of a transaction", path: "/multi-exec", body: `[["MGET","k","k"],["STRLEN","k"]]`, want: "[" + reply(6022) + `,{"result":3000}]`},
		{
			name: "and in resp2", path: "/pipeline", body: `[["MGET","k","k"],["STRLEN","k"]]`, headers: []string{"Upstash-Response-Format: resp2"},
			want: "*2\r\n-ERR max request size exceeded. Limit: 4000 bytes, Actual: 6022 bytes\r\n:3000\r\n",
		},
		{name: "three commands", path: "/pipeline", body: `[["PING"],["PING"],["PING"]]`, want: `[{"result":"PONG"},{"result":"PONG"},{"result":"PONG"}]`},
		{name: "four are too many", path: "/pipeline", body: `[["PING"],["PING"],["PING"],["PING"]]`, status: 413, want: `{"error":"ERR max pipeline size exceeded. Limit: 3 commands"}`},
		{name: "in a transaction as well", path: "/multi-exec", body: `[["PING"],["PING"],["PING"],["PING"]]`, status: 413, want: `{"error":"ERR max pipeline size exceeded. Limit: 3 commands"}`},
	})
}

// TestHugeBody sends 100 MB to a gateway that takes 1 MB. It is refused while it is being sent.
func TestHugeBody(t *testing.T) {
	t.Parallel()
	url, _ := start(t, gateway.Options{MaxRequestBytes: 1 << 20, MaxBodyBytes: 1 << 20})
	for _, c := range []struct {
		name, token string
		length      int64 // -1: chunked
		status      int
	}{
		{"announced", secret, 100 << 20, 413},
		{"chunked", secret, -1, 413},
		{"announced by a stranger", "nobody", 100 << 20, 401},
		{"chunked by a stranger", "nobody", -1, 413},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := &endless{left: 100 << 20}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url+"/set/k", sent)
			if err != nil {
				t.Fatal(err)
			}
			req.ContentLength = c.length
			req.Header.Set("Authorization", "Bearer "+c.token)
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			b, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != c.status || !strings.HasPrefix(string(b), `{"error":"`) {
				t.Errorf("%d %s, want %d and an error", res.StatusCode, b, c.status)
			}
			if res.Header.Get(gateway.InstanceHeader) == "" {
				t.Error("the refusal does not name the process")
			}
		})
	}
}

// endless is a body of left bytes.
type endless struct{ left int }

func (e *endless) Read(p []byte) (int, error) {
	if e.left <= 0 {
		return 0, io.EOF
	}
	n := min(len(p), e.left)
	e.left -= n
	return n, nil
}
