package history

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// DefaultSpendKey is the prefix of the months' keys: redisopt:spend:2026-11.
	DefaultSpendKey = "redisopt:spend"

	// DefaultFlushEvery is how often a busy replica writes what it spent. At 15 minutes that is 2,880
	// commands in a 30-day month.
	DefaultFlushEvery = 15 * time.Minute

	// DefaultFlushLate is how often one does that has hardly anything to write: 360 commands.
	DefaultFlushLate = 2 * time.Hour

	// fewCommands are hardly anything to write.
	fewCommands = 100

	// keptFor is how long a month's key lives after its month has begun.
	keptFor = 100 * 24 * time.Hour

	spendSchema = 1
)

// SpendOptions say whose spending is kept where.
type SpendOptions struct {
	// Client reaches the Redis in which the months are kept. Required.
	Client redis.UniversalClient

	// Replica is this process's name, unique in the fleet and better stable over restarts: letters,
	// digits, dots, hyphens and underscores, at most 64. Required.
	Replica string

	// Key is the prefix of the months' keys. Default DefaultSpendKey.
	Key string

	// Every is the least time between two flushes. Default DefaultFlushEvery; at least 1 minute.
	Every time.Duration

	// Late is the most time between two flushes of Run: less than 100 commands wait for others until then.
	// Default DefaultFlushLate, or Every where that is longer.
	Late time.Duration
}

func (o SpendOptions) withDefaults() SpendOptions {
	if o.Key == "" {
		o.Key = DefaultSpendKey
	}
	if o.Every == 0 {
		o.Every = DefaultFlushEvery
	}
	if o.Late == 0 {
		o.Late = max(DefaultFlushLate, o.Every)
	}
	return o
}

func (o SpendOptions) validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("client: missing"))
	}
	if o.Replica == "" || len(o.Replica) > 64 || strings.ContainsFunc(o.Replica, notInName) {
		errs = append(errs, fmt.Errorf("replica: got %q, want 1 to 64 letters, digits, dots, hyphens and underscores", o.Replica))
	}
	if o.Late < o.Every {
		errs = append(errs, fmt.Errorf("late: got %s, want at least every, %s", o.Late, o.Every))
	}
	if o.Every < time.Minute {
		errs = append(errs, fmt.Errorf("every: got %s, want at least 1m", o.Every))
	}
	return errors.Join(errs...)
}

func notInName(r rune) bool {
	return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && !strings.ContainsRune("-._", r)
}

// Spend keeps the month's spending of all replicas in one hash for each calendar month (UTC), which
// expires 100 days after its month began:
//
//	schema            1
//	since             Unix seconds from which the server's count is known
//	replica:NAME      commands that this replica sent
//	run:ID/N:base     the server's counter when the month began, or when it was first seen
//	run:ID/N:end      the server's counter when it last counted on from there
//
// A replica writes its own field with one HINCRBY every 15 minutes, and every 2 hours while it sends
// next to nothing: 360 to 2,880 commands in a 30-day month.
// The server's own counter comes from INFO and needs no such writing, because it is cumulative: its
// base is written once a month by whichever replica is first. Beyond that a replica spends at most 7
// commands at its start, 7 when a month begins, and 3 when the server has restarted.
//
// Methods may be called from several goroutines.
type Spend struct {
	SpendOptions

	mu        sync.Mutex
	pending   int64     // own commands that are not written yet
	since     time.Time // when the oldest of pending was counted
	month     string    // the month that the fields below belong to
	written   int64     // own field as last replied; Unknown before the first reply
	uncertain int64     // sent in a flush that got no reply
	expires   []string  // the months for which EXPIREAT was sent, at most two
	run       string    // the server's run, as the hash calls it; empty before the first reading
	last      Counters  // the last reading
	lastTime  time.Time // when it was taken
}

// NewSpend returns a Spend that has touched nothing yet.
func NewSpend(o SpendOptions) (*Spend, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("spend: %w", err)
	}
	return &Spend{SpendOptions: o, written: Unknown}, nil
}

// Count adds n commands that this replica sent at now. It writes nothing.
func (s *Spend) Count(n int64, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.pending == 0 {
		s.since = now
	}
	s.pending += n
}

