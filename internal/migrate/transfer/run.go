package transfer

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/portable"
)

const (
	scanCount = 1000    // keys of one SCAN
	chunkSize = 50      // keys that are dealt with at once
	largeKey  = 8 << 20 // bytes from which on a key is copied by its type, a portion at a time
	maxListed = 100     // differences that are named

	// expirySlack is by how much the same expiry may differ at the target.
	expirySlack = time.Second

	// clockTries is how often a clock is read at most whose answers take long, since nobody knows when in that
	// time it was read.
	clockTries = 5
)

// running is one Run under way.
type running struct {
	o      Options
	s      *state
	reader *portable.Reader
	keys   int64 // of the source when this run began
	byType bool  // a server did not take DUMP
	sum    [sha256.Size]byte

	skew time.Duration // by how much the target's clock is ahead of the source's
}

// Run copies, goes on with a copy that was begun, and compares. It returns a *DifferError when keys differ
// at the end, which with writers at work they may; the Result says which. The error of a cancelled ctx
// leaves everything as it is, to be gone on with.
//
// Price: of the source 1 command for 1,000 keys, 3 for each key to copy and 1 for 50 of them, and 1 script of about 4 for each
// to compare, which only reads; of the target 1 command and 1 such script for each key.
func Run(ctx context.Context, o Options) (Result, error) {
	o = o.withDefaults()
	plan, err := Check(ctx, o)
	if err != nil {
		return Result{}, err
	}
	if err := plan.Refused(); err != nil {
		return Result{}, err
	}
	s, resumes, err := load(o, time.Now())
	if err != nil {
		return Result{}, err
	}
	if !resumes {
		s.Empty = plan.TargetKeys == 0
	}
	if s.SourceRun != plan.run {
		s.SourceRun, s.Cursor = plan.run, 0 // where SCAN was means nothing to another process
	}
	if s.Cursor != 0 {
		s.Broken = true
	}
	if err := s.save(o.File); err != nil {
		return Result{}, err
	}
	r := &running{o: o, s: s, reader: portable.NewReader(o.Source), keys: plan.Keys, byType: s.Result.Why != ""}
	if sum, err := hex.DecodeString(s.Result.Digest); err == nil {
		copy(r.sum[:], sum) // of the pass under way
	}
	if err := r.passes(ctx); err != nil {
		return s.Result, err
	}
	if err := r.count(ctx); err != nil {
		return s.Result, err
	}
	s.Done, s.Result.Interrupted = true, s.Broken
	if err := s.save(o.File); err != nil {
		return s.Result, err
	}
	if n := s.Result.DifferencesTotal; n > 0 {
		return s.Result, &DifferError{Count: n, Keys: s.Result.Differences}
	}
	return s.Result, nil
}

// clocks reads both clocks. Price: 1 command to each side, up to 5 where answers take long.
func (r *running) clocks(ctx context.Context) error {
	read := func(client redis.UniversalClient) (ahead time.Duration, err error) {
		least := time.Duration(math.MaxInt64)
		for range clockTries {
			began := time.Now()
			at, err := client.Time(ctx).Result()
			if err != nil {
				return 0, err
			}
			if took := time.Since(began); took < least {
				least, ahead = took, at.Sub(began.Add(took/2))
			}
			if least <= expirySlack/4 {
				break
			}
		}
		return ahead, nil
	}
	from, err := read(r.o.Source)
	if err != nil {
		return fmt.Errorf("read the source's clock: %w", err)
	}
	to, err := read(r.o.Target)
	if err != nil {
		return fmt.Errorf("read the target's clock: %w", err)
	}
	r.skew = to - from
	return nil
}

// passes copies once and then compares until nothing differs, or often enough. A pass that finds nothing but
// was interrupted proves nothing: what it saw first may have changed since.
func (r *running) passes(ctx context.Context) error {
	for ; r.s.Pass <= r.o.Passes; r.next() {
		found, err := r.pass(ctx, r.s.Pass > 0, true)
		if err != nil {
			return err
		}
		if r.s.Pass == 0 || found > 0 || r.s.Broken {
			continue
		}
		if r.o.PauseWrites == 0 {
			return nil
		}
		r.next()
		break // what is written meanwhile is seen only once it is held back
	}
	if r.o.PauseWrites == 0 {
		_, err := r.pass(ctx, true, false) // only tells what still differs
		return err
	}
	return r.paused(ctx)
}

// paused has the source hold back writes, copies what still differs, and compares.
func (r *running) paused(ctx context.Context) error {
	r.s.Cursor = 0
	began := time.Now()
	if err := r.o.Source.Do(ctx, "client", "pause", r.o.PauseWrites.Milliseconds(), "write").Err(); err != nil {
		return fmt.Errorf("hold back writes at the source: %w", err)
	}
	found, err := r.pass(ctx, true, true)
	if err == nil && found > 0 {
		r.next()
		_, err = r.pass(ctx, true, false)
	}
	took := time.Since(began)
	r.s.Result.PausedMS = min(took, r.o.PauseWrites).Milliseconds()
	undo := r.o.Source.Do(context.WithoutCancel(ctx), "client", "unpause").Err()
	if err == nil && took > r.o.PauseWrites {
		err = &PauseError{For: r.o.PauseWrites, Took: took}
	}
	return errors.Join(err, undo)
}

