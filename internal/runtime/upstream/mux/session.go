package mux

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// A transaction is what a client has sent between MULTI and EXEC.
type transaction struct {
	raw      []byte
	cmds     []sentCommand
	replies  []string // what the client is told of each, in case it asks before EXEC is there
	local    []bool   // those of replies that the server knows nothing of
	answered int      // replies that it was told
	dirty    bool     // one was refused: EXEC fails
}

const (
	replyOK     = "+OK\r\n"
	replyQueued = "+QUEUED\r\n"
	replyAbort  = "-EXECABORT Transaction discarded because of previous errors.\r\n"
)

var errQuit = errors.New("the client has quit")

// command takes one whole command of a client.
func (c *conn) command(args [][]byte, raw []byte) error {
	var buf [2*maxName + 1]byte
	name := appendName(buf[:0], args)
	cmd := c.names.lookup(name)
	if c.lane != nil {
		return c.onLane(cmd, args, raw)
	}
	if c.tx != nil {
		return c.inTransaction(cmd, args, raw)
	}
	if cmd.category == Transaction || cmd.category == Connection {
		return c.session(cmd, args, raw)
	}
	if err := cmd.mayTravel(args, false); err != nil {
		return c.answer(refusal(err))
	}
	c.forward(cmd, raw)
	return nil
}

// refusal is an error as a reply.
func refusal(err error) string { return "-ERR redisopt: " + err.Error() + "\r\n" }

func wrongArity(name string) string {
	return fmt.Sprintf("-ERR wrong number of arguments for '%s' command\r\n", name)
}

// session answers what concerns the connection itself.
func (c *conn) session(cmd *command, args [][]byte, raw []byte) error {
	switch cmd.name {
	case "multi":
		if len(args) != 1 {
			return c.answer(wrongArity(cmd.name))
		}
		if err := c.flush(); err != nil {
			return err
		}
		c.tx = &transaction{}
		c.tx.add(cmd, raw, replyOK)
		return nil
	case "exec", "discard":
		if len(args) != 1 {
			return c.answer(wrongArity(cmd.name))
		}
		return c.answer("-ERR " + strings.ToUpper(cmd.name) + " without MULTI\r\n")
	case "watch":
		if len(args) < 2 {
			return c.answer(wrongArity(cmd.name))
		}
		return c.watch(cmd, raw)
	case "unwatch", "auth", "client|setname", "client|setinfo":
		return c.answer(replyOK)
	case "hello":
		return c.answer(Hello(args))
	case "select":
		if len(args) != 2 {
			return c.answer(wrongArity(cmd.name))
		}
		if string(args[1]) != strconv.Itoa(c.m.opts.DB) {
			return c.answer(refusal(fmt.Errorf("this connection is for database %d only", c.m.opts.DB)))
		}
		return c.answer(replyOK)
	case "reset":
		return c.answer("+RESET\r\n")
	case "quit":
		if err := c.answer(replyOK); err != nil {
			return err
		}
		return errQuit
	}
	return c.answer(refusal(&PolicyError{cmd.name, cmd.category}))
}

// Hello is the reply to HELLO, of which args are all words, by a server that speaks RESP2 only.
func Hello(args [][]byte) string {
	if len(args) > 1 && string(args[1]) != "2" {
		return "-NOPROTO unsupported protocol version\r\n"
	}
	return "*14\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.0.0\r\n$5\r\nproto\r\n:2\r\n$2\r\nid\r\n:1\r\n" +
		"$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n$7\r\nmodules\r\n*0\r\n"
}

func (tx *transaction) add(cmd *command, raw []byte, reply string) {
	tx.raw = append(tx.raw, raw...)
	tx.cmds = append(tx.cmds, sentCommand{cmd, int32(len(raw))})
	tx.tell(reply, false)
}

func (tx *transaction) tell(reply string, local bool) {
	tx.replies = append(tx.replies, reply)
	tx.local = append(tx.local, local)
}

// inTransaction takes one command after MULTI.
func (c *conn) inTransaction(cmd *command, args [][]byte, raw []byte) error {
	tx := c.tx
	switch cmd.name {
	case "exec":
		if len(args) == 1 {
			return c.exec(cmd, raw)
		}
		tx.dirty = true
		tx.tell(wrongArity(cmd.name), true)
		c.answerQueued()
		return nil
	case "discard":
		c.answerQueued()
		c.tx = nil
		return c.answer(replyOK)
	case "multi", "watch":
		what := "MULTI calls can not be nested"
		if cmd.name == "watch" {
			what = "WATCH inside MULTI is not allowed"
		}
		tx.tell("-ERR "+what+"\r\n", true)
		c.answerQueued()
		return nil
	case "unwatch":
		tx.add(cmd, raw, replyQueued)
		return nil
	}
	if err := cmd.mayTravel(args, true); err != nil {
		tx.dirty = true
		tx.tell(refusal(err), true)
		c.answerQueued()
		return nil
	}
	tx.add(cmd, raw, replyQueued)
	return nil
}

// exec sends the transaction in one piece. What the client was told already is not handed on again.
func (c *conn) exec(cmd *command, raw []byte) error {
	tx := c.tx
	if tx.dirty {
		c.answerQueued()
		c.tx = nil
		return c.answer(replyAbort)
	}
	tx.add(cmd, raw, "")
	f := c.newFlight()
	f.req, f.cmds = tx.raw, tx.cmds
	for _, local := range tx.local[:tx.answered] {
		if !local {
			f.skip++
		}
	}
	c.tx, c.batch = nil, f
	return c.flush()
}

// answerQueued tells the client what it has not been told of its open transaction.
func (c *conn) answerQueued() {
	tx := c.tx
	told := strings.Join(tx.replies[tx.answered:], "")
	tx.answered = len(tx.replies)
	if told != "" {
		c.push(&slot{local: []byte(told)})
	}
}

// watch moves the client to the lane.
func (c *conn) watch(cmd *command, raw []byte) error {
	if err := c.settle(); err != nil {
		return err
	}
	ctx, cancel := c.context()
	defer cancel()
	l, err := c.m.lease(ctx)
	if err != nil {
		return c.answer(refusal(err))
	}
	c.lane = l
	c.forward(cmd, raw)
	return nil
}

// onLane takes one command of a client that has the lane for itself, where a transaction needs no
// help, until the one that ends it.
func (c *conn) onLane(cmd *command, args [][]byte, raw []byte) error {
	l := c.lane
	if cmd.category != Transaction {
		if cmd.category == Connection && !l.multi {
			return c.session(cmd, args, raw)
		}
		if err := cmd.mayTravel(args, l.multi); err != nil {
			return c.answer(refusal(err))
		}
	}
	c.forward(cmd, raw)
	over := false
	switch cmd.name {
	case "multi":
		l.multi = l.multi || len(args) == 1
	case "exec", "discard":
		over = l.multi && len(args) == 1
	case "unwatch":
		over = !l.multi && len(args) == 1
	}
	if !over {
		return nil
	}
	err := c.settle()
	c.lane = nil
	if err != nil {
		l.drop()
		return err
	}
	l.giveBack()
	return nil
}
