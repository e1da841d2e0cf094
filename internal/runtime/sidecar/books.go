package sidecar

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/history"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// How often the fleet's month is read for metrics and budget: every hour, 720 commands in a 30-day month for
// each replica, and every 6 hours, 120 commands, while it spends next to nothing.
const (
	monthEvery = time.Hour
	monthLate  = 6 * time.Hour
	monthFew   = 100 // commands that are next to nothing
)

// infoTimeout bounds one INFO.
const infoTimeout = 2 * time.Second

// Books are kept of what is spent: a sample on disk every serve.sample_every, at the price of one INFO,
// and this replica's share of the month in the upstream, one HINCRBY every 15 minutes to 2 hours (360 to
// 2,880 commands in a 30-day month).
type books struct {
	up       *opened
	ring     *history.Ring
	spend    *history.Spend
	every    time.Duration
	meter    *meter.Meter
	embedded bool
	log      *slog.Logger
	looped   func() error

	failing atomic.Bool // the last INFO got no reply
	month   atomic.Pointer[monthRead]
}

// A monthRead is what was read of the fleet's month.
type monthRead struct {
	at       time.Time
	commands int64   // of the fleet
	own      int64   // of this process until then
	others   float64 // how much the fleet spends for each command of this process; 0 while unknown
}

// own is what this process has sent so far.
func (b *books) own() int64 {
	total := b.meter.Snapshot().Totals()
	return total.Sent + total.InScript
}

// monthSoFar is what the fleet spent in this month, as it was last read, and what this process has sent since.
// It sends nothing.
func (b *books) monthSoFar() (int64, bool) {
	m := b.month.Load()
	if m == nil || !sameMonth(m.at, time.Now()) {
		return 0, false
	}
	return m.commands + max(0, b.own()-m.own), true
}

func sameMonth(a, b time.Time) bool {
	a, b = a.UTC(), b.UTC()
	return a.Year() == b.Year() && a.Month() == b.Month()
}

// info reads the counters of the upstream: one INFO.
func (b *books) info(ctx context.Context) (history.Counters, error) {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	text, err := b.up.As(meter.Control).Info(ctx).Result()
	if err != nil {
		return history.Counters{}, err
	}
	return history.ParseInfo(text)
}

// sample appends one sample every b.every until ctx ends, and one more then.
func (b *books) sample(ctx context.Context) error {
	ticker := time.NewTicker(b.every)
	defer ticker.Stop()
	last := b.observe(ctx)
	for {
		select {
		case <-ticker.C:
			if err := b.looped(); err != nil {
				return err
			}
			last = b.append(ctx, last)
		case <-ctx.Done():
			b.append(context.WithoutCancel(ctx), last) // bounded by infoTimeout
			return nil
		}
	}
}

// A reading is what the instruments said at one time.
type reading struct {
	at     time.Time
	info   history.Counters
	hasOne bool // info was read
	own    meter.Row
}

func (b *books) observe(ctx context.Context) reading {
	r := reading{at: time.Now()}
	info, err := b.info(ctx)
	r.info, r.hasOne = info, err == nil
	r.own = b.meter.Snapshot().Totals()
	switch was := b.failing.Swap(err != nil); {
	case ctx.Err() != nil:
	case err != nil && !was:
		b.log.Warn(upstreamEvent(err), "operation", "info", "upstream", b.up.name, "cause", err.Error())
	case err == nil && was:
		b.log.Info(eventUpstreamBack, "operation", "info", "upstream", b.up.name)
	}
	return r
}

// append writes what happened since the reading before. Where INFO is silent, our own commands are all
// that is known.
func (b *books) append(ctx context.Context, before reading) reading {
	now := b.observe(ctx)
	span := now.at.Sub(before.at)
	var s history.Sample
	if now.hasOne && before.hasOne {
		s = now.info.Since(before.info, span, now.at)
	} else {
		s = history.Sample{
			Time: now.at, Span: span, Source: history.FromMeter,
			Commands: now.own.Sent - before.own.Sent, InScript: now.own.InScript - before.own.InScript,
			Writes: history.Unknown, Errors: failed(now.own) - failed(before.own),
			Connections: int64(len(b.up.Connections())), MemoryBytes: history.Unknown,
		}
	}
	if b.embedded {
		s.Source |= history.Embedded
	}
	if err := b.ring.Append(s); err != nil {
		b.log.Error(eventHistoryFailed, "cause", err.Error())
	}
	return now
}

// failed is how many commands did not end well.
func failed(r meter.Row) int64 {
	n := int64(0)
	for outcome, count := range r.Outcomes {
		if outcome != meter.OK {
			n += count
		}
	}
	return n
}

// account keeps this replica's share of the month until ctx ends.
func (b *books) account(ctx context.Context) error {
	return b.spend.Run(ctx, b.own, b.info, func(err error) {
		if !quietly(ctx, err) {
			b.log.Warn(eventSpendFailed, "upstream", b.up.name, "cause", err.Error())
		}
	})
}

// follow reads the fleet's month every monthEvery, or monthLate while there is next to nothing to add.
func (b *books) follow(ctx context.Context) error {
	ticker := time.NewTicker(monthEvery)
	defer ticker.Stop()
	b.readMonth(ctx)
	for {
		select {
		case <-ticker.C:
			last := b.month.Load()
			if last == nil || b.own()-last.own >= monthFew || time.Since(last.at) > monthLate-monthEvery/2 {
				b.readMonth(ctx)
			}
		case <-ctx.Done():
			return nil
		}
	}
}

func (b *books) readMonth(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	now := time.Now()
	m, err := b.spend.MonthToDate(ctx, now)
	if err != nil {
		return
	}
	next := &monthRead{at: now, commands: m.Commands(), own: b.own()}
	if last := b.month.Load(); last != nil && sameMonth(last.at, now) {
		next.others = last.others
		if own := next.own - last.own; own >= monthFew {
			next.others = max(1, float64(next.commands-last.commands)/float64(own))
		}
	}
	b.month.Store(next)
}

// replicaName is the configured name, or the host's with what a name may not have replaced.
func replicaName(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	host, err := os.Hostname()
	if err != nil {
		return "", errors.New("serve.replica: missing, and this host does not know its name; set REDISOPT_REPLICA")
	}
	name := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-._", r) {
			return r
		}
		return '-'
	}, host)
	if name == "" {
		name = "localhost"
	}
	return name[:min(len(name), 64)], nil
}
