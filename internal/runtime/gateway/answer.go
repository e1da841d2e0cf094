package gateway

import (
	"bytes"
	"context"
	"fmt"
)

// The first segments of a path that are not commands.
const (
	pathPipeline   = "pipeline"
	pathMulti      = "multi-exec"
	pathSubscribe  = "subscribe"
	pathPSubscribe = "psubscribe"
	pathMonitor    = "monitor"
)

// A form is how an answer is made of the replies.
type form uint8

const (
	answered form = iota // it is there already, or is a stream
	single               // one reply
	items                // an item for each command
	executed             // the same, out of the reply to EXEC
)

// answer runs what the path and the body say.
func (x *exchange) answer(ctx context.Context) {
	if x.prepare(ctx); x.form != answered && x.run(ctx) {
		x.finish()
	}
}

// finish makes the answer of the replies.
func (x *exchange) finish() {
	switch x.form {
	case answered:
	case single:
		x.one()
	case items:
		x.items(x.replies)
	case executed:
		x.executed(x.replies)
	}
}

// prepare takes the commands that the path and the body say; form is what is to be done with their replies.
// Only a stream makes it wait.
func (x *exchange) prepare(ctx context.Context) {
	path := bytes.TrimLeft(x.req.Path, "/")
	if len(path) == 0 {
		x.bodyCommand()
		return
	}
	first, rest, _ := bytes.Cut(path, []byte{'/'})
	switch {
	case isWord(first, pathPipeline) && len(rest) == 0:
		x.pipeline()
	case isWord(first, pathMulti) && len(rest) == 0:
		x.transaction()
	case isWord(first, pathSubscribe):
		x.subscribe(ctx, rest, false)
	case isWord(first, pathPSubscribe):
		x.subscribe(ctx, rest, true)
	case isWord(first, pathMonitor) && len(rest) == 0:
		x.monitor(ctx)
	default:
		x.pathCommand()
	}
}

// streams is whether the answer to a request for path is a stream.
func streams(path []byte) bool {
	first, _, _ := bytes.Cut(bytes.TrimLeft(path, "/"), []byte{'/'})
	return isWord(first, pathSubscribe) || isWord(first, pathPSubscribe) || isWord(first, pathMonitor)
}

func isWord(b []byte, word string) bool {
	return len(b) == len(word) && bytes.EqualFold(b, []byte(word))
}

// bodyCommand takes the one command in the body.
func (x *exchange) bodyCommand() {
	if !x.bodyReadable("command") {
		return
	}
	p := bodyParser{b: x.req.Body}
	args, err := p.command(x.args[:0], errNotArray)
	x.args = args
	if err == nil {
		err = p.end()
	}
	if err != nil {
		x.unparsed("command", err)
		return
	}
	x.takeOne(args)
}

// pathCommand takes the command in the path, with the body as one more argument and then the query.
func (x *exchange) pathCommand() {
	args, err := appendPath(x.args[:0], x.req.Path)
	if err == nil && len(x.req.Body) > 0 {
		args = append(args, x.req.Body)
	}
	if err == nil {
		args, err = appendQuery(args, x.req.Query)
	}
	x.args = args
	if err != nil {
		x.unparsed("command", err)
		return
	}
	x.takeOne(args)
}

func (x *exchange) takeOne(args [][]byte) {
	if len(args) == 0 {
		x.fail(400, textEmpty)
		return
	}
	if x.take(args) {
		x.form = single
	}
}

// one makes the answer the one reply.
func (x *exchange) one() {
	reply := x.replies
	if local := x.slots[0].local; local != "" {
		reply = []byte(local)
	}
	if len(reply) == 0 {
		x.fail(502, textReply)
		return
	}
	if reply[0] == '-' {
		x.rep.Status = 400
	}
	if len(reply) > x.g.opts.MaxReplyBytes {
		x.fail(400, textRequestSize(x.g.opts.MaxReplyBytes, len(reply)))
		return
	}
	if x.resp2 {
		x.rep.ContentType = resp2Type
		x.rep.Body = append(x.rep.Body, reply...)
		return
	}
	body, n, _, err := x.bridge.item(x.rep.Body, reply)
	x.rep.Body = body
	if err != nil || n != len(reply) {
		x.fail(502, textReply)
	}
}

// pipeline takes the commands in the body, to be run in order; others' commands may come in between.
func (x *exchange) pipeline() {
	x.array = true
	if x.commands("pipeline request") {
		x.form = items
	}
}

// commands takes every command of the body.
func (x *exchange) commands(what string) bool {
	if !x.bodyReadable(what) {
		return false
	}
	p := bodyParser{b: x.req.Body}
	if err := p.begin(errNotNested); err != nil {
		x.unparsed(what, err)
		return false
	}
	for first := true; ; first = false {
		more, err := p.more(first)
		if err == nil && more {
			x.args, err = p.command(x.args[:0], errNotNested)
		}
		if err == nil && !more {
			err = p.end()
		}
		switch {
		case err != nil:
			x.unparsed(what, err)
			return false
		case !more && first:
			x.fail(400, "ERR empty "+what)
			return false
		case !more:
			return true
		case len(x.args) == 0:
			x.unparsed(what, fmt.Errorf("command %d is empty", len(x.slots)+1))
			return false
		case len(x.slots) == x.g.opts.MaxPipeline:
			x.fail(413, textPipelineSize(x.g.opts.MaxPipeline))
			return false
		}
		if !x.take(x.args) {
			return false
		}
	}
}

// items makes the answer the array of all replies.
func (x *exchange) items(replies []byte) {
	dst := x.rep.Body
	if x.resp2 {
		x.rep.ContentType = resp2Type
		dst = appendArrayHeader(dst, len(x.slots))
	} else {
		dst = append(dst, '[')
	}
	small := len(replies) <= x.g.opts.MaxReplyBytes // then no reply among them is too large
	for i, s := range x.slots {
		if i > 0 && !x.resp2 {
			dst = append(dst, ',')
		}
		if s.local != "" {
			dst = x.appendReply(dst, []byte(s.local))
			continue
		}
		var n int
		var err error
		if small && !x.resp2 {
			dst, n, _, err = x.bridge.item(dst, replies)
		} else if n, err = replyEnd(replies); err == nil {
			dst = x.appendReply(dst, replies[:n])
		}
		if err != nil {
			x.fail(502, textReply)
			return
		}
		replies = replies[n:]
	}
	if !x.resp2 {
		dst = append(dst, ']')
	}
	x.rep.Body = dst
}

// appendReply appends one complete reply, or an error in its place when it is too large.
func (x *exchange) appendReply(dst, reply []byte) []byte {
	if len(reply) > x.g.opts.MaxReplyBytes {
		reply = []byte("-" + textRequestSize(x.g.opts.MaxReplyBytes, len(reply)) + "\r\n")
	}
	if x.resp2 {
		return append(dst, reply...)
	}
	start := len(dst)
	dst, _, _, err := x.bridge.item(dst, reply)
	if err != nil {
		return appendErrorItem(dst[:start], textReply)
	}
	return dst
}
