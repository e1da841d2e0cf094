package gateway

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// parrot is a Redis that answers every command with its own words, and GET of err with an error.
func parrot(tb testing.TB) *mux.Mux {
	tb.Helper()
	ln := listen(tb)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				parrotOn(c)
			})
		}
	})
	m, err := mux.New(mux.Options{Dial: func(ctx context.Context) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "tcp", ln.Addr().String())
	}})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		_ = m.Close()
		_ = ln.Close()
		wg.Wait()
	})
	return m
}

func parrotOn(c net.Conn) {
	var in, out, queued []byte
	count := -1 // of the commands queued; below 0 outside a transaction
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		in, out = append(in, buf[:n]...), out[:0]
		for {
			args, used, err := mux.ParseCommand(in, nil)
			if err != nil || used == 0 {
				break
			}
			reply := appendBulk(nil, bytes.Join(args, []byte{' '}))
			if len(args) > 1 && string(args[1]) == "err" {
				reply = []byte("-ERR as asked\r\n")
			}
			switch string(args[0]) {
			case "MULTI":
				count, queued, reply = 0, nil, []byte("+OK\r\n")
			case "EXEC":
				reply = append([]byte("*"+strconv.Itoa(count)+"\r\n"), queued...)
				count = -1
			default:
				if count >= 0 {
					queued, reply = append(queued, reply...), []byte("+QUEUED\r\n")
					count++
				}
			}
			out, in = append(out, reply...), in[used:]
		}
		if _, err := c.Write(out); err != nil {
			return
		}
	}
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return ln
}

// twins are two gateways that answer alike, one by loops and one by fasthttp alone.
type twins struct {
	g    [2]*Gateway
	addr [2]string
}

func newTwins(tb testing.TB) *twins {
	tb.Helper()
	var tw twins
	for i := range tw.g {
		g, err := New(Options{
			Timeout: time.Minute, patient: true, Mux: parrot(tb), InstanceID: "twin", NoLoop: i == 1, MaxBodyBytes: 30_000, MaxRequestBytes: 20_000,
			Tokens:   []Token{{Secret: "s"}, {Secret: "r", ReadOnly: true}},
			Listener: Limits{MaxHeaderBytes: 2048},
		})
		if err != nil {
			tb.Fatal(err)
		}
		g.idPrefix = "twin-"
		ln := listen(tb)
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- g.Serve(ctx, ln) }()
		tb.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				tb.Errorf("Serve = %v", err)
			}
		})
		tw.g[i], tw.addr[i] = g, ln.Addr().String()
		tw.ask(tb, i, []byte("GET /ping HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer s\r\n\r\n"), 1) // connects
	}
	return &tw
}

