package queue

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"time"
)

const (
	deadChunk  = 100  // looked at by one script
	filterMost = 1000 // ids in a filter
)

// A Filter chooses dead letters. The zero Filter chooses all; what is set must all hold.
type Filter struct {
	IDs      []string  // one of these, at most 1,000
	Name     string    // exactly
	Reason   string    // part of the reason
	Schedule string    // exactly
	Before   time.Time // failed before, whole seconds
	After    time.Time // failed then or later, whole seconds
}

// RetryDead has the dead letters that f chooses run again: each for the attempts that it has left, and at
// least once. With dry nothing is changed. It returns how many were, or would be, concerned, also when it
// ends with an error in between. Those that come meanwhile are not looked at. The work is done inside Redis,
// 100 at a time; it costs 1 script of 1 command for each 100 in each band, 1 for each one looked at where Name,
// Reason or Schedule is set, and 4 for each one changed. Errors: as Find, and *RequestError.
func (e *Engine) RetryDead(ctx context.Context, queue string, f Filter, dry bool) (int, error) {
	return e.eachDead(ctx, queue, "retry", f, dry)
}

// DeleteDead removes the dead letters that f chooses. See RetryDead; it costs 3 to 5 for each one changed.
func (e *Engine) DeleteDead(ctx context.Context, queue string, f Filter, dry bool) (int, error) {
	return e.eachDead(ctx, queue, "delete", f, dry)
}

func (e *Engine) eachDead(ctx context.Context, queue, do string, f Filter, dry bool) (int, error) {
	l, err := e.line(queue)
	if err != nil {
		return 0, err
	}
	if len(f.IDs) > filterMost {
		return 0, &RequestError{Queue: queue, Err: fmt.Errorf("ids: %d, want at most %d", len(f.IDs), filterMost)}
	}
	if dry {
		do = "count"
	}
	least, most := int64(0), time.Now().Unix()
	if !f.After.IsZero() {
		least = ceilSecond(f.After)
	}
	if !f.Before.IsZero() {
		most = min(most, ceilSecond(f.Before)-1)
	}
	total := 0
	for _, band := range l.bands {
		n, err := e.deadOf(ctx, band, do, f, least, most)
		total += n
		if n > 0 && do == "retry" {
			e.governor.Added(band)
		}
		if err != nil {
			return total, e.explain(queue, "", err)
		}
	}
	return total, nil
}

// deadOf goes through one band.
func (e *Engine) deadOf(ctx context.Context, band, do string, f Filter, least, most int64) (int, error) {
	keys := []string{key(band, "archived"), key(band, "pending"), key(band, "t:")}
	total, passed, ids := 0, 0, f.IDs
	for range math.MaxInt32 {
		if err := ctx.Err(); err != nil {
			return total, err
		}
		args := []any{do, least, most, f.Name, f.Reason, f.Schedule, passed, deadChunk, time.Now().UnixNano(), int64(uniqueLife / time.Second)}
		now := ids[:min(len(ids), deadChunk)]
		for _, id := range now {
			args = append(args, id)
		}
		reply, err := e.run(ctx, e.scripts.dead, keys, args...)
		if err != nil {
			return total, err
		}
		v, err := texts(reply)
		if err != nil || len(v) != 2 {
			return total, errReply
		}
		looked, _ := strconv.Atoi(v[0])
		chosen, _ := strconv.Atoi(v[1])
		total += chosen
		passed += looked
		if do != "count" {
			passed -= chosen
		}
		ids = ids[len(now):]
		if len(f.IDs) > 0 && len(ids) == 0 || len(f.IDs) == 0 && looked < deadChunk {
			break
		}
	}
	return total, nil
}
