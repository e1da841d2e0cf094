package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

const (
	nameLimit     = 200     // bytes of names, ids and keys
	headersMost   = 32      // headers of one job
	headersLimit  = 8 << 10 // bytes of all headers of one job
	chunkJobs     = 200     // jobs in one script
	chunkBytes    = 1 << 20 // bytes in one script, unless one job has more
	uniqueLife    = 30 * 24 * time.Hour
	timeoutGrace  = 5 * time.Second // that asynq gives an attempt beyond our own timeout
	scheduledMost = 5 * 365 * 24 * time.Hour
)

// A prepared is an EnqueueRequest that can be sent.
type prepared struct {
	index int // in EnqueueMany
	line  *line
	band  string
	id    string
	msg   []byte
	due   int64 // Unix seconds, 0 for at once
	lock  string
	once  bool
	sched string
	key   string // the unique key
}

// Enqueue adds one job. It costs 1 script of 3 commands; 1 more with a unique key, a few more where something
// is there already, and 1 the first time this process uses a band. Where others have to be woken by a
// message, that is 1 more. Errors: *UnknownQueueError, *RequestError, *InvalidError, *SizeError,
// *DuplicateError, *BacklogError, *DrainingError, *RefusedError, *UncertainError.
func (e *Engine) Enqueue(ctx context.Context, r EnqueueRequest) (Enqueued, error) {
	if r.Batch != "" {
		return e.enqueueItem(ctx, r)
	}
	results, errs := e.EnqueueMany(ctx, []EnqueueRequest{r})
	return results[0], errs[0]
}

// EnqueueMany adds jobs with one script for each band and 200 jobs: 4 commands for each job at most, those of
// items of batches aside. results and errs have one entry for each request, in order: where the error is
// nil the job was added, and an *UncertainError apart nothing was added where it is not.
func (e *Engine) EnqueueMany(ctx context.Context, rs []EnqueueRequest) (results []Enqueued, errs []error) {
	results, errs = make([]Enqueued, len(rs)), make([]error, len(rs))
	now := time.Now()
	var order []string
	groups := map[string][]prepared{}
	for i, r := range rs {
		if r.Batch != "" {
			results[i], errs[i] = e.enqueueItem(ctx, r)
			continue
		}
		p, err := e.prepare(r, now)
		if err != nil {
			errs[i] = err
			continue
		}
		p.index = i
		if _, ok := groups[p.band]; !ok {
			order = append(order, p.band)
		}
		groups[p.band] = append(groups[p.band], p)
	}
	for _, band := range order {
		for group := groups[band]; len(group) > 0; {
			n, bytes := 0, 0
			for n < len(group) && n < chunkJobs && (n == 0 || bytes+len(group[n].msg) <= chunkBytes) {
				bytes += len(group[n].msg)
				n++
			}
			e.add(ctx, group[:n], now, results, errs)
			group = group[n:]
		}
	}
	return results, errs
}

// add sends jobs of one band.
func (e *Engine) add(ctx context.Context, ps []prepared, now time.Time, results []Enqueued, errs []error) {
	l, band := ps[0].line, ps[0].band
	all := func(err error) {
		for _, p := range ps {
			errs[p.index] = e.explain(l.def.Name, p.id, err)
		}
		if !e.unsent(err) {
			// They may be there after all.
			e.governor.Wake(band)
		}
	}
	if err := e.announce(ctx, band); err != nil {
		all(err)
		return
	}
	limit, paused := l.backlog()
	keys := []string{key(band, "pending"), key(band, "paused"), key(band, "scheduled")}
	args := []any{now.UnixNano(), limit, paused}
	ids := make([]string, 0, len(ps))
	for _, p := range ps {
		ids = append(ids, p.id)
		hashes := 1
		keys = append(keys, taskKey(band, p.id))
		if !e.cluster {
			for _, other := range l.bands {
				if other != band {
					keys = append(keys, taskKey(other, p.id))
					hashes++
				}
			}
		}
		life := ""
		if p.lock != "" {
			keys = append(keys, p.lock)
			life = fmt.Sprint(int64(uniqueLife/time.Second) + max(0, p.due-now.Unix()))
		}
		score := ""
		if p.due > 0 {
			score = fmt.Sprint(p.due)
		}
		args = append(args, p.id, p.msg, score, hashes, life, flag(p.once), p.sched)
	}
	e.governor.Own(band, ids...)
	reply, err := e.run(ctx, e.scripts.enqueue, keys, args...)
	if err == nil && len(reply) != len(ps) {
		err = errReply
	}
	if err != nil {
		all(err)
		return
	}
	var pending []string
	due := map[int64]bool{}
	for i, p := range ps {
		results[p.index], errs[p.index] = p.result(reply[i], limit)
		if errs[p.index] != nil {
			continue
		}
		l.count(func(s *Stats) { s.Enqueued++ })
		if p.due == 0 {
			pending = append(pending, p.id)
		} else {
			due[p.due] = true
		}
	}
	if len(pending) > 0 {
		e.governor.Added(band, pending...)
	}
	for unix := range due {
		e.governor.Due(band, false, unix)
	}
}

