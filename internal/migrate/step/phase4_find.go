package step

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/tend"
)

// A Leftover is one queue whose keys may be deleted, or why not.
type Leftover struct {
	// Prefix is what its keys begin with, and Queue the queue.
	Prefix string         `json:"prefix"`
	Queue  mover.Endpoint `json:"queue"`

	// Unfinished is how many of its jobs have not ended, schedules included, and Workers how many workers
	// are connected; -1 when the server does not say.
	Unfinished int64 `json:"unfinished"`
	Workers    int   `json:"workers"`
}

// InUse says why the keys must stay, empty when nothing speaks against it.
func (l Leftover) InUse() string {
	switch {
	case l.Workers > 0:
		return fmt.Sprintf("%d workers of %s are connected", l.Workers, l.Queue)
	case l.Unfinished > 0:
		return fmt.Sprintf("%d jobs and schedules of %s have not ended", l.Unfinished, l.Queue)
	}
	return ""
}

// An InUseError reports that keys which were to be deleted are in use.
type InUseError struct {
	Prefix string
	Why    string
}

func (e *InUseError) Error() string { return fmt.Sprintf("%s is in use: %s", e.Prefix, e.Why) }

// FindLeftovers lists the queues of the given layouts, with all that speaks against their deletion. Price:
// that of tend.List, and 1 command.
func FindLeftovers(ctx context.Context, client redis.UniversalClient, layouts ...mover.Layout) ([]Leftover, error) {
	queues, err := tend.List(ctx, client, mover.ListOptions{})
	if err != nil {
		return nil, err
	}
	list, err := client.ClientList(ctx).Result()
	_, refused := errors.AsType[redis.Error](err)
	if err != nil && !refused {
		return nil, fmt.Errorf("list clients: %w", err)
	}
	out := []Leftover{}
	for _, q := range queues {
		if len(layouts) > 0 && !slices.Contains(layouts, q.Endpoint.Layout) {
			continue
		}
		l := Leftover{Prefix: base(q.Endpoint), Queue: q.Endpoint, Unfinished: q.Repeats, Workers: -1}
		for state, n := range q.Counts {
			if state != mover.Completed && state != mover.Failed {
				l.Unfinished += n
			}
		}
		if !refused && q.Endpoint.Layout != tend.Asynq {
			l.Workers = namedWorkers(list, q.Endpoint)
		}
		out = append(out, l)
	}
	return out, nil
}

// base is what the keys of a queue begin with.
func base(e mover.Endpoint) string {
	if e.Layout == tend.Asynq {
		return "asynq:{" + e.Queue + "}:"
	}
	return e.Key("")
}

// unused returns an *InUseError when a queue under one of prefixes has a worker or jobs that have not
// ended. Price: that of FindLeftovers.
func (p *Phase4) unused(ctx context.Context, prefixes []string) error {
	all, err := FindLeftovers(ctx, p.client)
	if err != nil {
		return err
	}
	for _, prefix := range prefixes {
		if why := usedBy(all, prefix); why != "" {
			return &InUseError{Prefix: prefix, Why: why}
		}
	}
	return nil
}

// usedBy says which queue keeps prefix from being deleted: one whose keys it covers.
func usedBy(all []Leftover, prefix string) string {
	for _, l := range all {
		if strings.HasPrefix(l.Prefix, prefix) || strings.HasPrefix(prefix, l.Prefix) {
			if why := l.InUse(); why != "" {
				return why
			}
		}
	}
	return ""
}

// ChooseLeftovers picks the prefixes of queues that nothing speaks against, and says of each other one why
// it stays. Those in only are taken whatever they are; what speaks against one of them blocks.
func ChooseLeftovers(all []Leftover, layouts []mover.Layout, only []string) ([]string, []migrate.Problem) {
	prefixes, problems := []string{}, []migrate.Problem{}
	if len(only) > 0 {
		for _, prefix := range only {
			if why := usedBy(all, prefix); why != "" {
				problems = append(problems, migrate.Problem{
					Rule: "in-use", Subject: prefix, Message: prefix + " is in use: " + why, Blocking: true,
					Fix: "stop its workers and move or finish its jobs first: redisopt migrate phase3, redisopt queue drain",
				})
			}
			prefixes = append(prefixes, prefix)
		}
		return prefixes, problems
	}
	for _, l := range all {
		if !slices.Contains(layouts, l.Queue.Layout) {
			continue
		}
		if why := usedBy(all, l.Prefix); why != "" {
			problems = append(problems, migrate.Problem{Rule: "in-use", Subject: l.Prefix, Message: l.Prefix + " stays: " + why})
			continue
		}
		prefixes = append(prefixes, l.Prefix)
	}
	// A queue's name may begin with another one's and a colon: the shorter prefix has the keys of both.
	slices.Sort(prefixes)
	kept := []string{}
	for _, prefix := range prefixes {
		if len(kept) == 0 || !strings.HasPrefix(prefix, kept[len(kept)-1]) {
			kept = append(kept, prefix)
		}
	}
	return kept, problems
}
