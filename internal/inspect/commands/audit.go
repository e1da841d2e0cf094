package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// closing is how long the last reads may take when the window was cut short by ctx.
const closing = 5 * time.Second

// Audit measures one window. When ctx ends inside it, the part that has passed is reported with
// Partial set, if it is at least a second; otherwise the error is ctx's. A *ResetError says that the
// server restarted or its counters were reset meanwhile. What a restricted user may not read, or the
// server does not count, is named in Report.Missing.
//
// Price: two INFO, and twice INFO, CLIENT LIST, CLIENT ID and, where somebody subscribes, PUBSUB
// CHANNELS; with Deep one ZCARD per queue. It writes nothing.
func Audit(ctx context.Context, rdb redis.UniversalClient, opts Options) (*Report, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	a := &audit{rdb: rdb, opts: opts, report: &Report{Missing: []string{}}}
	return a.run(ctx)
}

// An audit is one measurement under way.
type audit struct {
	rdb    redis.UniversalClient
	opts   Options
	report *Report

	before, after *connections.Report // nil when CLIENT LIST is refused
}

func (a *audit) run(ctx context.Context) (*Report, error) {
	auditor, err := connections.New(a.rdb, connections.Options{OwnName: a.opts.OwnName})
	if err != nil {
		return nil, err
	}
	// The lists are read outside the two INFO, so that inside lies one command of ours: the first INFO.
	if a.before, err = a.inventory(ctx, auditor); err != nil {
		return nil, err
	}
	first, err := a.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	cut := a.wait(ctx)
	if cut != nil && time.Since(newest(first)) < time.Second {
		return nil, cut
	}
	if cut != nil {
		a.report.Partial = true
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), closing)
		defer cancel()
	}
	second, err := a.snapshots(ctx)
	if err != nil {
		return nil, err
	}
	if a.after, err = a.inventory(ctx, auditor); err != nil {
		return nil, err
	}
	d, err := a.compare(first, second)
	if err != nil {
		return nil, err
	}
	delayed, err := a.delayed(ctx)
	if err != nil {
		return nil, err
	}
	a.analyse(d, delayed)
	return a.report, nil
}

// inventory says who is connected; nil when nobody may know.
func (a *audit) inventory(ctx context.Context, auditor *connections.Auditor) (*connections.Report, error) {
	r, err := auditor.Audit(ctx)
	if err != nil {
		if _, refused := errors.AsType[redis.Error](err); refused {
			a.report.Sent += 3
			return nil, nil
		}
		return nil, err
	}
	a.report.Sent += r.Commands
	if !r.Complete() {
		return nil, nil
	}
	return r, nil
}

// sharded is what a client of a cluster has and others have not.
type sharded interface {
	ForEachShard(ctx context.Context, fn func(context.Context, *redis.Client) error) error
}

// snapshots reads the counters of every node.
func (a *audit) snapshots(ctx context.Context) (map[string]snapshot, error) {
	out := make(map[string]snapshot)
	cluster, ok := a.rdb.(sharded)
	if !ok {
		a.report.Sent++
		s, err := readSnapshot(ctx, a.rdb)
		out[""] = s
		return out, err
	}
	var mu sync.Mutex
	err := cluster.ForEachShard(ctx, func(ctx context.Context, node *redis.Client) error {
		s, err := readSnapshot(ctx, node)
		mu.Lock()
		defer mu.Unlock()
		a.report.Sent++
		out[node.Options().Addr] = s
		return err
	})
	return out, err
}

func readSnapshot(ctx context.Context, rdb redis.Cmdable) (snapshot, error) {
	info, err := rdb.Info(ctx, "all").Result()
	if err != nil {
		return snapshot{}, fmt.Errorf("read command counters: %w", err)
	}
	return parseSnapshot(info, time.Now()), nil
}

func newest(m map[string]snapshot) time.Time {
	var t time.Time
	for _, s := range m {
		if s.at.After(t) {
			t = s.at
		}
	}
	return t
}

// wait lets the window pass. The error is ctx's.
func (a *audit) wait(ctx context.Context) error {
	begin := time.Now()
	end := time.NewTimer(a.opts.Window)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-end.C:
			return nil
		case <-tick.C:
			if a.opts.Progress != nil {
				a.opts.Progress(time.Since(begin), a.opts.Window)
			}
		}
	}
}

// compare sums the differences of all nodes, without our own commands.
func (a *audit) compare(first, second map[string]snapshot) (delta, error) {
	r := a.report
	sum := delta{calls: make(map[string]int64), hasCalls: true}
	for _, node := range slices.Sorted(maps.Keys(first)) {
		s, ok := second[node]
		if !ok {
			return delta{}, &ResetError{node, "the node left the cluster"}
		}
		d, err := difference(node, first[node], s)
		if err != nil {
			return delta{}, err
		}
		sum.add(d)
		if r.From.IsZero() || first[node].at.Before(r.From) {
			r.From = first[node].at
		}
		if s.at.After(r.To) {
			r.To = s.at
		}
		r.Server = connections.Server{Version: s.version, Provider: s.provider, RunID: s.runID}
	}
	r.Window = r.To.Sub(r.From)
	r.WindowSeconds = r.Window.Seconds()
	r.From, r.To = r.From.UTC(), r.To.UTC()
	own := a.own(int64(len(first)))
	before := sum.total
	sum.subtract(own)
	r.Own = before - sum.total
	if sum.processed >= 0 {
		n := int64(0)
		for _, v := range own {
			n += v
		}
		if !sum.hasCalls {
			r.Own = n
		}
		sum.processed = max(sum.processed-n, 0)
	}
	return sum, nil
}

// own is what we sent between the first and the last INFO: the first INFO itself, and the handshake of
// connections that our pool opened meanwhile.
func (a *audit) own(nodes int64) map[string]int64 {
	own := map[string]int64{"info": nodes}
	if a.before == nil || a.after == nil {
		return own
	}
	had := make(map[string]bool)
	for _, c := range a.before.Connections {
		had[fmt.Sprint(c.Node, c.ID)] = true
	}
	for _, c := range a.after.Connections {
		if !c.Own || had[fmt.Sprint(c.Node, c.ID)] {
			continue
		}
		own["hello"]++
		if c.Name != "" {
			own["client|setname"]++
		}
	}
	return own
}

// delayed asks each queue how much is delayed; nil without Deep.
func (a *audit) delayed(ctx context.Context) (map[string]int64, error) {
	if !a.opts.Deep || a.after == nil {
		return nil, nil
	}
	out := make(map[string]int64)
	for _, q := range a.after.Queues {
		name := q.Prefix + ":" + q.Queue
		if _, asked := out[name]; asked {
			continue
		}
		a.report.Sent++
		n, err := a.rdb.ZCard(ctx, name+":delayed").Result()
		var reply redis.Error
		switch {
		case err == nil:
			out[name] = n
		case errors.As(err, &reply):
			a.report.Missing = append(a.report.Missing, fmt.Sprintf("delayed jobs of queue %q: ZCARD refused (%s)", q.Queue, err))
		default:
			return nil, fmt.Errorf("read delayed jobs of queue %q: %w", q.Queue, err)
		}
	}
	return out, nil
}
