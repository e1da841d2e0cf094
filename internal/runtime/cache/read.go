package cache

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
)

// A sight is what a look at the upstream showed, and what it takes to tell later whether it still holds.
type sight struct {
	entry *entry // nil for a miss
	at    uint64 // versions.key before the look
	token token
}

// Get reads one entry. Tags are those that it may carry besides its owner's; naming them lets them be
// checked in the same command.
//
// Price: 0 commands from memory. Otherwise 1: a GET, or an MGET together with the tags, and shared with
// all reads that gather meanwhile. An entry with tags that were not named costs 1 more. A miss costs the
// same.
//
// Its error is only about how it was called, or the end of ctx. An upstream that does not answer is no
// error: the Result is Degraded, within Options.Deadline, and has the entry from memory, marked stale, if
// there still is one.
func (c *Cache) Get(ctx context.Context, key string, tags ...string) (Result, error) {
	a, err := c.locate(key)
	if err != nil {
		return Result{}, err
	}
	asked, err := c.tagsOf(a, tags)
	if err != nil {
		return Result{}, err
	}
	if r, ok := c.fromMemory(a, time.Now()); ok {
		return r, nil
	}
	if err := ctx.Err(); err != nil {
		return Result{}, err
	}
	s, err := c.look(ctx, a, asked)
	if err != nil {
		if ctx.Err() != nil {
			return Result{}, ctx.Err()
		}
		return c.degraded(a, err), nil
	}
	return c.answer(a, s), nil
}

