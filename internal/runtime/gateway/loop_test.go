package gateway_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// envNoLoop, when it is set, has every gateway of these tests serve by fasthttp alone.
const envNoLoop = "REDISOPT_TEST_NO_LOOP"

// TestOtherWays runs all tests of this package again in a process of its own: by fasthttp alone, and with as
// many loops as a large machine has.
func TestOtherWays(t *testing.T) {
	t.Parallel()
	if os.Getenv(envNoLoop) != "" || os.Getenv("GOMAXPROCS") != "" {
		t.Skip("this is one of the other ways")
	}
	for name, env := range map[string]string{"by fasthttp alone": envNoLoop + "=1", "by several loops": "GOMAXPROCS=8"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, "-test.run=^Test", "-test.skip=^(TestOtherWays|TestRunAsPeer)$")
			cmd.Env = append(os.Environ(), env)
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
}

// A talker is one connection of a client that writes HTTP by itself.
type talker struct {
	t    *testing.T
	conn net.Conn
	r    *bufio.Reader
}

func talk(t *testing.T, url string) *talker {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	return &talker{t, conn, bufio.NewReader(conn)}
}

func (k *talker) say(text string) {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, text); err != nil {
		k.t.Fatal(err)
	}
}

// hear reads one answer.
func (k *talker) hear() (status int, body string) {
	k.t.Helper()
	res, err := http.ReadResponse(k.r, nil)
	if err != nil {
		k.t.Fatal(err)
	}
	b, err := io.ReadAll(res.Body)
	if err != nil {
		k.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res.StatusCode, string(b)
}

func (k *talker) want(body string) {
	k.t.Helper()
	if status, got := k.hear(); status != 200 || got != body {
		k.t.Errorf("%d %.200s, want 200 %.200s", status, got, body)
	}
}

// closed is whether the other side ends the connection without another word.
func (k *talker) closed() bool {
	b, err := io.ReadAll(k.r)
	return err == nil && len(b) == 0
}

func request(path string) string {
	return "GET " + path + " HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + secret + "\r\n\r\n"
}

func TestClientsOfAllKinds(t *testing.T) {
	t.Parallel()
	url, srv := start(t, gateway.Options{Listener: gateway.Limits{MaxHeaderBytes: 4096}})
	redis := srv.Client(t)

	t.Run("many clients at once get their own answers", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 100 {
			wg.Go(func() {
				k := talk(t, url)
				for n := range 20 {
					k.say(request(fmt.Sprintf("/echo/%d-%d", i, n)))
					k.want(fmt.Sprintf(`{"result":"%d-%d"}`, i, n))
				}
			})
		}
		wg.Wait()
	})

	t.Run("a request in pieces, with others' requests between them", func(t *testing.T) {
		for _, size := range []int{70, 20, 1} {
			k := talk(t, url)
			for _, word := range []string{"one", "two"} {
				for text := request("/echo/" + word); text != ""; {
					n := min(size, len(text))
					k.say(text[:n])
					text = text[n:]
					if got := ask(t, "GET", url+"/echo/x", ""); got.status != 200 {
						t.Errorf("beside it: %d", got.status)
					}
				}
				k.want(`{"result":"` + word + `"}`)
			}
		}
	})

	t.Run("requests that do not wait for answers", func(t *testing.T) {
		k := talk(t, url)
		k.say(request("/echo/first"))
		k.want(`{"result":"first"}`)
		var all strings.Builder
		for i := range 50 {
			all.WriteString(request(fmt.Sprintf("/echo/%d", i)))
		}
		k.say(all.String())
		for i := range 50 {
			k.want(fmt.Sprintf(`{"result":"%d"}`, i))
		}
	})

	t.Run("a client that does not read holds up nobody, and gets all of it", func(t *testing.T) {
		big := strings.Repeat("x", 9<<20)
		redis.Set(t.Context(), "big", big, 0)
		k := talk(t, url)
		k.say(request("/get/big"))
		for range 20 {
			if got := ask(t, "GET", url+"/echo/x", ""); got.status != 200 {
				t.Errorf("beside it: %d", got.status)
			}
		}
		k.want(`{"result":"` + big + `"}`)
		k.say(request("/echo/next"))
		k.want(`{"result":"next"}`)
	})

	t.Run("one that goes away in between leaves nothing", func(t *testing.T) {
		redis.Set(t.Context(), "long", strings.Repeat("x", 100<<10), 0)
		for range 50 {
			k := talk(t, url)
			k.say(request("/get/long"))
			_ = k.conn.Close()
		}
		if got := ask(t, "GET", url+"/echo/x", ""); got.status != 200 {
			t.Errorf("after them: %d", got.status)
		}
	})

	t.Run("half a close is answered", func(t *testing.T) {
		k := talk(t, url)
		k.say(request("/echo/last"))
		if tcp, ok := k.conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
		k.want(`{"result":"last"}`)
		if !k.closed() {
			t.Error("the connection was not closed")
		}
	})
}