// Flush writes what was counted since the last flush: one command, two when the month changed since
// then, and one more for each new month. Without a reply nothing is lost and nothing doubled: the next
// flush finds out whether the last one arrived. With nothing to write it sends nothing.
func (s *Spend) Flush(ctx context.Context, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	current := month(now)
	if s.month == "" {
		s.month = current
	}
	if s.month != current {
		// What was spent before midnight belongs to the old month, in proportion to the time.
		old := int64(0)
		if s.since.Before(monthStart(now)) {
			old = proportion(s.pending, s.since, now, monthStart(now))
		}
		s.since = monthStart(now) // of what then remains, also if this fails
		if err := s.add(ctx, old); err != nil {
			return err
		}
		s.month, s.written = current, 0
	}
	return s.add(ctx, s.pending)
}

// add increments the own field by n of the pending commands.
func (s *Spend) add(ctx context.Context, n int64) error {
	if n == 0 && s.uncertain == 0 {
		return nil
	}
	key := s.key(s.month)
	if s.written == Unknown {
		// Without knowing the field's value a lost reply could not be told from a lost command.
		reply, err := s.Client.HGet(ctx, key, "replica:"+s.Replica).Int64()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("month-to-date: %w", err)
		}
		s.written = reply
	}
	reply, err := s.Client.HIncrBy(ctx, key, "replica:"+s.Replica, n).Result()
	if err != nil {
		s.pending -= n
		s.uncertain += n
		return fmt.Errorf("month-to-date: %w", err)
	}
	s.pending -= n
	// Of what got no reply, whatever the field lacks was never applied.
	if missing := s.written + s.uncertain + n - reply; s.uncertain > 0 && missing > 0 {
		s.pending += min(missing, s.uncertain)
	}
	s.written, s.uncertain = reply, 0
	return s.expire(ctx, s.month)
}

// expire makes the key of a month expire, once for each month.
func (s *Spend) expire(ctx context.Context, month string) error {
	if slices.Contains(s.expires, month) {
		return nil
	}
	if err := s.Client.ExpireAt(ctx, s.key(month), monthStartOf(month).Add(keptFor)).Err(); err != nil {
		return fmt.Errorf("month-to-date: %w", err)
	}
	s.expires = append(s.expires[max(0, len(s.expires)-1):], month)
	return nil
}

// Run counts every s.Every and flushes then, or, while less than 100 commands are to be written, every
// s.Late, until ctx ends, and once more then, for at most 2 seconds. Own
// returns how many commands this process has sent since it began. Info reads INFO; when it is nil
// only our own commands are known. A flush that fails is passed to failed, which may be nil, and made
// up for by the next.
func (s *Spend) Run(ctx context.Context, own func() int64, info func(context.Context) (Counters, error), failed func(error)) error {
	if failed == nil {
		failed = func(error) {}
	}
	counted, last := int64(0), time.Now()
	flush := func(ctx context.Context) {
		now, before := time.Now(), last
		last = now
		total := own()
		s.Count(total-counted, before)
		counted = total
		if info != nil {
			c, err := info(ctx)
			if err == nil {
				err = s.Observe(ctx, c, now)
			}
			if err != nil {
				failed(err)
			}
		}
		if err := s.Flush(ctx, now); err != nil {
			failed(err)
		}
	}
	ticker := time.NewTicker(s.Every)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
			if own()-counted+s.unwritten() >= fewCommands || time.Since(last) > s.Late-s.Every/2 {
				flush(ctx)
			}
		case <-ctx.Done():
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			flush(bounded)
			return nil
		}
	}
}

// unwritten is what was counted and is not known to be written.
func (s *Spend) unwritten() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending + s.uncertain
}

func (s *Spend) key(month string) string { return s.Key + ":" + month }

const monthLayout = "2006-01"

func month(now time.Time) string { return now.UTC().Format(monthLayout) }

func monthStart(now time.Time) time.Time {
	now = now.UTC()
	return time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
}

func monthStartOf(month string) time.Time {
	t, _ := time.Parse(monthLayout, month)
	return t
}

// proportion is the part of n that belongs before at, when n was spent evenly from from to to.
func proportion(n int64, from, to, at time.Time) int64 {
	span := to.Sub(from)
	if span <= 0 || !at.Before(to) {
		return n
	}
	part := max(0, at.Sub(from))
	return int64(float64(n) * (float64(part) / float64(span)))
}

func parseCount(text string) (int64, bool) {
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil
}
