package mover

import (
	"context"
	_ "embed" // the script is compiled in
	"fmt"
	"math"
	"strconv"
)

//go:embed finish.lua
var finishLua string

// finish carries over what belongs to the queue as a whole. With another prefix the source keeps its
// own keys, so that the way back is exact; in place the other library's keys are deleted.
func (r *run) finish(ctx context.Context) error {
	from, to := r.opts.From, r.opts.To
	if to.Layout == Asynq {
		return r.letGo(ctx, to, r.way())
	}
	if from.Layout == Asynq { // a crash on the way there may have left it paused
		if err := r.letGo(ctx, from, ""); err != nil {
			return err
		}
	}
	paused, err := r.sourcePaused(ctx)
	if err != nil {
		return err
	}
	keys := []string{}
	for _, metric := range []string{"metrics:completed", "metrics:completed:data", "metrics:failed", "metrics:failed:data"} {
		keys = append(keys, from.Key(metric), to.Key(metric))
	}
	for _, k := range []string{"wait", "paused", "meta-paused", "meta", "marker", "delayed", "prioritized", "limiter:index"} {
		keys = append(keys, to.Key(k))
	}
	keys = append(keys, r.ledgerKey("counts"), r.fenceKey())
	args := []any{r.opts.Fence.Token, strconv.Itoa(to.major()), flag(r.inPlace()), flag(paused), r.way()}
	if r.inPlace() {
		args = append(args, "5",
			r.counter(Waiting), "l", "9", r.counter(Paused), "l", "10", r.counter(Delayed), "z", "14",
			r.counter(Completed), "z", strconv.Itoa(len(keys)+1), r.counter(Failed), "z", strconv.Itoa(len(keys)+2))
		// The two sorted sets are only counted: they come before those that are deleted.
		drop := []string{"priority", "limiter", "limiter:limited", "limiter:index", "stalled", "stalled-check"}
		if to.Layout == Bull {
			drop = []string{"marker", "pc", "events", "limiter", "stalled", "stalled-check"}
		}
		keys = append(keys, to.Key("completed"), to.Key("failed"))
		for _, k := range drop {
			keys = append(keys, to.Key(k))
		}
	} else {
		args = append(args, "0")
	}
	if _, err := r.run(ctx, r.scripts.finish, keys, args...); err != nil {
		return fmt.Errorf("finish %s: %w", to, err)
	}
	return nil
}

// way is how the ledger calls the direction of a move that was finished.
func (m *Mover) way() string {
	if m.opts.Reverse {
		return "back"
	}
	return "there"
}

// scorePriority reads the priority out of a score of BullMQ's prioritized set.
func scorePriority(score, fallback string) string {
	f, err := strconv.ParseFloat(score, 64)
	if err != nil {
		return fallback
	}
	return strconv.FormatInt(int64(math.Floor(f/4294967296)), 10)
}
