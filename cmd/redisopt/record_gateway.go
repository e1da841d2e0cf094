package main

import (
	"container/list"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/record"
	"github.com/redisopt/redisopt/internal/runtime/gateway"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// The headers by which an HTTP request says for whom and for which test it is.
const (
	sourceHeader = "Redisopt-Source"
	testHeader   = "Redisopt-Test"
)

const (
	mostGates       = 64 // open at a time, one for each pair of source and test
	gateReadTimeout = 30 * time.Second
)

// recordGateway serves the Upstash REST protocol in front of rec.
func (a *app) recordGateway(ctx context.Context, f recordFlags, rec *record.Recorder) (recordGate, error) {
	if f.noGate {
		return recordGate{}, nil
	}
	if err := loopbackOnly("--gateway-listen", f.gateway); err != nil {
		return recordGate{}, &usageError{err}
	}
	door, err := rec.HTTPDoor(ctx)
	if err != nil {
		return recordGate{}, err
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", f.gateway)
	if err != nil {
		return recordGate{}, listenHint(&record.ListenError{Addr: f.gateway, Err: err})
	}
	gates := &gates{rec: rec, door: door, token: rand.Text(), open: map[record.Label]*list.Element{}}
	server := &http.Server{
		Handler: gates, ReadHeaderTimeout: gateReadTimeout,
		ConnContext: func(ctx context.Context, nc net.Conn) context.Context {
			return context.WithValue(ctx, gateProcess{}, rec.Process(nc))
		},
	}
	gates.serving.Go(func() { _ = server.Serve(l) })
	return recordGate{url: "http://" + l.Addr().String(), token: gates.token, close: func() {
		_ = server.Close()
		gates.serving.Wait()
		gates.closeAll()
	}}, nil
}

// gates are the gateways of one recording: one for each label, since a gateway sends what it is asked over
// one connection, and the recorder tells labels apart by connection.
type gates struct {
	rec     *record.Recorder
	door    string
	token   string
	serving sync.WaitGroup

	mu     sync.Mutex
	recent list.List // of *labelGate, the one used last first
	open   map[record.Label]*list.Element
}

// gateProcess is the key under which a request keeps the process that sent it.
type gateProcess struct{}

type labelGate struct {
	label record.Label
	up    *upstream.Upstream
	http  *gateway.Gateway
	users int
}

// ServeHTTP answers a request by the gateway of its label.
func (g *gates) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.rec.Request()
	process, _ := r.Context().Value(gateProcess{}).(int)
	label := record.Label{Source: r.Header.Get(sourceHeader), Test: r.Header.Get(testHeader), Process: process}
	one, err := g.take(r.Context(), label)
	if err != nil {
		http.Error(w, `{"error":"ERR the recorder's gateway could not be opened"}`, http.StatusBadGateway)
		return
	}
	defer g.give(one)
	one.http.ServeHTTP(w, r)
}

// take is the gateway of label, made if need be. give gives it back.
func (g *gates) take(ctx context.Context, label record.Label) (*labelGate, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at, ok := g.open[label]; ok {
		g.recent.MoveToFront(at)
		one := at.Value.(*labelGate)
		one.users++
		return one, nil
	}
	up, err := upstream.Open(ctx, upstream.Options{
		URL: "redis://" + g.door, Shared: true, Lazy: true, ClientName: record.HTTPClientName(label),
	})
	if err != nil {
		return nil, err
	}
	shared, err := up.Mux()
	if err != nil {
		return nil, errors.Join(err, up.Close())
	}
	made, err := gateway.New(gateway.Options{Mux: shared, Bell: up.Bell(), Tokens: []gateway.Token{{Secret: g.token}}})
	if err != nil {
		return nil, errors.Join(err, up.Close())
	}
	one := &labelGate{label: label, up: up, http: made, users: 1}
	g.open[label] = g.recent.PushFront(one)
	g.evict()
	return one, nil
}

// evict closes the gateway that was not used for longest, where there are too many. The lock is held.
func (g *gates) evict() {
	for at := g.recent.Back(); at != nil && len(g.open) > mostGates; {
		before := at.Prev()
		if one := at.Value.(*labelGate); one.users == 0 {
			g.recent.Remove(at)
			delete(g.open, one.label)
			_ = one.up.Close() // nobody waits for an answer
		}
		at = before
	}
}

func (g *gates) give(one *labelGate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	one.users--
}

func (g *gates) closeAll() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, at := range g.open {
		_ = at.Value.(*labelGate).up.Close() // the server is closed; nobody waits for an answer
	}
}

// loopbackOnly says why addr is not one that only this host reaches.
func loopbackOnly(flag, addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if ip := net.ParseIP(host); err == nil && (host == "localhost" || ip != nil && ip.IsLoopback()) {
		return nil
	}
	return fmt.Errorf("%s: got %q, want a loopback address such as 127.0.0.1:0", flag, addr)
}