// GetMany reads many entries: what is not in memory by one MGET for every 1,000 keys and tags. Results
// are in the order of keys. For errors and outages see Get. Price: 1 command for every 1,000 keys that
// are not in memory, owners' tags included; 1 more for all of them if they carry other tags.
func (c *Cache) GetMany(ctx context.Context, keys []string) ([]Result, error) {
	results := make([]Result, len(keys))
	var where []int
	var ask []address
	now := time.Now()
	for i, key := range keys {
		a, err := c.locate(key)
		if err != nil {
			return nil, err
		}
		r, ok := c.fromMemory(a, now)
		if results[i] = r; !ok {
			where, ask = append(where, i), append(ask, a)
		}
	}
	const most = 500 // with one owner each, 1,000 keys
	for len(ask) > 0 {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := min(most, len(ask))
		sights, err := c.lookMany(ctx, ask[:n], nil)
		if err != nil {
			n = len(ask) // what did not answer once is not asked for the rest
		}
		for i := range n {
			if err != nil {
				results[where[i]] = c.degraded(ask[i], err)
			} else {
				results[where[i]] = c.answer(ask[i], sights[i])
			}
		}
		where, ask = where[n:], ask[n:]
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return results, nil
}

// fromMemory answers without looking at the upstream, if memory may. It is where every read begins.
func (c *Cache) fromMemory(a address, now time.Time) (Result, bool) {
	a.space.reuse.read(a.store, now)
	e := c.memory.get(a.store)
	if e == nil || !now.Before(e.believed) || !e.forever && !now.Before(e.fresh) ||
		e.checked.UnixNano() <= c.doubt.Load() || !e.current(c.versions, a.store) {
		return Result{}, false
	}
	a.space.counts.memoryHits.Add(1)
	return e.result(now, FromMemory), true
}

// degraded answers when the upstream does not: with what memory still has.
func (c *Cache) degraded(a address, cause error) Result {
	now := time.Now()
	a.space.counts.degraded.Add(1)
	e := c.memory.get(a.store)
	if e != nil && e.current(c.versions, a.store) && (e.forever || now.Before(e.fresh.Add(c.opts.StaleOnError))) {
		a.space.counts.staleHits.Add(1)
		r := e.result(now, FromMemory)
		r.Stale, r.Degraded, r.Cause = true, true, cause
		return r
	}
	return Result{Degraded: true, Cause: cause}
}

// answer makes the result of a look.
func (c *Cache) answer(a address, s sight) Result {
	if s.entry == nil {
		a.space.counts.misses.Add(1)
		return Result{Token: s.token.encode()}
	}
	r := s.entry.result(time.Now(), FromUpstream)
	r.Token = s.token.encode()
	switch {
	case r.Stale:
		a.space.counts.staleHits.Add(1)
	default:
		a.space.counts.upstreamHits.Add(1)
	}
	return r
}

func (e *entry) result(now time.Time, from Source) Result {
	r := Result{
		Hit: true, Negative: e.negative, Value: e.value, Codec: e.codec, Source: from,
		Foreign: e.foreign, NoExpiry: e.forever,
	}
	if e.negative {
		r.Value = nil
	}
	if e.written.IsZero() {
		return r
	}
	r.Age = max(0, now.Sub(e.written))
	if !e.forever {
		r.TTL = max(0, e.fresh.Sub(now))
		r.Stale = !now.Before(e.fresh)
	}
	return r
}

// look reads one key and its tags from the upstream and keeps what it finds in memory.
func (c *Cache) look(ctx context.Context, a address, tags []string) (sight, error) {
	sights, err := c.lookMany(ctx, []address{a}, tags)
	if err != nil {
		return sight{}, err
	}
	return sights[0], nil
}

// lookMany is look for many; tags are asked for besides the owners'.
func (c *Cache) lookMany(ctx context.Context, as []address, tags []string) ([]sight, error) {
	keys := make([]string, 0, 2*len(as)+len(tags))
	for _, a := range as {
		keys = append(keys, a.store)
	}
	for _, a := range as {
		if a.owner != "" {
			keys = append(keys, a.owner)
		}
	}
	keys = append(keys, tags...)
	ctx, cancel := context.WithTimeout(ctx, c.merge.deadline)
	defer cancel()
	// What changes while the upstream is asked must count as a change.
	at, read := make([]uint64, len(as)), make([]uint64, len(as))
	for i, a := range as {
		at[i], read[i] = c.versions.key(a.store), c.versions.read(a.store)
	}
	known := &generations{versions: c.versions}
	known.expect(keys[len(as):])
	got, err := c.merge.get(ctx, keys)
	if err != nil {
		return nil, err
	}
	known.learn(keys[len(as):], got[len(as):])
	envelopes := make([]*envelope, len(as))
	sights := make([]sight, len(as))
	var more []string
	for i, a := range as {
		sights[i].at = at[i]
		sights[i].token = token{instance: c.instance, key: hashOf(a.store), at: read[i]}
		envelopes[i] = c.open(a, got[i], &sights[i])
		if envelopes[i] == nil {
			continue
		}
		for _, t := range envelopes[i].tags {
			if !known.has(t.tag) && !slices.Contains(more, t.tag) {
				more = append(more, t.tag)
			}
		}
	}
	if len(more) > 0 {
		known.expect(more)
		got, err := c.merge.get(ctx, more)
		if err != nil {
			return nil, err
		}
		known.learn(more, got)
	}
	for i, a := range as {
		c.judge(a, envelopes[i], known, &sights[i])
		for _, tag := range append(slices.Clone(tags), a.owner) {
			if tag != "" && !slices.ContainsFunc(sights[i].token.tags, func(t tagged) bool { return t.tag == tag }) {
				sights[i].token.tags = append(sights[i].token.tags, tagged{tag, known.gen(tag)})
			}
		}
	}
	return sights, nil
}

// open reads what is kept under a key. It is nil where that is nothing of use; for values without an
// envelope, the entry is complete in s.
func (c *Cache) open(a address, f found, s *sight) *envelope {
	n := a.space.counts
	if c.pending.has(a.store) {
		return nil // deleted, but the upstream does not know yet
	}
	if !f.ok {
		s.token.state = stateAbsent
		return nil
	}
	n.bytesRead.Add(int64(len(f.value)))
	if a.space.bare && !isEnvelope(f.value) {
		s.entry = bareEntry(f.value)
		s.entry.keyAt, s.entry.checked = s.at, time.Now()
		s.entry.believed = s.entry.checked.Add(c.believed(a.space.class, or(a.space.class.TTL, c.opts.DefaultTTL)))
		s.entry.fresh = s.entry.believed
		c.remember(a, s.entry)
		return nil
	}
	e, err := decode(f.value, a.store, c.ring, c.pack)
	switch {
	case err == nil:
	case errors.Is(err, errForeign):
		n.foreign.Add(1)
		return nil
	case errors.Is(err, errNewer):
		n.newer.Add(1)
		return nil
	case errors.Is(err, errUnknownKey):
		n.unknownKey.Add(1)
		return nil
	default:
		n.damaged.Add(1)
		return nil
	}
	s.token.state, s.token.version, s.token.text = stateVersion, e.version, f.value[0] == textMark[0]
	if a.space.sensitive && !e.has(flagSealed) && !e.has(flagDeleted) {
		n.damaged.Add(1) // nobody who may write here writes it unencrypted
		return nil
	}
	return e
}

// bareEntry reads a value that has no envelope.
func bareEntry(value string) *entry {
	e := &entry{value: []byte(value), codec: IORedisJSON}
	if IORedisJSON.check(e.value) != nil {
		text, _ := json.Marshal(value) // a string always has a JSON form
		e.value, e.foreign = text, true
	}
	return e
}

// judge decides whether an envelope is still an entry, and keeps it in memory if so.
func (c *Cache) judge(a address, env *envelope, known *generations, s *sight) {
	if env == nil || env.has(flagDeleted) {
		return
	}
	e := &entry{
		value: env.value, codec: env.codec, negative: env.has(flagNegative), forever: env.has(flagForever),
		written: env.written, cost: env.cost, version: env.version, keyAt: s.at,
	}
	for _, t := range env.tags {
		gen := known.gen(t.tag)
		s.token.tags = append(s.token.tags, tagged{t.tag, gen})
		if gen != t.gen || c.pending.has(t.tag) {
			a.space.counts.invalidated.Add(1)
			return
		}
		e.tags = append(e.tags, seen{t.tag, known.at[t.tag]})
	}
	e.checked = time.Now()
	// The writer's clock may be wrong, so that age alone does not decide: what was written in the future
	// is new, and what is kept no longer than it is fresh is fresh while it is there.
	e.fresh = e.written.Add(env.fresh)
	if limit := e.checked.Add(env.fresh); e.fresh.After(limit) {
		e.fresh = limit
	}
	if env.kept <= env.fresh && !e.forever && !e.fresh.After(e.checked) {
		e.fresh = e.checked.Add(time.Millisecond)
	}
	e.believed = e.checked.Add(c.believed(a.space.class, or(env.fresh, c.opts.MaxTTL)))
	if !a.space.sensitive || a.space.class.L1TTL > 0 {
		c.remember(a, e)
	}
	s.entry = e
}

// remember keeps an entry in memory, unless its class keeps out of it.
func (c *Cache) remember(a address, e *entry) {
	if e.believed.After(e.checked) {
		c.memory.put(a.store, e)
	}
}

// generations are those of some tags at one time.
type generations struct {
	versions *versions
	at       map[string]uint64 // versions.tag before the upstream was asked
	gens     map[string]uint64 // 0 for none
}

func (g *generations) expect(tags []string) {
	if len(tags) > 0 && g.at == nil {
		g.at, g.gens = map[string]uint64{}, map[string]uint64{}
	}
	for _, tag := range tags {
		g.at[tag] = g.versions.tag(tag)
	}
}

func (g *generations) learn(tags []string, got []found) {
	for i, tag := range tags {
		gen := genOf(got[i])
		g.gens[tag] = gen
		if gen != 0 {
			g.at[tag] = g.versions.learn(tag, gen, g.at[tag])
		}
	}
}

func (g *generations) has(tag string) bool   { _, ok := g.gens[tag]; return ok }
func (g *generations) gen(tag string) uint64 { return g.gens[tag] }
