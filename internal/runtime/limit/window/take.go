package window

import "math"

// An Ask is what is wanted of a State.
type Ask struct {
	// Min is the least that helps; less is denied. Want is the most that is taken, Min or more.
	Min, Want int64

	// Hold is for how long, in microseconds, what is taken may be used later than now. It counts from
	// the end of that time, so that it is in every window in which it may be used.
	Hold int64

	// Give is taken out first: units of an earlier grant with this Stamp that were not used.
	Give, Stamp int64

	// Others is what somebody else has counted of the same window; OthersFree is how long, in
	// microseconds, until so much of it is gone that Min fits, 0 if that is not known.
	Others, OthersFree int64
}

// A Decision is the answer to an Ask. Times are in microseconds from now.
type Decision struct {
	Granted int64 // units taken: 0, or Min to Want
	Used    int64 // units that count now, Others included
	Reset   int64 // until the oldest counts no more, or the period ends; 0 when nothing counts

	// Retry is how long until Min units would be granted to an Ask that was not; 0 when it was.
	// RetryWant is how long until Want units are free after this grant; 0: they are.
	Retry, RetryWant int64

	// Stamp names what was granted, for Give.
	Stamp int64

	// Hold is for how long from now the grant may be used; at most the Ask's, and never past the end of
	// a fixed period.
	Hold int64
}

// Take decides and, when it grants, counts.
func (p Policy) Take(s *State, now int64, a Ask) Decision {
	switch p.Algorithm {
	case Log, Sliding:
		return p.takeLog(s, now, a)
	case Counter:
		return p.takeCounter(s, now, a)
	case Fixed, Calendar:
		return p.takeFixed(s, now, a)
	case Bucket:
	}
	return p.takeBucket(s, now, a)
}

// Peek is the Decision on an Ask of one unit, or of n, without counting it.
func (p Policy) Peek(s State, now, n, others int64) Decision {
	s.entries = append([]entry(nil), s.entries...)
	return p.Take(&s, now, Ask{Min: n, Want: n, Others: others})
}

// TTL is for how long a State has to be kept, in milliseconds.
func (p Policy) TTL(s State, now int64) int64 {
	var left int64
	switch p.Algorithm {
	case Log, Sliding:
		if n := len(s.entries); n > 0 {
			left = s.entries[n-1].at*s.width + s.width + p.period() - now
		}
	case Counter:
		left = s.start + 2*p.period() - now
	case Fixed, Calendar:
		_, end := p.bounds(max(now, s.start))
		left = end - now
	case Bucket:
		left = int64(math.Ceil(s.level)) + s.base - now
	}
	return max(1, (left+999)/1000)
}

// grant is how much of want is given when free units are there and less than least does not help.
func grant(free, least, want int64) int64 {
	if free < least || least < 1 {
		return 0
	}
	return min(want, free)
}

func (p Policy) takeLog(s *State, now int64, a Ask) Decision {
	s.rewiden(p.width())
	period := p.period()
	s.prune(period, now)
	if a.Give > 0 {
		s.give(a.Stamp, a.Give)
	}
	d := Decision{Granted: grant(p.Limit-s.total-a.Others, a.Min, a.Want)}
	if d.Granted > 0 {
		d.Hold = a.Hold
		d.Stamp = s.add((now+a.Hold)/s.width, d.Granted)
	} else {
		d.Retry = p.retryLog(s, now, a.Min, a)
	}
	d.RetryWant = p.retryLog(s, now, a.Want, a)
	d.Used = s.total + a.Others
	if len(s.entries) > 0 {
		d.Reset = leaves(s.entries[0].at, s.width, period, now)
	}
	return d
}

// leaves is when the quantum at counts no more, from now.
func leaves(at, width, period, now int64) int64 { return at*width + width - 1 + period - now }

// retryLog is how long until n units fit.
func (p Policy) retryLog(s *State, now, n int64, a Ask) int64 {
	need := s.total + a.Others + n - p.Limit
	if need <= 0 {
		return 0
	}
	for _, e := range s.entries {
		if need -= e.count; need <= 0 {
			own := leaves(e.at, s.width, p.period(), now)
			if a.OthersFree > 0 {
				return min(own, a.OthersFree)
			}
			return own
		}
	}
	if a.OthersFree > 0 {
		return a.OthersFree
	}
	return p.period()
}

