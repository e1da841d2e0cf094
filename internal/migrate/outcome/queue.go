package outcome

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

const (
	// eventsPage is how many events of BullMQ are read with one command, and eventsPages how many such commands a
	// look spends on one queue; what came beyond that is not covered.
	eventsPage  = 1000
	eventsPages = 20
)

// Queues reads what became of the jobs of some queues from what their own library counts:
//
//   - Bull and BullMQ: the counters metrics:completed and metrics:failed, where workers keep them
//     (`metrics: {maxDataPoints: …}`); else for BullMQ the stream of events, read from where the last look ended;
//     else the sets of completed and failed jobs, as long as none ends without staying in one of them.
//   - asynq: the counters of what was processed and what failed, which are of attempts, and the archive, into
//     which a job goes that failed for good.
//
// Price of a look at one queue: Bull 11 commands, BullMQ 8 and 1 for each 1,000 events, asynq 12; all of them
// only read. It is for one goroutine.
type Queues struct {
	client redis.UniversalClient
	queues []mover.Endpoint
}

// NewQueues returns a source that looks at queues. It touches nothing yet.
func NewQueues(client redis.UniversalClient, queues ...mover.Endpoint) *Queues {
	return &Queues{client: client, queues: queues}
}

// Name says what is looked at.
func (q *Queues) Name() string { return "queues" }

// Look reads all queues once, on from before, which is nil at first.
func (q *Queues) Look(ctx context.Context, before *Reading, now time.Time) (Reading, error) {
	var r Reading
	if before != nil {
		r = *before
	}
	r = r.next(q.Name(), now)
	if before == nil {
		r.Gap = "this is the first look"
	}
	var hows []string
	waiting := 0.0
	for _, e := range q.queues {
		one, err := q.look(ctx, e, before, now)
		if err != nil {
			return r, fmt.Errorf("look at %s: %w", e, err)
		}
		waiting += one.waiting
		r.Counts[Done] += one.done
		r.Counts[Failed] += one.failed
		for key, value := range one.cursor {
			r.Cursor[e.Key(key)] = value
		}
		if one.gap != "" && r.Gap == "" {
			r.Gap = e.Queue + ": " + one.gap
		}
		if one.how != "" && !slices.Contains(hows, one.how) {
			hows = append(hows, one.how)
		}
	}
	r.Levels[Waiting], r.How = waiting, strings.Join(hows, " and ")
	return r, nil
}

// A seen is what one look at one queue found since the look before.
type seen struct {
	done, failed, waiting float64
	cursor                map[string]string // by the suffix of a key
	gap, how              string
}

func (q *Queues) look(ctx context.Context, e mover.Endpoint, before *Reading, now time.Time) (seen, error) {
	at := func(key string) string {
		if before == nil {
			return ""
		}
		return before.Cursor[e.Key(key)]
	}
	if e.Layout == mover.Asynq {
		return q.lookAsynq(ctx, e, at, now)
	}
	return q.lookBull(ctx, e, before, at, now)
}

// since is how much a counter grew since the cursor that an earlier look left, and whether that is known.
func since(now float64, cursor string) (float64, bool) {
	was, err := strconv.ParseFloat(cursor, 64)
	if err != nil || now < was { // never seen, or counted anew
		return 0, false
	}
	return now - was, true
}

func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }

