package rest

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf8"
)

// A request is the commands of one POST. It does not change, whatever is written meanwhile.
type request struct {
	buf   []byte
	spans []span
	cmds  []command
	tx    bool   // the first and the last command are MULTI and EXEC
	owned *batch // what to use again after the request; nil when it is in use

	counted bool // the observer is told of it
}

// arg is argument i of cmd, its name included.
func (r *request) arg(cmd command, i int) []byte {
	s := r.spans[cmd.first+i]
	return r.buf[s.off : s.off+s.len]
}

// body are the commands that the endpoint is told of.
func (r *request) body() []command {
	if r.tx {
		return r.cmds[1 : len(r.cmds)-1]
	}
	return r.cmds
}

// A transaction is the commands since MULTI. They are answered as they come and leave with EXEC.
type transaction struct {
	batch
	refused string // why it cannot be committed; "" when it can
}

// refuse keeps the first reason why the transaction cannot be committed.
func (t *transaction) refuse(why string) {
	if t.refused == "" {
		t.refused = why
	}
}

// abortedBy begins the reply to EXEC as a Redis words it when it says why.
const abortedBy = "EXECABORT Transaction discarded because of: "

// take answers what needs no server, and returns the next request; nil when there is none, or when there
// are answers to be read before it. It is called with the lock held and no answers left.
func (c *conn) take() *request {
	b := c.in
	c.out = c.outBuf[:0]
	defer func() { c.outBuf = c.out[:0] }()
	for b.head < len(b.cmds) {
		cmd := b.cmds[b.head]
		commits := c.tx != nil && cmd.kind.action == endTx && c.tx.refused == "" && len(c.tx.cmds) > 1
		if commits || c.tx == nil && cmd.travels() {
			if len(c.out) > 0 {
				return nil
			}
			if commits {
				return c.commit(cmd)
			}
			return c.plain()
		}
		b.head++
		c.out = c.local(b, cmd, c.out)
	}
	c.tidy(nil)
	return nil
}

// travels is whether cmd can be one of several in a request.
func (cmd command) travels() bool { return cmd.kind.action == send && cmd.why == "" }

// plain takes as many commands as may travel together.
func (c *conn) plain() *request {
	b := c.in
	first, size := b.head, int64(0)
	for ; b.head < len(b.cmds); b.head++ {
		cmd := b.cmds[b.head]
		size += int64(cmd.end - cmd.start)
		full := b.head-first >= c.t.opts.MaxBatch || size > c.t.opts.MaxRequestBytes
		if b.head > first && (full || !cmd.travels()) {
			break
		}
	}
	r := &request{buf: b.buf, spans: b.spans, cmds: b.cmds[first:b.head], counted: c.counted}
	c.tidy(r)
	return r
}

// commit takes the transaction that cmd ends.
func (c *conn) commit(cmd command) *request {
	t := c.tx
	c.tx = nil
	t.add(c.in, cmd)
	c.in.head++
	c.tidy(nil)
	return &request{buf: t.buf, spans: t.spans, cmds: t.cmds, tx: true, counted: c.counted}
}

// add copies cmd of another batch.
func (t *transaction) add(from *batch, cmd command) {
	added := cmd
	added.first, added.start = len(t.spans), len(t.buf)
	shift := len(t.buf) - cmd.start
	t.buf = append(t.buf, from.buf[cmd.start:cmd.end]...)
	for _, s := range from.spans[cmd.first : cmd.first+cmd.args] {
		t.spans = append(t.spans, span{s.off + shift, s.len})
	}
	added.end = len(t.buf)
	t.cmds = append(t.cmds, added)
}

