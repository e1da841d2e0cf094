package tend

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// A Band is one of asynq's queues that belong together: the queue itself, q:high and q:low.
type Band struct {
	Queue  string                `json:"queue"` // as asynq calls it
	Counts map[mover.State]int64 `json:"counts"`
	Paused bool                  `json:"paused"`
}

// A Summary is one queue at a glance.
type Summary struct {
	mover.QueueSummary
	Bands []Band `json:"bands,omitempty"`
}

// A Detail is all that can be said about one queue without reading every job.
type Detail struct {
	mover.QueueDetail
	Bands []Band `json:"bands,omitempty"`
}

// List finds the queues of every layout, sorted by prefix and name. A prefix of "asynq" lists only
// asynq's, any other all but asynq's. Price: that of mover.List, and about ten commands for each of
// asynq's bands.
func List(ctx context.Context, client redis.UniversalClient, o mover.ListOptions) ([]Summary, error) {
	all := []Summary{}
	if o.Prefix == "" || o.Prefix == asynqPrefix {
		names, err := asynqNames(ctx, client)
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			q, err := findAsynq(ctx, client, name)
			if err != nil {
				return nil, err
			}
			if q == nil {
				continue // gone meanwhile
			}
			s, err := q.Summarize(ctx)
			if err != nil {
				return nil, err
			}
			all = append(all, s)
		}
	}
	if o.Prefix != asynqPrefix {
		queues, err := mover.List(ctx, client, o)
		if err != nil {
			return nil, err
		}
		for _, s := range queues {
			all = append(all, Summary{QueueSummary: s})
		}
	}
	slices.SortStableFunc(all, func(a, b Summary) int {
		return strings.Compare(a.Endpoint.Key(""), b.Endpoint.Key(""))
	})
	return all, nil
}

// asynqNames are the names of asynq's queues, with the bands of one under one name.
func asynqNames(ctx context.Context, client redis.UniversalClient) ([]string, error) {
	kind, err := client.Type(ctx, asynqQueues).Result()
	if err != nil {
		return nil, fmt.Errorf("read the type of %q: %w", asynqQueues, err)
	}
	if kind != "set" {
		return nil, nil
	}
	members, err := client.SMembers(ctx, asynqQueues).Result()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", asynqQueues, err)
	}
	for i, m := range members {
		for _, band := range []string{":high", ":low"} {
			members[i] = strings.TrimSuffix(m, band)
			if members[i] != m {
				break
			}
		}
	}
	slices.Sort(members)
	return slices.DeleteFunc(slices.Compact(members), func(m string) bool { return m == "" }), nil
}

// Summarize counts the jobs of an asynq queue by band and state. Price: about twelve commands a band.
func (q *Queue) Summarize(ctx context.Context) (Summary, error) {
	s := Summary{QueueSummary: mover.QueueSummary{Endpoint: q.at, Counts: map[mover.State]int64{}, OldestWaitingMS: -1}}
	s.Paused = len(q.bands) > 0
	for _, band := range q.bands {
		b := Band{Queue: q.bandName(band), Counts: map[mover.State]int64{}}
		one := *q
		one.bands = []string{band}
		all, err := one.containers(ctx, one.States())
		if err != nil {
			return s, err
		}
		sizes, err := one.sizes(ctx, all)
		if err != nil {
			return s, err
		}
		for i, c := range all {
			b.Counts[c.state] += sizes[i]
			s.Counts[c.state] += sizes[i]
		}
		if b.Paused, err = one.Paused(ctx); err != nil {
			return s, err
		}
		s.Paused = s.Paused && b.Paused
		oldest, err := one.oldest(ctx, band)
		if err != nil {
			return s, err
		}
		s.OldestWaitingMS = max(s.OldestWaitingMS, oldest)
		s.Bands = append(s.Bands, b)
	}
	return s, nil
}

// oldest is how long the task that is next in a band has waited, in milliseconds; -1 if none waits.
func (q *Queue) oldest(ctx context.Context, band string) (int64, error) {
	key := q.base(band) + "pending"
	id, err := q.client.LIndex(ctx, key, -1).Result()
	if errors.Is(err, redis.Nil) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("read %q: %w", key, wrongType(err, key))
	}
	since, err := q.client.HGet(ctx, q.jobBase(band)+id, "pending_since").Result()
	if errors.Is(err, redis.Nil) {
		return -1, nil
	}
	if err != nil {
		return -1, fmt.Errorf("read %q: %w", q.jobBase(band)+id, wrongType(err, q.jobBase(band)+id))
	}
	now, err := q.client.Time(ctx).Result()
	if err != nil {
		return -1, fmt.Errorf("read the server's clock: %w", err)
	}
	return max(0, now.UnixMilli()-number(since)/int64(time.Millisecond)), nil
}

// Show reads one queue. Price: about twenty commands, and four for each schedule; for asynq about twelve
// a band.
func (q *Queue) Show(ctx context.Context) (Detail, error) {
	if q.at.Layout != Asynq {
		d, err := mover.Show(ctx, q.client, q.at)
		return Detail{QueueDetail: d}, err
	}
	s, err := q.Summarize(ctx)
	return Detail{
		QueueDetail: mover.QueueDetail{QueueSummary: s.QueueSummary, Repeated: []mover.Repeat{}, Problems: []mover.Problem{}},
		Bands:       s.Bands,
	}, err
}

// Left counts the jobs that are in states: one command for each of their containers.
func (q *Queue) Left(ctx context.Context, states []mover.State) (map[mover.State]int64, error) {
	all, err := q.containers(ctx, states)
	if err != nil {
		return nil, err
	}
	sizes, err := q.sizes(ctx, all)
	if err != nil {
		return nil, err
	}
	left := map[mover.State]int64{}
	for i, c := range all {
		left[c.state] += sizes[i]
	}
	return left, nil
}