// next begins the next pass.
func (r *running) next() {
	r.s.Pass++
	r.s.Cursor, r.s.Broken = 0, false
}

// pass goes over all keys of the source, and with a target that was empty over all of its. It returns how
// many differed.
func (r *running) pass(ctx context.Context, compare, fix bool) (int64, error) {
	now := r.current()
	if r.s.Cursor == 0 {
		*now = Pass{Pass: r.s.Pass}
		r.s.Broken = false
		r.clear()
	}
	if err := r.clocks(ctx); err != nil {
		return 0, err
	}
	for {
		names, next, err := r.o.Source.Scan(ctx, r.s.Cursor, "*", scanCount).Result()
		if err != nil {
			return 0, fmt.Errorf("scan the source: %w", err)
		}
		names = slices.DeleteFunc(names, private)
		for chunk := range slices.Chunk(names, chunkSize) {
			if err := r.o.Pace.Wait(ctx, len(chunk)); err != nil {
				return 0, err
			}
			if err := r.chunk(ctx, now, chunk, compare, fix); err != nil {
				return 0, err
			}
			now.Looked += int64(len(chunk))
			r.tell(now)
		}
		r.s.Cursor = next
		r.s.Result.Digest = hex.EncodeToString(r.sum[:])
		if err := r.s.save(r.o.File); err != nil {
			return 0, err
		}
		if next == 0 {
			break
		}
	}
	if compare && r.s.Empty {
		if err := r.extras(ctx, now, fix); err != nil {
			return 0, err
		}
	}
	return now.Differ + now.Deleted, nil
}

// private is true for keys that belong to one server: who holds a lease there, and what is being built.
func private(name string) bool { return leased(name) || strings.HasPrefix(name, portable.Building) }

// leased is true for keys that say who holds a lease.
func leased(name string) bool { return strings.HasPrefix(name, "redisopt:lease:") }

// current is what is told of the pass under way.
func (r *running) current() *Pass {
	all := &r.s.Result.Passes
	if n := len(*all); n > 0 && (*all)[n-1].Pass == r.s.Pass {
		return &(*all)[n-1]
	}
	*all = append(*all, Pass{Pass: r.s.Pass})
	return &(*all)[len(*all)-1]
}

// clear forgets what an earlier pass found to differ.
func (r *running) clear() {
	res := &r.s.Result
	res.Compared, res.Sampled, res.DifferencesTotal, res.Differences = 0, 0, 0, []Difference{}
	r.sum = [sha256.Size]byte{}
}

func (r *running) tell(now *Pass) {
	if r.o.OnProgress == nil {
		return
	}
	part := "copy"
	if now.Pass > 0 {
		part = fmt.Sprintf("compare, pass %d", now.Pass)
	}
	r.o.OnProgress(migrate.Progress{Step: "copy", Part: part, Done: now.Looked, Total: r.keys, Unit: "keys"})
}

// chunk deals with a few keys.
func (r *running) chunk(ctx context.Context, now *Pass, names []string, compare, fix bool) error {
	differ := names
	if compare {
		var err error
		if differ, err = r.compare(ctx, names, fix); err != nil {
			return err
		}
		now.Differ += int64(len(differ))
	}
	if !fix {
		return nil
	}
	copied, kept, err := r.copy(ctx, differ)
	now.Copied += copied
	now.Kept += kept
	return err
}

// compare returns those of names that differ. Where they will not be copied again they are listed.
func (r *running) compare(ctx context.Context, names []string, fix bool) ([]string, error) {
	begun := time.Now()
	from, err := portable.ReadSeals(ctx, r.o.Source, names)
	if err != nil {
		return nil, fmt.Errorf("source: %w", err)
	}
	to, err := portable.ReadSeals(ctx, r.o.Target, names)
	if err != nil {
		return nil, fmt.Errorf("target: %w", err)
	}
	// How long a key has to live was read a little earlier at the source.
	least, most := time.Duration(0)-expirySlack, time.Since(begun)+expirySlack
	var closer []string
	what := map[string]string{}
	for i, name := range names {
		switch {
		case from[i].Gone() && to[i].Gone():
		case from[i].Gone():
			what[name] = "extra"
		case to[i].Gone():
			what[name] = "missing"
		case from[i].Text != to[i].Text:
			what[name] = "values"
		case from[i].Left >= 0 && (from[i].Left-to[i].Left < least || from[i].Left-to[i].Left > most):
			what[name] = "expiry"
		default:
			r.s.Result.Compared++
			r.add(name, from[i].Text)
			if !portable.Whole(from[i].Text) || r.sampled(name) {
				closer = append(closer, name)
			}
		}
	}
	if err := r.closer(ctx, closer, what); err != nil {
		return nil, err
	}
	out := []string{}
	for _, name := range names {
		w, differs := what[name]
		if !differs || w == "extra" && !r.s.Empty {
			continue
		}
		out = append(out, name)
		if !fix || r.s.Existing == Keep && !r.s.Empty && w != "missing" {
			r.list(name, w)
		}
	}
	return out, nil
}

