package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/redis/go-redis/v9"
)

// run sends writes and says in each what became of it.
func (c *Cache) run(ctx context.Context, writes []*write) {
	ctx, cancel := c.operation(ctx)
	defer cancel()
	c.attempt(ctx, writes)
	if again := c.superseded(writes); len(again) > 0 {
		c.attempt(ctx, again)
	}
}

// attempt is run, once.
func (c *Cache) attempt(ctx context.Context, writes []*write) {
	for _, w := range writes {
		c.begin(w)
	}
	c.assign(ctx, writes)
	for _, w := range writes {
		if w.finished {
			continue
		}
		if err := c.encode(w); err != nil {
			w.refused, w.finished = err, true
			w.space.counts.refused.Add(1)
		}
	}
	if slices.ContainsFunc(writes, func(w *write) bool { return w.refused != nil }) {
		return // nothing is sent
	}
	for rest := unfinished(writes); len(rest) > 0; {
		n := c.fit(rest)
		c.transmit(ctx, rest[:n])
		rest = rest[n:]
	}
}

func unfinished(writes []*write) []*write {
	return slices.DeleteFunc(slices.Clone(writes), func(w *write) bool { return w.finished })
}

// begin notes the numbers of the key and its tags, and finds out in memory whether a value that was read
// before is out of date by now.
func (c *Cache) begin(w *write) {
	w.seen = w.seen[:0]
	for _, tag := range w.tags {
		w.seen = append(w.seen, seen{tag, c.versions.tag(tag)})
	}
	if w.token == nil {
		w.at = c.versions.changed(w.store)
		return
	}
	w.at = c.versions.key(w.store)
	if c.overtaken(w) {
		c.supersede(w)
		return
	}
	for _, tag := range w.tags {
		gen, ok := c.versions.known(tag)
		if seen, read := w.token.gens[hashOf(tag)]; ok && read && gen != seen {
			c.supersede(w)
			return
		}
	}
}

// overtaken is whether this process has deleted or written the key since the read that w answers.
func (c *Cache) overtaken(w *write) bool {
	return w.token != nil && w.token.instance == c.instance && w.token.at != c.versions.read(w.store)
}

func (c *Cache) supersede(w *write) {
	w.space.counts.superseded.Add(1)
	w.result.Cause, w.finished = ErrSuperseded, true
}

// assign finds the generations of all tags: in the token, in memory, and else at the upstream.
func (c *Cache) assign(ctx context.Context, writes []*write) {
	known := &generations{versions: c.versions}
	var ask []string
	for _, w := range unfinished(writes) {
		for _, tag := range w.tags {
			if c.pending.has(tag) {
				c.unsent(w, fmt.Errorf("%w: it has not been told yet that a tag of the entry was invalidated", ErrUnavailable))
				break
			}
			if _, ok := c.genFor(w, tag); !ok && !slices.Contains(ask, tag) {
				ask = append(ask, tag)
			}
		}
	}
	if len(ask) > 0 {
		known.expect(ask)
		got, err := c.merge.get(ctx, ask)
		if err != nil {
			for _, w := range unfinished(writes) {
				if len(w.tags) > 0 {
					c.unsent(w, err)
				}
			}
			return
		}
		known.learn(ask, got)
		for _, w := range writes {
			w.result.Commands += boolInt(len(w.tags) > 0 && len(writes) == 1)
		}
	}
	fresh := map[string]uint64{}
	for _, w := range unfinished(writes) {
		w.gens, w.create = nil, nil
		for _, tag := range w.tags {
			gen, ok := c.genFor(w, tag)
			if !ok {
				gen = known.gen(tag)
			}
			if gen == 0 {
				if fresh[tag] == 0 {
					fresh[tag] = random()
					w.create = append(w.create, tagged{tag, fresh[tag]})
				}
				gen = fresh[tag]
			}
			w.gens = append(w.gens, tagged{tag, gen})
		}
	}
}

