package portable

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// expirySlack is by how much the same expiry may differ when it was read twice, since a server tells how
// much of it is left and not when it is.
const expirySlack = time.Second

// wholeValues is the most values with which a key is written by one script; a larger one is built under
// another name first.
const wholeValues = 1000

// ErrExists means that a key was not written because there is one of its name.
var ErrExists = errors.New("the key exists")

// An Existing says what becomes of a key that is there already.
type Existing int

// What becomes of it.
const (
	Leave   Existing = iota // nothing: Written reports ErrExists
	Replace                 // it is replaced whole, at once
)

// A Writer is a Sink that writes keys to a Redis. Each appears whole or not at all, whenever the writer
// dies: a large key is built under a name of its own in the same slot and renamed. Small ones are sent fifty
// in one round trip, so Flush has to be called when the last one has ended. It is for one goroutine.
type Writer struct {
	// Existing says what becomes of a key that is there already. Default Leave.
	Existing Existing

	// Written is told of each key: nil, or ErrExists. Any other error ends the writing instead.
	Written func(k Key, err error)

	ctx    context.Context //nolint:containedctx // a Sink's methods have none, and a Writer lives for one call
	client redis.UniversalClient

	k      Key
	values []string
	large  bool
	queue  []queued

	waiting int // values in queue
}

// queued is a small key that is not sent yet.
type queued struct {
	k    Key
	args []any
}

// maxQueued is how many small keys are sent in one round trip, and maxQueuedValues how many of their values.
const (
	maxQueued       = 50
	maxQueuedValues = 10000
)

// NewWriter returns a writer that stops when ctx ends.
func NewWriter(ctx context.Context, client redis.UniversalClient) *Writer {
	return &Writer{ctx: ctx, client: client}
}

// wholeScript writes a key at once: it answers 0 when it is there and may not be replaced.
//
//	ARGV 1 type, 2 expiry in Unix ms or 0, 3 whether to replace, then the values; pairs as ZADD and HSET take them
var wholeScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[1]) == 1 then
  if ARGV[3] ~= '1' then return 0 end
  redis.call('UNLINK', KEYS[1])
end
local verbs = {list = 'RPUSH', set = 'SADD', zset = 'ZADD', hash = 'HSET'}
if ARGV[1] == 'string' then
  redis.call('SET', KEYS[1], ARGV[4])
else
  redis.call(verbs[ARGV[1]], KEYS[1], unpack(ARGV, 4))
end
if ARGV[2] ~= '0' then redis.call('PEXPIREAT', KEYS[1], ARGV[2]) end
return 1
`)

// placeScript gives a key that was built under another name its own: as wholeScript.
var placeScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[2]) == 1 and ARGV[2] ~= '1' then
  redis.call('UNLINK', KEYS[1])
  return 0
end
if ARGV[1] ~= '0' then redis.call('PEXPIREAT', KEYS[1], ARGV[1]) end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
`)

// Begin begins a key.
func (w *Writer) Begin(k Key) error {
	w.k, w.values, w.large = k, w.values[:0], false
	return nil
}

// Values takes some of its values. Price: none until there are more than a thousand, then 1 command each
// time.
func (w *Writer) Values(values []string) error {
	if len(values)%w.k.Width() != 0 {
		return &ValueError{w.k, "half an element"}
	}
	if w.k.Type == ZSet {
		for i := 0; i < len(values); i += 2 {
			exact, err := score(values[i+1])
			if err != nil {
				return &ValueError{w.k, "a score that is no number: " + values[i+1]}
			}
			w.values = append(w.values, exact, values[i]) // as ZADD takes them
		}
	} else {
		w.values = append(w.values, values...)
	}
	if w.k.Type == String && len(w.values) > 1 || len(w.values) > wholeValues {
		return w.build()
	}
	return nil
}

// temporary is the name under which a large key is built: in the slot of its own name.
func temporary(name string) string {
	if _, tagged, ok := strings.Cut(name, "{"); ok && strings.IndexByte(tagged, '}') > 0 {
		return "redisopt:restoring:" + name
	}
	if strings.ContainsAny(name, "{}") {
		return "redisopt:restoring:" + name // of another slot in a Cluster, where RENAME then refuses it
	}
	return "redisopt:restoring:{" + name + "}"
}