// tidy makes room once everything that was written whole is taken. What r refers to stays as it is, and
// writes go on in another batch.
func (c *conn) tidy(r *request) {
	b := c.in
	if len(b.cmds) == 0 || b.head < len(b.cmds) {
		return
	}
	last := b.cmds[len(b.cmds)-1]
	next := b
	if r != nil {
		if next = c.spare; next == nil {
			next = &batch{}
		}
		r.owned, c.spare = b, nil
	}
	rest, spans := b.buf[last.end:], b.spans[last.first+last.args:]
	next.buf = append(next.buf[:0], rest...)
	next.spans = next.spans[:0]
	for _, s := range spans {
		next.spans = append(next.spans, span{s.off - last.end, s.len})
	}
	next.cmds, next.head = next.cmds[:0], 0
	c.parser.moved(last.end)
	c.in = next
}

// local appends the answer to a command that the endpoint is not told of, or not yet.
func (c *conn) local(b *batch, cmd command, out []byte) []byte {
	const ok = "+OK\r\n"
	k := cmd.kind
	switch {
	case k.action == beginTx && c.tx != nil:
		return appendError(out, "ERR MULTI calls can not be nested")
	case k.action == beginTx:
		c.tx = &transaction{}
		c.tx.add(b, cmd)
		return append(out, ok...)
	case k.action == endTx && c.tx == nil:
		return appendError(out, "ERR EXEC without MULTI")
	case k.action == dropTx && c.tx == nil:
		return appendError(out, "ERR DISCARD without MULTI")
	case k.action == dropTx:
		c.tx = nil
		return append(out, ok...)
	case k.action == endTx:
		refused := c.tx.refused
		c.tx = nil
		if refused != "" {
			return appendError(out, abortedBy+refused)
		}
		return append(out, "*0\r\n"...) // nothing was queued
	case cmd.why != "":
		if c.tx != nil {
			c.tx.refuse(cmd.why)
		}
		return appendError(out, cmd.why)
	case c.tx != nil && k.action == send:
		c.tx.add(b, cmd)
		return append(out, "+QUEUED\r\n"...)
	case c.tx != nil:
		why := notOverREST(k.name, "it sets up a connection, which a transaction cannot")
		c.tx.refuse(why)
		return appendError(out, why)
	case k.action == answerHello:
		// Client libraries take this for a server of protocol 2, which is what the replies are.
		return appendError(out, "ERR unknown command 'HELLO'")
	}
	return append(out, ok...)
}

// refusal is why a command may not travel; "" when it may.
func (b *batch) refusal(cmd command) string {
	k := cmd.kind
	switch {
	case k.action == refuse:
		return notOverREST(k.name, k.why)
	case k.action == answerSelect:
		if cmd.args == 2 && string(b.arg(cmd, 1)) == "0" {
			return ""
		}
		return notOverREST(k.name, "there is only database 0")
	case k.stream && b.hasBlock(cmd):
		return notOverREST(k.name+" with BLOCK", blocks)
	}
	for i := range cmd.args {
		if !utf8.Valid(b.arg(cmd, i)) {
			return fmt.Sprintf("ERR argument %d of %s is not UTF-8, and a request over REST carries text only; "+
				"encode it, as base64 for example, or use a redis:// or rediss:// upstream", i, strings.ToUpper(k.name))
		}
	}
	return ""
}

// notOverREST is the error that refuses a command by name. Its first words are those of the providers.
func notOverREST(name, why string) string {
	return fmt.Sprintf("ERR Command %q is not allowed in REST: %s", strings.ToUpper(strings.ReplaceAll(name, "|", " ")), why)
}

// hasBlock is whether an XREAD or XREADGROUP waits. Options come before STREAMS.
func (b *batch) hasBlock(cmd command) bool {
	for i := 1; i < cmd.args; i++ {
		switch arg := b.arg(cmd, i); {
		case bytes.EqualFold(arg, []byte("STREAMS")):
			return false
		case bytes.EqualFold(arg, []byte("GROUP")):
			i += 2 // the names of a group and a consumer may be any word
		case bytes.EqualFold(arg, []byte("BLOCK")):
			return true
		}
	}
	return false
}