func (p Policy) takeFixed(s *State, now int64, a Ask) Decision {
	start, end := p.bounds(now)
	if s.start > start { // the server's clock went back
		end += s.start - start
		start = s.start
	}
	if s.start != start {
		s.start, s.count = start, 0
	}
	if a.Give > 0 && a.Stamp == start {
		s.count = max(0, s.count-a.Give)
	}
	left := end - now
	d := Decision{Granted: grant(p.Limit-s.count-a.Others, a.Min, a.Want), Reset: left}
	if d.Granted > 0 {
		s.count += d.Granted
		d.Stamp, d.Hold = start, min(a.Hold, left)
	} else {
		d.Retry = left
	}
	if s.count+a.Others+a.Want > p.Limit {
		d.RetryWant = left
	}
	d.Used = s.count + a.Others
	return d
}

func (p Policy) takeCounter(s *State, now int64, a Ask) Decision {
	start, end := p.bounds(now)
	period := p.period()
	switch {
	case s.start >= start: // the current one, or the server's clock went back
		now = max(now, s.start)
		start, end = s.start, s.start+period
	case s.start == start-period:
		s.start, s.prev, s.count = start, s.count, 0
	default:
		s.start, s.prev, s.count = start, 0, 0
	}
	if a.Give > 0 && a.Stamp == start {
		s.count = max(0, s.count-a.Give)
	} else if a.Give > 0 && a.Stamp == start-period {
		s.prev = max(0, s.prev-a.Give)
	}
	weigh := func() float64 {
		return float64(float64(s.prev)*float64(end-now))/float64(period) + float64(s.count+a.Others)
	}
	free := int64(math.Floor(float64(p.Limit) - weigh()))
	d := Decision{Granted: grant(free, a.Min, a.Want), Reset: end - now}
	if d.Granted > 0 {
		s.count += d.Granted
		d.Stamp, d.Hold = start, min(a.Hold, end-now)
	} else {
		d.Retry = p.retryCounter(s, now, a.Min, a.Others)
	}
	if free-d.Granted < a.Want {
		d.RetryWant = p.retryCounter(s, now, a.Want, a.Others)
	}
	d.Used = int64(math.Ceil(weigh()))
	return d
}

// retryCounter is how long until n units fit: in this period, when the last one has lost enough weight,
// or in the next.
func (p Policy) retryCounter(s *State, now, n, others int64) int64 {
	period := p.period()
	spent := now - s.start
	room := p.Limit - s.count - others - n
	if room >= 0 && s.prev > 0 {
		return max(1, fade(period, room, s.prev)-spent)
	}
	wait := period - spent
	if room = p.Limit - others - n; room >= 0 && s.count > 0 {
		wait += max(0, fade(period, room, s.count))
	}
	return wait
}

// fade is how far into a period the one before, of count, weighs room.
func fade(period, room, count int64) int64 {
	return int64(math.Ceil(float64(period) - float64(float64(period)*float64(room))/float64(count)))
}

func (p Policy) takeBucket(s *State, now int64, a Ask) Decision {
	gap := p.gap()
	full := gap * float64(p.Burst)
	level := max(0, float64(s.base-now)+s.level)
	if a.Give > 0 {
		level = max(0, level-float64(gap*float64(a.Give)))
	}
	free := max(0, int64(math.Floor((full-level)/gap+1e-6))-a.Others)
	d := Decision{Granted: grant(free, a.Min, a.Want)}
	until := func(n int64) int64 {
		return max(1, int64(math.Ceil(level+float64(gap*float64(n))-full)))
	}
	if d.Granted > 0 {
		level += float64(gap * float64(d.Granted))
		d.Hold = a.Hold
	} else {
		d.Retry = until(a.Min)
	}
	if free-d.Granted < a.Want {
		d.RetryWant = until(a.Want)
	}
	if d.Granted > 0 || a.Give > 0 {
		s.base, s.level = now, level // otherwise nothing changed, and rounding it again would
	}
	d.Used = p.Burst - (free - d.Granted)
	d.Reset = int64(math.Ceil(level))
	return d
}
