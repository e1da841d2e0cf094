package cache

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
)

// An Item is one write of SetMany.
type Item struct {
	Key     string
	Value   []byte
	Options SetOptions
}

// Set keeps a value. It does not change or keep the slice it is given.
//
// Price: 1 command. With tags whose generation this process does not know, 1 more (MGET), and 1 more for
// each tag that has none yet. With Announce, 1 more. In a guarded namespace, with a Token of an entry that
// was there, 1 command and 2 inside a script.
//
// Its error says why the value is refused: *DeniedError, *SizeError, ErrKey, ErrValue, ErrClass. An
// upstream that does not answer is no error, but a result that is not Stored, within Options.Deadline.
func (c *Cache) Set(ctx context.Context, key string, value []byte, o SetOptions) (SetResult, error) {
	w, err := c.prepare(key, value, o)
	if err != nil {
		return SetResult{}, err
	}
	if err := ctx.Err(); err != nil {
		return SetResult{}, err
	}
	c.run(ctx, []*write{w})
	return w.result, w.refused
}

// Preview says what Set would do with a value, or why it would refuse it, and sends nothing. Commands
// are the most that it may cost.
func (c *Cache) Preview(key string, value []byte, o SetOptions) (SetResult, error) {
	w, err := c.prepare(key, value, o)
	if err != nil {
		return SetResult{}, err
	}
	for _, tag := range w.tags {
		w.gens = append(w.gens, tagged{tag, 1})
	}
	if err := c.encode(w); err != nil {
		return SetResult{}, err
	}
	w.result.Commands = 1 + len(w.tags) + boolInt(len(w.tags) > 0) + 2*boolInt(c.compares(w))
	return w.result, nil
}

// SetMany keeps many values in as few round trips as fit Options.MaxRequestBytes. Entries with a time to
// live cost 1 command each all the same, since Redis has no MSET that sets one; entries without expiry
// leave as one MSET. For everything else see Set. The first value that is refused stops it before
// anything is sent.
func (c *Cache) SetMany(ctx context.Context, items []Item) ([]SetResult, error) {
	writes := make([]*write, len(items))
	for i, item := range items {
		w, err := c.prepare(item.Key, item.Value, item.Options)
		if err != nil {
			return nil, err
		}
		writes[i] = w
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.run(ctx, writes)
	results := make([]SetResult, len(items))
	for i, w := range writes {
		if w.refused != nil {
			return nil, w.refused
		}
		results[i] = w.result
	}
	return results, nil
}

// A write is one value on its way.
type write struct {
	address
	policy
	value    []byte
	options  SetOptions
	token    *parsedToken // of the read it answers, nil without one
	gens     []tagged     // of its tags, as it will carry them
	seen     []seen       // numbers of its tags
	create   []tagged     // tags that have no generation yet
	version  uint64
	at       uint64 // versions.key
	written  time.Time
	encoded  []byte
	retried  bool
	finished bool
	result   SetResult
	refused  error // found too late for prepare
}

// prepare does all that needs no upstream, and refuses what must not be kept.
func (c *Cache) prepare(key string, value []byte, o SetOptions) (*write, error) {
	a, err := c.locate(key)
	if err != nil {
		return nil, err
	}
	w := &write{address: a, value: value, options: o}
	if w.policy, err = c.policy(a, o); err != nil {
		a.space.counts.refused.Add(1)
		return nil, err
	}
	if err := c.admit(w); err != nil {
		a.space.counts.refused.Add(1)
		return nil, err
	}
	if o.Token != "" {
		if w.token, err = parseToken(o.Token, a.store); err != nil {
			return nil, err
		}
	}
	if w.clamped {
		a.space.counts.clamped.Add(1)
	}
	w.result = SetResult{Clamped: w.clamped, TTL: w.fresh, ValueBytes: len(value)}
	return w, nil
}

// admit refuses values that must not or cannot be kept.
func (c *Cache) admit(w *write) error {
	if w.options.Negative {
		if len(w.value) > 0 {
			return fmt.Errorf("%w: key %q: a negative entry has no value", ErrValue, shorten(w.text))
		}
		return w.space.refuse(w.text, Raw, nil)
	}
	if len(w.value) > maxValueBytes {
		return &SizeError{Key: shorten(w.text), Bytes: len(w.value), Limit: maxValueBytes}
	}
	if err := w.codec.check(w.value); err != nil {
		return fmt.Errorf("key %q: %w", shorten(w.text), err)
	}
	return w.space.refuse(w.text, w.codec, w.value)
}

// encode makes what is sent.
func (c *Cache) encode(w *write) error {
	w.version, w.written = random(), time.Now()
	if w.space.bare {
		w.encoded = w.value
	} else {
		e := envelope{
			codec: w.codec, version: w.version, written: w.written, fresh: w.fresh, kept: w.kept,
			cost: w.options.cost, tags: w.gens,
		}
		if w.options.Negative {
			e.flags |= flagNegative
		}
		if w.forever {
			e.flags |= flagForever
		}
		payload := w.value
		var nonce []byte
		if w.sealed {
			e.flags |= flagSealed
			e.keyID = c.ring.first
			nonce = make([]byte, nonceSize)
			_, _ = rand.Read(nonce) // it never fails
			w.result.Encrypted = true
		} else if packed, smaller := c.pack.pack(w.value); smaller {
			payload, w.result.Compressed = packed, true
			e.flags |= flagPacked
		}
		var err error
		if w.encoded, err = e.encode(w.store, payload, nonce, c.ring, c.opts.BinarySafe); err != nil {
			return err
		}
	}
	w.result.StoredBytes = len(w.encoded)
	if size := w.requestBytes(); size > c.opts.MaxRequestBytes {
		return &SizeError{Key: shorten(w.text), Bytes: size, Limit: c.opts.MaxRequestBytes}
	}
	return nil
}

// requestBytes is about what the command takes on the way.
func (w *write) requestBytes() int { return len(w.encoded) + len(w.store) + 128 }

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
		c.opts.InScript("evalsha", inside)
	}
	c.finish(w, stored)
}

