package gateway

import (
	"context"
	"crypto/rand"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// InstanceHeader is the header of every answer that names the process that gave it. A sidecar refuses an
// upstream that answers with its own id.
const InstanceHeader = "Redisopt-Instance"

// SyncHeader is the header of every answer that a client sends back with its next request. Behind the
// gateway there is one Redis, which always shows a client its own writes, so the value means nothing.
const SyncHeader = "Upstash-Sync-Token"

const (
	syncToken       = "redisopt"
	requestIDHeader = "X-Request-Id"
)

// A Gateway answers the Upstash REST protocol. It is safe for concurrent use and holds no connection of
// its own.
type Gateway struct {
	opts       Options
	mux        *mux.Mux
	bell       *upstream.Bell
	callers    atomic.Pointer[callers]
	scripts    scripts
	withType   atomic.Int32 // how SCAN … WITHTYPE is done: see scan.go
	monitoring atomic.Bool  // whether somebody has /monitor
	exchanges  sync.Pool    // of *exchange
	counts     counts
	idPrefix   string
	ids        atomic.Uint64
}

// New returns a Gateway. It connects to nothing: an unreachable Redis shows as errors of requests. All
// problems of opts are reported together.
func New(opts Options) (*Gateway, error) {
	if opts.InstanceID == "" {
		opts.InstanceID = rand.Text()
	}
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("gateway: %w", err)
	}
	g := &Gateway{opts: opts, mux: opts.Mux, bell: opts.Bell, idPrefix: rand.Text()[:8] + "-"}
	g.callers.Store(newCallers(opts.Tokens, opts.Allow, opts.Open))
	return g, nil
}

// Reload replaces the tokens and the commands allowed by name; requests in progress end under the old
// ones. The counters and allowances of tokens begin anew. Nothing changes when it returns an error.
func (g *Gateway) Reload(tokens []Token, allow []string) error {
	if err := validateTokens(tokens, g.opts.Open); err != nil {
		return fmt.Errorf("gateway: %w", err)
	}
	g.callers.Store(newCallers(tokens, allow, g.opts.Open))
	return nil
}

// InstanceID is the value of InstanceHeader.
func (g *Gateway) InstanceID() string { return g.opts.InstanceID }

// MaxBodyBytes is the longest body that an adapter reads.
func (g *Gateway) MaxBodyBytes() int { return g.opts.MaxBodyBytes }

// Handle answers req into rep. It returns within Options.Timeout, or sooner when ctx ends; for a stream it
// returns at once, with rep.Stream set. It knows no HTTP: an adapter copies the headers in and out, adds
// InstanceHeader and SyncHeader, and leaves out the body of an answer to HEAD.
func (g *Gateway) Handle(ctx context.Context, req *Request, rep *Reply) {
	x := g.begin(req, rep)
	if x.who != nil {
		x.serve(ctx)
	}
	g.end(x)
}

// begin makes the exchange of a request. Who is nil when the answer is there already.
func (g *Gateway) begin(req *Request, rep *Reply) *exchange {
	rep.reset()
	rep.RequestID = g.appendRequestID(rep.RequestID, req.RequestID)
	x := g.exchange()
	x.req, x.rep = req, rep
	x.who = x.enter()
	return x
}

// end counts the answer and takes the exchange back.
func (g *Gateway) end(x *exchange) {
	g.counts.answered(x.rep.Status)
	g.release(x)
}

func (g *Gateway) appendRequestID(dst, given []byte) []byte {
	if len(given) > 0 && isHeaderWord(given) {
		return append(dst, given...)
	}
	dst = append(dst, g.idPrefix...)
	return strconv.AppendUint(dst, g.ids.Add(1), 36)
}
