package mover

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// ListOptions say which queues to look for.
type ListOptions struct {
	// Prefix limits the search to one key prefix, taken literally. Empty means every prefix.
	Prefix string

	// MaxKeys is the most keys SCAN may walk over before it stops; default 1,000,000. A search that
	// stopped early says so in Search.Truncated.
	MaxKeys int64
}

// A QueueSummary is one queue at a glance.
type QueueSummary struct {
	Endpoint Endpoint        `json:"endpoint"`
	Version  string          `json:"version,omitempty"` // the library's own note: "bullmq:5.81.5"
	Counts   map[State]int64 `json:"counts"`
	Paused   bool            `json:"paused"`
	Repeats  int64           `json:"repeats"`

	// OldestWaitingMS is how long the next waiting job has waited, in milliseconds; -1 if none waits.
	OldestWaitingMS int64 `json:"oldest_waiting_ms"`
}

// A QueueDetail is all that can be said about one queue without reading every job.
type QueueDetail struct {
	QueueSummary
	Repeated []Repeat  `json:"schedulers"`
	Problems []Problem `json:"problems"`
}

// List finds the queues of any layout, sorted by prefix and name. Price: DetectQueues, and ten
// commands a queue.
func List(ctx context.Context, client redis.UniversalClient, opts ListOptions) ([]QueueSummary, error) {
	endpoints, err := DetectQueues(ctx, client, opts)
	if err != nil {
		return nil, err
	}
	queues := make([]QueueSummary, 0, len(endpoints))
	for _, e := range endpoints {
		q, err := summarize(ctx, client, e)
		if err != nil {
			return nil, err
		}
		queues = append(queues, q)
	}
	return queues, nil
}

// ErrNoQueue reports that nothing is kept under a queue's name.
var ErrNoQueue = errors.New("no such queue")

// Show reads one queue. The endpoint's Layout and Major may be empty: they are detected. Price: about
// twenty commands, and four for each scheduler.
func Show(ctx context.Context, client redis.UniversalClient, e Endpoint) (QueueDetail, error) {
	found, ok, err := detect(ctx, client, e.Prefix, e.Queue)
	if err != nil {
		return QueueDetail{}, err
	}
	if !ok {
		return QueueDetail{}, fmt.Errorf("%w: nothing under %s", ErrNoQueue, e.Key("*"))
	}
	if e.Layout != "" {
		found.Layout = e.Layout
	}
	if e.Major != 0 {
		found.Major = e.Major
	}
	d := QueueDetail{Repeated: []Repeat{}, Problems: []Problem{}}
	if d.Problems, err = wrongTypes(ctx, client, found); err != nil {
		return d, err
	}
	if len(d.Problems) > 0 {
		d.Endpoint, d.Counts, d.OldestWaitingMS = found, map[State]int64{}, -1
		return d, nil
	}
	d.Problems = []Problem{}
	if d.QueueSummary, err = summarize(ctx, client, found); err != nil {
		return d, err
	}
	if found.Layout == Asynq {
		return d, nil
	}
	members, err := client.ZRangeWithScores(ctx, found.Key("repeat"), 0, maxKept-1).Result()
	if err != nil {
		return d, fmt.Errorf("read %q: %w", found.Key("repeat"), err)
	}
	opts := Options{From: found, To: opposite(found)}
	for _, z := range members {
		s, problem, err := readScheduled(ctx, client, &opts, false, "redisopt:none", fmt.Sprint(z.Member), int64(z.Score))
		if err != nil {
			return d, err
		}
		if problem != nil {
			d.Problems = append(d.Problems, *problem)
		}
		if s != nil {
			s.repeat.TargetKey = ""
			d.Repeated = append(d.Repeated, s.repeat)
		}
	}
	return d, nil
}

// opposite is an endpoint of the other layout under the same name, to read schedulers with.
func opposite(e Endpoint) Endpoint {
	if e.Layout == Bull {
		return Endpoint{BullMQ, 5, e.Prefix, e.Queue}
	}
	return Endpoint{Bull, 4, e.Prefix, e.Queue}
}

// summarize counts one queue.
func summarize(ctx context.Context, client redis.UniversalClient, e Endpoint) (QueueSummary, error) {
	q := QueueSummary{Endpoint: e, Counts: map[State]int64{}, OldestWaitingMS: -1}
	wrong, err := wrongTypes(ctx, client, e)
	if err != nil || len(wrong) > 0 {
		return q, err
	}
	if q.Counts, err = counts(ctx, client, e); err != nil {
		return q, err
	}
	if q.Paused, err = isPaused(ctx, client, e); err != nil {
		return q, err
	}
	if e.Layout == Asynq {
		q.OldestWaitingMS, err = oldestAsynq(ctx, client, e)
		return q, err
	}
	if q.Repeats, err = client.ZCard(ctx, e.Key("repeat")).Result(); err != nil {
		return q, fmt.Errorf("read %q: %w", e.Key("repeat"), err)
	}
	q.Version, err = client.HGet(ctx, e.Key("meta"), "version").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return q, fmt.Errorf("read %q: %w", e.Key("meta"), err)
	}
	q.OldestWaitingMS, err = oldestWaiting(ctx, client, e)
	return q, err
}

// oldestWaiting is the age of the job that is next in line; -1 if none waits.
func oldestWaiting(ctx context.Context, client redis.UniversalClient, e Endpoint) (int64, error) {
	id := ""
	for _, container := range []string{"wait", "paused"} {
		v, err := client.LIndex(ctx, e.Key(container), -1).Result()
		if err == nil {
			id = v
			break
		}
		if !errors.Is(err, redis.Nil) {
			return -1, fmt.Errorf("read %q: %w", e.Key(container), err)
		}
	}
	if id == "" && e.Layout == BullMQ {
		ids, err := client.ZRange(ctx, e.Key("prioritized"), 0, 0).Result()
		if err != nil {
			return -1, fmt.Errorf("read %q: %w", e.Key("prioritized"), err)
		}
		if len(ids) > 0 {
			id = ids[0]
		}
	}
	if id == "" {
		return -1, nil
	}
	added, err := client.HGet(ctx, e.Key(id), "timestamp").Int64()
	if err != nil {
		return -1, ignoreReplies(skipNumber(err))
	}
	now, err := client.Time(ctx).Result()
	if err != nil {
		return -1, fmt.Errorf("read the server's clock: %w", err)
	}
	return max(0, now.UnixMilli()-added), nil
}

// skipNumber turns a timestamp that is no number into no error: the age is then unknown.
func skipNumber(err error) error {
	if _, ok := errors.AsType[*strconv.NumError](err); ok {
		return nil
	}
	return err
}
