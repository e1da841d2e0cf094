package cache

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"
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