func TestIdleConnectionsEndQuietly(t *testing.T) {
	t.Parallel()
	url, _ := start(t, gateway.Options{Listener: gateway.Limits{IdleTimeout: 50 * time.Millisecond}})
	k := talk(t, url)
	k.say(request("/echo/x"))
	k.want(`{"result":"x"}`)
	if !k.closed() {
		t.Error("something came after the answer, or no end")
	}
}

func TestTooManyConnections(t *testing.T) {
	t.Parallel()
	url, _ := start(t, gateway.Options{Listener: gateway.Limits{MaxConnections: 3}})
	first := talk(t, url)
	for i, k := range []*talker{first, talk(t, url), talk(t, url)} {
		k.say(request("/echo/x"))
		if status, _ := k.hear(); status != 200 {
			t.Errorf("connection %d: %d", i, status)
		}
	}
	if status, body := talk(t, url).hear(); status != 503 || !strings.Contains(body, "concurrency") && !strings.Contains(body, "Concurrency") {
		t.Errorf("one more: %d %s, want 503", status, body)
	}
	_ = first.conn.Close()
	eventually(t, func() bool {
		k := talk(t, url)
		if _, err := io.WriteString(k.conn, request("/echo/x")); err != nil {
			return false
		}
		res, err := http.ReadResponse(k.r, nil)
		if err != nil {
			return false
		}
		_ = res.Body.Close()
		return res.StatusCode == 200
	})
}

// TestClientsThatDoNotReadCount: an answer that nobody takes keeps its place among the connections.
func TestClientsThatDoNotReadCount(t *testing.T) {
	t.Parallel()
	url, srv := start(t, gateway.Options{Listener: gateway.Limits{MaxConnections: 1}})
	if err := srv.Client(t).Set(t.Context(), "big", strings.Repeat("x", 9<<20), 0).Err(); err != nil {
		t.Fatal(err)
	}
	k := talk(t, url)
	k.say(request("/get/big"))
	if _, err := k.r.Peek(1); err != nil { // the rest waits in the gateway from now on
		t.Fatal(err)
	}
	for i := range 20 { // while the first of them come the loop may still have the other one
		if status, _ := talk(t, url).hear(); status != 503 {
			t.Errorf("one more, the %dth: %d, want 503", i+1, status)
		}
	}
	if status, body := k.hear(); status != 200 || len(body) < 9<<20 {
		t.Errorf("the answer is %d and %d bytes", status, len(body))
	}
}

// TestShutdownOfConnections: those without a request end at once, whichever way serves them.
func TestShutdownOfConnections(t *testing.T) {
	t.Parallel()
	g := newGateway(t, redistest.Start(t).Addr, gateway.Options{Listener: gateway.Limits{ShutdownTimeout: patience}})
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- g.Serve(ctx, ln) }()
	url := "http://" + ln.Addr().String()
	everyday, odd := talk(t, url), talk(t, url)
	everyday.say(request("/echo/x"))
	everyday.want(`{"result":"x"}`)
	odd.say(request("/echo/x") + request("/echo/y"))
	odd.want(`{"result":"x"}`)
	odd.want(`{"result":"y"}`)
	cancel()
	begin := time.Now()
	if err := <-done; err != nil {
		t.Errorf("Serve = %v", err)
	}
	if took := time.Since(begin); took > patience/3 {
		t.Errorf("it took %s, want far less than the %s that requests in progress have", took, patience)
	}
	for _, k := range []*talker{everyday, odd} {
		if _, err := k.r.ReadByte(); !errors.Is(err, io.EOF) {
			t.Errorf("read = %v, want the end", err)
		}
	}
}