// lookBull is a look at a queue of Bull or BullMQ.
func (q *Queues) lookBull(ctx context.Context, e mover.Endpoint, before *Reading, at func(string) string, now time.Time) (seen, error) {
	from := "(" + strconv.FormatInt(now.UnixMilli(), 10)
	if before != nil {
		from = "(" + strconv.FormatInt(before.At.UnixMilli(), 10)
	}
	to := strconv.FormatInt(now.UnixMilli(), 10)
	var (
		done, failed, added  *redis.StringCmd
		wait, paused, active *redis.IntCmd
		prioritized, delayed *redis.IntCmd
		keptDone, keptFailed *redis.IntCmd
	)
	_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		done, failed = p.HGet(ctx, e.Key("metrics:completed"), "count"), p.HGet(ctx, e.Key("metrics:failed"), "count")
		wait, paused = p.LLen(ctx, e.Key("wait")), p.LLen(ctx, e.Key("paused"))
		prioritized = p.ZCard(ctx, e.Key("prioritized"))
		if e.Layout == mover.Bull {
			added, active, delayed = p.Get(ctx, e.Key("id")), p.LLen(ctx, e.Key("active")), p.ZCard(ctx, e.Key("delayed"))
			keptDone, keptFailed = p.ZCount(ctx, e.Key("completed"), from, to), p.ZCount(ctx, e.Key("failed"), from, to)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return seen{}, err
	}
	s := seen{waiting: float64(wait.Val() + paused.Val() + prioritized.Val()), cursor: map[string]string{}}
	if done.Err() == nil || failed.Err() == nil {
		return s.counters(done, failed, at), nil
	}
	if e.Layout == mover.BullMQ {
		err := q.events(ctx, e, &s, at("events"))
		return s, err
	}
	s.sets(float64(keptDone.Val()), float64(keptFailed.Val()), added, s.waiting+float64(active.Val()+delayed.Val()), at)
	return s, nil
}

// counters takes what workers counted.
func (s seen) counters(done, failed *redis.StringCmd, at func(string) string) seen {
	s.how = "the metrics that its workers keep"
	for _, c := range []struct {
		key string
		cmd *redis.StringCmd
		to  *float64
	}{{"metrics:completed", done, &s.done}, {"metrics:failed", failed, &s.failed}} {
		value, err := strconv.ParseFloat(c.cmd.Val(), 64)
		if err != nil {
			value = 0 // no job has ended that way yet
		}
		grown, known := since(value, at(c.key))
		if !known {
			s.gap = "its counters were not seen before, or began anew"
		}
		*c.to = grown
		s.cursor[c.key] = number(value)
	}
	return s
}

// sets takes what stays of completed and failed jobs. It is all there is only if as many jobs left the queue:
// what was added (the counter of ids) less what the queue grew by.
func (s *seen) sets(done, failed float64, added *redis.StringCmd, inside float64, at func(string) string) {
	s.how = "its sets of completed and failed jobs"
	ids, err := strconv.ParseFloat(added.Val(), 64)
	if err != nil {
		ids = 0
	}
	s.cursor["id"], s.cursor["inside"] = number(ids), number(inside)
	grown, known := since(ids, at("id"))
	was, err := strconv.ParseFloat(at("inside"), 64)
	if !known || err != nil {
		s.gap = "it was not seen before"
		return
	}
	if ended := grown - (inside - was); ended > done+failed+1 {
		s.gap = fmt.Sprintf("%.0f jobs ended and only %.0f stayed in its sets (removeOnComplete): give its workers metrics: {maxDataPoints: 60}, or name a metrics page with --metrics",
			ended, done+failed)
		return
	}
	s.done, s.failed = done, failed
}

// events counts the events of BullMQ after cursor.
func (q *Queues) events(ctx context.Context, e mover.Endpoint, s *seen, cursor string) error {
	s.how = "its events"
	key := e.Key("events")
	if cursor == "" {
		last, err := q.client.XRevRangeN(ctx, key, "+", "-", 1).Result()
		if err != nil {
			return err
		}
		s.gap, s.cursor["events"] = "its events were not seen before", "0-0"
		if len(last) > 0 {
			s.cursor["events"] = last[0].ID
		}
		return nil
	}
	first := cursor != "0-0" // the event at the cursor is there unless events were trimmed
	for range eventsPages {
		page, err := q.client.XRangeN(ctx, key, cursor, "+", eventsPage).Result()
		if err != nil {
			return err
		}
		if first && (len(page) == 0 || page[0].ID != cursor) {
			s.gap = "events were trimmed before they were counted: streams.events.maxLen, or give its workers metrics: {maxDataPoints: 60}"
		}
		for _, m := range page {
			if m.ID == cursor {
				continue
			}
			switch m.Values["event"] {
			case "completed":
				s.done++
			case "failed":
				s.failed++
			}
		}
		first = false
		if len(page) > 0 {
			cursor = page[len(page)-1].ID
		}
		s.cursor["events"] = cursor
		if len(page) < eventsPage {
			return nil
		}
	}
	if s.gap == "" {
		s.gap = fmt.Sprintf("more than %d events came between two looks", eventsPage*eventsPages)
	}
	last, err := q.client.XRevRangeN(ctx, key, "+", "-", 1).Result()
	if err == nil && len(last) > 0 {
		s.cursor["events"] = last[0].ID
	}
	return err
}

