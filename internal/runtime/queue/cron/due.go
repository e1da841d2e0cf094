package cron

import "time"

// A plan is a schedule with its timetable.
type plan struct {
	Schedule

	table *Timetable
}

// A batch is what one look at a plan found to be due.
type batch struct {
	run     []time.Time // ticks to enqueue, in order
	late    bool        // something was missed
	skipped int         // what was missed and is not made up for
	more    bool        // there was more than that; it is not counted further
	done    time.Time   // up to here all is settled once run is
}

// maxCount is how many missed ticks are counted one by one.
const maxCount = 10_000

// due finds the ticks after done that are due at now. What is due for longer than grace was missed.
func (p *plan) due(done, now time.Time, grace time.Duration) batch {
	b := batch{done: done}
	most := map[Misfire]int{Once: 1, All: p.MisfireMax}[p.Misfire]
	var ticks []time.Time
	// What is certainly missed is not listed one by one: it may be years of seconds.
	if cut := now.Add(-grace - p.Jitter - 1); cut.After(done) {
		ticks = p.latest(done, cut, most)
		end := cut
		if len(ticks) > 0 {
			end = ticks[0].Add(-time.Second)
		}
		b.skipped, b.more = p.count(done, end)
		b.done = cut
	}
	for at := p.table.Next(b.done); !at.IsZero() && !p.fireAt(at).After(now); at = p.table.Next(at) {
		ticks = append(ticks, at) // stopping at the first that is not due keeps their order, whatever their jitter
	}
	if len(ticks) > 0 {
		b.done = later(b.done, ticks[len(ticks)-1])
	}
	missed := 0
	for missed < len(ticks) && now.Sub(p.fireAt(ticks[missed])) > grace {
		missed++
	}
	b.late = missed > 0 || b.skipped > 0
	drop := 0
	switch {
	case !b.late:
	case p.Misfire == Skip:
		drop = missed
	case p.Misfire == All:
		drop = max(0, missed-most)
	case len(ticks) > 0:
		drop = len(ticks) - 1 // whatever is due runs once, as its latest tick
	}
	b.skipped += drop
	b.run = ticks[drop:]
	return b
}

// latest are the last n ticks in (from, to], in order.
func (p *plan) latest(from, to time.Time, n int) []time.Time {
	if n == 0 {
		return nil
	}
	for span := time.Hour; ; span *= 2 {
		begin := later(from, to.Add(-span))
		var ticks []time.Time
		for at := p.table.Next(begin); !at.IsZero() && !at.After(to); at = p.table.Next(at) {
			ticks = append(ticks, at)
		}
		if len(ticks) >= n || !begin.After(from) {
			return ticks[max(0, len(ticks)-n):]
		}
	}
}

// count counts the ticks in (from, to], up to maxCount, and says whether there are more.
func (p *plan) count(from, to time.Time) (n int, more bool) {
	for at := p.table.Next(from); !at.IsZero() && !at.After(to); at = p.table.Next(at) {
		if n == maxCount {
			return n, true
		}
		n++
	}
	return n, false
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
