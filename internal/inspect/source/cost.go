package source

import "math"

// Prices as Upstash published them; every use shows the date.
const (
	priceAsOf    = "2026-08-21"
	freeCommands = 500_000
	usdPer100K   = 0.20
)

// What the libraries do when nothing happens, as measured on Bull 4.16, BullMQ 5.81 and 6.7: Bull
// blocks once per drainDelay (5 s), moves delayed jobs once per guardInterval (5 s, 2 commands in the
// script) and looks for stalled jobs once per stalledInterval (30 s, 4); BullMQ blocks and runs one
// script (6) per drainDelay, and looks for stalled jobs once per stalledInterval (6).
const (
	secondsInMonth = 30 * 24 * 3600

	drainSeconds   = 5
	guardSeconds   = 5
	stalledSeconds = 30
	eventsSeconds  = 10 // a QueueEvents reads its stream this often
	pinnedSeconds  = 10 // BullMQ polls at least this often while something is delayed

	bullGuardInner   = 2
	bullStalledInner = 4
	mqPollInner      = 6
	mqStalledInner   = 6

	remedySeconds = 300
)

// A spend is how many commands a second something costs: sent by the client, and with those that its
// scripts run.
type spend struct{ top, all span }

// every is a command, and what its script runs besides, once per period.
func (s *spend) every(p period, calls, inner float64) {
	lo, hi := 0.0, 0.0
	if p.slow > 0 && !math.IsInf(p.slow, 1) {
		lo = 1 / p.slow
	}
	if p.fast > 0 {
		hi = 1 / p.fast
	}
	s.top = s.top.plus(span{calls * lo, calls * hi, p.open})
	s.all = s.all.plus(span{(calls + inner) * lo, (calls + inner) * hi, p.open})
}

// A period is the time between two polls, in seconds, from fast to slow. Infinity is never.
type period struct {
	fast, slow float64
	open       bool // it may be faster: the code does not say
}

// periodOf reads a setting; unit is how many of it make a second.
func periodOf(v value, fallback, unit float64) period {
	switch v := v.(type) {
	case nil, undefined, null:
		return period{fast: fallback, slow: fallback}
	case float64:
		if v <= 0 {
			return period{fast: math.Inf(1), slow: math.Inf(1)}
		}
		return period{fast: v / unit, slow: v / unit}
	case *unknown:
		out := period{fast: fallback, slow: math.Inf(1), open: true}
		for i, a := range v.alts {
			p := periodOf(a, fallback, unit)
			if i == 0 {
				out = p
				continue
			}
			out = period{min(out.fast, p.fast), max(out.slow, p.slow), out.open || p.open}
		}
		return out
	}
	return period{fast: fallback, slow: fallback}
}

// pinned is a period while something is delayed, for certain or perhaps.
func (p period) pinned(certain bool) period {
	p.fast = min(p.fast, pinnedSeconds)
	if certain {
		p.slow = min(p.slow, pinnedSeconds)
	}
	return p
}

// idle is what a construction spends when there is nothing to do; delayed is where something is put
// off on its queue, nil when nothing is.
func (k *construction) idle(delayed *use) (spend, []guard) {
	var s spend
	switch {
	case k.spends != nil:
		return *k.spends, k.guards
	case k.library == Bull && k.processed != nil:
		s.every(periodOf(k.option("settings", "drainDelay"), drainSeconds, 1), 1, 0)
		s.every(periodOf(k.option("settings", "guardInterval"), guardSeconds, 1000), 1, bullGuardInner)
		s.every(periodOf(k.option("settings", "stalledInterval"), stalledSeconds, 1000), 1, bullStalledInner)
		return s, k.processed.guards
	case k.library == BullMQ && k.kind == Worker:
		poll := periodOf(k.option("drainDelay"), drainSeconds, 1)
		if delayed != nil {
			poll = poll.pinned(len(delayed.guards) == 0)
		}
		s.every(poll, 2, mqPollInner)
		if k.option("skipStalledCheck") != true {
			s.every(periodOf(k.option("stalledInterval"), stalledSeconds, 1000), 1, mqStalledInner)
		}
		if k.option("autorun") == false {
			s.top.min, s.all.min = 0, 0
		}
	case k.library == BullMQ && k.kind == QueueEvents:
		s.every(periodOf(k.option("blockingTimeout"), eventsSeconds, 1000), 1, 0)
	}
	return s, k.guards
}

// usd is what commands cost at pay as you go.
func usd(commands float64) float64 { return commands / 100_000 * usdPer100K }
