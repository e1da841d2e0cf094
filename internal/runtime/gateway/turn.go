package gateway

import (
	"bytes"
	"context"
)

// largeReply is how much of a reply is made into an answer by a loop itself. With more, others would wait.
const largeReply = 64 << 10

// A turn is one request of a client of a loop, from the moment it is whole until its answer is written. The
// loop's goroutine has it, except while it waits for the Redis: from the moment start or resume say so, until
// tell hands it back, which is called once, on whatever goroutine ended the wait.
type turn struct {
	g      *Gateway
	tell   func(*turn)
	client *client
	x      *exchange
	rep    Reply
	made   bool // while it waited, the whole answer was made
}

// start is Gateway.Handle up to where that would wait. True: the answer is in rep. Afterwards nothing of req
// is used any more. It is not for streams.
func (t *turn) start(req *Request) (over bool) {
	defer t.recovered(&over)
	t.x = t.g.begin(req, &t.rep)
	x := t.x
	if x.who == nil {
		return true
	}
	x.turn = t
	x.prepare(context.Background())
	if x.form == answered {
		return true
	}
	if x.call.Len() == 0 {
		x.finish()
		return true
	}
	x.keepScans()
	if x.ended == nil {
		x.ended = func() { x.turn.tell(x.turn) }
	}
	if !t.g.mux.Start(x.call, x.ended) {
		go t.wait(func(ctx context.Context) error { return t.g.mux.Do(ctx, x.call) })
	}
	return false
}

// resume goes on when the wait is over. True: the answer is in rep, its body in the memory of body unless a
// goroutine has made it. False: there is more to wait for, or the answer is long and a goroutine makes it.
func (t *turn) resume(body []byte) (over bool) {
	if t.made {
		return true
	}
	defer t.recovered(&over)
	x := t.x
	err, again := t.g.mux.End(x.call)
	switch {
	case again:
		go t.wait(func(ctx context.Context) error { return t.g.mux.Again(ctx, x.call) })
		return false
	case err == nil && (!x.started.IsZero() || len(x.call.Reply()) > largeReply):
		go t.wait(func(context.Context) error { return nil })
		return false
	}
	t.rep.Body = body[:0]
	if x.ran(context.Background(), err) {
		x.finish()
	}
	return true
}

// wait does what takes waiting, or long, on a goroutine of its own.
func (t *turn) wait(send func(context.Context) error) {
	defer t.tell(t)
	defer t.recovered(&t.made)
	ctx := context.Background()
	if t.x.ran(ctx, send(ctx)) {
		t.x.finish()
	}
	t.made = true
}

// recovered makes an answer of a defect, and says that there is one. What was under way is left alone.
func (t *turn) recovered(over *bool) {
	if recover() == nil {
		return
	}
	t.g.counts.panics.Add(1)
	if t.x != nil && t.x.who != nil {
		t.x.who.done()
	}
	t.x, *over = nil, true
	t.rep = Reply{Status: 500, ContentType: jsonType, RequestID: t.g.appendRequestID(nil, nil)}
	t.rep.Body = appendErrorItem(nil, textDefect)
}

// end gives back what the request had, as far as it is not the answer itself.
func (t *turn) end() {
	x := t.x
	if x == nil {
		t.g.counts.answered(t.rep.Status)
		return
	}
	t.x = nil
	if x.who != nil {
		x.who.done()
	}
	t.g.end(x)
}

// keepScans gives the SCANs that may be sent again memory of their own.
func (x *exchange) keepScans() {
	if x.started.IsZero() {
		return
	}
	for _, s := range x.slots {
		for i, arg := range s.scan {
			s.scan[i] = bytes.Clone(arg)
		}
	}
}
