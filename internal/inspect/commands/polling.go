package commands

import (
	"fmt"
	"math"
	"time"

	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// What the two libraries do when nothing happens. Poll and guard are in seconds, as measured on Bull
// 4.16, BullMQ 5.81 and 6.7: Bull blocks once per drainDelay, moves delayed jobs once per guardInterval
// (2 commands in the script) and looks for stalled jobs once per stalledInterval (4); BullMQ blocks and
// runs one script (6) per drainDelay, and looks for stalled jobs once per stalledInterval (6).
const (
	bullGuardInner   = 2
	bullStalledInner = 4
	mqPollInner      = 6
	mqStalledInner   = 6
	pinnedSeconds    = 10 // BullMQ polls this often while something is delayed
	remedySeconds    = 300
	eventsSeconds    = 10 // a QueueEvents reads its stream this often
)

// A pace is how often something happens over all workers of a library in the window.
type pace struct {
	calls int64
	// exposure is worker-seconds that the calls took: workers x window, corrected by where in its
	// period each worker was when the window began and ended.
	exposure float64
}

func (p pace) perSecond() float64 {
	if p.exposure <= 0 {
		return 0
	}
	return float64(p.calls) / p.exposure
}

// seconds is the period of one worker. A usual setting is taken for what was configured when the period
// is up to 6% longer: timers are late, and later on a busy machine, but hardly ever early.
func (p pace) seconds() float64 {
	r := p.perSecond()
	if r == 0 {
		return 0
	}
	s := 1 / r
	for _, usual := range []float64{1, 2, 3, 5, 10, 15, 20, 30, 60, 120, 180, 240, 300, 600, 900, 1800, 3600} {
		if s >= 0.97*usual && s <= 1.06*usual {
			return usual
		}
	}
	return math.Round(s*10) / 10
}

// workers collects one library's connections of a role that stood during the whole window.
type workers struct {
	count    int
	queues   map[string]bool
	exposure float64 // corrected worker-seconds
}

func workersOf(before, after *connections.Report, window time.Duration, keep func(connections.Connection) bool) workers {
	w := workers{queues: make(map[string]bool)}
	was := make(map[string]connections.Connection)
	named := make(map[string]bool)
	for _, c := range before.Connections {
		was[id(c)] = c
		named[c.Name] = c.Name != ""
	}
	for _, c := range after.Connections {
		if c.Own || !keep(c) {
			continue
		}
		w.count++
		w.queues[c.Prefix+":"+c.Queue] = true
		b, stood := was[id(c)]
		seconds := window.Seconds()
		switch {
		case stood && b.Idle < window && c.Idle < window:
			seconds += b.Idle.Seconds() - c.Idle.Seconds()
		case !stood && !named[c.Name]: // else it took the place of one that polled before it
			seconds = min(seconds, c.Age.Seconds())
		}
		w.exposure += max(seconds, 0.001)
	}
	return w
}

func (w workers) pace(calls int64) pace { return pace{calls, w.exposure} }

// tickers are timers that no connection shows the phase of.
func (w workers) ticker(calls int64, window time.Duration) pace {
	return pace{calls, float64(w.count) * window.Seconds()}
}

// pollingOf reads the idle habits of the connected libraries out of the rates. The two are told apart
// by their blocking command; what they share (the stalled check) is divided by workers.
func pollingOf(r *Report, d delta, before, after *connections.Report, delayed map[string]int64) ([]Polling, map[string]float64) {
	if before == nil || after == nil {
		return []Polling{}, nil
	}
	role := func(l connections.Library, roles ...connections.Role) workers {
		return workersOf(before, after, r.Window, func(c connections.Connection) bool {
			for _, want := range roles {
				if c.Library == l && c.Role == want {
					return true
				}
			}
			return false
		})
	}
	bull, mq := role(connections.LibraryBull, connections.RoleWorker), role(connections.LibraryBullMQ, connections.RoleWorker)
	clients := role(connections.LibraryBull, connections.RoleQueueClient)
	events := role(connections.LibraryBullMQ, connections.RoleEvents)
	all := bull.count + mq.count
	factors := make(map[string]float64)
	out := []Polling{}
	if all == 0 {
		return out, factors
	}
	share := func(n int64, of int) int64 { return int64(math.Round(float64(n) * float64(of) / float64(all))) }
	jobs := d.calls["lrem"]
	window := r.Window.Seconds()

	if bull.count > 0 {
		poll := bull.pace(d.calls["brpoplpush"])
		guardCalls := d.calls["zrangebyscore"]
		if mq.count > 0 {
			guardCalls = max(guardCalls-d.calls["bzpopmin"], 0)
		}
		guard := bull.ticker(guardCalls, r.Window)
		if clients.count == bull.count {
			guard = clients.pace(guardCalls) // the last script of each client is its guard
		}
		stalled := bull.ticker(share(d.calls["exists"]-min(2*jobs, d.calls["exists"]), bull.count), r.Window)
		p := Polling{
			Library: connections.LibraryBull, Queues: len(bull.queues), Workers: bull.count,
			PollSeconds: poll.seconds(), GuardSeconds: guard.seconds(), StalledSeconds: stalled.seconds(),
			DelayedQueues: delayedIn(bull.queues, delayed), Jobs: share(jobs, bull.count),
		}
		p.price(bull.count, poll, guard, stalled, 0)
		out = append(out, p)
		if mq.count == 0 && jobs == 0 {
			correct(factors, bull, window, "brpoplpush")
			if clients.count == bull.count {
				correct(factors, clients, window, "zrangebyscore", "zrange", "evalsha")
			}
		}
	}
	if mq.count > 0 {
		poll := mq.pace(d.calls["bzpopmin"])
		stalled := mq.ticker(share(d.calls["exists"], mq.count), r.Window)
		read := events.pace(d.calls["xread"])
		p := Polling{
			Library: connections.LibraryBullMQ, Queues: len(mq.queues), Workers: mq.count, Events: events.count,
			PollSeconds: poll.seconds(), StalledSeconds: stalled.seconds(), EventsSeconds: read.seconds(),
			DelayedQueues: delayedIn(mq.queues, delayed), Jobs: share(jobs, mq.count),
		}
		p.Pinned = p.PollSeconds > 0 && math.Abs(p.PollSeconds-pinnedSeconds) < 0.5 && p.DelayedQueues != 0
		p.price(mq.count, poll, pace{}, stalled, float64(events.count)*read.perSecond())
		out = append(out, p)
		if bull.count == 0 && jobs == 0 {
			correct(factors, mq, window, "bzpopmin", "evalsha", "hmget", "zrangebyscore", "rpoplpush", "zpopmin", "del", "zrange")
		}
		if events.count > 0 {
			correct(factors, events, window, "xread")
		}
	}
	return out, factors
}

// correct notes by how much a command's count is off because the window began and ended inside periods.
func correct(factors map[string]float64, w workers, window float64, commands ...string) {
	if w.exposure <= 0 || w.count == 0 {
		return
	}
	f := float64(w.count) * window / w.exposure
	if f < 0.8 || f > 1.25 {
		return // longer periods than the window: the correction would be a guess
	}
	for _, c := range commands {
		factors[c] = f
	}
}

func delayedIn(queues map[string]bool, delayed map[string]int64) int {
	if delayed == nil {
		return -1
	}
	n := 0
	for q := range queues {
		if delayed[q] > 0 {
			n++
		}
	}
	return n
}

// price turns the paces into commands a month, now and with the remedy.
func (p *Polling) price(n int, poll, guard, stalled pace, reads float64) {
	month := float64(secondsInMonth)
	w := float64(n)
	rate := func(x pace) float64 { return w * x.perSecond() * month }
	target := func(seconds float64) float64 { return w * month / max(seconds, remedySeconds) }
	if p.Library == connections.LibraryBull {
		p.TopPerMonth = rate(poll) + rate(guard) + rate(stalled)
		p.AllPerMonth = p.TopPerMonth + bullGuardInner*rate(guard) + bullStalledInner*rate(stalled)
		p.AfterTop = target(p.PollSeconds) + target(p.GuardSeconds) + target(p.StalledSeconds)
		p.AfterAll = p.AfterTop + bullGuardInner*target(p.GuardSeconds) + bullStalledInner*target(p.StalledSeconds)
		p.Remedy = "settings: { drainDelay: 300, guardInterval: 300000, stalledInterval: 300000 } " +
			"(seconds, milliseconds, milliseconds); new jobs still start at once, a crashed worker's jobs wait up to 5 minutes"
		return
	}
	p.TopPerMonth = 2*rate(poll) + rate(stalled) + reads*month
	p.AllPerMonth = p.TopPerMonth + mqPollInner*rate(poll) + mqStalledInner*rate(stalled)
	after := target(p.PollSeconds)
	if p.DelayedQueues > 0 {
		share := float64(p.DelayedQueues) / float64(max(p.Queues, 1))
		after = after*(1-share) + share*w*month/pinnedSeconds
	}
	p.AfterTop = 2*after + target(p.StalledSeconds) + reads*month
	p.AfterAll = p.AfterTop + mqPollInner*after + mqStalledInner*target(p.StalledSeconds)
	p.Remedy = "Worker options drainDelay: 300 (seconds), stalledInterval: 300000 (milliseconds); " +
		"new jobs still start at once, a crashed worker's jobs wait up to 5 minutes"
	if p.Pinned || p.DelayedQueues > 0 {
		p.Remedy += fmt.Sprintf("; drainDelay cannot raise the %d s poll while a job or scheduler is delayed: put the delayed and scheduled jobs of all queues on one queue",
			pinnedSeconds)
	}
}
