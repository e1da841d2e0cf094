package forecast

import (
	"math"
	"time"
)

// A date is a day of the calendar, as the number of days since 1970.
type date int

func day(t time.Time) date {
	return date(time.Date(t.Year(), t.Month(), t.Day(), 0, 0, 0, 0, time.UTC).Unix() / 86400)
}

func (d date) time() time.Time         { return time.Unix(int64(d)*86400, 0).UTC() }
func (d date) String() string          { return d.time().Format(time.DateOnly) }
func (d date) weekday() int            { return int(d.time().Weekday()) }
func (d date) next() date              { return d + 1 }
func (d date) before(t time.Time) bool { return d < day(t) }

// hours are the samples by the hour: an hour is told by its Unix seconds divided by 3600, since zones differ
// from UTC by whole quarters of one and a sample more or less at the edge changes nothing.
type hours struct {
	zone  *time.Location
	spent map[int64]float64 // commands
	known map[int64]float64 // seconds that samples cover
}

func hoursOf(samples []Sample, now time.Time, zone *time.Location) *hours {
	h := &hours{zone: zone, spent: map[int64]float64{}, known: map[int64]float64{}}
	oldest := now.Add(-maxAge * time.Hour)
	for _, s := range samples {
		if s.Span <= 0 || s.Commands < 0 || math.IsNaN(s.Commands) || math.IsInf(s.Commands, 0) || s.At.After(now) || s.At.Before(oldest) {
			continue
		}
		begin := s.At.Add(-min(s.Span, 31*24*time.Hour))
		rate := s.Commands / s.Span.Seconds()
		for at := begin; at.Before(s.At); {
			k := at.Unix() / 3600
			end := time.Unix((k+1)*3600, 0)
			if end.After(s.At) {
				end = s.At
			}
			n := end.Sub(at).Seconds()
			h.spent[k] += rate * n
			h.known[k] += n
			at = end
		}
	}
	return h
}

// rate is the commands of a whole hour, false where no sample covers any of it.
func (h *hours) rate(k int64) (float64, bool) {
	n := h.known[k]
	if n < 1 {
		return 0, false
	}
	return h.spent[k] / n * 3600, true
}

// A past is a day that counts, with its commands.
type past struct {
	date  date
	spent float64
}

// days are the days before today that count, and the first of them.
func (h *hours) days(today date) (all []past, first date) {
	type sum struct {
		rate  float64
		hours int
	}
	by := map[date]*sum{}
	for k := range h.known {
		r, ok := h.rate(k)
		d := day(time.Unix(k*3600, 0).In(h.zone))
		if !ok || d >= today {
			continue
		}
		if by[d] == nil {
			by[d] = &sum{}
		}
		by[d].rate += r
		by[d].hours++
	}
	first = today
	for d, s := range by {
		if s.hours >= minHours {
			first = min(first, d)
		}
	}
	for d := first; d < today; d++ {
		if s := by[d]; s != nil && s.hours >= minHours {
			all = append(all, past{d, s.rate / float64(s.hours) * 24})
		}
	}
	return all, first
}

// sum is what samples say was spent between two times, and the shares of days for which none does.
func (h *hours) sum(from, to time.Time) (spent float64, gaps map[date]float64) {
	gaps = map[date]float64{}
	for at := from; at.Before(to); {
		k := at.Unix() / 3600
		end := time.Unix((k+1)*3600, 0).In(h.zone)
		if end.After(to) {
			end = to
		}
		share := end.Sub(at).Hours()
		if r, ok := h.rate(k); ok {
			spent += r * share
		} else {
			gaps[day(at)] += share / 24
		}
		at = end
	}
	return spent, gaps
}
