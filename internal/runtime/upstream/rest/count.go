package rest

import (
	"bytes"
	"net/http"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// claim asks whether the commands of r may be sent, and cuts r before the first that may not. The error
// is that one's; a transaction is cut as a whole.
func (t *Transport) claim(r *request) error {
	admit := t.opts.Observer.Admit
	if admit == nil || !r.counted {
		return nil
	}
	for i, cmd := range r.cmds {
		err := admit(cmd.component, cmd.kind.name)
		if err == nil {
			continue
		}
		if r.tx {
			t.refund(i)
			i = 0
		}
		r.cmds = r.cmds[:i]
		return err
	}
	return nil
}

// reclaim is claim for all of r or nothing.
func (t *Transport) reclaim(r *request) bool {
	all := *r
	if err := t.claim(&all); err != nil {
		t.refund(len(all.cmds))
		return false
	}
	return true
}

func (t *Transport) refund(n int) {
	if give := t.opts.Observer.Refund; give != nil && n > 0 {
		give(n)
	}
}

// An attempt is what became of one request, for counting.
type attempt struct {
	answer answer
	reply  []byte // as RESP; nil when there is none
	err    *Error // why there is none
	bytes  int    // of the body
	after  time.Duration
}

// ran is whether the commands may have reached a Redis.
func (a attempt) ran(r *request) bool {
	if a.err != nil {
		return !a.err.Unsent
	}
	switch {
	case a.answer.status == http.StatusOK:
		return true
	case r.tx && a.answer.status == http.StatusBadRequest: // the Redis discarded it, rather than the endpoint
		return bytes.HasPrefix(a.reply, []byte("-EXECABORT")) && bytes.Contains(a.answer.body, []byte("EXECABORT"))
	}
	return false
}

// count tells the observer what an attempt cost.
func (t *Transport) count(r *request, a attempt) {
	o := t.opts.Observer
	if !r.counted {
		return
	}
	if !a.ran(r) {
		if o.Admit != nil {
			t.refund(len(r.cmds))
		}
		return
	}
	s := Spent{Commands: int64(len(r.cmds)), BytesOut: int64(a.bytes), BytesIn: int64(len(a.answer.body))}
	lost := meter.Lost
	if a.err != nil {
		s.Unanswered = s.Commands
		if a.err.Kind == TimedOut {
			lost = meter.Timeout
		}
	}
	replies := a.replies(r)
	for i, cmd := range r.cmds {
		if cmd.kind.write {
			s.Writes++
		}
		m := cmd.kind.series
		if m == nil {
			continue
		}
		m.Sent(int64(cmd.end - cmd.start))
		if a.err != nil {
			m.Ended(lost, a.after, 0)
			continue
		}
		reply := replies(i)
		m.Ended(t.outcome(reply), a.after, int64(len(reply)))
	}
	if o.Spent != nil {
		o.Spent(s)
	}
}

// replies gives the replies to the commands of r one after the other. What announces a transaction, and
// what is in one that failed as a whole, has none.
func (a attempt) replies(r *request) func(i int) []byte {
	left := a.reply
	failed := len(left) > 0 && left[0] == '-'
	if r.tx && !failed {
		_, after := cutLine(left, 0)
		left = left[max(0, after):]
	}
	return func(i int) []byte {
		if r.tx && (i == 0 || (i == len(r.cmds)-1) != failed) {
			return nil
		}
		end := max(0, skip(left, 0, 0))
		reply := left[:end]
		left = left[end:]
		return reply
	}
}

func (t *Transport) outcome(reply []byte) meter.Outcome {
	if len(reply) == 0 || reply[0] != '-' {
		return meter.OK
	}
	if t.opts.Observer.Outcome == nil {
		return "server"
	}
	return t.opts.Observer.Outcome(strings.TrimRight(string(reply[1:]), "\r\n"))
}
