package commands

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
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
// Price: twice INFO, CLIENT LIST and CLIENT ID, PUBSUB CHANNELS where somebody subscribes, and again
// where others do later; with Deep one ZCARD per queue. It writes nothing.
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
	ours          map[string]int64    // what we sent inside the window
	nodes         []string
}

func (a *audit) run(ctx context.Context) (*Report, error) {
	auditor, err := connections.New(a.rdb, connections.Options{OwnName: a.opts.OwnName, Counters: true})
	if err != nil {
		return nil, err
	}
	var first, second map[string]snapshot
	if a.before, first, err = a.look(ctx, auditor); err != nil {
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
	if a.after, second, err = a.look(ctx, auditor); err != nil {
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
	a.report.Connections = a.after
	a.nodes = slices.Sorted(maps.Keys(first))
	a.analyse(d, delayed)
	return a.report, nil
}

// look reads the counters of every node and, in the same round trip, who is connected: what a worker
// did last must fit the count. Where nobody may know who is connected, the report is nil.
func (a *audit) look(ctx context.Context, auditor *connections.Auditor) (*connections.Report, map[string]snapshot, error) {
	r, err := auditor.Audit(ctx)
	if err != nil {
		return nil, nil, err
	}
	a.report.Sent += r.Commands
	infos, err := r.Counters()
	if err != nil {
		return nil, nil, fmt.Errorf("read command counters: %w", err)
	}
	snapshots := make(map[string]snapshot)
	for node, info := range infos {
		snapshots[node] = parseSnapshot(info.Text, info.At)
	}
	// In each round trip INFO comes first, so the first trip is inside the window and the second is not.
	if a.ours == nil {
		a.ours = map[string]int64{"info": int64(len(infos))}
		if r.Complete() {
			a.ours["client|list"], a.ours["client|id"] = int64(len(infos)), int64(len(infos))
			a.ours["pubsub|channels"] = int64(r.Commands - 3*len(infos))
		}
	}
	if !r.Complete() {
		return nil, snapshots, nil
	}
	return r, snapshots, nil
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
	own := a.own()
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

// own is what we sent inside the window: the first look, and the handshake of connections that our
// pool opened meanwhile.
func (a *audit) own() map[string]int64 {
	own := maps.Clone(a.ours)
	if a.before == nil || a.after == nil {
		return own
	}
	had := make(map[string]bool)
	for _, c := range a.before.Connections {
		had[id(c)] = true
	}
	for _, c := range a.after.Connections {
		if !c.Own || had[id(c)] {
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
