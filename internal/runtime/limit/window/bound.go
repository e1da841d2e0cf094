package window

import (
	"fmt"
	"time"
)

// A Bound is what an algorithm admits at worst, and how much too little it may admit.
type Bound struct {
	// Window is the stretch of time that Max is about: "any 1m0s".
	Window string `json:"window"`

	// Limit is the limit; Max the most that is ever admitted in Window; Over is Max - Limit.
	Limit int64 `json:"limit"`
	Max   int64 `json:"max"`
	Over  int64 `json:"over"`

	// TooLong is how much longer than the period a request may count at most; 0 is exact.
	TooLong time.Duration `json:"-"`

	// TooLongUS is TooLong in microseconds.
	TooLongUS int64 `json:"too_long_us"`

	// Held is how many units all replicas together may have taken and not used, so that others are
	// denied early. 0 without leases.
	Held int64 `json:"held"`

	// Sustained is the least share of the limit that is admitted, period after period, while more than
	// the limit is asked for; Held comes off besides.
	Sustained float64 `json:"sustained"`

	// Why is one sentence.
	Why string `json:"why"`
}

// A Holding is how units may be taken in advance: at most Units by each of Replicas, for at most Hold.
// The zero value is none.
type Holding struct {
	Units    int64
	Replicas int
	Hold     time.Duration
}

// Bound is what p admits at worst when units are taken in advance as h says. It holds for any number of
// replicas: what is taken counts until the end of its hold, so h makes the exact algorithms deny more,
// and never admit more.
func (p Policy) Bound(h Holding) Bound {
	b := Bound{
		Window: fmt.Sprintf("any %s", p.Period), Limit: p.Limit, Max: p.Limit,
		TooLong: h.Hold, Held: h.Units * int64(h.Replicas), Sustained: 1,
	}
	period := p.Period
	switch p.Algorithm {
	case Log:
		b.Why = "every request is counted by its own time"
	case Sliding:
		b.TooLong += p.Width() - time.Microsecond
		b.Why = fmt.Sprintf("a part of %s is forgotten when all of it is older than the window", p.Width())
	case Counter:
		b.Max = 2*p.Limit - 1
		b.TooLong = period - time.Microsecond
		b.Why = "the last period is weighed as if its requests were spread evenly"
	case Fixed:
		b.Max = 2 * p.Limit
		b.TooLong = 0
		b.Why = "the end of one period and the beginning of the next may both be full; never over within one"
	case Calendar:
		b.Max = 2 * p.Limit
		b.TooLong = 0
		period = 24 * time.Hour
		b.Window = fmt.Sprintf("any %s across midnight", p.Every)
		b.Why = fmt.Sprintf("never over in one calendar %s of %s; the end of one and the beginning of the next may both be full", p.Every, p.Location)
	case Bucket:
		b.Max = p.Limit + p.Burst - 1
		b.TooLong = 0
		if h.Hold > 0 {
			b.Max += int64(float64(p.Limit)*h.Hold.Seconds()/period.Seconds()) + 1
		}
		b.Why = "a full bucket, and what drips in during the window"
	}
	b.Over = b.Max - b.Limit
	b.TooLongUS = b.TooLong.Microseconds()
	b.Sustained = sustained(p.Algorithm, period, b.TooLong)
	return b
}

// sustained is the share that is left when each unit counts too long.
func sustained(a Algorithm, period, tooLong time.Duration) float64 {
	switch a {
	case Log, Sliding:
		return period.Seconds() / (period + tooLong).Seconds()
	case Counter:
		return 0.5 // what is legal and comes in bursts at the wrong moment
	case Fixed, Calendar, Bucket:
	}
	return 1
}

// String is b in one sentence.
func (b Bound) String() string {
	text := fmt.Sprintf("at most %d in %s (limit %d", b.Max, b.Window, b.Limit)
	if b.Over > 0 {
		text += fmt.Sprintf(", over by up to %d", b.Over)
	} else {
		text += ", never over"
	}
	text += "): " + b.Why
	if b.TooLong > 0 {
		text += fmt.Sprintf("; a request may count %s too long", b.TooLong.Round(time.Microsecond))
	}
	if b.Held > 0 {
		text += fmt.Sprintf("; up to %d may be held unused", b.Held)
	}
	return text
}
