package gateway

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// ServeHTTP answers a request of a net/http server. That costs about twice the processor time of Serve,
// and is for mounting the gateway beside something else; the server's own timeouts and limits apply.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	req := Request{
		Method:        strings.ToUpper(r.Method),
		Path:          []byte(r.URL.EscapedPath()),
		Query:         []byte(r.URL.RawQuery),
		Authorization: []byte(r.Header.Get("Authorization")),
		Encoding:      []byte(r.Header.Get("Upstash-Encoding")),
		Format:        []byte(r.Header.Get("Upstash-Response-Format")),
		RequestID:     []byte(r.Header.Get(requestIDHeader)),
	}
	h := w.Header()
	h.Set(InstanceHeader, g.opts.InstanceID)
	h.Set(SyncHeader, syncToken)
	limit := g.opts.MaxBodyBytes
	if g.callers.Load().identify(tokenOf(&req)) == nil {
		limit = preAuthBytes // it will be refused; a stranger does not have a large body read
	}
	var err error
	req.Body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, int64(limit)))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		req.Body, req.TooLarge = nil, true
	} else if err != nil {
		g.refuseHTTP(w, http.StatusBadRequest, "ERR the request did not arrive whole")
		return
	}
	var rep Reply
	g.Handle(r.Context(), &req, &rep)
	h.Set("Content-Type", rep.ContentType)
	h.Set(requestIDHeader, string(rep.RequestID))
	if rep.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(rep.RetryAfter))
	}
	if rep.Stream != nil {
		g.streamHTTP(w, r, &rep)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(rep.Body)))
	w.WriteHeader(rep.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(rep.Body)
	}
}

func tokenOf(req *Request) []byte {
	if secret := bearer(req.Authorization); secret != nil {
		return secret
	}
	return queryToken(req.Query)
}

func (g *Gateway) refuseHTTP(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", jsonType)
	w.WriteHeader(status)
	_, _ = w.Write(appendErrorItem(nil, text))
	g.counts.answered(status)
}

func (g *Gateway) streamHTTP(w http.ResponseWriter, r *http.Request, rep *Reply) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	rc := http.NewResponseController(w)
	w.Header().Set("Cache-Control", "no-cache")
	w.WriteHeader(rep.Status)
	if r.Method == http.MethodHead {
		cancel()
	}
	_ = rep.Stream(ctx, func(b []byte) error {
		// A server that cannot set deadlines has its own; a write without one only waits longer.
		_ = rc.SetWriteDeadline(time.Now().Add(g.opts.Listener.WriteTimeout))
		if _, err := w.Write(b); err != nil {
			return err
		}
		return rc.Flush()
	})
}