// genFor is the generation of a tag that a write goes by, 0 where there was none, if it is known.
func (c *Cache) genFor(w *write, tag string) (uint64, bool) {
	if w.token != nil {
		if gen, ok := w.token.gens[hashOf(tag)]; ok {
			return gen, true
		}
	}
	if w.retried {
		return 0, false
	}
	return c.versions.known(tag)
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

// fit is how many of the writes fit into one request, at least one.
func (c *Cache) fit(writes []*write) int {
	const most = 500
	size := 0
	for i, w := range writes {
		size += w.requestBytes()
		if i > 0 && (size > c.opts.MaxRequestBytes || i == most) {
			return i
		}
	}
	return len(writes)
}

// transmit sends writes as one pipeline.
func (c *Cache) transmit(ctx context.Context, writes []*write) {
	if len(writes) == 1 && c.compares(writes[0]) {
		c.compareAndSet(ctx, writes[0])
		return
	}
	var plan pipelined
	err := c.send(ctx, func(ctx context.Context) error {
		_, err := c.opts.Client.Pipelined(ctx, func(p redis.Pipeliner) error {
			plan = c.queue(ctx, p, writes)
			return nil
		})
		if errors.Is(err, redis.Nil) {
			return nil
		}
		return err
	})
	if err != nil {
		for _, w := range plan.sent {
			c.unsent(w, err)
		}
		for _, w := range unfinished(writes) {
			c.unsent(w, err)
		}
		return
	}
	for _, w := range plan.sent {
		lost := slices.ContainsFunc(plan.created[w], func(cmd *redis.BoolCmd) bool { return !cmd.Val() })
		if cond, ok := plan.conditional[w]; ok && !cond.Val() {
			lost = true
		}
		c.finish(w, !lost)
	}
	for _, w := range unfinished(writes) { // those that need a script, in a pipeline of many
		c.compareAndSet(ctx, w)
	}
}

// A pipelined is what became of writes in a pipeline.
type pipelined struct {
	sent        []*write
	created     map[*write][]*redis.BoolCmd
	conditional map[*write]*redis.BoolCmd
}

// queue puts the commands of writes into a pipeline.
func (c *Cache) queue(ctx context.Context, p redis.Pipeliner, writes []*write) pipelined {
	plan := pipelined{created: map[*write][]*redis.BoolCmd{}, conditional: map[*write]*redis.BoolCmd{}}
	var forever []any
	announce := announcement{}
	for _, w := range writes {
		if c.compares(w) {
			continue
		}
		plan.sent = append(plan.sent, w)
		for _, t := range w.create {
			plan.created[w] = append(plan.created[w], p.SetNX(ctx, t.tag, genText(t.gen), c.tagTTL()))
			w.result.Commands++
		}
		if w.options.Announce && c.opts.Subscribe != nil {
			announce.Keys = append(announce.Keys, w.store)
		}
		switch {
		case w.onlyIfAbsent():
			plan.conditional[w] = p.SetNX(ctx, w.store, w.encoded, w.kept)
		case w.forever && !c.opts.Cluster && len(writes) > 1:
			forever = append(forever, w.store, w.encoded)
			if len(forever) > 2 {
				continue // one MSET for all
			}
		default:
			p.Set(ctx, w.store, w.encoded, w.kept)
		}
		w.result.Commands++
	}
	if len(forever) > 0 {
		p.MSet(ctx, forever...)
	}
	for _, text := range announce.encode(c.instance) {
		p.Publish(ctx, c.opts.Channel, text)
		plan.sent[0].result.Commands++
	}
	return plan
}

// onlyIfAbsent is whether the value answers a read that found nothing, so that it must not replace what
// has come since. In a guarded namespace a read that could not look counts as one.
func (w *write) onlyIfAbsent() bool {
	return w.token != nil && (w.token.state == stateAbsent || w.space.Guard && w.token.state == stateUnknown)
}

// compares is whether the value may only replace what was read.
func (c *Cache) compares(w *write) bool {
	return w.token != nil && w.space.Guard && w.token.state == stateVersion
}

// replace stores a value over the one whose version the caller has read, and over nothing else.
var replace = redis.NewScript(`
if redis.call('GETRANGE', KEYS[1], ARGV[1], ARGV[2]) ~= ARGV[3] then return 0 end
if ARGV[5] == '0' then redis.call('SET', KEYS[1], ARGV[4]) else redis.call('SET', KEYS[1], ARGV[4], 'PX', ARGV[5]) end
return 1`)

// compareAndSet stores one value by script: 1 command, and 1 or 2 inside.
func (c *Cache) compareAndSet(ctx context.Context, w *write) {
	from, to, version := versionRange(w.token.version, w.token.text)
	stored := false
	err := c.send(ctx, func(ctx context.Context) error {
		for _, t := range w.create {
			w.result.Commands++
			ok, err := c.opts.Client.SetNX(ctx, t.tag, genText(t.gen), c.tagTTL()).Result()
			if err != nil || !ok {
				return err
			}
		}
		n, err := replace.Run(ctx, c.opts.Client, []string{w.store}, from, to, version, w.encoded, w.kept.Milliseconds()).Int64()
		stored = n == 1
		return err
	})
	if err != nil {
		c.unsent(w, err)
		return
	}
	inside := int64(1 + boolInt(stored))
	w.result.Commands += 1 + int(inside)
	if c.opts.InScript != nil {
		c.opts.InScript(w.store, "evalsha", inside)
	}
	c.finish(w, stored)
}