// lookAsynq is a look at the three bands of a queue of asynq. The archive is timed in whole seconds, so only those
// that are over are counted: a job that is archived later in the second of a look is for the next one.
func (q *Queues) lookAsynq(ctx context.Context, e mover.Endpoint, at func(string) string, now time.Time) (seen, error) {
	s := seen{cursor: map[string]string{}, how: "asynq's counters of attempts, and its archive"}
	from := "-inf"
	if was := at("archived"); was != "" {
		from = "(" + was
	}
	to := strconv.FormatInt(now.Unix()-1, 10)
	s.cursor["archived"] = to
	for _, band := range []string{"", ":high", ":low"} {
		b := e
		b.Queue += band
		var processed, missed *redis.StringCmd
		var archived, pending *redis.IntCmd
		_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
			processed, missed = p.Get(ctx, b.Key("processed")), p.Get(ctx, b.Key("failed"))
			archived, pending = p.ZCount(ctx, b.Key("archived"), from, to), p.LLen(ctx, b.Key("pending"))
			return nil
		})
		if err != nil && !errors.Is(err, redis.Nil) {
			return s, err
		}
		s.waiting += float64(pending.Val())
		good := 0.0
		if p, err := strconv.ParseFloat(processed.Val(), 64); err == nil {
			m, _ := strconv.ParseFloat(missed.Val(), 64) // absent: none failed
			good = max(0, p-m)
		}
		key := "good" + band
		grown, known := since(good, at(key))
		s.cursor[key] = number(good)
		if !known {
			s.gap = "its counters were not seen before, or began anew"
			continue
		}
		s.done += grown
		s.failed += float64(archived.Val())
	}
	return s, nil
}

// LastDay is the share of jobs that ended well in the day before now, as far as the sets of completed and failed
// jobs of Bull and BullMQ still have them. Where completed jobs are trimmed, both sets of the queue count only since
// its oldest one that is left, so that failed ones, which stay longer, do not weigh more. Other queues, and those that
// keep none, are not known. Price: 3 commands a queue, in two round trips.
func LastDay(ctx context.Context, client redis.UniversalClient, queues []mover.Endpoint, now time.Time) (migrate.Evidence, error) {
	const day = 24 * time.Hour
	e := migrate.Evidence{From: now.Add(-day), To: now, Source: "what stays in the sets of completed and failed jobs", Coverage: 1, Missing: []string{}}
	var done, failed float64
	for _, q := range queues {
		if q.Layout == mover.Asynq {
			e.Missing = []string{"asynq keeps no jobs from which the share of the day before could be told"}
			return e, nil
		}
		oldest, err := client.ZRangeWithScores(ctx, q.Key("completed"), 0, 0).Result()
		if err != nil {
			return e, fmt.Errorf("look at %s: %w", q, err)
		}
		if len(oldest) == 0 {
			e.Coverage = 0
			continue
		}
		since := max(e.From.UnixMilli(), int64(oldest[0].Score))
		from, to := strconv.FormatInt(since, 10), strconv.FormatInt(now.UnixMilli(), 10)
		var good, bad *redis.IntCmd
		if _, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			good, bad = p.ZCount(ctx, q.Key("completed"), from, to), p.ZCount(ctx, q.Key("failed"), from, to)
			return nil
		}); err != nil {
			return e, fmt.Errorf("look at %s: %w", q, err)
		}
		done, failed = done+float64(good.Val()), failed+float64(bad.Val())
		e.Coverage = max(0, min(e.Coverage, float64(now.UnixMilli()-since)/float64(day.Milliseconds())))
	}
	if done == 0 {
		e.Coverage, e.Missing = 0, []string{"no completed job of the day before is kept (removeOnComplete), so the share cannot be told"}
		return e, nil
	}
	e.Known, e.Value, e.Samples = true, 100*done/(done+failed), int64(done+failed)
	return e, nil
}
