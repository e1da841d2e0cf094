package gateway

import (
	"bytes"
	"context"
	"errors"
	"net"
	"strconv"
	"sync"

	"github.com/valyala/fasthttp"
)

// preAuthBytes is how much of a body is read for somebody whose token has not been checked.
const preAuthBytes = 64 << 10

// A fastServer feeds the core from fasthttp.
type fastServer struct {
	g       *Gateway
	ctx     context.Context // ends the streams
	names   headerNames
	streams sync.WaitGroup
	pool    sync.Pool // of *fastExchange
}

type fastExchange struct {
	req Request
	rep Reply
}

// FastHandler answers requests of a fasthttp server that somebody else runs; Serve is the way that sets
// limits and timeouts too. Streams end when their clients go, or when ctx ends.
func (g *Gateway) FastHandler(ctx context.Context) fasthttp.RequestHandler {
	return g.newFastServer(ctx).handle
}

// headerNames are the headers of every answer, and the values that are always the same, as the bytes that
// fasthttp takes without a conversion.
type headerNames struct {
	instance, instanceID, sync, syncToken, requestID []byte

	// always is all of them as they stand in an answer, up to the request id.
	always []byte
}

func (g *Gateway) newFastServer(ctx context.Context) *fastServer {
	return &fastServer{g: g, ctx: ctx, names: headerNames{
		instance: []byte(InstanceHeader), instanceID: []byte(g.opts.InstanceID),
		sync: []byte(SyncHeader), syncToken: []byte(syncToken),
		requestID: []byte(requestIDHeader),
		always:    []byte(InstanceHeader + ": " + g.opts.InstanceID + "\r\n" + SyncHeader + ": " + syncToken + "\r\n" + requestIDHeader + ": "),
	}}
}

func (s *fastServer) handle(ctx *fasthttp.RequestCtx) {
	fx, ok := s.pool.Get().(*fastExchange)
	if !ok {
		fx = &fastExchange{}
	}
	defer s.recovered(ctx)
	fill(&ctx.Request.Header, &fx.req)
	fx.req.Body = ctx.Request.Body()
	// The answer is written into the memory of the response itself.
	fx.rep.Body = ctx.Response.SwapBody(nil)
	s.g.Handle(context.Background(), &fx.req, &fx.rep)
	if fx.rep.Stream != nil {
		s.stream(ctx, &fx.rep)
	} else {
		ctx.Response.SwapBody(fx.rep.Body)
		s.head(ctx, &fx.rep)
	}
	fx.req.reset()
	fx.rep.Body, fx.rep.Stream = nil, nil
	s.pool.Put(fx)
}

// recovered keeps the process alive when one request meets a defect: fasthttp itself does not.
func (s *fastServer) recovered(ctx *fasthttp.RequestCtx) {
	if recover() == nil {
		return
	}
	s.g.counts.panics.Add(1)
	s.refuse(ctx, 500, textDefect)
}

// fill takes out of the headers what the core wants. It goes over them once.
func fill(h *fasthttp.RequestHeader, req *Request) {
	req.Method = methodOf(h.Method())
	req.Path, req.Query, _ = bytes.Cut(pathOf(h.RequestURI()), []byte{'?'})
	for key, value := range h.All() {
		switch len(key) {
		case len("X-Request-Id"):
			if string(key) == "X-Request-Id" {
				req.RequestID = value
			}
		case len("Authorization"):
			if string(key) == "Authorization" {
				req.Authorization = value
			}
		case len("Upstash-Encoding"):
			if string(key) == "Upstash-Encoding" {
				req.Encoding = value
			}
		case len("Upstash-Response-Format"):
			if string(key) == "Upstash-Response-Format" {
				req.Format = value
			}
		}
	}
}

// methodOf is the method as a string that is not allocated.
func methodOf(b []byte) string {
	switch string(b) {
	case "POST":
		return "POST"
	case "GET":
		return "GET"
	case "PUT":
		return "PUT"
	case "HEAD":
		return "HEAD"
	}
	return "OTHER"
}

// pathOf is a request target without the scheme and host that a client of a proxy sends.
func pathOf(uri []byte) []byte {
	if len(uri) > 0 && uri[0] == '/' {
		return uri
	}
	if _, rest, ok := bytes.Cut(uri, []byte("://")); ok {
		if i := bytes.IndexAny(rest, "/?"); i >= 0 {
			return rest[i:]
		}
		return nil
	}
	return uri
}

func (s *fastServer) head(ctx *fasthttp.RequestCtx, rep *Reply) {
	h := &ctx.Response.Header
	ctx.Response.SetStatusCode(rep.Status)
	h.SetContentType(rep.ContentType)
	h.SetCanonical(s.names.instance, s.names.instanceID)
	h.SetCanonical(s.names.sync, s.names.syncToken)
	h.SetCanonical(s.names.requestID, rep.RequestID)
	if rep.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(rep.RetryAfter))
	}
}

// refuse answers for what does not reach the core.
func (s *fastServer) refuse(ctx *fasthttp.RequestCtx, status int, text string) {
	rep := Reply{Status: status, ContentType: jsonType, RequestID: s.g.appendRequestID(nil, nil)}
	s.head(ctx, &rep)
	ctx.Response.SetBody(appendErrorItem(nil, text))
	s.g.counts.answered(status)
}

// broken answers for a request that cannot be read. The connection is closed afterwards.
func (s *fastServer) broken(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var timeout net.Error
	switch {
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		if c, ok := ctx.Conn().(*conn); ok {
			c.linger.Store(true)
		}
		// Of a chunked body that is too long, fasthttp has forgotten the headers.
		if h := &ctx.Request.Header; len(h.Host()) > 0 && !s.known(h) {
			s.refuse(ctx, 401, textToken)
			return
		}
		s.refuse(ctx, 413, textBodySize(s.g.opts.MaxBodyBytes))
	case errors.As(err, &small):
		s.refuse(ctx, 431, "ERR max header size exceeded. Limit: "+strconv.Itoa(s.g.opts.Listener.MaxHeaderBytes)+" bytes; send arguments in the body")
	case errors.As(err, &timeout) && timeout.Timeout():
		s.refuse(ctx, 408, "ERR the request did not arrive in time")
	default:
		s.refuse(ctx, 400, "ERR not an HTTP request")
	}
}

// bodyLimit keeps strangers from having large bodies read.
func (s *fastServer) bodyLimit(h *fasthttp.RequestHeader) fasthttp.RequestConfig {
	if n := h.ContentLength(); n >= 0 && n <= preAuthBytes || n == -2 || s.known(h) {
		return fasthttp.RequestConfig{}
	}
	return fasthttp.RequestConfig{MaxRequestBodySize: preAuthBytes}
}

// known is whether a request has a valid token.
func (s *fastServer) known(h *fasthttp.RequestHeader) bool {
	secret := bearer(h.Peek("Authorization"))
	if secret == nil {
		_, query, _ := bytes.Cut(h.RequestURI(), []byte{'?'})
		secret = queryToken(query)
	}
	return s.g.callers.Load().identify(secret) != nil
}
