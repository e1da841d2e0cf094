package window

import (
	"time"
	_ "time/tzdata" // time zones in images that have no files
)

// A Policy is a limit to decide by. Take and Peek want one that Valid accepts.
type Policy struct {
	Algorithm Algorithm

	// Limit is the number of units a Period admits; 1 or more.
	Limit int64

	// Period is the length of the window. Unused by Calendar.
	Period time.Duration

	// Burst is how many units a full Bucket has; 1 or more with Bucket.
	Burst int64

	// Buckets is into how many parts Sliding divides its Period; 1 or more with Sliding.
	Buckets int

	// Every and Location are those of a Calendar.
	Every    Unit
	Location *time.Location
}

// Capacity is the most units that one request can ever take: Burst of a Bucket, else Limit.
func (p Policy) Capacity() int64 {
	if p.Algorithm == Bucket {
		return p.Burst
	}
	return p.Limit
}

// Width is how finely Sliding and Log tell times apart.
func (p Policy) Width() time.Duration { return time.Duration(p.width()) * time.Microsecond }

// width is Width in microseconds.
func (p Policy) width() int64 {
	if p.Algorithm != Sliding {
		return 1
	}
	n := int64(p.Buckets)
	return max(1, (p.period()+n-1)/n)
}

func (p Policy) period() int64 { return p.Period.Microseconds() }

// gap is how long one unit of a Bucket takes to come back, in microseconds.
func (p Policy) gap() float64 { return float64(p.period()) / float64(p.Limit) }

// Edges are the beginnings of the calendar periods around now: the one before, the current one, and the
// two after. They are in microseconds.
func (p Policy) Edges(now int64) [4]int64 {
	at := time.UnixMicro(now).In(p.Location)
	y, m, d := at.Date()
	var edges [4]int64
	for i := range edges {
		next := time.Date(y, m, d+i-1, 0, 0, 0, 0, p.Location)
		if p.Every == Month {
			next = time.Date(y, m+time.Month(i-1), 1, 0, 0, 0, 0, p.Location)
		}
		edges[i] = next.UnixMicro()
	}
	return edges
}

// bounds are the beginning and the end of the period that now is in, for Fixed, Counter and Calendar.
func (p Policy) bounds(now int64) (start, end int64) {
	if p.Algorithm == Calendar {
		e := p.Edges(now)
		if now < e[1] { // a day that begins after midnight, where clocks are put forward
			return e[0], e[1]
		}
		return e[1], e[2]
	}
	start = now - now%p.period()
	return start, start + p.period()
}

// Span is the length of the period that now is in.
func (p Policy) Span(now int64) time.Duration {
	if p.Algorithm != Calendar {
		return p.Period
	}
	start, end := p.bounds(now)
	return time.Duration(end-start) * time.Microsecond
}
