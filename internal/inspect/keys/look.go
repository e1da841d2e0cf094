package keys

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

const (
	batch        = 50       // keys in one round trip
	valueBytes   = 16 << 10 // of a value, read to class it
	memSamples   = 20       // elements that MEMORY USAGE looks at
	elementCount = 8        // elements read where MEMORY USAGE is not to be had
)

// look fills keys in, a batch after the other. The first batch is one key: what the server refuses then is
// not asked again.
func (a *audit) look(ctx context.Context, keys []*Key) error {
	size := 1
	for done := 0; done < len(keys); size = batch {
		part := keys[done:min(done+size, len(keys))]
		if err := a.describe(ctx, part); err != nil {
			return fmt.Errorf("look at keys: %w", err)
		}
		if err := a.measure(ctx, part); err != nil {
			return fmt.Errorf("look at keys: %w", err)
		}
		done += len(part)
		if a.opts.Progress != nil {
			a.opts.Progress(done, len(keys))
		}
	}
	return nil
}

// An asker queues commands and remembers what to do with their replies.
type asker struct {
	audit *audit
	pipe  redis.Pipeliner
	then  []func() error
}

// batch sends what queue asks for in one round trip. Refusals are noted, other errors of a reply are not
// fatal to it, and what was not answered is.
func (a *audit) batch(ctx context.Context, queue func(*asker)) error {
	q := &asker{audit: a, pipe: a.rdb.Pipeline()}
	queue(q)
	if len(q.then) == 0 {
		return nil
	}
	a.report.Sent += q.pipe.Len()
	if _, err := q.pipe.Exec(ctx); err != nil {
		if _, replied := errors.AsType[redis.Error](err); !replied && !errors.Is(err, redis.Nil) {
			return err
		}
	}
	for _, f := range q.then {
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

// on handles the reply of cmd, which is called name where it is refused.
func (q *asker) on(name string, cmd redis.Cmder, k *Key, f func()) {
	q.then = append(q.then, func() error {
		err := cmd.Err()
		switch {
		case err == nil:
			f()
		case errors.Is(err, redis.Nil):
			k.gone = true
		case refused(err):
			q.audit.refuse(name, err)
		case upstream.Classify(err) == upstream.Server, upstream.Classify(err) == upstream.RequestSize:
			// The key became one of another type, or is larger than a reply may be: its size stays unknown.
		default:
			return err
		}
		return nil
	})
}

// refuse notes once that a command is not to be had here.
func (a *audit) refuse(name string, err error) {
	if a.refused[name] {
		return
	}
	a.refused[name] = true
	a.report.Missing = append(a.report.Missing, fmt.Sprintf("%s is not observable here (%s)", name, err))
}

// describe asks what each key is, when it expires and what it weighs. None of these counts as a use.
func (a *audit) describe(ctx context.Context, keys []*Key) error {
	return a.batch(ctx, func(q *asker) {
		for _, k := range keys {
			if a.opts.Idle && !a.refused["OBJECT IDLETIME"] {
				idle := q.pipe.ObjectIdleTime(ctx, k.Name)
				q.on("OBJECT IDLETIME", idle, k, func() { k.idle = new(idle.Val().Seconds()) })
			}
			if !a.refused["TYPE"] {
				kind := q.pipe.Type(ctx, k.Name)
				q.on("TYPE", kind, k, func() {
					k.Type = kind.Val()
					k.gone = k.gone || k.Type == "none"
				})
			}
			if !a.refused["PTTL"] {
				ttl := q.pipe.PTTL(ctx, k.Name)
				q.on("PTTL", ttl, k, func() {
					k.ttlKnown = true
					if d := ttl.Val(); d >= 0 {
						k.TTLSeconds = new(d.Round(time.Millisecond).Seconds())
					}
				})
			}
			if !a.refused["MEMORY USAGE"] {
				mem := q.pipe.MemoryUsage(ctx, k.Name, memSamples)
				q.on("MEMORY USAGE", mem, k, func() { k.Bytes = new(mem.Val()) })
			}
		}
	})
}

// measure asks how many elements a collection has and reads the beginning of strings; without MEMORY
// USAGE also a few elements, or the length of the string.
func (a *audit) measure(ctx context.Context, keys []*Key) error {
	samples := map[*Key]redis.Cmder{}
	err := a.batch(ctx, func(q *asker) {
		for _, k := range keys {
			if k.gone {
				continue
			}
			if k.Type == "string" {
				a.measureString(ctx, q, k)
				continue
			}
			name := lengthCommand(k.Type)
			if name == "" || a.refused[name] {
				continue
			}
			n := length(ctx, q.pipe, k)
			q.on(name, n, k, func() { k.Elements = new(n.Val()) })
			if k.Bytes == nil {
				samples[k] = elements(ctx, q.pipe, k)
				q.on("reading elements of a "+k.Type, samples[k], k, func() {})
			}
		}
	})
	for k, cmd := range samples {
		if k.Elements != nil && cmd.Err() == nil {
			k.Bytes = extrapolate(cmd, *k.Elements)
		}
	}
	return err
}

func (a *audit) measureString(ctx context.Context, q *asker, k *Key) {
	if k.Bytes == nil && !a.refused["STRLEN"] {
		n := q.pipe.StrLen(ctx, k.Name)
		q.on("STRLEN", n, k, func() { k.Bytes = new(n.Val()) })
	}
	if k.Family.owned() || k.picked || a.refused["GETRANGE"] {
		return
	}
	head := q.pipe.GetRange(ctx, k.Name, 0, valueBytes-1)
	q.on("GETRANGE", head, k, func() {
		b := []byte(head.Val())
		cut := len(b) == valueBytes
		k.value = new(read(b, cut))
		if !cut {
			k.length = new(int64(len(b)))
		}
	})
}

// lengthCommand is what counts the elements of a type; empty for one that has none we know.
func lengthCommand(kind string) string {
	switch kind {
	case "hash":
		return "HLEN"
	case "list":
		return "LLEN"
	case "set":
		return "SCARD"
	case "zset":
		return "ZCARD"
	case "stream":
		return "XLEN"
	}
	return ""
}

// length queues that command.
func length(ctx context.Context, p redis.Pipeliner, k *Key) *redis.IntCmd {
	switch k.Type {
	case "hash":
		return p.HLen(ctx, k.Name)
	case "list":
		return p.LLen(ctx, k.Name)
	case "set":
		return p.SCard(ctx, k.Name)
	case "zset":
		return p.ZCard(ctx, k.Name)
	default:
		return p.XLen(ctx, k.Name)
	}
}

// elements queues a read of a few elements of a collection.
func elements(ctx context.Context, p redis.Pipeliner, k *Key) redis.Cmder {
	switch k.Type {
	case "hash":
		return p.HRandFieldWithValues(ctx, k.Name, elementCount)
	case "list":
		return p.LRange(ctx, k.Name, 0, elementCount-1)
	case "set":
		return p.SRandMemberN(ctx, k.Name, elementCount)
	case "zset":
		return p.ZRangeWithScores(ctx, k.Name, 0, elementCount-1)
	default:
		return p.XRangeN(ctx, k.Name, "-", "+", elementCount)
	}
}

// extrapolate is what a reply of n elements weighs when all are like those of cmd; nil where there were none.
func extrapolate(cmd redis.Cmder, n int64) *int64 {
	const frame = 6 // "$", a short length and two line ends
	read, bytes := 0, 0
	switch c := cmd.(type) {
	case *redis.StringSliceCmd:
		read = len(c.Val())
		for _, s := range c.Val() {
			bytes += len(s) + frame
		}
	case *redis.KeyValueSliceCmd:
		read = len(c.Val())
		for _, kv := range c.Val() {
			bytes += len(kv.Key) + len(kv.Value) + 2*frame
		}
	case *redis.ZSliceCmd:
		read = len(c.Val())
		for _, z := range c.Val() {
			if s, ok := z.Member.(string); ok {
				bytes += len(s)
			}
			bytes += 10 + 2*frame
		}
	case *redis.XMessageSliceCmd:
		read = len(c.Val())
		for _, m := range c.Val() {
			bytes += len(m.ID) + 3*frame
			for field, v := range m.Values {
				bytes += len(field) + len(fmt.Sprint(v)) + 2*frame
			}
		}
	}
	if read == 0 {
		return nil
	}
	return new(int64(float64(bytes) / float64(read) * float64(n)))
}
