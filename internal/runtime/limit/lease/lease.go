// Package lease is what one process holds of one limit: units that it took in advance and may spend
// without asking, and a denial that still holds. It is arithmetic over times that it is given,
// microseconds of the process's own steady clock, and starts nothing.
package lease

import "math"

// Bounds say how much may be held.
type Bounds struct {
	// Units is the most that is held at any time; below 2 nothing is ever taken in advance.
	Units int64

	// Hold is the longest that units are held, in microseconds.
	Hold int64
}

const (
	// Aim is how many units a lease has when the demand allows: with 4 commands each, 0.071 a unit.
	Aim = 56

	// memory is over how many microseconds the demand is averaged.
	memory = 10e6

	known   = 3.5       // units that must have been asked for lately before any is taken in advance
	minHold = 100_000   // shorter than this a lease would end on its way
	minAge  = 1_000_000 // before a second has passed the demand is judged as if it had
	slack   = 1.25      // a lease may last so much longer than its units should
	busy    = 500_000   // at high demand a lease lasts half a second
)

// A Ledger is what is held of one limit. The zero value holds nothing. It is for one goroutine at a
// time.
type Ledger struct {
	parcels []parcel

	demand float64 // units, weighed by how long ago
	since  int64   // when the demand was first seen
	seen   int64   // when it was last seen

	denied     int64 // until when requests are denied
	deniedCost int64 // those of this cost or more

	give Parcel // units to give back
	lost int64  // units that can no longer be given back
}

// parcel is what one grant left to spend.
type parcel struct{ units, stamp, ends int64 }

// A Parcel is units of the grant named by Stamp.
type Parcel struct{ Units, Stamp int64 }

// A Plan is what to ask for.
type Plan struct {
	Want int64 // the cost of the request, or more
	Hold int64 // for how long what is taken is held; 0 when Want is the cost
	Give Parcel
}

// Observe notes that a request of cost came.
func (l *Ledger) Observe(now, cost int64) {
	if l.since == 0 {
		l.since, l.seen = now, now
	}
	l.demand = l.demand*math.Exp(-float64(now-l.seen)/memory) + float64(cost)
	l.seen = now
}

// rate is the demand in units a microsecond.
func (l *Ledger) rate(now int64) float64 {
	age := float64(max(minAge, now-l.since))
	return l.demand / (memory * (1 - math.Exp(-age/memory)))
}

// Spend takes cost out of what is held, from the oldest first, and reports whether it was enough.
func (l *Ledger) Spend(now, cost int64) bool {
	l.expire(now)
	if l.Held() < cost {
		return false
	}
	l.take(cost)
	return true
}

func (l *Ledger) take(cost int64) {
	for cost > 0 {
		p := &l.parcels[0]
		n := min(cost, p.units)
		p.units -= n
		cost -= n
		if p.units == 0 {
			l.parcels = l.parcels[1:]
		}
	}
}

// Held is what may be spent; call Spend or expire first.
func (l *Ledger) Held() int64 {
	var sum int64
	for _, p := range l.parcels {
		sum += p.units
	}
	return sum
}

// expire moves what may no longer be spent to what is to be given back.
func (l *Ledger) expire(now int64) {
	kept := l.parcels[:0]
	for _, p := range l.parcels {
		if p.ends > now {
			kept = append(kept, p)
			continue
		}
		l.put(Parcel{p.units, p.stamp})
	}
	l.parcels = kept
}

// put remembers p for giving back; only the larger of two can be.
func (l *Ledger) put(p Parcel) {
	switch {
	case p.Stamp == l.give.Stamp:
		l.give.Units += p.Units
	case p.Units > l.give.Units:
		l.lost += l.give.Units
		l.give = p
	default:
		l.lost += p.Units
	}
}

// Low is whether what is held will probably be spent before a reply that takes as long as trip could
// come.
func (l *Ledger) Low(now, trip int64) bool {
	return float64(l.Held())+0.5 < 2*l.rate(now)*float64(trip)
}

