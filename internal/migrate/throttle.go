package migrate

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/history"
)

// A Throttle says when the Redis has no room for a migration. The zero value never throttles and costs
// nothing.
type Throttle struct {
	// MaxLatency is the longest that the Redis may take to answer. 0: any.
	MaxLatency time.Duration

	// MaxConnections is the most connections that may be open for the migration to go on. 0: any.
	MaxConnections int64

	// CommandsLeft is how many commands the provider's plan still allowed at the beginning, and Reserve
	// how many of them are for others. A host remembers what is left for the hosts of the same database that come
	// later in the month, which ends in UTC; so does what is left, and then they are not limited until something new is
	// said. A CommandsLeft of 0 means that nothing new is said: they are not limited unless that was.
	CommandsLeft, Reserve int64

	// keep is the file in which what is left is remembered; empty: nowhere.
	keep string

	// said is what an earlier host left there, where CommandsLeft says nothing new.
	said *allowance

	// Every is how often it is looked while something moves. Default 5 seconds; at least 10 milliseconds.
	Every time.Duration

	// Calm is how long everything must have been well before the migration goes on. Default twice Every.
	Calm time.Duration
}

// Validate reports all that is wrong with t.
func (t Throttle) Validate() error {
	switch t = t.withDefaults(); {
	case t.MaxLatency < 0:
		return fmt.Errorf("latency: got %s, want 0 or more", t.MaxLatency)
	case t.MaxConnections < 0:
		return fmt.Errorf("connections: got %d, want 0 or more", t.MaxConnections)
	case t.CommandsLeft < 0 || t.Reserve < 0:
		return fmt.Errorf("commands: got %d left and %d in reserve, want 0 or more", t.CommandsLeft, t.Reserve)
	case t.Every < 10*time.Millisecond:
		return fmt.Errorf("interval: got %s, want at least 10ms", t.Every)
	}
	return nil
}

func (t Throttle) withDefaults() Throttle {
	if t.Every == 0 {
		t.Every = 5 * time.Second
	}
	if t.Calm == 0 {
		t.Calm = 2 * t.Every
	}
	return t
}

// on is false when t never throttles.
func (t Throttle) on() bool {
	return t.MaxLatency > 0 || t.MaxConnections > 0 || t.CommandsLeft > 0 || t.said != nil
}

// remember keeps what is left in the file at path, and takes what an earlier host left there this month when t says
// nothing of it.
func (t Throttle) remember(path string, now time.Time) Throttle {
	t.keep = path
	if t.CommandsLeft == 0 {
		t.said = readAllowance(path, now)
	}
	return t
}

// A reading is one look at a Redis.
type reading struct {
	at       time.Time // when the answer was there
	took     time.Duration
	counters history.Counters
	err      error

	// untold is true when the server answered, and does not tell: INFO is not allowed, not known, or empty.
	untold bool
}

// allowed is what the plan allows at the beginning, nil when nothing was said of it.
func (t Throttle) allowed(now time.Time) *allowance {
	if t.said == nil && t.CommandsLeft > 0 {
		return &allowance{Left: t.CommandsLeft, Reserve: t.Reserve, At: now, Counted: history.Unknown}
	}
	return t.said
}

// judge says why the migration should wait, empty when it need not. left is what the plan allows since r, nil when
// that is not limited.
func (t Throttle) judge(r reading, left *allowance) string {
	switch {
	case r.err != nil:
		return fmt.Sprintf("the Redis does not answer: %v", r.err)
	case t.MaxLatency > 0 && r.took > t.MaxLatency:
		return fmt.Sprintf("latency: INFO took %s, at most %s is allowed", r.took.Round(100*time.Microsecond), t.MaxLatency)
	case t.MaxConnections > 0 && r.counters.Connections > t.MaxConnections:
		return fmt.Sprintf("connections: %d are open, at most %d are allowed", r.counters.Connections, t.MaxConnections)
	case left != nil && left.Left <= left.Reserve:
		return fmt.Sprintf("budget: %d commands are left of the plan, %d are kept for others", left.Left, left.Reserve)
	}
	return ""
}

// calmEvery is how often a Redis is looked at while nothing moves that could be held up.
const calmEvery = time.Minute

// run looks at the Redis until ctx ends, holds pace up while it has no room, and calls told when the
// reason changes. Price: 1 command (INFO) every Every, or every minute while resting says that nothing moves
// and there was room.
func (t Throttle) run(ctx context.Context, g *gauge, pace *Pace, resting func() bool, told func(string)) {
	t = t.withDefaults()
	tick := time.NewTicker(t.Every)
	defer tick.Stop()
	left := t.allowed(time.Now())
	var well, looked, kept time.Time
	for {
		was := pace.Throttled()
		if was == "" && !t.on() {
			return
		}
		if was != "" || !resting() || time.Since(looked) >= calmEvery {
			looked = time.Now()
			r := g.look(ctx, 0)
			if ctx.Err() != nil {
				return
			}
			if left != nil && !sameMonth(left.At, looked) {
				left, t.CommandsLeft, t.said = nil, 0, nil // nobody knows what the new month allows
			}
			if left != nil && r.err == nil {
				since := left.after(r.counters, looked)
				if left = &since; t.keep != "" && !looked.Before(kept.Add(calmEvery)) {
					left.write(t.keep)
					kept = looked
				}
			}
			why := t.judge(r, left)
			switch {
			case why != "":
				well = time.Time{}
				pace.Throttle(why)
				if kind(why) != kind(was) {
					told(why)
				}
			case was != "":
				if well.IsZero() {
					well = time.Now()
				}
				if time.Since(well) >= t.Calm {
					pace.Release()
					told("")
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// kind is what a reason is about: its numbers change all the time.
func kind(why string) string {
	for i, r := range why {
		if r == ':' {
			return why[:i]
		}
	}
	return why
}

// A gauge looks at one Redis for all in this process who want to know, so that several of them cost what one
// does. It is safe for concurrent use.
type gauge struct {
	client redis.UniversalClient

	mu   sync.Mutex
	last reading
}

// look takes one reading, or tells the last one when that is younger than fresh. Price: 1 command (INFO), or
// none.
func (g *gauge) look(ctx context.Context, fresh time.Duration) reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.last.at.IsZero() && time.Since(g.last.at) < fresh {
		return g.last
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	began := time.Now()
	text, err := g.client.Info(ctx).Result()
	r := reading{at: time.Now(), took: time.Since(began), err: err}
	if err == nil {
		r.counters, r.err = history.ParseInfo(text)
		r.untold = r.err != nil
	} else {
		r.untold = redis.HasErrorPrefix(err, "NOPERM") || redis.HasErrorPrefix(err, "unknown command")
	}
	if ctx.Err() == nil {
		g.last = r
	}
	return r
}
