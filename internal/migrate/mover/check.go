package mover

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts are compiled in
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed probe.lua
var probeLua string

// A BlockedError reports what must be solved before anything of a queue may move.
type BlockedError struct{ Problems []Problem }

func (e *BlockedError) Error() string {
	messages := make([]string, 0, len(e.Problems))
	for _, p := range e.Problems {
		messages = append(messages, p.Message)
	}
	return strings.Join(messages, "; ")
}

// check refuses to begin where something would go wrong half-way.
func (r *run) check(ctx context.Context) error {
	problems, err := r.blocking(ctx)
	if err != nil {
		return err
	}
	if len(problems) > 0 {
		return &BlockedError{Problems: problems}
	}
	if r.inPlace() {
		if err := r.checkAlone(ctx); err != nil {
			return err
		}
	}
	from, to := r.opts.From, r.opts.To
	scratch := "redisopt-probe-" + rand.Text() // nobody else's key, since the script deletes it
	keys := []string{
		from.Key(scratch + "-1"), from.Key(scratch + "-2"), to.Key(scratch + "-1"), to.Key(scratch + "-2"),
		r.ledgerKey("probe"), r.fenceKey(),
	}
	reply, err := r.run(ctx, r.scripts.probe, keys, r.opts.Fence.Token)
	if err != nil {
		return fmt.Errorf("try the commands of a move: %w", err)
	}
	if refused, ok := reply.(string); ok && refused != "" {
		return &DeniedError{Reason: refused}
	}
	return nil
}

// A DeniedError reports that this user may not run a command that a move needs. Nothing was moved.
type DeniedError struct{ Reason string }

func (e *DeniedError) Error() string { return "a command that a move needs is refused: " + e.Reason }

// blocking lists what keeps the whole queue from being moved, other than somebody attached.
func (m *Mover) blocking(ctx context.Context) ([]Problem, error) {
	problems := []Problem{}
	for _, e := range []Endpoint{m.opts.From, m.opts.To} {
		wrong, err := wrongTypes(ctx, m.client, e)
		if err != nil {
			return nil, err
		}
		problems = append(problems, wrong...)
		if m.inPlace() {
			break
		}
	}
	if _, ok := m.client.(clustered); ok && (m.opts.From.Layout == Asynq || m.opts.To.Layout == Asynq) {
		problems = append(problems, Problem{Rule: "cluster", Blocking: true, Message: "asynq keeps each band in a slot of its own, " +
			"so no script can move a job there from another prefix: this is not possible on a Redis Cluster"})
	}
	if len(problems) > 0 || m.opts.From.Layout != BullMQ || m.opts.LeaveFlows {
		return problems, nil
	}
	parents, err := m.client.ZRange(ctx, m.opts.From.Key("waiting-children"), 0, 9).Result()
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", m.opts.From.Key("waiting-children"), err)
	}
	if len(parents) > 0 {
		problems = append(problems, Problem{Rule: "flow", Blocking: true, Message: fmt.Sprintf(
			"jobs wait for their children in %s (%s): %s, let them finish first",
			m.opts.From.Key("waiting-children"), strings.Join(parents, ", "), noFlows(m.opts.To.Layout))})
	}
	return problems, nil
}

// containers are the keys of a queue that are not jobs, with their types.
func containers(layout Layout) [][2]string {
	if layout == Asynq {
		return [][2]string{
			{"pending", "list"},
			{"active", "list"},
			{"scheduled", "zset"},
			{"retry", "zset"},
			{"archived", "zset"},
			{"completed", "zset"},
			{"lease", "zset"},
			{"paused", "string"},
		}
	}
	common := [][2]string{
		{"wait", "list"},
		{"paused", "list"},
		{"active", "list"},
		{"delayed", "zset"},
		{"completed", "zset"},
		{"failed", "zset"},
		{"repeat", "zset"},
		{"id", "string"},
		{"meta", "hash"},
	}
	if layout == Bull {
		return append(common, [2]string{"priority", "zset"}, [2]string{"meta-paused", "string"})
	}
	return append(common, [2]string{"prioritized", "zset"}, [2]string{"marker", "zset"}, [2]string{"pc", "string"},
		[2]string{"waiting-children", "zset"}, [2]string{"events", "stream"})
}

