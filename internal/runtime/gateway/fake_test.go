package gateway_test

import (
	"bufio"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// startBoth is start for who wants the gateway as well.
func startBoth(tb testing.TB, opts gateway.Options) (url string, g *gateway.Gateway) {
	tb.Helper()
	g = newGateway(tb, redistest.Start(tb).Addr, opts)
	return serve(tb, g), g
}

// eventually waits for something that is about to happen.
func eventually(tb testing.TB, ok func() bool) {
	tb.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !ok(); <-tick.C {
		if time.Now().After(end) {
			tb.Fatalf("it did not happen within %s", patience)
		}
	}
}

// A fakeConn is one connection of the gateway to something that is not a good Redis.
type fakeConn struct {
	net.Conn
	r *bufio.Reader
}

// command reads one command.
func (c *fakeConn) command() error {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return err
	}
	n, _ := strconv.Atoi(strings.Trim(line, "*\r\n"))
	for range 2 * n { // a length and a value each, without line breaks in them
		if _, err := c.r.ReadString('\n'); err != nil {
			return err
		}
	}
	return nil
}

func (c *fakeConn) waitClosed() { _, _ = io.Copy(io.Discard, c.r) }

// fakeRedis runs handle for every connection and returns its address.
func fakeRedis(tb testing.TB, handle func(*fakeConn)) string {
	tb.Helper()
	ln, err := new(net.ListenConfig).Listen(tb.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, c)
			mu.Unlock()
			wg.Go(func() {
				defer func() { _ = c.Close() }()
				handle(&fakeConn{c, bufio.NewReader(c)})
			})
		}
	})
	tb.Cleanup(func() {
		_ = ln.Close()
		mu.Lock()
		for _, c := range conns {
			_ = c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return ln.Addr().String()
}
