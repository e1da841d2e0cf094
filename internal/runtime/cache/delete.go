package cache

import (
	"context"
	"errors"
	"fmt"
)

// A DeleteResult says what became of a delete.
type DeleteResult struct {
	// Done is whether the upstream did it. If not, Cause says why; the entries are misses in this
	// process from now on, and Run tells the upstream when it is back.
	Done  bool
	Cause error

	// Deleted is how many entries there were, as far as the upstream says: guarded keys count always,
	// tags never.
	Deleted int64

	// Commands is what it cost.
	Commands int64
}

// Delete ends entries. Deleting what is not there is no error.
//
// Price: 1 command for any number of keys (UNLINK); 1 for each key of guarded namespaces, and on a
// Cluster for each key; 1 more with Options.Subscribe.
func (c *Cache) Delete(ctx context.Context, keys ...string) (DeleteResult, error) {
	if len(keys) == 0 {
		return DeleteResult{Done: true}, nil
	}
	var d deletion
	of := map[string]*space{}
	for _, key := range keys {
		a, err := c.locate(key)
		if err != nil {
			return DeleteResult{}, err
		}
		if _, twice := of[a.store]; twice {
			continue
		}
		of[a.store] = a.space
		d.add(a.store, a.space)
		a.space.counts.deletes.Add(1)
	}
	if err := ctx.Err(); err != nil {
		return DeleteResult{}, err
	}
	changed := func() {
		for store := range of {
			c.versions.changed(store)
			c.memory.drop(store)
		}
	}
	changed()
	d.announce.Keys = append(append([]string{}, d.keys...), d.guarded...)
	r := c.end(ctx, d)
	if !r.Done {
		for store, sp := range of {
			c.pending.add(store, sp)
		}
	}
	changed() // against those who have read meanwhile
	return r, nil
}

// InvalidateTags ends all entries that carry any of the tags, in all replicas: at once where the entry
// is read from the upstream, and within its time in memory (Class.L1TTL) elsewhere, or at once with
// Options.Subscribe. It needs to know none of the entries.
//
// Price: 1 command a tag, however many entries carry it; 1 more with Options.Subscribe.
func (c *Cache) InvalidateTags(ctx context.Context, tags ...string) (DeleteResult, error) {
	if len(tags) == 0 {
		return DeleteResult{Done: true}, nil
	}
	var d deletion
	for _, tag := range tags {
		store, err := c.tagKey(tag)
		if err != nil {
			return DeleteResult{}, err
		}
		d.tags = append(d.tags, store)
	}
	if err := ctx.Err(); err != nil {
		return DeleteResult{}, err
	}
	changed := func() {
		for _, tag := range d.tags {
			c.versions.tagChanged(tag)
		}
	}
	changed()
	c.counts.invalidations.Add(int64(len(tags)))
	d.announce.Tags = d.tags
	r := c.end(ctx, d)
	if !r.Done {
		for _, tag := range d.tags {
			c.pending.add(tag, nil)
		}
		changed()
	}
	return r, nil
}

// end runs a deletion within the deadline of one operation.
func (c *Cache) end(ctx context.Context, d deletion) DeleteResult {
	ctx, cancel := c.operation(ctx)
	defer cancel()
	deleted, commands, err := c.runDeletion(ctx, d)
	if err != nil {
		c.counts.deleteErrors.Add(1)
		if !errors.Is(err, ErrUnavailable) {
			err = fmt.Errorf("delete: %w", err)
		}
		return DeleteResult{Cause: err, Commands: commands}
	}
	return DeleteResult{Done: true, Deleted: deleted, Commands: commands}
}

// deletedMark is what a guarded delete leaves: an entry that says it is none, with a version of its own.
func (c *Cache) deletedMark(store string) []byte {
	e := envelope{flags: flagDeleted, version: random(), kept: c.opts.GuardTTL}
	b, _ := e.encode(store, nil, nil, c.ring, c.opts.BinarySafe) // nothing to encrypt, so nothing can fail
	return b
}

// DeletePrice is what Delete and InvalidateTags cost for keys and tags, without announcements, or why
// they would be refused. It sends nothing.
func (c *Cache) DeletePrice(keys, tags []string) (int64, error) {
	var d deletion
	for _, key := range keys {
		a, err := c.locate(key)
		if err != nil {
			return 0, err
		}
		d.add(a.store, a.space)
	}
	for _, tag := range tags {
		if _, err := c.tagKey(tag); err != nil {
			return 0, err
		}
	}
	price := int64(len(d.guarded) + len(tags))
	switch {
	case c.opts.Cluster:
		price += int64(len(d.keys))
	case len(d.keys) > 0:
		price++
	}
	return price, nil
}

// Sensitive is whether a key is of a class whose entries are encrypted.
func (c *Cache) Sensitive(key string) bool {
	a, err := c.locate(key)
	return err == nil && a.space.sensitive
}