// finish notes a write that the upstream has answered.
func (c *Cache) finish(w *write, stored bool) {
	w.finished = true
	n := w.space.counts
	if !stored {
		n.superseded.Add(1)
		w.result.Cause = ErrSuperseded
		c.memory.drop(w.store)
		return
	}
	w.result.Stored = true
	n.writes.Add(1)
	n.valueBytes.Add(int64(len(w.value)))
	n.storedBytes.Add(int64(len(w.encoded)))
	if w.result.Compressed {
		n.compressed.Add(1)
	}
	for _, t := range w.create {
		c.versions.learn(t.tag, t.gen, c.versions.tag(t.tag))
	}
	if w.token == nil {
		c.pending.remove([]string{w.store})
	}
	c.keep(w)
}

// unsent notes a write that the upstream has not taken. The value is kept in memory all the same.
func (c *Cache) unsent(w *write, cause error) {
	w.finished = true
	w.space.counts.writeErrors.Add(1)
	w.result.Cause = cause
	if w.written.IsZero() {
		w.written = time.Now()
	}
	c.keep(w)
}

// keep puts a written value into memory, unless somebody else has written meanwhile.
func (c *Cache) keep(w *write) {
	if w.token == nil {
		mine := c.versions.key(w.store) == w.at
		w.at = c.versions.changed(w.store) // against those who have read meanwhile
		if !mine {
			c.memory.drop(w.store)
			return
		}
	}
	if c.overtaken(w) {
		return
	}
	if w.believed <= 0 {
		c.memory.drop(w.store)
		return
	}
	e := &entry{
		value: slices.Clone(w.value), codec: w.codec, negative: w.options.Negative, forever: w.forever,
		written: w.written, cost: w.options.cost, version: w.version, keyAt: w.at, tags: w.seen,
		checked: w.written, believed: w.written.Add(w.believed), fresh: w.written.Add(w.fresh),
	}
	c.memory.put(w.store, e)
}

// superseded are the writes to try once more: those that answer no read, and lost only because somebody
// gave a tag its generation at the same moment.
func (c *Cache) superseded(writes []*write) []*write {
	var again []*write
	for _, w := range writes {
		if w.token == nil && !w.retried && errors.Is(w.result.Cause, ErrSuperseded) {
			w.retried, w.finished, w.result.Cause = true, false, nil
			again = append(again, w)
		}
	}
	return again
}
