package gateway

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// run sends the commands that were taken and waits for their replies. False: the answer is there.
func (x *exchange) run(ctx context.Context) bool {
	if x.call.Len() == 0 {
		return true
	}
	return x.ran(ctx, x.g.mux.Do(ctx, x.call))
}

// ran takes what came of sending them.
func (x *exchange) ran(ctx context.Context, err error) bool {
	if err != nil {
		x.failed(err)
		return false
	}
	x.replies = x.call.Reply()
	return x.complete(ctx)
}

// failed answers for replies that did not come.
func (x *exchange) failed(err error) {
	if large, ok := errors.AsType[*mux.ReplyTooLargeError](err); ok {
		x.tooLarge(int(large.Limit))
		return
	}
	status, text := statusOf(err)
	x.fail(status, text)
}

// statusOf says for an error of the mux what a client is told. Addresses and credentials, which the error
// may have, are not.
func statusOf(err error) (status int, text string) {
	outcome, isOutcome := errors.AsType[*mux.OutcomeError](err)
	busy, isBusy := errors.AsType[*mux.BusyError](err)
	_, isProtocol := errors.AsType[*mux.ProtocolError](err)
	switch {
	case isBusy && busy.What == "lane":
		return 503, textLane
	case isBusy:
		return 503, textBusy
	case isProtocol:
		return 502, textReply
	case isOutcome && !outcome.Sent, errors.Is(err, mux.ErrClosed):
		return 503, textDown
	case isOutcome && errors.Is(err, context.DeadlineExceeded):
		return 504, textTimeout
	case isOutcome:
		return 502, textLost
	}
	// What Options.Admit of the mux said: a budget that is spent, a Redis that may only be read.
	return 400, "ERR " + strings.TrimPrefix(err.Error(), "ERR ")
}

// tooLarge answers for commands that ran and whose replies were more than the mux keeps.
func (x *exchange) tooLarge(limit int) {
	text := "ERR max request size exceeded. Limit: " + strconv.Itoa(limit) + " bytes for all replies of a request"
	if !x.array {
		x.fail(400, text)
		return
	}
	for i := range x.slots {
		if x.slots[i].local == "" {
			x.slots[i].local = "-" + text + "\r\n"
		}
	}
	x.items(nil)
}

// appendText is the text for a command that the mux did not take.
func appendText(err error, name []byte) string {
	verb, _, _ := bytes.Cut(name, []byte{'|'})
	upper := strings.ToUpper(string(verb))
	if refused, ok := errors.AsType[*mux.PolicyError](err); ok {
		if refused.Category == mux.Blocking {
			return textNotREST(upper)
		}
		return textUnavailable(upper)
	}
	return "ERR " + err.Error()
}

// transaction takes the commands in the body, to be run as one, or none of them.
func (x *exchange) transaction() {
	if x.resp2 {
		x.fail(400, textResp2Multi)
		return
	}
	x.array, x.multi = true, true
	if err := x.call.Multi(); err != nil {
		x.fail(502, "ERR "+err.Error())
		return
	}
	if !x.commands("transaction request") {
		return
	}
	for _, s := range x.slots {
		if strings.HasPrefix(s.local, "-") {
			x.fail(400, s.local[1:len(s.local)-2])
			return
		}
	}
	if err := x.call.Exec(); err != nil {
		x.fail(502, "ERR "+err.Error())
		return
	}
	x.form = executed
}

// executed makes an answer of the replies from MULTI to EXEC.
func (x *exchange) executed(replies []byte) {
	queued := x.call.Len() - 1 // MULTI and the commands
	var first []byte           // why it was discarded
	for range queued {
		n, err := replyEnd(replies)
		if err != nil {
			x.fail(502, textReply)
			return
		}
		if replies[0] == '-' && first == nil {
			first = replies[1 : n-2]
		}
		replies = replies[n:]
	}
	switch {
	case len(replies) == 0:
		x.fail(502, textReply)
	case replies[0] == '-' && first != nil:
		x.fail(400, string(first))
	case replies[0] == '-':
		line, _, err := replyLine(replies, 0)
		if err != nil {
			line = []byte(textReply)
		}
		x.fail(400, string(line))
	default:
		line, next, err := replyLine(replies, 0)
		n, errN := replyLength(line)
		if err != nil || errN != nil || replies[0] != '*' || n != queued-1 {
			x.fail(502, textReply)
			return
		}
		x.items(replies[next:])
	}
}