func wrongTypes(ctx context.Context, client redis.UniversalClient, e Endpoint) ([]Problem, error) {
	want := containers(e.Layout)
	parts := e.parts()
	replies := make([]*redis.StatusCmd, 0, len(want)*len(parts))
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, part := range parts {
			for _, c := range want {
				replies = append(replies, p.Type(ctx, part.Key(c[0])))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read types of %s: %w", e, err)
	}
	var problems []Problem
	for i, reply := range replies {
		part, c := parts[i/len(want)], want[i%len(want)]
		if got := reply.Val(); got != "none" && got != c[1] {
			problems = append(problems, Problem{Rule: "wrong-type", Blocking: true, Message: fmt.Sprintf(
				"%s is a %s, want a %s: something else uses this name", part.Key(c[0]), got, c[1])})
		}
	}
	return problems, nil
}

// checkAlone refuses an in-place conversion while anybody is attached.
func (r *run) checkAlone(ctx context.Context) error {
	who, known, err := attached(ctx, r.client, r.opts.From)
	if err != nil {
		return err
	}
	if len(who) > 0 {
		return &AttachedError{Endpoint: r.opts.From, Who: who}
	}
	if !known && !r.opts.WorkersStopped {
		return &BlockedError{Problems: []Problem{{
			Rule: "live-worker", Blocking: true,
			Message: "the server does not show its clients, so nobody can tell whether a worker of " + r.opts.From.String() + " is running: say so if all are stopped",
		}}}
	}
	ids, err := r.client.LRange(ctx, r.opts.From.Key("active"), 0, -1).Result()
	if err != nil {
		return fmt.Errorf("read %q: %w", r.opts.From.Key("active"), err)
	}
	var problems []Problem
	for _, id := range ids {
		n, err := r.client.Exists(ctx, r.opts.From.Key(id+":lock")).Result()
		if err != nil {
			return fmt.Errorf("read %q: %w", r.opts.From.Key(id+":lock"), err)
		}
		if n > 0 {
			problems = append(problems, Problem{JobID: id, Rule: "live-lock", Blocking: true, Message: fmt.Sprintf(
				"%s is held: a worker runs job %s, or died with it and the lock expires on its own", r.opts.From.Key(id+":lock"), id)})
		}
	}
	if len(problems) > 0 {
		return &BlockedError{Problems: problems}
	}
	return nil
}

// Counts are the jobs of a queue by state; states without a job are left out. Price: 8 commands, 18 for
// asynq, in one round trip.
func Counts(ctx context.Context, client redis.UniversalClient, e Endpoint) (map[State]int64, error) {
	return counts(ctx, client, e)
}

// counts are the jobs of a queue by state. Price: one command a container, in one round trip.
func counts(ctx context.Context, client redis.UniversalClient, e Endpoint) (map[State]int64, error) {
	type counted struct {
		state State
		n     *redis.IntCmd
	}
	var all []counted
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, part := range e.parts() {
			for _, l := range containersOf(e.Layout) {
				if l.isList() {
					all = append(all, counted{l.state, p.LLen(ctx, part.Key(l.from))})
				} else {
					all = append(all, counted{l.state, p.ZCard(ctx, part.Key(l.from))})
				}
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("count jobs of %s: %w", e, err)
	}
	m := map[State]int64{}
	for _, c := range all {
		if n := c.n.Val(); n > 0 {
			m[c.state] += n
		}
	}
	return m, nil
}

// activeNow describes the active jobs and which of them are locked; it changes when one finishes or
// a lock expires, and is empty when nothing is active.
func (r *run) activeNow(ctx context.Context) (string, error) {
	if r.opts.From.Layout == Asynq {
		ids, err := r.activeAsynq(ctx)
		return strings.Join(ids, "\n"), err
	}
	key := r.opts.From.Key("active")
	ids, err := r.client.LRange(ctx, key, 0, maxKept-1).Result()
	if err != nil || len(ids) == 0 {
		return "", err
	}
	locks := make([]string, len(ids))
	for i, id := range ids {
		locks[i] = r.opts.From.Key(id + ":lock")
	}
	n, err := r.client.Exists(ctx, locks...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", err
	}
	return fmt.Sprintf("%d %s", n, strings.Join(ids, "\n")), nil
}

// noFlows says why a flow cannot go to layout.
func noFlows(layout Layout) string {
	if layout == BullMQ {
		return "a flow names its jobs by their full keys, which another prefix would change"
	}
	return libraryName(layout) + " has no flows"
}

// libraryName is a layout as people write it.
func libraryName(layout Layout) string {
	switch layout {
	case Bull:
		return "Bull"
	case BullMQ:
		return "BullMQ"
	case Asynq:
	}
	return string(layout)
}

// lockOf is the key that says that a worker runs a job.
func (m *Mover) lockOf(l lane, id string) string {
	if m.opts.From.Layout == Asynq {
		return m.source(l).Key("lease")
	}
	return m.opts.From.Key(id + ":lock")
}
