package mover

import (
	"context"

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

// List finds the queues of any layout, sorted by prefix and name.
func List(ctx context.Context, client redis.UniversalClient, opts ListOptions) ([]QueueSummary, error) {
	return nil, errUnfinished
}

// Show reads one queue. The endpoint's Layout and Major may be empty: they are detected.
func Show(ctx context.Context, client redis.UniversalClient, e Endpoint) (QueueDetail, error) {
	return QueueDetail{}, errUnfinished
}

// DetectQueues finds the queues under opts.Prefix without counting their jobs, sorted.
func DetectQueues(ctx context.Context, client redis.UniversalClient, opts ListOptions) ([]Endpoint, error) {
	return nil, errUnfinished
}
