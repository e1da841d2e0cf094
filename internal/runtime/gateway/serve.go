package gateway

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// Serve answers on ln, which may speak TLS, until ctx ends; then it takes no more connections, ends the
// streams, waits up to Limits.ShutdownTimeout for requests in progress, and closes what is left. It closes
// ln. The error is nil after ctx has ended, otherwise why the listener failed.
func (g *Gateway) Serve(ctx context.Context, ln net.Listener) error {
	streaming, stop := context.WithCancel(context.Background())
	defer stop()
	s := g.newFastServer(streaming)
	l := g.opts.Listener
	srv := &fasthttp.Server{
		Handler:        s.handle,
		ErrorHandler:   s.broken,
		HeaderReceived: s.bodyLimit,

		ReadTimeout:        l.ReadTimeout,
		WriteTimeout:       l.WriteTimeout,
		IdleTimeout:        l.IdleTimeout,
		ReadBufferSize:     l.MaxHeaderBytes,
		MaxRequestBodySize: g.opts.MaxBodyBytes,
		Concurrency:        l.MaxConnections,
		MaxConnsPerIP:      l.MaxConnectionsPerIP,

		Logger:                       silent{},
		CloseOnShutdown:              true,
		LazyRequestTime:              true,
		NoDefaultServerHeader:        true,
		NoDefaultDate:                true,
		DisablePreParseMultipartForm: true,
	}
	tracked := &listener{Listener: ln, conns: make(map[*conn]struct{})}
	tracked.loops = s.newLoops(srv, tracked)
	var failure error
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failure = srv.Serve(tracked)
	}()

	var err error
	select {
	case <-ended:
		if failure == nil {
			failure = net.ErrClosed
		}
		err = fmt.Errorf("gateway: %w", failure)
	case <-ctx.Done():
	}
	stop()
	waiting, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.ShutdownTimeout)
	defer cancel()
	_ = ln.Close()
	tracked.loops.stop(waiting)
	_ = srv.ShutdownWithContext(waiting) // what it could not end is closed below
	tracked.loops.wait(waiting)
	tracked.closeAll()
	<-ended
	tracked.loops.conns.Wait()
	s.streams.Wait()
	return err
}

// stream answers with server-sent events on the connection itself, which ends with them.
func (s *fastServer) stream(ctx *fasthttp.RequestCtx, rep *Reply) {
	var head bytes.Buffer
	head.WriteString("HTTP/1.1 200 OK\r\nContent-Type: " + rep.ContentType + "\r\nCache-Control: no-cache\r\nConnection: close\r\n")
	for _, h := range [][2]string{
		{InstanceHeader, s.g.opts.InstanceID},
		{SyncHeader, syncToken},
		{requestIDHeader, string(rep.RequestID)},
	} {
		head.WriteString(h[0] + ": " + h[1] + "\r\n")
	}
	head.WriteString("\r\n")

	run, isHead, timeout := rep.Stream, ctx.IsHead(), s.g.opts.Listener.WriteTimeout
	s.streams.Add(1)
	ctx.HijackSetNoResponse(true)
	ctx.Hijack(func(c net.Conn) {
		defer s.streams.Done()
		life, cancel := context.WithCancel(s.ctx)
		defer cancel()
		// A client sends nothing more; that reading ends says that it has gone.
		_ = c.SetReadDeadline(time.Time{})
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			_, _ = io.Copy(io.Discard, c)
			cancel()
		}()
		write := func(b []byte) error {
			if isHead && life.Err() != nil {
				return life.Err()
			}
			if err := c.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
				return err
			}
			_, err := c.Write(b)
			return err
		}
		if write(head.Bytes()) != nil || isHead {
			cancel()
		}
		_ = run(life, write) // in any case: it gives back what was taken for it
		_ = c.SetReadDeadline(time.Now())
		<-gone
	})
}

type silent struct{}

func (silent) Printf(string, ...any) {}