// build writes what has come so far under the temporary name. What an earlier attempt left there goes
// first.
func (w *Writer) build() error {
	name := temporary(w.k.Name)
	if !w.large {
		if err := w.client.Unlink(w.ctx, name).Err(); err != nil {
			return w.failed(err)
		}
		w.large = true
	}
	verb := map[string]string{String: "append", List: "rpush", Set: "sadd", ZSet: "zadd", Hash: "hset"}[w.k.Type]
	size := wholeValues
	if w.k.Type == String {
		size = 1
	}
	for at := 0; at < len(w.values); at += size {
		args := []any{verb, name}
		for _, v := range w.values[at:min(at+size, len(w.values))] {
			args = append(args, v)
		}
		if err := w.client.Do(w.ctx, args...).Err(); err != nil {
			return w.failed(err)
		}
	}
	w.values = w.values[:0]
	return nil
}

func (w *Writer) failed(err error) error { return fmt.Errorf("write %q: %w", w.k.Name, err) }

// End gives a large key its name, writes one of a dumped type, and has any other one wait for Flush, which
// it calls when enough of them wait. A key whose expiry is past is written and is gone at once. Price: 1
// script of 2 to 4 commands; for a dumped type 1 command.
func (w *Writer) End() error {
	expiry, replace := int64(0), "0"
	if !w.k.ExpireAt.IsZero() {
		expiry = max(1, w.k.ExpireAt.UnixMilli())
	}
	if w.Existing == Replace {
		replace = "1"
	}
	if w.k.Dumped() {
		return w.restore(expiry)
	}
	if w.large {
		if err := w.build(); err != nil {
			return err
		}
		reply, err := placeScript.Run(w.ctx, w.client, []string{temporary(w.k.Name), w.k.Name}, expiry, replace).Int64()
		if err != nil {
			return w.failed(err)
		}
		w.tell(w.k, reply)
		return nil
	}
	if len(w.values) == 0 {
		if w.k.Type != String {
			return &ValueError{w.k, "no values"}
		}
		w.values = append(w.values, "")
	}
	args := make([]any, 0, len(w.values)+3)
	args = append(args, w.k.Type, expiry, replace)
	for _, v := range w.values {
		args = append(args, v)
	}
	w.queue = append(w.queue, queued{w.k, args})
	w.waiting += len(w.values)
	if len(w.queue) >= maxQueued || w.waiting >= maxQueuedValues {
		return w.Flush()
	}
	return nil
}

// Flush writes the small keys that have ended and were not sent yet. Price: 1 script of 2 to 4 commands for
// each, in one round trip.
func (w *Writer) Flush() error {
	if len(w.queue) == 0 {
		return nil
	}
	cmds := make([]*redis.Cmd, len(w.queue))
	send := func() error {
		_, err := w.client.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			for i, q := range w.queue {
				cmds[i] = wholeScript.EvalSha(w.ctx, p, []string{q.k.Name}, q.args...)
			}
			return nil
		})
		return err
	}
	err := send()
	if redis.HasErrorPrefix(err, "NOSCRIPT") {
		// All were refused alike: none has run.
		if err = wholeScript.Load(w.ctx, w.client).Err(); err == nil {
			err = send()
		}
	}
	if _, refused := errors.AsType[redis.Error](err); err != nil && !refused {
		return fmt.Errorf("write keys: %w", err)
	}
	for i, q := range w.queue {
		reply, err := cmds[i].Int64()
		if err != nil {
			return fmt.Errorf("write %q: %w", q.k.Name, err)
		}
		w.tell(q.k, reply)
	}
	w.queue, w.waiting = w.queue[:0], 0
	return nil
}

// restore writes a dumped key.
func (w *Writer) restore(expiry int64) error {
	if len(w.values) != 1 {
		return &ValueError{w.k, fmt.Sprintf("%d dumps, want 1", len(w.values))}
	}
	args := []any{"restore", w.k.Name, expiry, w.values[0], "absttl"}
	if w.Existing == Replace {
		args = append(args, "replace")
	}
	err := w.client.Do(w.ctx, args...).Err()
	switch {
	case redis.HasErrorPrefix(err, "BUSYKEY"):
		w.tell(w.k, 0)
	case err != nil:
		return w.failed(err)
	default:
		w.tell(w.k, 1)
	}
	return nil
}

// tell tells what a script answered: 0 when the key was there.
func (w *Writer) tell(k Key, reply int64) {
	if w.Written == nil {
		return
	}
	if reply == 0 {
		w.Written(k, ErrExists)
		return
	}
	w.Written(k, nil)
}
