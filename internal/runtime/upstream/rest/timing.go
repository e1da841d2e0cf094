package rest

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// A Timing is where the time of one request went. What did not happen, or is not known, is 0.
type Timing struct {
	// Connect is how long the connection took to be made, the look-up of its name included, and TLS its
	// handshake. Both are 0 over a connection that was there.
	Connect time.Duration
	TLS     time.Duration

	// Server is from the last byte of the request sent to the first of the answer: the way there and back,
	// and the server. 0 when none came.
	Server time.Duration
}

// A Trace notes the Timing of one HTTP request. The zero value is ready; it is for one request, and must not
// be copied. Its hooks may be called late, by a connection that was made for a request that was given up,
// so they share nothing with anybody else without care.
type Trace struct {
	asked, handshake, sent atomic.Int64 // Unix nanoseconds
	connect, tls, answered atomic.Int64 // nanoseconds
	connected, kept        atomic.Bool
}

// Context is ctx for the request.
func (t *Trace) Context(ctx context.Context) context.Context {
	began := func() { t.asked.CompareAndSwap(0, time.Now().UnixNano()) }
	since := func(from, into *atomic.Int64) { into.Store(max(1, time.Now().UnixNano()-from.Load())) }
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		DNSStart:     func(httptrace.DNSStartInfo) { began() },
		ConnectStart: func(string, string) { began() }, // several addresses may be tried
		ConnectDone: func(_, _ string, err error) {
			if err == nil {
				since(&t.asked, &t.connect)
			}
		},
		TLSHandshakeStart: func() { t.handshake.Store(time.Now().UnixNano()) },
		TLSHandshakeDone: func(_ tls.ConnectionState, err error) {
			if err == nil {
				since(&t.handshake, &t.tls)
			}
		},
		GotConn: func(info httptrace.GotConnInfo) {
			t.kept.Store(info.Reused)
			t.connected.Store(true)
		},
		WroteRequest: func(httptrace.WroteRequestInfo) { t.sent.Store(time.Now().UnixNano()) },
		GotFirstResponseByte: func() {
			if t.sent.Load() > 0 { // an answer may come before all was sent, which says nothing of the server
				since(&t.sent, &t.answered)
			}
		},
	})
}

// Connected is whether the request has had a connection: before that nothing of it can have left.
func (t *Trace) Connected() bool { return t.connected.Load() }

// Timing is what is known by now.
func (t *Trace) Timing() Timing {
	out := Timing{Server: time.Duration(t.answered.Load())}
	if t.connected.Load() && !t.kept.Load() {
		out.Connect, out.TLS = time.Duration(t.connect.Load()), time.Duration(t.tls.Load())
	}
	return out
}
