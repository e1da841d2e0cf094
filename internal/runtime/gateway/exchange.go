package gateway

import (
	"bytes"
	"context"
	"time"
	"unicode/utf8"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// An exchange is what one request needs while it is answered. It is reused, so that a request allocates
// nothing.
type exchange struct {
	g      *Gateway
	req    *Request
	rep    *Reply
	who    *caller
	call   *mux.Call
	bridge bridge
	resp2  bool

	args  [][]byte // of the command at hand
	name  []byte   // its name
	slots []slot   // one for each command, in order

	form    form      // what is made of the replies
	array   bool      // the answer has an item for each command
	multi   bool      // between MULTI and EXEC
	started time.Time // set when one Do may not be all
	replies []byte    // of the Redis, in the order of the slots that are not local

	turn  *turn  // of a loop; nil where a goroutine waits for the answer
	ended func() // tells the loop; made once for every exchange that is used again
}

// A slot is where the reply to one command comes from.
type slot struct {
	local  string   // RESP that is answered here; empty: the next reply of the Redis
	scan   [][]byte // a SCAN to whose keys types are to be added, without that option
	native bool     // it was sent with the option
	name   string   // of the script that was loaded, as the client knows it; empty when that is its name
}

func (g *Gateway) exchange() *exchange {
	x, ok := g.exchanges.Get().(*exchange)
	if !ok {
		x = &exchange{g: g}
	}
	x.call = g.mux.NewCall(meter.Gateway)
	x.call.SetTimeout(g.opts.Timeout)
	return x
}

// keepLength is the most elements of a buffer that is kept for the next request.
const keepLength = 4096

func (g *Gateway) release(x *exchange) {
	x.call.Release()
	clear(x.args)
	clear(x.slots)
	*x = exchange{g: g, args: x.args[:0], name: x.name[:0], slots: x.slots[:0], ended: x.ended}
	if cap(x.args) > keepLength {
		x.args = nil
	}
	if cap(x.slots) > keepLength {
		x.slots = nil
	}
	g.exchanges.Put(x)
}

// fail makes the whole answer an error.
func (x *exchange) fail(status int, text string) {
	x.rep.Status, x.rep.ContentType = status, jsonType
	x.rep.Body = appendErrorItem(x.rep.Body[:0], text)
}

// enter checks what does not depend on the command, and says who asks; nil when the answer is there.
func (x *exchange) enter() *caller {
	switch x.req.Method {
	case "POST", "GET", "PUT", "HEAD":
	default:
		x.fail(405, textMethod)
		return nil
	}
	secret := bearer(x.req.Authorization)
	if secret == nil && len(x.req.Query) > 0 {
		secret = queryToken(x.req.Query)
	}
	who := x.g.callers.Load().identify(secret)
	if who == nil {
		x.fail(401, textToken)
		return nil
	}
	if text, retry := who.admit(); text != "" {
		x.fail(429, text)
		x.rep.RetryAfter = retry
		return nil
	}
	if x.checkHeaders() {
		return who
	}
	who.done()
	return nil
}

// serve answers somebody who was admitted, and gives the admission back, even after a defect.
func (x *exchange) serve(ctx context.Context) {
	defer func() {
		if x.rep.Stream == nil {
			x.who.done()
		}
	}()
	x.answer(ctx)
	if stream := x.rep.Stream; stream != nil {
		x.rep.Stream = x.g.countedStream(x.who, stream)
	}
}

func (x *exchange) checkHeaders() bool {
	if e := x.req.Encoding; len(e) > 0 {
		if !bytes.EqualFold(e, []byte("base64")) {
			x.fail(400, textEncoding)
			return false
		}
		x.bridge.base64 = true
	}
	if f := x.req.Format; len(f) > 0 && !bytes.EqualFold(f, []byte("json")) {
		switch {
		case !bytes.EqualFold(f, []byte("resp2")):
			x.fail(400, textFormat)
			return false
		case x.bridge.base64:
			x.fail(400, textResp2Base)
			return false
		}
		x.resp2 = true
	}
	if x.req.TooLarge {
		x.fail(413, textBodySize(x.g.opts.MaxBodyBytes))
		return false
	}
	return true
}

// take decides about the command in args: it is refused, answered here, or put into the call. False: the
// whole request is answered, because the command is too large.
func (x *exchange) take(args [][]byte) bool {
	size := 0
	for _, a := range args {
		size += len(a)
	}
	if size > x.g.opts.MaxRequestBytes {
		x.fail(413, textRequestSize(x.g.opts.MaxRequestBytes, size))
		return false
	}
	x.name = appendName(x.name[:0], args)
	if string(x.name) == "client|setinfo" {
		x.slots = append(x.slots, slot{local: "+OK\r\n"}) // an SDK says who it is; the connection is not its own
		return true
	}
	if text := x.who.refusal(x.name); text != "" {
		x.refuse(text)
		return true
	}
	s := slot{}
	switch string(x.name) {
	case "eval", "eval_ro":
		if len(args) > 1 {
			args[1] = x.g.scripts.rewrite(args[1])
		}
	case "script|load":
		if len(args) > 2 {
			s.name = x.load(args)
		}
	case "evalsha", "evalsha_ro":
		if len(args) > 1 {
			args[1] = x.g.scripts.nameOf(args[1])
		}
	case "script|exists":
		for i := 2; i < len(args); i++ {
			args[i] = x.g.scripts.nameOf(args[i])
		}
	case "scan":
		s, args = x.scan(args)
	}
	if err := x.call.Append(args...); err != nil {
		x.refuse(appendText(err, x.name))
		return true
	}
	x.slots = append(x.slots, s)
	return true
}

func (x *exchange) refuse(text string) {
	x.slots = append(x.slots, slot{local: "-" + text + "\r\n"})
}

// bodyReadable is whether the body is text at all; otherwise the answer is there.
func (x *exchange) bodyReadable(what string) bool {
	if !utf8.Valid(x.req.Body) {
		x.unparsed(what, errUTF8)
		return false
	}
	return true
}

func (x *exchange) unparsed(what string, err error) {
	x.fail(400, "ERR failed to parse "+what+": "+err.Error())
}
