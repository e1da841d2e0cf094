package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/livetest"
)

// A side runs producers and workers of all queues; it is told in the words of testdata/peers/many-peer.js.
type side interface {
	tell(verb string, queue int, args ...any)
	quit()
}

// A nodeSide is a process with a real library.
type nodeSide struct{ peer *livetest.Peer }

func (s nodeSide) tell(verb string, queue int, args ...any) {
	s.peer.Tell(strings.TrimSuffix(fmt.Sprintln(append([]any{verb, queue}, args...)...), "\n"))
}

func (s nodeSide) quit() { s.peer.Quit() }

// sideOptions say what a side does.
type sideOptions struct {
	Queues  []string `json:"queues"`
	Side    string   `json:"side"`
	EveryMs int      `json:"everyMs"`
	WorkMs  int      `json:"workMs"`
}

// startNode runs lib for all queues under prefix.
func startNode(t *testing.T, book *jobBook, addr, lib, prefix string, opts sideOptions) nodeSide {
	t.Helper()
	_, port, _ := strings.Cut(addr, ":")
	return nodeSide{livetest.Start(t, func(line string) { book.hear(opts.Side, line) }, opts, "many-peer.js", lib, port, prefix)}
}

// A serveSide is redisopt serve, with an application that jobs are pushed to and that adds some over HTTP.
type serveSide struct {
	t    *testing.T
	book *jobBook
	opts sideOptions
	*served
	app       *httptest.Server
	producers []*serveProducer
}

type serveProducer struct {
	mu    sync.Mutex
	n     int
	burst int
	stop  context.CancelFunc
	done  chan struct{}
}

// startServeSide runs redisopt serve with all queues in mode push.
func startServeSide(t *testing.T, book *jobBook, url string, opts sideOptions) *serveSide {
	t.Helper()
	s := &serveSide{t: t, book: book, opts: opts}
	s.app = httptest.NewServer(http.HandlerFunc(s.work))
	t.Cleanup(s.app.Close)
	var list strings.Builder
	for q, name := range opts.Queues {
		fmt.Fprintf(&list, "    - {name: %s, mode: push, endpoint: \"%s/%d\", concurrency: 1}\n", name, s.app.URL, q)
		s.producers = append(s.producers, &serveProducer{})
	}
	file := filepath.Join(t.TempDir(), "redisopt.yaml")
	if err := os.WriteFile(file, []byte("version: 1\nserve: {sample_every: 10s}\nqueues:\n  list:\n"+list.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	s.served = startServe(t, []string{"REDIS_URL=" + url, "REDISOPT_PUSH_SECRET=sesame-sesame-sesame-sesame-sesame"}, "--config", file)
	return s
}

// work is the application: a job that is pushed to it.
func (s *serveSide) work(w http.ResponseWriter, r *http.Request) {
	now := time.Now().UnixMilli()
	body, _ := io.ReadAll(r.Body)
	var data struct {
		S   string `json:"s"`
		N   int    `json:"n"`
		K   string `json:"k"`
		Due int64  `json:"due"`
	}
	_ = json.Unmarshal(body, &data)
	queue := strings.TrimPrefix(r.URL.Path, "/")
	if data.K == "t" {
		id := r.Header.Get("Redisopt-Job-Id")
		s.book.hear(s.opts.Side, fmt.Sprintf("tick %s %s %d", queue, id[strings.LastIndexAny(id, ":@-")+1:], now))
	} else {
		s.book.hear(s.opts.Side, fmt.Sprintf("start %s %s %d %s %d %d", queue, data.S, data.N, data.K, data.Due, now))
	}
	select {
	case <-r.Context().Done():
	case <-time.After(time.Duration(s.opts.WorkMs) * time.Millisecond):
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *serveSide) tell(verb string, q int, args ...any) {
	p := s.producers[q]
	switch verb {
	case "go", "late":
		ctx, cancel := context.WithCancel(s.t.Context())
		p.stop, p.done = cancel, make(chan struct{})
		go s.produce(ctx, q, verb == "late")
		s.t.Cleanup(func() {
			cancel()
			<-p.done
		})
	case "stop":
		p.stop()
	case "burst":
		p.mu.Lock()
		p.burst, _ = strconv.Atoi(fmt.Sprint(args...))
		p.mu.Unlock()
	case "work", "rest": // serve runs what there is
		s.book.hear(s.opts.Side, fmt.Sprintf("%ss %d", verb, q))
	default:
		s.t.Fatalf("%s of redisopt serve", verb)
	}
}

func (s *serveSide) quit() {
	if code := s.terminate(s.t); code != 0 {
		s.t.Errorf("redisopt serve: exit code %d, want 0; stderr:\n%s", code, s.logs)
	}
}

// produce adds jobs of queue q until ctx ends.
func (s *serveSide) produce(ctx context.Context, q int, late bool) {
	p := s.producers[q]
	defer close(p.done)
	pace := time.NewTicker(time.Duration(s.opts.EveryMs) * time.Millisecond)
	defer pace.Stop()
	for ctx.Err() == nil {
		p.mu.Lock()
		burst := make([]string, p.burst)
		p.burst = 0
		p.mu.Unlock()
		if len(burst) > 0 {
			for i := range burst {
				burst[i] = s.next(q, true, false)
			}
			s.add(q, "/bulk", `{"jobs":[`+strings.Join(burst, ",")+`]}`)
			s.book.hear(s.opts.Side, fmt.Sprintf("burst %d", q))
		}
		s.add(q, "", s.next(q, false, late))
		select {
		case <-ctx.Done():
		case <-pace.C:
		}
	}
	s.book.hear(s.opts.Side, fmt.Sprintf("stopped %d %d", q, p.n))
}

// next is the next job of queue q, as in testdata/peers/many-peer.js.
func (s *serveSide) next(q int, plain, late bool) string {
	p := s.producers[q]
	p.n++
	kind, extra, due := "p", "", int64(0)
	switch n := p.n; {
	case plain:
	case late, n%10 == 5, n%10 == 8, q%3 == 0 && n%10 == 0:
		at := time.UnixMilli(time.Now().UnixMilli() + int64(800+n*37%1500)).UTC() // not counted again from when it gets there
		kind, due, extra = "d", at.UnixMilli(), fmt.Sprintf(`,"run_at":%q`, at.Format(time.RFC3339Nano))
	case n%10 == 3:
		kind, extra = "h1", `,"priority":"high"`
	}
	return fmt.Sprintf(`{"payload":{"s":%q,"n":%d,"k":%q,"due":%d}%s}`, s.opts.Side, p.n, kind, due, extra)
}

// add adds jobs to queue q.
func (s *serveSide) add(q int, bulk, body string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.API+"/v1/queues/"+s.opts.Queues[q]+"/jobs"+bulk, strings.NewReader(body))
	if err != nil {
		s.t.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Errorf("add a job: %v", err)
		return
	}
	text, _ := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	if resp.StatusCode/100 != 2 || strings.Contains(string(text), `"problem"`) {
		s.t.Errorf("add a job: %d %s", resp.StatusCode, text)
	}
}
