package step

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
	"github.com/redisopt/redisopt/internal/runtime/control"
)

// A Pause is the step that pauses one queue. What must be known to end the pause rightly is in a note in
// Redis, written before the queue is touched: above all whether somebody else had paused it already, for
// then it stays paused on the way back.
type Pause struct {
	name  string
	queue PausedQueue
	phase *Phase2
}

// Name is the step's key in the journal.
func (s *Pause) Name() string { return s.name }

// Apply notes how the queue is and pauses it. Price: about 7 commands and ten in a script; one more where
// the queue has bounds.
func (s *Pause) Apply(ctx context.Context) error {
	p := s.phase
	if err := p.env.Pace.Wait(ctx, 1); err != nil {
		return err
	}
	was, err := p.paused(ctx, s.queue)
	if err != nil {
		return err
	}
	workers, err := p.workers(ctx, s.queue.Queue)
	if err != nil {
		return err
	}
	if err := p.fenced(ctx); err != nil {
		return err
	}
	if err := p.writeNote(ctx, s.queue, was, workers, time.Now()); err != nil {
		return err
	}
	if s.queue.Ours {
		return p.flag(ctx, s.queue, true)
	}
	_, err = p.at(s.queue).Pause(ctx)
	return err
}

// Verify tells whether the queue is paused. Price: 1 command, for asynq one a band.
func (s *Pause) Verify(ctx context.Context) error {
	is, err := s.phase.paused(ctx, s.queue)
	if err != nil {
		return err
	}
	if !is {
		return migrate.ErrNotApplied
	}
	return nil
}

// Rollback lets the queue go on, unless it was paused before. It returns a *HeadRoomError when its workers
// would open more connections than there is room for.
func (s *Pause) Rollback(ctx context.Context) error { return s.phase.lift(ctx, s.queue, true) }

// paused tells whether the queue is paused, in its own way.
func (p *Phase2) paused(ctx context.Context, q PausedQueue) (bool, error) {
	if !q.Ours {
		return p.at(q).Paused(ctx)
	}
	c, err := control.Open(control.Options{Client: p.client, Key: p.plan.ControlKey})
	if err != nil {
		return false, err
	}
	if err := c.Read(ctx); err != nil {
		return false, err
	}
	return c.Current().PausedQueue(q.Queue.Queue), nil
}

// flag pauses a queue of ours in the control document, or lets it go on. Price: 2 commands and 3 in a
// script.
func (p *Phase2) flag(ctx context.Context, q PausedQueue, pause bool) error {
	c, err := control.Open(control.Options{Client: p.client, Key: p.plan.ControlKey})
	if err != nil {
		return err
	}
	return c.Update(ctx, func(d *control.Document) error {
		kept := d.Paused[:0:0]
		for _, name := range d.Paused {
			if name != q.Queue.Queue {
				kept = append(kept, name)
			}
		}
		if pause {
			kept = append(kept, q.Queue.Queue)
		}
		d.Paused = kept
		d.By, d.Reason = migrate.Owner(), "migrate phase2"
		return nil
	})
}

// A pauseNote is what is known of a queue that phase 2 paused. It is a hash at PauseNoteKey.
type pauseNote struct {
	was         bool      // somebody else had paused it before
	since       time.Time // when it was paused
	workers     int       // that were attached then; -1 when the server did not say
	concurrency string    // BullMQ's own limit while a staged resume replaces it; "-" for none, "" while not
}

// PauseNoteKey is the Redis key of what is noted of a paused queue: in the queue's slot where its prefix is a hash tag.
func PauseNoteKey(q PausedQueue) string { return pauseNotePrefix + q.Label() }

// writeNote keeps what a first attempt noted before it died.
func (p *Phase2) writeNote(ctx context.Context, q PausedQueue, was bool, workers int, now time.Time) error {
	key := PauseNoteKey(q)
	_, err := p.client.Pipelined(ctx, func(pipe redis.Pipeliner) error {
		pipe.HSetNX(ctx, key, "was", strconv.FormatBool(was))
		pipe.HSetNX(ctx, key, "since", now.UnixMilli())
		pipe.HSetNX(ctx, key, "workers", workers)
		return nil
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", key, err)
	}
	return nil
}

// note reads the note of a queue, nil when there is none. Price: 1 command.
func (p *Phase2) note(ctx context.Context, q PausedQueue) (*pauseNote, error) {
	key := PauseNoteKey(q)
	fields, err := p.client.HGetAll(ctx, key).Result()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", key, err)
	}
	if len(fields) == 0 {
		return nil, nil //nolint:nilnil // there is none, and that is an answer
	}
	since, err := strconv.ParseInt(fields["since"], 10, 64)
	if err != nil && fields["since"] != "" {
		return nil, fmt.Errorf("read %s: since is %q, want milliseconds", key, fields["since"])
	}
	workers, err := strconv.Atoi(fields["workers"])
	if err != nil {
		workers = -1
	}
	return &pauseNote{
		was: fields["was"] == "true", since: time.UnixMilli(since), workers: workers, concurrency: fields["concurrency"],
	}, nil
}

