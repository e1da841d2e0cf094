package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// enqueueItem adds an item to a batch.
func (e *Engine) enqueueItem(ctx context.Context, r EnqueueRequest) (Enqueued, error) {
	l, err := e.line(r.Queue)
	if err != nil {
		return Enqueued{}, err
	}
	var errs []error
	for field, set := range map[string]bool{
		"id": r.ID != "", "unique": r.Unique != "", "once": r.Once, "delay": r.Delay != 0, "run_at": !r.RunAt.IsZero(),
	} {
		if set {
			errs = append(errs, fmt.Errorf("%s: an item of a batch has none", field))
		}
	}
	if !json.Valid(r.Payload) {
		errs = append(errs, errors.New("payload: an item of a batch must be JSON"))
	}
	if len(errs) > 0 {
		return Enqueued{}, &RequestError{Queue: r.Queue, Err: errors.Join(errs...)}
	}
	now := time.Now()
	item := r.Payload
	p, err := e.prepare(r, now)
	if err != nil {
		return Enqueued{}, err
	}
	// The batch's own job has no payload: its items are beside it.
	m, err := decode(p.msg)
	if err != nil {
		return Enqueued{}, err
	}
	m.Payload = nil
	if err := e.announce(ctx, p.band); err != nil {
		return Enqueued{}, e.explain(r.Queue, "", err)
	}
	limit, paused := l.backlog()
	due := ceilSecond(now.Add(l.def.Batch.Wait))
	reply, err := e.run(ctx, e.scripts.batch,
		[]string{
			key(p.band, "pending"), key(p.band, "paused"), key(p.band, "scheduled"),
			key(p.band, "redisopt:batch:"+r.Batch), taskKey(p.band, p.id),
		},
		now.UnixNano(), limit, paused, p.id, m.encode(), due, l.def.Batch.Size, item, seconds(l.def.Batch.Wait)+60)
	if err != nil {
		e.governor.Wake(p.band)
		return Enqueued{}, e.explain(r.Queue, "", err)
	}
	return e.itemResult(l, p.band, limit, reply)
}

// itemResult reads what the script says, and tells the governor.
func (e *Engine) itemResult(l *line, band string, limit int, reply []any) (Enqueued, error) {
	if len(reply) != 1 {
		return Enqueued{}, errReply
	}
	said, err := texts(reply[0])
	if err != nil || len(said) == 0 {
		return Enqueued{}, errReply
	}
	if said[0] == "-2" {
		return Enqueued{}, &BacklogError{Queue: l.def.Name, Limit: limit, Shed: l.def.Backlog.Shed}
	}
	if len(said) != 4 {
		return Enqueued{}, errReply
	}
	r := Enqueued{Queue: l.def.Name, ID: said[1], State: Pending}
	var due int64
	_, err1 := fmt.Sscan(said[2], &r.Items)
	_, err2 := fmt.Sscan(said[3], &due)
	if err := errors.Join(err1, err2); err != nil {
		return Enqueued{}, errReply
	}
	if r.Items == 1 {
		l.count(func(s *Stats) { s.Enqueued++ })
	}
	switch due {
	case 0:
		e.governor.Added(band, r.ID)
	default:
		r.State, r.RunAt = Scheduled, time.Unix(due, 0)
		if r.Items == 1 {
			e.governor.Due(band, false, due)
		}
	}
	return r, nil
}
