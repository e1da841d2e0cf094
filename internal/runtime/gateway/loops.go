package gateway

import (
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// loops are those of one Serve, and what happens to connections between them and fasthttp.
type loops struct {
	s     *fastServer
	srv   *fasthttp.Server
	of    *listener
	all   []*loop
	next  int            // whose turn it is to get a connection
	conns sync.WaitGroup // those that were handed over

	writing  atomic.Int64 // those whose client has yet to take an answer, before fasthttp counts them
	stopping atomic.Bool
}

// newLoops starts the loops; none where they would not work, or would not help.
func (s *fastServer) newLoops(srv *fasthttp.Server, of *listener) *loops {
	ls := &loops{s: s, srv: srv, of: of}
	procs := runtime.GOMAXPROCS(0)
	if !canLoop || procs < 2 || s.g.opts.NoLoop || s.g.opts.Listener.MaxConnectionsPerIP > 0 {
		return ls
	}
	for range min(procs/2, maxLoops) {
		l, err := s.newLoop(ls.hand)
		if err != nil {
			break // no descriptors left; fasthttp does it
		}
		ls.all = append(ls.all, l)
	}
	for i, l := range ls.all {
		if i == 0 {
			l.pump = s.g.mux.Pump(func(fd int) error {
				l.redis.Store(int64(fd))
				return l.poll.watch(fd)
			})
		}
		go l.run()
	}
	return ls
}

// take gives a new connection to a loop. False: it is not one for them.
func (ls *loops) take(nc net.Conn) bool {
	tcp, ok := nc.(*net.TCPConn)
	if !ok || len(ls.all) == 0 {
		return false
	}
	open := int64(0) // in the order in which connections go from hand to hand, so that none is missed
	for _, l := range ls.all {
		open += l.open.Load()
	}
	open += ls.writing.Load()
	open += int64(ls.srv.GetCurrentConcurrency())
	if open >= int64(ls.s.g.opts.Listener.MaxConnections) {
		reject(nc)
		return true
	}
	fd, err := detach(tcp)
	if err != nil {
		return false
	}
	l := ls.all[ls.next%len(ls.all)]
	ls.next++
	l.adopt(fd)
	return true
}

// reject answers one connection too many as fasthttp does.
func reject(nc net.Conn) {
	const text = "The connection cannot be served because Server.Concurrency limit exceeded"
	_ = nc.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = io.WriteString(nc, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: "+
		strconv.Itoa(len(text))+"\r\n\r\n"+text)
	_ = nc.Close()
}

// What is handed over with a connection.
type handed struct {
	rest   []byte // of an answer, to be written first; the next request has until due to begin
	last   bool   // the connection ends with that
	before []byte // was read and not answered; that request has to be here whole at due
	due    int64  // Unix nanoseconds; 0 is as usual
}

// hand has fasthttp serve a connection that was a loop's.
func (ls *loops) hand(nc net.Conn, h handed) {
	c := ls.of.track(nc)
	c.before, c.first = h.before, h.due
	if len(h.rest) > 0 {
		ls.writing.Add(1)
	}
	ls.conns.Go(func() {
		if len(h.rest) > 0 {
			_ = c.SetWriteDeadline(time.Now().Add(ls.s.g.opts.Listener.WriteTimeout))
			_, err := c.Write(h.rest)
			ls.writing.Add(-1)
			if err != nil || h.last || ls.stopping.Load() {
				_ = c.Close()
				return
			}
			c.pause = ls.s.g.opts.Listener.ReadTimeout
		}
		if err := ls.srv.ServeConn(c); errors.Is(err, fasthttp.ErrConcurrencyLimit) {
			_ = c.Close()
		}
	})
}

// stop ends the loops and waits for them. Requests in progress have until ctx ends.
func (ls *loops) stop(ctx context.Context) {
	ls.stopping.Store(true)
	until, ok := ctx.Deadline()
	if !ok {
		until = time.Now()
	}
	for _, l := range ls.all {
		l.stop(until)
	}
	for _, l := range ls.all {
		<-l.done
	}
}

// wait waits for the connections that were handed over, until ctx ends.
func (ls *loops) wait(ctx context.Context) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		ls.conns.Wait()
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
}