// ask sends all bytes on a new connection, in that many pieces, and returns everything that is answered.
// Whole is false when the connection was broken, which may lose the end of what was answered.
func (tw *twins) ask(tb testing.TB, i int, send []byte, pieces int) (got []byte, whole bool) {
	tb.Helper()
	tw.g[i].ids.Store(0)
	nc, err := new(net.Dialer).DialContext(tb.Context(), "tcp", tw.addr[i])
	if err != nil {
		tb.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_ = nc.SetDeadline(time.Now().Add(time.Minute))
	size := max(1, len(send)/max(1, pieces))
	for len(send) > 0 && err == nil {
		n := min(size, len(send))
		_, err = nc.Write(send[:n])
		send = send[n:]
		for range 20 {
			runtime.Gosched() // a chance to be read apart
		}
	}
	if tcp, ok := nc.(*net.TCPConn); ok && err == nil {
		err = tcp.CloseWrite()
	}
	got, err2 := io.ReadAll(nc)
	var timeout net.Error
	if errors.As(err2, &timeout) && timeout.Timeout() {
		tb.Fatalf("no end of the answers after %q", got)
	}
	return got, err == nil && err2 == nil
}

// same fails unless both answer the same bytes.
func (tw *twins) same(tb testing.TB, send []byte, pieces int) {
	tb.Helper()
	loop, ok1 := tw.ask(tb, 0, send, pieces)
	fast, ok2 := tw.ask(tb, 1, send, pieces)
	if bytes.Equal(loop, fast) || (!ok1 || !ok2) && (bytes.HasPrefix(loop, fast) || bytes.HasPrefix(fast, loop)) {
		return
	}
	tb.Errorf("%q in %d pieces:\nloop     %q\nfasthttp %q", send, pieces, loop, fast)
}

// seeds are requests that are everyday, nearly so, and not at all.
func seeds() []string {
	const auth = "Host: x\r\nAuthorization: Bearer s\r\n"
	get := "GET /get/k HTTP/1.1\r\n" + auth + "\r\n"
	post := func(path, body, headers string) string {
		return "POST " + path + " HTTP/1.1\r\n" + auth + headers + "Content-Length: " + strconv.Itoa(len(body)) + "\r\n\r\n" + body
	}
	big := string(bytes.Repeat([]byte("x"), 25_000))
	return []string{
		get, get + get + get, get + "\r\n" + get, "\r\n\r\n" + get, get + "GARBAGE", get + "GET /get",
		post("/", `["GET","k"]`, ""), post("/", `["GET","err"]`, ""), post("/set/k", "\xff\x00body", ""), post("/", `["SET","k",`, ""), post("/", "", ""),
		post("/pipeline", `[["GET","a"],["GET","err"],["BLPOP","x",1],["KEYS","*"]]`, ""), post("/multi-exec", `[["GET","a"],["SET","b","c"]]`, ""), post("/pipeline", "[]", ""),
		post("/", `["GET","k"]`, "Upstash-Encoding: base64\r\n"), post("/", `["GET","k"]`, "Upstash-Response-Format: resp2\r\n"), post("/", `["GET","k"]`, "upstash-encoding: rot13\r\n"),
		post("/", `["GET","k"]`, "X-Request-Id: mine.1\r\n"), post("/", `["GET","k"]`, "X-Request-Id: not one\r\n"), post("/", `["GET","k"]`, "Connection: close\r\n") + get,
		post("/", `["GET","k"]`, "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"), post("/", `["GET","k"]`, "Expect: 100-continue\r\n"), post("/", `["GET","k"]`, "Expect: more\r\n"),
		"HEAD /get/k HTTP/1.1\r\n" + auth + "\r\n", "PUT /get/k HTTP/1.1\r\n" + auth + "\r\n", "DELETE /get/k HTTP/1.1\r\n" + auth + "\r\n", "OPTIONS * HTTP/1.1\r\n" + auth + "\r\n",
		"GET /get/k HTTP/1.0\r\n" + auth + "\r\n", "GET /get/k HTTP/1.0\r\n" + auth + "Connection: keep-alive\r\n\r\n" + get, "GET /get/k HTTP/2.0\r\n" + auth + "\r\n",
		"GET /get/k HTTP/1.1\r\nAuthorization: Bearer s\r\n\r\n", "GET http://x/get/k?_token=s HTTP/1.1\r\nHost: x\r\n\r\n", "GET /get/k?_token=s HTTP/1.1\r\nHost: x\r\n\r\n", "GET /get/k HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /set/k/v HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer r\r\n\r\n", "GET /get/%zz HTTP/1.1\r\n" + auth + "\r\n", "GET //x:y@[/ HTTP/1.1\r\n" + auth + "\r\n", "GET /get/k HTTP/1.1\r\nHost: [\r\nAuthorization: Bearer s\r\n\r\n",
		"GET /subscribe/x HTTP/1.1\r\n" + auth + "\r\n", "GET /MONITOR HTTP/1.1\r\n" + auth + "\r\n", "GET /psubscribe HTTP/1.1\r\n" + auth + "\r\n",
		"POST / HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\n\r\nb\r\n[\"GET\",\"k\"]\r\n0\r\n\r\n" + get,
		"POST / HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\nb\r\n[\"GET\",\"k\"]\r\n0\r\n\r\n" + get,
		"POST / HTTP/1.1\r\n" + auth + "Transfer-Encoding: identity\r\nContent-Length: 11\r\n\r\n[\"GET\",\"k\"]" + get,
		"POST / HTTP/1.1\r\n" + auth + "Transfer-Encoding: chunked, identity\r\n\r\n" + get, "POST / HTTP/1.1\r\n" + auth + "Content-Length: 11\r\nContent-Length: 2\r\n\r\n[\"GET\",\"k\"]" + get,
		"POST / HTTP/1.1\r\n" + auth + "Content-Length : 11\r\n\r\n[\"GET\",\"k\"]", "POST / HTTP/1.1\r\n" + auth + "Content-Length: +11\r\n\r\n[\"GET\",\"k\"]", "POST / HTTP/1.1\r\n" + auth + "Content-Length: 0x0b\r\n\r\n[\"GET\",\"k\"]",
		"POST / HTTP/1.1\r\n" + auth + " folded: x\r\nContent-Length: 11\r\n\r\n[\"GET\",\"k\"]" + get, "GET /get/k HTTP/1.1\nHost: x\nAuthorization: Bearer s\n\n", "GET /get/k HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		post("/set/k", big[:15_000], ""), post("/set/k", big, ""), post("/set/k", big+big, ""), "GET /get/" + big[:5000] + " HTTP/1.1\r\n" + auth + "\r\n",
		"*1\r\n$4\r\nPING\r\n", "", "\r\n", "GET", "\x16\x03\x01", post("/script/load", "#!lua flags=allow-key-locking\nreturn 1", ""), get[:20],
		"POST / HTTP/1.1\r\n" + auth + "Content-Length: 100\r\n\r\n[\"GET\"", post("/scan/0?withtype", "", ""),
	}
}

// TestLoopAnswersAsFasthttpDoes sends what is everyday and what is odd through both ways, in pieces of every
// kind: the answers are the same bytes, request ids included.
func TestLoopAnswersAsFasthttpDoes(t *testing.T) {
	t.Parallel()
	tw := newTwins(t)
	for _, s := range seeds() {
		for _, pieces := range []int{1, 2, 3, 7, 40} {
			tw.same(t, []byte(s), pieces)
		}
	}
	for i := range tw.g {
		if n := tw.g[i].Stats().Panics; n > 0 {
			t.Errorf("gateway %d met %d defects", i, n)
		}
	}
}

// FuzzLoop: whatever is sent, and in whatever pieces, both ways answer the same.
func FuzzLoop(f *testing.F) {
	for i, s := range seeds() {
		f.Add([]byte(s), uint8(i%9))
	}
	tw := newTwins(f)
	f.Fuzz(func(t *testing.T, send []byte, pieces uint8) {
		tw.same(t, send, int(pieces))
	})
}
