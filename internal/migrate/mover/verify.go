package mover

import (
	"context"
	"fmt"
	"hash/maphash"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// bucketSize is about how many ids Verify holds in memory at a time; a larger queue is gone over
// several times.
const bucketSize = 200000

// Verify compares source, target and ledger after a move or its reverse: what is left, what the
// ledger counted, what is at the target, and whether every job there is in exactly one container
// and every id in a container has a job. It writes nothing. On a queue that is being worked on, what
// looks wrong is looked at again at one instant before it is reported.
//
// Price: one command for a thousand ids of each container, one EXISTS a page, and a SCAN over the
// whole database; for more than 200,000 jobs once per 200,000.
func (m *Mover) Verify(ctx context.Context) (Verification, error) {
	v, err := m.newVerifier(ctx)
	if err != nil {
		return Verification{}, fmt.Errorf("verify %s: %w", m.opts.To, err)
	}
	if err := v.verify(ctx); err != nil {
		return v.report, fmt.Errorf("verify %s: %w", m.opts.To, err)
	}
	return v.report, nil
}

type verifier struct {
	*Mover
	seed   maphash.Seed
	known  map[string]string // mismatches that were there before the first job moved
	limit  int               // how many mismatches are kept
	report Verification
}

func (v *verifier) verify(ctx context.Context) error {
	wrong, err := wrongTypes(ctx, v.client, v.opts.To)
	if err != nil {
		return err
	}
	v.report.Remaining, v.report.Target = map[State]int64{}, map[State]int64{}
	if v.report.Mismatches = append(v.report.Mismatches, wrong...); len(wrong) > 0 {
		return nil
	}
	if v.report.Remaining, err = v.remaining(ctx); err != nil {
		return err
	}
	if err = v.leftovers(ctx); err != nil {
		return err
	}
	if v.report.Target, err = counts(ctx, v.client, v.opts.To); err != nil {
		return err
	}
	ledger, err := v.client.HGetAll(ctx, v.ledgerKey("counts")).Result()
	if err != nil {
		return fmt.Errorf("read ledger: %w", err)
	}
	v.report.Finished = ledger["finished"] == v.way()
	prefix := v.counter("")
	for field, n := range ledger {
		if state, ok := strings.CutPrefix(field, prefix); ok {
			if v.report.Moved[State(state)], err = strconv.ParseInt(n, 10, 64); err != nil {
				return fmt.Errorf("ledger field %q: %w", field, err)
			}
		}
	}
	total := int64(0)
	for _, n := range v.report.Target {
		total += n
	}
	buckets := uint64(total/bucketSize) + 1
	for b := range buckets {
		for _, part := range v.opts.To.parts() {
			if err := v.bucket(ctx, part, b, buckets); err != nil {
				return err
			}
		}
	}
	return nil
}

// remaining counts what is still in the source's layout. In place that is what a conversion would
// still edit.
func (v *verifier) remaining(ctx context.Context) (map[State]int64, error) {
	if !v.inPlace() {
		return counts(ctx, v.client, v.opts.From)
	}
	left := map[State]int64{}
	for _, l := range v.lanes(false) {
		for at := int64(0); ; at += planPage {
			entries, err := readPage(ctx, v.client, &v.opts, true, v.ledgerKey("undo"), l, at, planPage)
			if err != nil {
				return nil, err
			}
			if len(entries) == 0 {
				break
			}
			for _, e := range entries {
				k, problem, _ := v.decide(l, e)
				if problem == nil && k.scheduler == "" && (!l.edit || len(k.hset)+len(k.hdel) > 0) {
					left[l.state]++
				}
			}
		}
	}
	return left, nil
}

// leftovers looks closer at what is still at the source: how many ids have no job, and the schedulers.
func (v *verifier) leftovers(ctx context.Context) error {
	if v.inPlace() {
		return nil
	}
	e := v.opts.From
	var err error
	if v.report.Schedulers, err = v.sourceSchedulers(ctx); err != nil {
		return err
	}
	left := int64(0)
	for _, n := range v.report.Remaining {
		left += n
	}
	if left == 0 || left > maxKept {
		return nil
	}
	for _, part := range e.parts() {
		for _, l := range containersOf(e.Layout) {
			ids, err := v.page(ctx, part.Key(l.from), l, 0, maxKept)
			if err != nil {
				return err
			}
			keys := make([]string, len(ids))
			for i, id := range ids {
				keys[i] = part.jobKey(id)
			}
			v.report.Hollow += int64(len(ids))
			if err := eachExisting(ctx, v.client, keys, func(int) { v.report.Hollow-- }); err != nil {
				return err
			}
		}
	}
	return nil
}

// page reads the ids of a part of a container.
func (v *verifier) page(ctx context.Context, key string, l lane, at, size int64) ([]string, error) {
	var ids []string
	var err error
	if l.isList() {
		ids, err = v.client.LRange(ctx, key, at, at+size-1).Result()
	} else {
		ids, err = v.client.ZRange(ctx, key, at, at+size-1).Result()
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", key, err)
	}
	return ids, nil
}

func (v *verifier) mismatch(p Problem) {
	if _, ok := v.known[v.knownField(p)]; !ok && len(v.report.Mismatches) < v.limit {
		v.report.Mismatches = append(v.report.Mismatches, p)
	}
}

// targetContainers are the containers a job of the target can be in.
func (v *verifier) targetContainers() []lane {
	all := containersOf(v.opts.To.Layout)
	if v.opts.To.Layout == Bull && v.opts.LeaveFlows {
		all = append(all, lane{state: WaitingChildren, from: "waiting-children", how: takeLow})
	}
	return all
}

// containersOf are the containers that layout keeps jobs in.
func containersOf(layout Layout) []lane {
	if layout == Asynq {
		return []lane{
			{state: Waiting, from: "pending", how: takeLeft},
			{state: Active, from: "active", how: takeLeft},
			{state: Delayed, from: "scheduled", how: takeLow},
			{state: Delayed, from: "retry", how: takeLow},
			{state: Completed, from: "completed", how: takeLow},
			{state: Failed, from: "archived", how: takeLow},
		}
	}
	all := []lane{
		{state: Waiting, from: "wait", how: takeLeft},
		{state: Paused, from: "paused", how: takeLeft},
		{state: Active, from: "active", how: takeLeft},
		{state: Delayed, from: "delayed", how: takeLow},
		{state: Completed, from: "completed", how: takeLow},
		{state: Failed, from: "failed", how: takeLow},
	}
	if layout == BullMQ {
		all = append(all, lane{state: Prioritized, from: "prioritized", how: takeLow},
			lane{state: WaitingChildren, from: "waiting-children", how: takeLow})
	}
	return all
}

// bucket checks the ids of a part of the target that fall into one of several buckets.
func (v *verifier) bucket(ctx context.Context, e Endpoint, bucket, buckets uint64) error {
	where := map[string]int{} // how often an id is in a container
	mine := func(id string) bool { return maphash.String(v.seed, id)%buckets == bucket }
	suspects := map[string]bool{}
	const page = 1000
	for _, l := range v.targetContainers() {
		for at := int64(0); ; at += page {
			ids, err := v.page(ctx, e.Key(l.from), l, at, page)
			if err != nil {
				return err
			}
			if len(ids) == 0 {
				break
			}
			if err := v.hashes(ctx, e, ids, mine, suspects); err != nil {
				return err
			}
			for _, id := range ids {
				if mine(id) {
					if where[id]++; where[id] > 1 {
						suspects[id] = true
					}
				}
			}
		}
	}
	if err := v.strays(ctx, e, where, mine, suspects); err != nil {
		return err
	}
	for id := range suspects {
		if err := v.judge(ctx, e, id); err != nil {
			return err
		}
	}
	return nil
}

// hashes suspects the ids of a page whose job is gone.
func (v *verifier) hashes(ctx context.Context, e Endpoint, ids []string, mine func(string) bool, suspects map[string]bool) error {
	keys := []string{}
	names := []string{}
	for _, id := range ids {
		if mine(id) {
			keys = append(keys, e.jobKey(id))
			names = append(names, id)
		}
	}
	if len(keys) == 0 {
		return nil
	}
	n, err := v.client.Exists(ctx, keys...).Result()
	if err != nil || n == int64(len(keys)) {
		return err
	}
	there := map[int]bool{}
	if err := eachExisting(ctx, v.client, keys, func(i int) { there[i] = true }); err != nil {
		return err
	}
	for i, id := range names {
		_, known := v.known[v.knownField(Problem{JobID: id, Rule: "missing-hash"})]
		if !there[i] && !known && len(suspects) < v.limit {
			suspects[id] = true
		}
	}
	return nil
}

// strays suspects jobs that are in no container.
func (v *verifier) strays(ctx context.Context, e Endpoint, where map[string]int, mine func(string) bool, suspects map[string]bool) error {
	base := e.jobKey("")
	var cursor uint64
	for {
		keys, next, err := v.client.ScanType(ctx, cursor, globEscape(base)+"*", 1000, "hash").Result()
		if err != nil {
			return fmt.Errorf("scan %q: %w", base+"*", err)
		}
		for _, key := range keys {
			id := strings.TrimPrefix(key, base)
			_, known := v.known[v.knownField(Problem{JobID: id, Rule: "no-container"})]
			if mine(id) && where[id] == 0 && !known && len(suspects) < v.limit {
				suspects[id] = true
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// globEscape makes a literal of a key for use in a pattern.
func globEscape(key string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(key)
}

// judge looks at one suspicious id at one instant.
func (v *verifier) judge(ctx context.Context, e Endpoint, id string) error {
	proof := "timestamp"
	if e.Layout == Asynq {
		proof = "msg"
	}
	var isJob *redis.BoolCmd
	var anything *redis.IntCmd
	found := []func() int{}
	names := []string{}
	_, err := v.client.TxPipelined(ctx, func(p redis.Pipeliner) error {
		anything = p.Exists(ctx, e.jobKey(id))
		isJob = p.HExists(ctx, e.jobKey(id), proof)
		for _, l := range v.targetContainers() {
			names = append(names, l.from)
			if l.isList() {
				cmd := p.LPosCount(ctx, e.Key(l.from), id, 2, redis.LPosArgs{})
				found = append(found, func() int { return len(cmd.Val()) })
				continue
			}
			cmd := p.ZScore(ctx, e.Key(l.from), id)
			found = append(found, func() int {
				if cmd.Err() != nil {
					return 0
				}
				return 1
			})
		}
		return nil
	})
	if err = ignoreReplies(err); err == nil {
		err = anything.Err() // the first of them fails whenever the transaction does
	}
	if err != nil {
		return fmt.Errorf("look at job %q: %w", id, err)
	}
	in := []string{}
	for i, f := range found {
		for range f() {
			in = append(in, e.Key(names[i]))
		}
	}
	switch {
	case len(in) > 1:
		v.mismatch(Problem{JobID: id, Rule: "in-two-containers", Message: "the id is in " + strings.Join(in, " and ")})
	case len(in) == 1 && anything.Val() == 0:
		v.mismatch(Problem{JobID: id, Rule: "missing-hash", Message: fmt.Sprintf("the id is in %s, but %s is gone", in[0], e.jobKey(id))})
	case len(in) == 0 && isJob.Val():
		v.mismatch(Problem{JobID: id, Rule: "no-container", Message: e.jobKey(id) + " is a job in no container: nothing will ever run it"})
	}
	return nil
}