// result reads what the script says about one job.
func (p prepared) result(reply any, limit int) (Enqueued, error) {
	said, err := texts(reply)
	if err != nil || len(said) == 0 {
		return Enqueued{}, errReply
	}
	said = append(said, "", "")
	name := p.line.def.Name
	switch said[0] {
	case "1":
		r := Enqueued{Queue: name, ID: p.id, State: Pending}
		if p.due > 0 {
			r.State, r.RunAt = Scheduled, time.Unix(p.due, 0)
		}
		return r, nil
	case "0":
		return Enqueued{}, &DuplicateError{Queue: name, ID: said[1], State: State(said[2])}
	case "-1":
		return Enqueued{}, &DuplicateError{Queue: name, ID: said[1], State: State(said[2]), Key: p.key}
	case "-2":
		return Enqueued{}, &BacklogError{Queue: name, Limit: limit, Shed: p.line.def.Backlog.Shed}
	}
	return Enqueued{}, errReply
}

// announce has asynq's tools know a band.
func (e *Engine) announce(ctx context.Context, band string) error {
	if _, known := e.announced.Load(band); known {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, e.opts.CommandTimeout)
	defer cancel()
	if err := e.opts.Client.SAdd(ctx, allQueues, band).Err(); err != nil {
		return err
	}
	e.announced.Store(band, true)
	return nil
}

// prepare checks a request.
func (e *Engine) prepare(r EnqueueRequest, now time.Time) (prepared, error) {
	l, err := e.line(r.Queue)
	if err != nil {
		return prepared{}, err
	}
	if l.drains() {
		return prepared{}, &DrainingError{Queue: r.Queue}
	}
	r = r.withDefaults(l.def)
	if err := r.validate(); err != nil {
		return prepared{}, &RequestError{Queue: r.Queue, Err: err}
	}
	if err := l.checkPayload(r.Payload); err != nil {
		return prepared{}, err
	}
	p := prepared{
		line: l, band: band(r.Queue, r.Priority), id: r.ID, once: r.Once, sched: r.Schedule, key: r.Unique,
	}
	at := r.RunAt
	if at.IsZero() && r.Delay > 0 {
		at = now.Add(r.Delay)
	}
	if at.After(now) {
		if at.Sub(now) > scheduledMost {
			return prepared{}, &RequestError{Queue: r.Queue, Err: fmt.Errorf("run_at: %s is more than 5 years away", at.UTC().Format(time.RFC3339))}
		}
		p.due = ceilSecond(at)
	}
	if r.Unique != "" {
		p.lock = key(r.Queue, "unique:redisopt:"+r.Unique)
		if e.cluster {
			p.lock = key(p.band, "unique:redisopt:"+r.Unique)
		}
	}
	m, err := e.message(r, l, now, p.due)
	if err != nil {
		return prepared{}, &RequestError{Queue: r.Queue, Err: err}
	}
	m.UniqueKey = p.lock
	p.msg = m.encode()
	return p, nil
}

// message is the task that asynq is given.
func (e *Engine) message(r EnqueueRequest, l *line, now time.Time, due int64) (message, error) {
	v := envelope{
		Schema: Schema, Queue: r.Queue, At: now.UnixMilli(), Due: 1000 * due, Timeout: r.Timeout.Milliseconds(),
		Backoff: r.Backoff, Schedule: r.Schedule, Batch: r.Batch,
	}
	if !r.Deadline.IsZero() {
		v.Deadline = r.Deadline.UnixMilli()
	}
	headers, err := v.seal(r.Headers)
	if err != nil {
		return message{}, err
	}
	m := message{
		Type: r.Name, Payload: r.Payload, ID: r.ID, Queue: band(r.Queue, r.Priority),
		Retry:   int64(r.Attempts - 1),
		Timeout: seconds(r.Timeout + timeoutGrace),
		Headers: headers,
	}
	// What must stay is sorted behind all that is done while it must, so that Keep.Count takes others first.
	if keep := max(0, l.def.Completed.Age) + r.Retain; keep > 0 {
		m.Retention = seconds(keep)
	}
	return m, nil
}

// explain says what a failure of the Engine's own commands means for the caller.
func (e *Engine) explain(queue, id string, err error) error {
	if e.unsent(err) {
		return &RefusedError{Queue: queue, Class: upstream.Classify(err), Err: err}
	}
	return &UncertainError{Queue: queue, ID: id, Err: err}
}

// unsent is whether nothing was changed for sure.
func (e *Engine) unsent(err error) bool {
	if detail, ok := errors.AsType[*upstream.Error](err); ok && detail.Unsent {
		return true
	}
	if reply, ok := errors.AsType[redis.Error](err); ok && !errors.Is(err, redis.Nil) {
		return reply != nil
	}
	return slices.Contains([]upstream.Class{
		upstream.Refused, upstream.DNS, upstream.Unreachable, upstream.Spend, upstream.ReadOnly, upstream.ConnectionLimit,
		upstream.BadOptions,
	}, upstream.Classify(err))
}

// ceilSecond is the first whole second that is not before t, in Unix time.
func ceilSecond(t time.Time) int64 {
	s := t.Unix()
	if t.Nanosecond() > 0 {
		s++
	}
	return s
}

// seconds is d in whole seconds, rounded up.
func seconds(d time.Duration) int64 { return int64((d + time.Second - 1) / time.Second) }

func flag(v bool) string {
	if v {
		return "1"
	}
	return "0"
}
