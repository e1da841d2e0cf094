package cache

import (
	"context"
	"encoding/json"
	"time"
)

// maxAnnouncement bounds one message, in bytes of keys.
const maxAnnouncement = 64 << 10

// An announcement tells the other replicas what to drop from memory. Names are as in the upstream, so
// that those of sensitive entries stay unreadable.
type announcement struct {
	From     uint64   `json:"from,string"`
	Keys     []string `json:"keys,omitempty"`
	Tags     []string `json:"tags,omitempty"`
	Patterns []string `json:"patterns,omitempty"`
}

// encode makes the messages, none if there is nothing to tell.
func (a announcement) encode(from uint64) []string {
	var out []string
	part := announcement{From: from}
	size := 0
	cut := func() {
		if size > 0 {
			text, _ := json.Marshal(part) // strings always have a JSON form
			out = append(out, string(text))
		}
		part, size = announcement{From: from}, 0
	}
	put := func(to *[]string, name string) {
		if size+len(name) > maxAnnouncement {
			cut()
		}
		*to = append(*to, name)
		size += len(name)
	}
	for _, name := range a.Keys {
		put(&part.Keys, name)
	}
	for _, name := range a.Tags {
		put(&part.Tags, name)
	}
	for _, name := range a.Patterns {
		put(&part.Patterns, name)
	}
	cut()
	return out
}

// follow keeps a feed open until ctx ends.
func (c *Cache) follow(ctx context.Context) {
	for ctx.Err() == nil {
		feed, err := c.opts.Subscribe(ctx, c.opts.Channel)
		if err == nil {
			// What was said before the feed is lost.
			c.forget()
			c.listen(ctx, feed)
			if feed.Close != nil {
				feed.Close()
			}
			c.forget()
		}
		pause := time.NewTimer(c.opts.ProbeEvery)
		select {
		case <-ctx.Done():
		case <-pause.C:
		}
		pause.Stop()
	}
}

// forget makes all that is in memory be checked with the upstream before it is believed again. It stays
// there, to be served while the upstream is down.
func (c *Cache) forget() {
	c.counts.gaps.Add(1)
	c.doubt.Store(time.Now().UnixNano())
	c.versions.unknownChanged()
}

// listen hears announcements until the feed or ctx ends.
func (c *Cache) listen(ctx context.Context, feed Feed) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-feed.Gaps:
			c.forget()
		case text, ok := <-feed.Messages:
			if !ok {
				return
			}
			c.hear(text)
		}
	}
}

// hear drops what another replica has deleted. What it does not understand makes it forget everything.
func (c *Cache) hear(text []byte) {
	var a announcement
	if err := json.Unmarshal(text, &a); err != nil {
		c.forget()
		return
	}
	if a.From == c.instance {
		return
	}
	c.counts.heard.Add(1)
	for _, store := range a.Keys {
		c.versions.changed(store)
		c.memory.drop(store)
	}
	for _, tag := range a.Tags {
		c.versions.tagChanged(tag)
	}
	for _, pattern := range a.Patterns {
		c.dropPattern(pattern)
	}
}