// closer compares keys value by value.
func (r *running) closer(ctx context.Context, names []string, what map[string]string) error {
	for chunk := range slices.Chunk(names, 10) {
		var from, to portable.Digest
		if _, err := r.reader.Read(ctx, chunk, &from); err != nil {
			return fmt.Errorf("source: %w", err)
		}
		if _, err := portable.NewReader(r.o.Target).Read(ctx, chunk, &to); err != nil {
			return fmt.Errorf("target: %w", err)
		}
		for _, name := range chunk {
			r.s.Result.Sampled++
			there := to.Keys[name]
			if !there.ExpireAt.IsZero() {
				there.ExpireAt = there.ExpireAt.Add(-r.skew)
			}
			if w, same := portable.Same(from.Keys[name], there); !same {
				what[name] = w
			}
		}
	}
	return nil
}

// sampled is true for about Sample of all keys, always the same ones.
func (r *running) sampled(name string) bool {
	if r.o.Sample < 0 {
		return false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(name)) // never fails
	return h.Sum64()%uint64(max(1, r.keys/r.o.Sample)) == 0
}

// add adds a key that is the same on both sides to the digest.
func (r *running) add(name, seal string) {
	one := sha256.Sum256([]byte(name + "\x00" + seal))
	carry := 0
	for i := len(r.sum) - 1; i >= 0; i-- {
		carry += int(r.sum[i]) + int(one[i])
		r.sum[i], carry = byte(carry), carry>>8
	}
}

func (r *running) list(name, what string) {
	res := &r.s.Result
	if res.DifferencesTotal++; len(res.Differences) < maxListed {
		res.Differences = append(res.Differences, Difference{Key: name, What: what})
	}
}

// extras deletes keys of a target that was empty which the source has no more, or lists them. Where most of the
// source is gone since it was copied, it is the source that lost its keys: nothing is deleted.
func (r *running) extras(ctx context.Context, now *Pass, fix bool) error {
	if fix {
		left, err := r.o.Source.DBSize(ctx).Result()
		if err != nil {
			return fmt.Errorf("count keys of the source: %w", err)
		}
		if had := r.s.Result.Passes[0].Looked; left < had/2 {
			return &StateError{r.o.File, fmt.Sprintf(
				"the source has %d keys and had %d when it was copied; nothing is deleted at the target. If that is right, move the file out of the way and begin anew", left, had)}
		}
	}
	for cursor := uint64(0); ; {
		names, next, err := r.o.Target.Scan(ctx, cursor, "*", scanCount).Result()
		if err != nil {
			return fmt.Errorf("scan the target: %w", err)
		}
		names = slices.DeleteFunc(names, leased) // what an interrupted copy was building goes
		for chunk := range slices.Chunk(names, chunkSize) {
			if err := r.o.Pace.Wait(ctx, len(chunk)); err != nil {
				return err
			}
			gone, err := r.gone(ctx, chunk)
			if err != nil {
				return err
			}
			if !fix {
				for _, name := range gone {
					now.Differ++
					r.list(name, "extra")
				}
				continue
			}
			if len(gone) > 0 {
				if err := unlink(ctx, r.o.Target, gone); err != nil {
					return err
				}
				now.Deleted += int64(len(gone))
			}
		}
		if cursor = next; cursor == 0 {
			return nil
		}
	}
}

// gone are those of names that the source does not have.
func (r *running) gone(ctx context.Context, names []string) ([]string, error) {
	there := make([]*redis.IntCmd, len(names))
	_, err := r.o.Source.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, name := range names {
			there[i] = p.Exists(ctx, name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("ask the source: %w", err)
	}
	var out []string
	for i, name := range names {
		if there[i].Val() == 0 {
			out = append(out, name)
		}
	}
	return out, nil
}

func unlink(ctx context.Context, client redis.UniversalClient, names []string) error {
	_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range names {
			p.Unlink(ctx, name)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("delete at the target: %w", err)
	}
	return nil
}

// count reads how many keys there are at the end.
func (r *running) count(ctx context.Context) error {
	var err error
	if r.s.Result.SourceKeys, err = r.o.Source.DBSize(ctx).Result(); err != nil {
		return fmt.Errorf("count keys of the source: %w", err)
	}
	if r.s.Result.TargetKeys, err = r.o.Target.DBSize(ctx).Result(); err != nil {
		return fmt.Errorf("count keys of the target: %w", err)
	}
	return nil
}
