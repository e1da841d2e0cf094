package push

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// A language is one in which there are example workers.
type language struct {
	name, program, dir, ext string
	verify                  string // a script: argument 1 the example, standard input {secret, headers, body, now}
}

func languages() []language {
	return []language{
		{"Node", "node", "node", ".mjs", `
const { verify } = await import('file://' + process.argv.at(-1));
let text = '';
for await (const chunk of process.stdin) text += chunk;
console.log(JSON.stringify(JSON.parse(text).map((c) => verify([c.secret], c.headers, Buffer.from(c.body), c.now))));
`},
		{"Python", "python3", "python", ".py", `
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("receiver", sys.argv[1])
receiver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(receiver)
from email.message import Message
def headers(h):
    m = Message()
    for k, v in h.items(): m[k] = v
    return m
print(json.dumps([receiver.verify([c["secret"].encode()], headers(c["headers"]), c["body"].encode(), c["now"]) for c in json.load(sys.stdin)]))
`},
	}
}

// example is the path of an example, or the test is skipped where its language is missing.
func (l language) example(t *testing.T, name string) string {
	t.Helper()
	if _, err := exec.LookPath(l.program); err != nil {
		t.Skipf("needs %s on PATH", l.program)
	}
	path, err := filepath.Abs(filepath.Join("..", "..", "..", "..", "deploy", "workers", l.dir, name+l.ext))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// run starts an example until the test ends, and returns the first line that it prints where it prints
// one.
func (l language) run(t *testing.T, first bool, path string, args []string, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), l.program, append([]string{path}, args...)...)
	cmd.Env = append(os.Environ(), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %s", path, &stderr)
		}
	})
	if !first {
		return ""
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	return strings.TrimSpace(line)
}

func TestTheExampleReceiversTakePushedJobs(t *testing.T) {
	for _, l := range languages() {
		t.Run(l.name, func(t *testing.T) {
			line := l.run(t, true, l.example(t, "receiver"), nil, "REDISOPT_PUSH_SECRETS="+string(secret())+",another-secret-of-32-bytes-12345", "PORT=0")
			var port int
			if _, err := fmt.Sscanf(line, "listening on %d", &port); err != nil {
				t.Fatalf("it said %q", line)
			}
			url := fmt.Sprintf("http://127.0.0.1:%d/", port)
			good := endpoint(t, url, func(o *EndpointOptions) { o.Timeout = 30 * time.Second })
			next := endpoint(t, url, func(o *EndpointOptions) { o.Secrets = [][]byte{[]byte("another-secret-of-32-bytes-12345")} })
			bad := endpoint(t, url, func(o *EndpointOptions) { o.Secrets = [][]byte{[]byte("unknown-secret-of-32-bytes-12345")} })
			named := func(id, name, payload string) queue.Job {
				j := job()
				j.ID, j.Name, j.Payload = id, name, []byte(payload)
				return j
			}
			for _, c := range []struct {
				e    *Endpoint
				job  queue.Job
				want string
			}{
				{good, named("1", "echo", `{"n":[1,2,"ü"]}`), "done"},
				{good, named("1", "echo", `{"n":"repeated"}`), "done"}, // answered from memory
				{next, named("2 ü", "echo", `1`), "done"},
				{good, named("3", "nobody's", `1`), `dead: URL answered 422 Unprocessable Entity: {"error":"no handler for nobody's"}`},
				{good, named("4", "constructor", `1`), `dead: URL answered 422 Unprocessable Entity: {"error":"no handler for constructor"}`},
				{good, named("5", "busy", `1`), "after 7s"},
				{good, named("6", "broken", `1`), `retry: URL answered 500 Internal Server Error: {"error":"it broke"}`},
				{bad, named("7", "echo", `1`), `retry: URL answered 401 Unauthorized: {"error":"not signed"}`},
			} {
				result, err := c.e.Run(t.Context(), c.job)
				got := strings.ReplaceAll(strings.ReplaceAll(outcome(err), url, "URL"), `": "`, `":"`)
				if got != c.want {
					t.Errorf("job %s:\ngot  %s\nwant %s", c.job.ID, got, c.want)
				}
				if c.job.ID == "1" {
					var v struct{ N []any }
					if err := json.Unmarshal(result, &v); err != nil || len(v.N) != 3 || v.N[2] != "ü" {
						t.Errorf("result %s, %v", result, err)
					}
				}
			}
		})
	}
}

