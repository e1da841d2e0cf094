package cache

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

const (
	maxPending   = 10_000 // deletes that are remembered
	pendingBatch = 500    // of one attempt
)

// pending are keys that were deleted while the upstream did not answer. It may still have them, so
// they are misses until it has been told.
type pending struct {
	size atomic.Int64
	mu   sync.Mutex
	keys map[string]*space // with its namespace, nil for a tag
	lost atomic.Int64      // that did not fit
}

func newPending() *pending { return &pending{keys: map[string]*space{}} }

func (p *pending) add(store string, sp *space) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, there := p.keys[store]; !there && len(p.keys) >= maxPending {
		p.lost.Add(1)
		return
	}
	p.keys[store] = sp
	p.size.Store(int64(len(p.keys)))
}

// has is whether store is to be deleted still. It takes no lock while nothing is.
func (p *pending) has(store string) bool {
	if p.size.Load() == 0 {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	_, ok := p.keys[store]
	return ok
}

func (p *pending) remove(stores []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, store := range stores {
		delete(p.keys, store)
	}
	p.size.Store(int64(len(p.keys)))
}

func (p *pending) some(n int) map[string]*space {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make(map[string]*space, min(n, len(p.keys)))
	for store, sp := range p.keys {
		if len(out) == n {
			break
		}
		out[store] = sp
	}
	return out
}

// retryDeletes tells the upstream of deletes that it did not take: one UNLINK, and one SET for each tag
// and each guarded key, for every 500.
func (c *Cache) retryDeletes(ctx context.Context) {
	for c.pending.size.Load() > 0 {
		some := c.pending.some(pendingBatch)
		var d deletion
		var stores []string
		for store, sp := range some {
			stores = append(stores, store)
			if sp == nil {
				d.tags = append(d.tags, store)
			} else {
				d.add(store, sp)
			}
		}
		d.announce = announcement{Keys: append(append([]string{}, d.keys...), d.guarded...), Tags: d.tags}
		octx, cancel := c.operation(ctx)
		_, _, err := c.runDeletion(octx, d)
		cancel()
		if err != nil {
			return
		}
		c.pending.remove(stores)
	}
}

// A deletion is what is to be deleted, by the way in which it is.
type deletion struct {
	keys    []string // unlinked
	guarded []string // marked
	tags    []string // given a new generation

	announce announcement
}

func (d *deletion) add(store string, sp *space) {
	if sp.Guard {
		d.guarded = append(d.guarded, store)
	} else {
		d.keys = append(d.keys, store)
	}
}

// runDeletion sends a deletion and its announcement as one pipeline.
func (c *Cache) runDeletion(ctx context.Context, d deletion) (deleted, commands int64, err error) {
	err = c.send(ctx, func(ctx context.Context) error {
		deleted, commands, err = c.deletionOn(ctx, c.opts.Client, d)
		return err
	})
	return deleted, commands, err
}

// deletionOn is runDeletion on one node.
func (c *Cache) deletionOn(ctx context.Context, node redis.Cmdable, d deletion) (deleted, commands int64, err error) {
	var counted []*redis.IntCmd
	gens := make([]uint64, len(d.tags))
	_, err = node.Pipelined(ctx, func(p redis.Pipeliner) error {
		switch {
		case len(d.keys) > 0 && c.opts.Cluster:
			for _, key := range d.keys {
				counted = append(counted, p.Unlink(ctx, key))
			}
		case len(d.keys) > 0:
			counted = append(counted, p.Unlink(ctx, d.keys...))
		}
		for _, store := range d.guarded {
			p.Set(ctx, store, c.deletedMark(store), c.opts.GuardTTL)
		}
		for i, tag := range d.tags {
			gens[i] = random()
			p.Set(ctx, tag, genText(gens[i]), c.tagTTL())
		}
		if c.opts.Subscribe != nil {
			for _, text := range d.announce.encode(c.instance) {
				p.Publish(ctx, c.opts.Channel, text)
			}
		}
		commands = int64(p.Len())
		return nil
	})
	if err != nil {
		return 0, commands, err
	}
	for i, tag := range d.tags {
		c.versions.renew(tag, gens[i])
	}
	for _, n := range counted {
		deleted += n.Val()
	}
	return deleted + int64(len(d.guarded)), commands, nil
}
