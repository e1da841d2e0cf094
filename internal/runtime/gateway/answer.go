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

// answer runs what the path and the body say.
func (x *exchange) answer(ctx context.Context) {
	path := bytes.TrimLeft(x.req.Path, "/")
	if len(path) == 0 {
		x.bodyCommand(ctx)
		return
	}
	first, rest, _ := bytes.Cut(path, []byte{'/'})
	switch {
	case isWord(first, pathPipeline) && len(rest) == 0:
		x.pipeline(ctx)
	case isWord(first, pathMulti) && len(rest) == 0:
		x.transaction(ctx)
	case isWord(first, pathSubscribe):
		x.subscribe(ctx, rest, false)
	case isWord(first, pathPSubscribe):
		x.subscribe(ctx, rest, true)
	case isWord(first, pathMonitor) && len(rest) == 0:
		x.monitor(ctx)
	default:
		x.pathCommand(ctx)
	}
}

func isWord(b []byte, word string) bool {
	return len(b) == len(word) && bytes.EqualFold(b, []byte(word))
}

// bodyCommand runs the one command in the body.
func (x *exchange) bodyCommand(ctx context.Context) {
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
	x.one(ctx, args)
}

// pathCommand runs the command in the path, with the body as one more argument and then the query.
func (x *exchange) pathCommand(ctx context.Context) {
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
	x.one(ctx, args)
}

func (x *exchange) one(ctx context.Context, args [][]byte) {
	if len(args) == 0 {
		x.fail(400, textEmpty)
		return
	}
	if !x.take(args) || !x.run(ctx) {
		return
	}
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

// pipeline runs the commands in the body in order; others' commands may come in between.
func (x *exchange) pipeline(ctx context.Context) {
	x.array = true
	if x.commands("pipeline request") && x.run(ctx) {
		x.items(x.replies)
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