func TestTheExampleReceiversVerifyAsWeDo(t *testing.T) {
	type request struct {
		Secret  string            `json:"secret"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
		Now     int64             `json:"now"`
	}
	at := time.Unix(1_800_000_000, 0)
	h := http.Header{}
	for name, value := range map[string]string{headerQueue: "q", headerID: "a%0Ab", headerName: "n", headerAttempt: "1"} {
		h.Set(name, value)
	}
	sum := signature([][]byte{secret()}, at, h, []byte("bödy"))
	altered := func(change func(*request)) request {
		r := request{Secret: string(secret()), Body: "bödy", Now: at.Unix(), Headers: map[string]string{}}
		for name := range h {
			r.Headers[strings.ToLower(name)] = h.Get(name)
		}
		r.Headers["redisopt-signature"] = sum
		change(&r)
		return r
	}
	signed := func(value string) func(*request) {
		return func(r *request) { r.Headers["redisopt-signature"] = value }
	}
	requests := []request{
		altered(func(*request) {}),
		altered(signed(sum + ",v1=" + strings.Repeat("0", 64))),
		altered(func(r *request) { r.Now += 300 }),
		altered(func(r *request) { r.Now += 301 }),
		altered(func(r *request) { r.Now -= 301 }),
		altered(func(r *request) { r.Body = "body" }),
		altered(func(r *request) { r.Secret = "fedcba9876543210fedcba9876543210" }),
		altered(func(r *request) { r.Headers["redisopt-job-id"] = "a" }),
		altered(func(r *request) { r.Headers["redisopt-job-name"] = "m" }),
		altered(func(r *request) { r.Headers["redisopt-attempt"] = "2" }),
		altered(func(r *request) { r.Headers["redisopt-queue"] = "" }),
		altered(signed("")),
		altered(signed(strings.Replace(sum, "v1=", "v2=", 1))),
		altered(signed(strings.Replace(sum, "t=", "u=", 1))),
		altered(signed("t=,v1=")),
		altered(signed("t=1800000000,v1=00")),
		altered(signed(strings.ToUpper(sum))),
	}
	want := make([]bool, len(requests))
	for i, r := range requests {
		header := http.Header{}
		for name, value := range r.Headers {
			header.Set(name, value)
		}
		want[i] = Verify([][]byte{[]byte(r.Secret)}, header, []byte(r.Body), time.Unix(r.Now, 0)) == nil
	}
	if !want[0] || !want[1] || !want[2] || want[3] || want[5] {
		t.Fatalf("we find %v", want)
	}
	input, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range languages() {
		t.Run(l.name, func(t *testing.T) {
			path := l.example(t, "receiver")
			args := []string{"-c", l.verify, path}
			if l.name == "Node" {
				args = []string{"--input-type=module", "-e", l.verify, "imported", path}
			}
			cmd := exec.CommandContext(t.Context(), l.program, args...)
			cmd.Stdin = bytes.NewReader(input)
			out, err := cmd.Output()
			if err != nil {
				exit, _ := errors.AsType[*exec.ExitError](err)
				t.Fatalf("%v: %s", err, exit.Stderr)
			}
			var got []bool
			if err := json.Unmarshal(out, &got); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("verified (-Go +%s):\n%s", l.name, diff)
			}
		})
	}
}

// leases serves jobs to workers by the routes of the API, and keeps what is said about them.
type leases struct {
	mu   sync.Mutex
	jobs []string          // waiting, as JSON
	said map[string]string // by lease, what ended it
	seen map[string]int    // requests by their last word
	all  chan struct{}     // closed when nothing is waiting and everything has ended
	want int
	fail int // so many completions get a 503 first
}

func (s *leases) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	if !s.answer(w, r, body) {
		<-r.Context().Done() // it waits for a job
	}
}

func (s *leases) answer(w http.ResponseWriter, r *http.Request, body []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	word := r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:]
	s.seen[word]++
	if r.Header.Get("Authorization") != "Bearer token" || r.Header.Get("Content-Type") != "application/json" || r.Method != http.MethodPost {
		http.Error(w, "no", http.StatusUnauthorized)
		return true
	}
	rest, ok := strings.CutPrefix(r.URL.EscapedPath(), "/v1/queues/my%20mail/")
	switch {
	case !ok:
		http.Error(w, "no such queue", http.StatusNotFound)
	case rest == "lease" && len(s.jobs) == 0:
		return false
	case rest == "lease":
		_, _ = fmt.Fprintf(w, `{"jobs":[%s]}`, s.jobs[0])
		s.jobs = s.jobs[1:]
	case word == "complete" && s.fail > 0:
		s.fail--
		http.Error(w, "busy", http.StatusServiceUnavailable)
	case word == "complete" || word == "fail":
		lease := strings.Split(rest, "/")[1]
		s.said[lease] = word + " " + string(bytes.ReplaceAll(body, []byte(`": `), []byte(`":`)))
		if len(s.said) == s.want {
			close(s.all)
		}
		w.WriteHeader(http.StatusNoContent)
	case word == "progress":
		w.WriteHeader(http.StatusNoContent)
	default:
		_, _ = io.WriteString(w, `{"lease_until":"2030-01-01T00:00:00Z"}`)
	}
	return true
}

func TestTheExampleWorkersRunLeasedJobs(t *testing.T) {
	for _, l := range languages() {
		t.Run(l.name, func(t *testing.T) {
			path := l.example(t, "worker")
			one := func(lease, name, payload string) string {
				return fmt.Sprintf(`{"id":"%s","name":%q,"queue":"my mail","attempt":1,"max_attempts":3,"lease":"%s","lease_ms":30000,%s,"headers":{}}`, lease, name, lease, payload)
			}
			s := &leases{
				jobs: []string{
					one("l1", "echo", `"payload":{"n":1}`), one("l2", "nobody", `"payload":1`), one("l3", "busy", `"payload":1`),
					one("l4", "broken", `"payload":1`), one("l5", "echo", `"payload":null`),
				},
				said: map[string]string{}, seen: map[string]int{}, all: make(chan struct{}), want: 5, fail: 1,
			}
			server := httptest.NewServer(s)
			t.Cleanup(server.Close)
			l.run(t, false, path, []string{"my mail"}, "REDISOPT_URL="+server.URL, "REDISOPT_TOKEN=token")
			select {
			case <-s.all:
			case <-time.After(time.Minute):
				t.Error("not everything has ended")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			want := map[string]string{
				"l1": `complete {"result":{"n":1}}`, "l2": `fail {"reason":"no handler for nobody","dead":true}`,
				"l3": `fail {"reason":"the mail server is busy","retry_after_ms":7000}`, "l4": `fail {"reason":"it broke"}`, "l5": `complete {"result":null}`,
			}
			for lease, said := range s.said {
				s.said[lease] = strings.ReplaceAll(said, ", ", ",")
			}
			if diff := cmp.Diff(want, s.said); diff != "" {
				t.Errorf("said (-want +got):\n%s", diff)
			}
			if s.seen["progress"] != 2 {
				t.Errorf("requests %v, want 2 of progress", s.seen)
			}
		})
	}
}
