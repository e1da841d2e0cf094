package queue

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// reasonLimit is how many bytes of a reason are kept with a job.
const reasonLimit = 2 << 10

// A settlement is an end of an attempt that asynq has none for.
type settlement struct {
	part   string // of the band: pending, retry or archived
	score  string // head, tail, or seconds
	due    int64  // of retry
	reason string
	dead   bool
}

// toHead gives the job back as if it had not been taken.
func toHead() settlement { return settlement{part: "pending", score: "head"} }

// toTail leaves it for another replica, behind the others.
func toTail() settlement { return settlement{part: "pending", score: "tail"} }

// toRetry has it tried later without counting an attempt.
func toRetry(at time.Time, reason string) settlement {
	due := ceilSecond(at)
	return settlement{part: "retry", score: text(due), due: due, reason: reason}
}

// toArchive makes it a dead letter.
func toArchive(reason string) settlement {
	return settlement{part: "archived", score: text(time.Now().Unix()), reason: reason, dead: true}
}

// settle ends an attempt by our own script, in the place of asynq's. After an error that leaves it unknown
// whether it did, the job is tried again when its lease has ended. It costs 1 script of 4 commands.
func (e *Engine) settle(ctx context.Context, a *attempt, s settlement) error {
	var msg []byte
	now := time.Now()
	if s.reason != "" {
		m := a.msg
		m.Error, m.LastFailedAt = reason(s.reason), now.Unix()
		msg = m.encode()
	}
	reply, err := e.run(ctx, e.scripts.settle,
		[]string{key(a.band, "active"), key(a.band, "lease"), key(a.band, s.part), taskKey(a.band, a.id)},
		a.id, s.score, s.part, msg, now.UnixNano())
	if err != nil {
		err = e.explain(a.line.def.Name, a.id, err)
		e.witness.failed(a, err, false)
		return err
	}
	if moved, _ := reply[0].(int64); moved != 1 {
		gone := &LeaseError{Problem: LeaseGone}
		e.witness.close(a, gone) // an application that waits for this must not think that it was done
		return gone
	}
	defer e.witness.close(a, nil)
	switch {
	case s.dead:
		a.line.count(func(st *Stats) { st.Dead++ })
		e.observe(a, Event{Kind: Dead, Reason: s.reason})
	case s.part == "retry":
		a.line.count(func(st *Stats) { st.Rescheduled++ })
		e.governor.Due(a.band, true, s.due)
		e.observe(a, Event{Kind: Rescheduled, Reason: s.reason, RetryAt: time.Unix(s.due, 0)})
	default:
		e.governor.Added(a.band, a.id)
	}
	return nil
}

// giveBack puts a job that was taken and not begun at the head of its band. It costs 1 script of 4 commands. An error
// wraps governor.ErrNotSent where that can be tried again.
func (e *Engine) giveBack(ctx context.Context, band string, msg []byte) error {
	m, err := decode(msg)
	if err != nil {
		return err
	}
	head := toHead()
	_, err = e.run(ctx, e.scripts.settle,
		[]string{key(band, "active"), key(band, "lease"), key(band, head.part), taskKey(band, m.ID)},
		m.ID, head.score, head.part, "", time.Now().UnixNano())
	if err != nil {
		if e.unsent(err) {
			return fmt.Errorf("put back job %s: %w: %w", m.ID, governor.ErrNotSent, err)
		}
		err = fmt.Errorf("put back job %s: %w", m.ID, err)
		e.opts.Notice(err) // it is tried again when its lease has ended
	}
	return err
}

// observe tells of an attempt that ended here.
func (e *Engine) observe(a *attempt, v Event) {
	v.Queue, v.ID, v.Name, v.Attempt = a.line.def.Name, a.id, a.msg.Type, int(a.msg.Retried)+1
	v.At = time.Now()
	v.Took = v.At.Sub(a.begun)
	e.opts.Observe(v)
}

// told counts and tells what asynq has done with a job, which may be one of another process.
func (e *Engine) told(l *line, s sighting, a *attempt) {
	v := Event{Kind: Done, At: time.Now(), Queue: l.def.Name, ID: s.id}
	m, known := message{}, false
	if a != nil {
		m, known = a.msg, true
		v.Took = v.At.Sub(a.begun)
	}
	// What asynq writes says more: the reason, and for a job of another process all there is.
	if s.deed == retried || s.deed == archived {
		if raw, ok := argument(s.args, 1).([]byte); ok {
			if got, err := decode(raw); err == nil {
				v.Reason = got.Error
				if !known {
					m = got
					if s.deed == retried && m.Retried > 0 {
						m.Retried-- // it counts the attempt that has just ended
					}
				}
			}
		}
	}
	v.Name, v.Attempt = m.Type, int(m.Retried)+1
	switch s.deed {
	case finished, kept:
		l.count(func(st *Stats) { st.Done++ })
		if s.deed == kept && l.trimDue(s.band) {
			e.trim(s.band, l.def.Completed.Count)
		}
	case retried:
		v.Kind = Failed
		if at, ok := argument(s.args, 2).(int64); ok {
			v.RetryAt = time.Unix(at, 0)
		}
		if failure, ok := argument(s.args, 4).(bool); ok && !failure {
			v.Kind = Rescheduled
		}
		l.count(func(st *Stats) {
			if v.Kind == Failed {
				st.Failed++
			} else {
				st.Rescheduled++
			}
		})
	case archived:
		v.Kind = Dead
		l.count(func(st *Stats) { st.Dead++ })
	case requeued:
		return
	}
	e.opts.Observe(v)
}

func argument(args []any, i int) any {
	if i >= len(args) {
		return nil
	}
	return args[i]
}

// trim removes completed jobs beyond the count of a band, in the background.
func (e *Engine) trim(band string, count int) {
	e.aside(func(ctx context.Context) {
		for range 100 {
			reply, err := e.run(ctx, e.scripts.trim, []string{key(band, "completed"), key(band, "t:")}, count)
			if err != nil {
				if upstream.Classify(err) != upstream.Canceled {
					e.opts.Notice(err)
				}
				return
			}
			if went, _ := reply[0].(int64); went < 1000 {
				return
			}
		}
	})
}

// reason is a text as it is kept with a job: UTF-8, of bounded length.
func reason(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) > reasonLimit {
		s = strings.ToValidUTF8(s[:reasonLimit], "") + "…"
	}
	return s
}
