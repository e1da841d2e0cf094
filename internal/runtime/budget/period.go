package budget

import (
	"fmt"
	"time"
)

// A Period is how a provider counts a month.
type Period string

// The periods.
const (
	CalendarMonth Period = "calendar-month" // from the first of the month, 00:00 UTC
	ThirtyDays    Period = "30-days"        // consecutive blocks of 720 hours
)

// ThirtyDayMonth is the month that rates are projected to when no calendar is meant: 2,592,000 s.
const ThirtyDayMonth = 30 * 24 * time.Hour

// A Window is one billing period: from Start, inclusive, to End, exclusive, both UTC.
type Window struct {
	Start, End time.Time
}

// Month is the calendar month in UTC that contains now.
func Month(now time.Time) Window {
	now = now.UTC()
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	return Window{Start: start, End: start.AddDate(0, 1, 0)}
}

// Blocks30 is the 30-day block that contains now, when one of the blocks begins at anchor. Anchor may
// be before or after now.
func Blocks30(anchor, now time.Time) Window {
	// In whole seconds, because a Duration holds no more than 292 years.
	const block = int64(ThirtyDayMonth / time.Second)
	passed := now.Unix() - anchor.Unix()
	n := passed / block
	if passed%block < 0 { // the division rounds towards zero
		n--
	}
	start := time.Unix(anchor.Unix()+n*block, 0).UTC()
	return Window{Start: start, End: start.Add(ThirtyDayMonth)}
}

// Window is the billing period of c that contains now. A Start that is not a day counts as its
// default; Validate reports it.
func (c Commands) Window(now time.Time) Window {
	if c.Period != ThirtyDays {
		return Month(now)
	}
	anchor, err := c.anchor()
	if err != nil {
		anchor = time.Unix(0, 0).UTC()
	}
	return Blocks30(anchor, now)
}

func (c Commands) anchor() (time.Time, error) {
	if c.Start == "" {
		return time.Unix(0, 0).UTC(), nil
	}
	t, err := time.Parse(time.DateOnly, c.Start)
	if err != nil {
		return time.Time{}, fmt.Errorf("got %q, want a day such as 2026-11-05", c.Start)
	}
	return t, nil
}

// Length is the length of the window: 28 to 31 days for a calendar month.
func (w Window) Length() time.Duration { return w.End.Sub(w.Start) }

// Elapsed is the part of w that has passed at now, from 0 to 1.
func (w Window) Elapsed(now time.Time) float64 {
	if w.Length() <= 0 {
		return 0
	}
	return min(1, max(0, float64(now.Sub(w.Start))/float64(w.Length())))
}

// Remaining is the time from now to the end of w: at most its length, never negative.
func (w Window) Remaining(now time.Time) time.Duration {
	return min(w.Length(), max(0, w.End.Sub(now)))
}

// ProjectToDate is what the whole window will have used if the rest goes like the part up to now. It
// is false while nothing of the window has passed, because then there is nothing to project from.
func (w Window) ProjectToDate(used float64, now time.Time) (float64, bool) {
	elapsed := w.Elapsed(now)
	if elapsed <= 0 {
		return 0, false
	}
	return used / elapsed, true
}

// ProjectRate is what the whole window will have used if used was spent up to now and the rest goes
// at perSecond. A negative rate counts as zero: what is spent stays spent.
func (w Window) ProjectRate(used, perSecond float64, now time.Time) float64 {
	return used + max(0, perSecond)*w.Remaining(now).Seconds()
}

// PerThirtyDays is what perSecond comes to in a 30-day month.
func PerThirtyDays(perSecond float64) float64 {
	return perSecond * ThirtyDayMonth.Seconds()
}

// AllowedPerSecond is the rate at which the rest of limit lasts exactly to the end of w. It is zero
// when the limit is spent or the window is over.
func (w Window) AllowedPerSecond(limit, used float64, now time.Time) float64 {
	rest := w.Remaining(now).Seconds()
	if rest <= 0 || used >= limit {
		return 0
	}
	return (limit - used) / rest
}

// RunOut is when limit will be spent at perSecond, if that is before the end of w. A limit that is
// already spent ran out at now.
func (w Window) RunOut(limit, used, perSecond float64, now time.Time) (time.Time, bool) {
	if used >= limit {
		return now, true
	}
	if perSecond <= 0 {
		return time.Time{}, false
	}
	// Compared in seconds before converting: a tiny rate would overflow a Duration.
	seconds := (limit - used) / perSecond
	if seconds >= w.Remaining(now).Seconds() {
		return time.Time{}, false
	}
	return now.Add(time.Duration(seconds * float64(time.Second))), true
}