// Plan is what to ask for with a request of cost, or with none (0) to have more in time.
func (l *Ledger) Plan(now, cost int64, b Bounds) Plan {
	l.expire(now)
	plan := Plan{Want: cost, Give: l.give}
	l.give = Parcel{}
	rate := l.rate(now)
	room := min(b.Units-l.Held(), max(Aim, int64(rate*busy)), int64(rate*float64(b.Hold)))
	if room < 2 || b.Hold < minHold || l.demand < known {
		return plan
	}
	plan.Want = cost + room
	plan.Hold = min(b.Hold, max(minHold, int64(slack*float64(room)/rate)))
	return plan
}

// Return puts back what a Plan wanted to give that was not asked.
func (l *Ledger) Return(p Parcel) {
	if p.Units > 0 {
		l.put(p)
	}
}

// Add notes a grant of units beyond the request's own, asked for at the time sent and held for hold
// from then: the server counts from a later moment, so what is spent here is always counted there.
func (l *Ledger) Add(sent, units, stamp, hold int64) {
	if units > 0 && hold > 0 {
		l.parcels = append(l.parcels, parcel{units, stamp, sent + hold})
	}
}

// A Reservation is what Reserve took.
type Reservation []parcel

// Reserve is Spend for a request that may yet not go on.
func (l *Ledger) Reserve(now, cost int64) (Reservation, bool) {
	l.expire(now)
	if l.Held() < cost {
		return nil, false
	}
	var taken Reservation
	for cost > 0 {
		p := &l.parcels[0]
		n := min(cost, p.units)
		taken = append(taken, parcel{n, p.stamp, p.ends})
		p.units -= n
		cost -= n
		if p.units == 0 {
			l.parcels = l.parcels[1:]
		}
	}
	return taken, true
}

// Cancel puts back what Reserve took.
func (l *Ledger) Cancel(r Reservation) { l.parcels = append(append([]parcel{}, r...), l.parcels...) }

// An Answer is what the server said to a Plan.
type Answer struct {
	Granted          int64 // units; the request's own cost is part of them
	Retry, RetryWant int64 // until the cost, and until what was wanted, is free
	Stamp, Hold      int64
}

// Settle notes the answer to a plan for a request of cost that was asked at the time sent, and says whether
// the request goes on.
func (l *Ledger) Settle(sent, cost int64, plan Plan, a Answer) bool {
	if a.Granted >= max(1, cost) {
		l.Add(sent, a.Granted-cost, a.Stamp, a.Hold)
		if a.Granted < plan.Want {
			// All there was is taken. The next call is worth its price when there is something to hold again.
			l.Deny(sent+min(a.RetryWant, plan.Hold), 1)
		}
		return true
	}
	if plan.Hold > 0 && a.RetryWant > a.Retry {
		l.Deny(sent+min(a.RetryWant, a.Retry+plan.Hold), 1)
	} else {
		l.Deny(sent+a.Retry, max(1, cost))
	}
	return false
}

// Deny notes that requests of cost or more are denied until then.
func (l *Ledger) Deny(until, cost int64) { l.denied, l.deniedCost = until, cost }

// Denied is for how long a request of cost is denied; 0 when that is not known.
func (l *Ledger) Denied(now, cost int64) int64 {
	if cost < l.deniedCost || now >= l.denied {
		return 0
	}
	return l.denied - now
}

// Drop empties the ledger, and returns what may be given back.
func (l *Ledger) Drop(now int64) []Parcel {
	l.expire(now)
	all := []Parcel{}
	for _, p := range l.parcels {
		all = append(all, Parcel{p.units, p.stamp})
	}
	if l.give.Units > 0 {
		all = append(all, l.give)
	}
	l.parcels, l.give = nil, Parcel{}
	return all
}

// Lost is how many units ran out unspent and were not given back, since the last call.
func (l *Ledger) Lost() int64 {
	n := l.lost
	l.lost = 0
	return n
}
