package portable

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
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
// dies: a large key, and a hash of which single fields expire, is built under a name of its own in the same slot and
// renamed. Small ones are sent fifty
// in one round trip, so Flush has to be called when the last one has ended. It is for one goroutine.
type Writer struct {
	// Existing says what becomes of a key that is there already. Default Leave.
	Existing Existing

	// Written is told of each key: nil, or ErrExists. Any other error ends the writing instead.
	Written func(k Key, err error)

	// Refused is asked whether to go on without a key that the server refuses: one that is kept as a DUMP, or a
	// hash whose fields expire. Nil: its error ends the writing.
	Refused func(k Key, err error) bool

	ctx    context.Context //nolint:containedctx // a Sink's methods have none, and a Writer lives for one call
	client redis.UniversalClient

	k      Key
	values []string
	size   int64  // values that came of a list, bytes that came of a string
	under  string // the name under which a large key is built; empty while it is small
	queue  []queued

	waiting int  // values in queue
	fields  bool // some field of this hash expires
	leftOut bool // the server refuses that, and Refused says to go on without it
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

// placeScript gives a key that was built under another name its own: as wholeScript. It answers -1 when what
// was built is not all there.
//
//	ARGV 1 expiry in Unix ms or 0, 2 whether to replace, 3 how long a string or a list must be, else 0,
//	4 whether all fields may have expired meanwhile
var placeScript = redis.NewScript(`
if redis.call('EXISTS', KEYS[2]) == 1 and ARGV[2] ~= '1' then
  redis.call('UNLINK', KEYS[1])
  return 0
end
local kind = redis.call('TYPE', KEYS[1])['ok']
if kind == 'none' then
  if ARGV[4] ~= '1' then return -1 end
  redis.call('UNLINK', KEYS[2])
  return 1
end
local verb = ({string = 'STRLEN', list = 'LLEN'})[kind]
if verb and redis.call(verb, KEYS[1]) ~= tonumber(ARGV[3]) then return -1 end
if ARGV[1] ~= '0' then redis.call('PEXPIREAT', KEYS[1], ARGV[1]) else redis.call('PERSIST', KEYS[1]) end
redis.call('RENAME', KEYS[1], KEYS[2])
return 1
`)

// Begin begins a key.
func (w *Writer) Begin(k Key) error {
	w.k, w.values, w.size, w.under, w.fields, w.leftOut = k, w.values[:0], 0, "", false, false
	return nil
}

// Values takes some of its values. Price: none until there are more than a thousand, then 2 commands each
// time.
func (w *Writer) Values(values []string) error {
	if len(values)%w.k.Width() != 0 {
		return &ValueError{w.k, "half an element"}
	}
	switch w.k.Type {
	case List:
		w.size += int64(len(values))
	case String:
		for _, v := range values {
			w.size += int64(len(v))
		}
	}
	if w.k.Type == ZSet {
		for i := 0; i < len(values); i += 2 {
			number, err := score(values[i+1])
			if err != nil {
				return &ValueError{w.k, "a score that is no number: " + values[i+1]}
			}
			w.values = append(w.values, number, values[i]) // as ZADD takes them
		}
	} else {
		w.values = append(w.values, values...)
	}
	if w.k.Type == String && len(w.values) > 1 || len(w.values) > wholeValues {
		return w.build()
	}
	return nil
}

// Expiries has some fields of the hash expire, which needs Redis 7.4: an older server refuses it, and the whole
// key is left out when Refused says so. Price: 1 command for each time at which some expire.
func (w *Writer) Expiries(fields []FieldExpiry) error {
	if w.leftOut {
		return nil
	}
	if err := w.build(); err != nil {
		return err
	}
	at := map[int64][]any{}
	for _, f := range fields {
		at[f.At.UnixMilli()] = append(at[f.At.UnixMilli()], f.Field)
	}
	for _, ms := range slices.Sorted(maps.Keys(at)) {
		args := append([]any{"hpexpireat", w.under, ms, "fields", len(at[ms])}, at[ms]...)
		if err := w.client.Do(w.ctx, args...).Err(); err != nil {
			if w.Refused != nil && w.Refused(w.k, err) {
				w.leftOut = true
				return nil
			}
			return fmt.Errorf("write when fields of %q expire: %w", w.k.Name, err)
		}
	}
	w.fields = w.fields || len(fields) > 0
	return nil
}

// Building begins the names under which a Writer builds large keys; they are no keys of anybody's.
const Building = "redisopt:restoring:"

// buildingFor is how long what a writer that died has begun is left, in milliseconds.
const buildingFor = 24 * 60 * 60 * 1000

// temporary is a name under which a large key is built, in the slot of its own name, and by nobody else.
func temporary(name string) string {
	by := Building + rand.Text() + ":"
	if _, tagged, ok := strings.Cut(name, "{"); ok && strings.IndexByte(tagged, '}') > 0 {
		return by + name
	}
	if strings.ContainsAny(name, "{}") {
		return by + name // of another slot in a Cluster, where RENAME then refuses it
	}
	return by + "{" + name + "}"
}

// build writes what has come so far under the temporary name, which ends by itself a day after the last time.
func (w *Writer) build() error {
	if w.under == "" {
		w.under = temporary(w.k.Name)
	}
	verb := map[string]string{String: "append", List: "rpush", Set: "sadd", ZSet: "zadd", Hash: "hset"}[w.k.Type]
	size := wholeValues
	if w.k.Type == String {
		size = 1
	}
	for at := 0; at < len(w.values); at += size {
		args := []any{verb, w.under}
		for _, v := range w.values[at:min(at+size, len(w.values))] {
			args = append(args, v)
		}
		_, err := w.client.Pipelined(w.ctx, func(p redis.Pipeliner) error {
			p.Do(w.ctx, args...)
			p.Do(w.ctx, "pexpire", w.under, buildingFor)
			return nil
		})
		if err != nil {
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
	if w.leftOut {
		if err := w.client.Unlink(w.ctx, w.under).Err(); err != nil {
			return w.failed(err)
		}
		return nil
	}
	if w.under != "" {
		return w.place(expiry, replace)
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

// errIncomplete means that a key under way lost some of its values.
var errIncomplete = errors.New("what was written so far is not all there any more")

// place gives a large key its name.
func (w *Writer) place(expiry int64, replace string) error {
	if err := w.build(); err != nil {
		return err
	}
	fields := "0"
	if w.fields {
		fields = "1"
	}
	reply, err := placeScript.Run(w.ctx, w.client, []string{w.under, w.k.Name}, expiry, replace, w.size, fields).Int64()
	if err == nil && reply < 0 {
		err = errIncomplete
	}
	if err != nil {
		return w.failed(err)
	}
	w.tell(w.k, reply)
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
	case err != nil && w.Refused != nil && w.Refused(w.k, err):
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