func (p *Phase2) forget(ctx context.Context, q PausedQueue) error {
	if err := p.client.Del(ctx, PauseNoteKey(q)).Err(); err != nil {
		return fmt.Errorf("delete %s: %w", PauseNoteKey(q), err)
	}
	return nil
}

// lift ends the pause of one queue, catches up as the plan says and forgets the note. Without a note there
// is nothing to undo. With room it first makes sure that there are connections for its workers.
func (p *Phase2) lift(ctx context.Context, q PausedQueue, room bool) error {
	note, err := p.note(ctx, q)
	if err != nil || note == nil {
		return err
	}
	if err := p.fenced(ctx); err != nil {
		return err
	}
	if note.was {
		return p.forget(ctx, q)
	}
	if q.Ours {
		if err := p.flag(ctx, q, false); err != nil {
			return err
		}
		return p.forget(ctx, q)
	}
	if room {
		if err := p.headRoom(ctx, q, note); err != nil {
			return err
		}
	}
	if err := p.catchUp(ctx, q, note); err != nil {
		return err
	}
	if _, err := p.at(q).Resume(ctx); err != nil {
		return err
	}
	return p.forget(ctx, q)
}

// A HeadRoomError reports that resuming a queue would need more connections than there are.
type HeadRoomError struct {
	Queue string
	Used  int64 // connections now
	Need  int64 // that its workers would open
	Limit int64
}

func (e *HeadRoomError) Error() string {
	return fmt.Sprintf("resuming %s would take its workers' %d connections on top of %d, and the limit is %d", e.Queue, e.Need, e.Used, e.Limit)
}

// perWorker is how many connections one worker of a library opens with connection options of its own: for
// Bull its client, subscriber and blocking connection, for BullMQ the worker's two and its Queue's.
const perWorker = 3

// headRoom refuses a resume for which there are too few connections: those workers that were there when
// the queue was paused and are not now are expected to come back. Price: 2 commands.
func (p *Phase2) headRoom(ctx context.Context, q PausedQueue, note *pauseNote) error {
	need, err := p.missing(ctx, q, note)
	if err != nil || need == 0 {
		return err
	}
	used, limit, err := p.connections(ctx)
	if err != nil {
		return err
	}
	if limit > 0 && used+need > limit {
		return &HeadRoomError{Queue: q.Label(), Used: used, Need: need, Limit: limit}
	}
	return nil
}

// missing is how many connections the queue's workers would open that are not there now.
func (p *Phase2) missing(ctx context.Context, q PausedQueue, note *pauseNote) (int64, error) {
	if note.workers <= 0 || q.Queue.Layout == tend.Asynq {
		return 0, nil
	}
	now, err := p.workers(ctx, q.Queue)
	if err != nil || now < 0 {
		return 0, err
	}
	return int64(perWorker * max(0, note.workers-now)), nil
}

// connections are those that exist and those that are allowed, 0 when that is not known. Price: 1 command.
func (p *Phase2) connections(ctx context.Context) (used, limit int64, err error) {
	info, err := p.client.Info(ctx, "clients").Result()
	if err != nil {
		return 0, 0, fmt.Errorf("read INFO clients: %w", err)
	}
	number := func(field string) int64 {
		for line := range strings.Lines(info) {
			if v, ok := strings.CutPrefix(strings.TrimSpace(line), field+":"); ok {
				n, err := strconv.ParseInt(v, 10, 64)
				if err == nil {
					return n
				}
			}
		}
		return 0
	}
	limit = p.plan.ConnectionLimit
	if limit == 0 {
		limit = number("maxclients")
	}
	return number("connected_clients"), limit, nil
}

// workers counts the workers that are attached to a queue, by the name of their blocking connection; -1
// when the server does not say, or the layout has no such names. Price: 1 command.
func (p *Phase2) workers(ctx context.Context, e mover.Endpoint) (int, error) {
	if e.Layout == tend.Asynq {
		return -1, nil
	}
	list, err := p.client.ClientList(ctx).Result()
	if _, refused := errors.AsType[redis.Error](err); refused {
		return -1, nil
	}
	if err != nil {
		return 0, fmt.Errorf("list clients: %w", err)
	}
	return namedWorkers(list, e), nil
}

// namedWorkers counts in the text of CLIENT LIST the workers of e.
func namedWorkers(list string, e mover.Endpoint) int {
	name := e.Prefix + ":" + base64.StdEncoding.EncodeToString([]byte(e.Queue))
	n := 0
	for line := range strings.Lines(list) {
		for field := range strings.FieldsSeq(line) {
			v, ok := strings.CutPrefix(field, "name=")
			if !ok {
				continue
			}
			if v == name || strings.HasPrefix(v, name+":w:") {
				n++
			}
		}
	}
	return n
}
