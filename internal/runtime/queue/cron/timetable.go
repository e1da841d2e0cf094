package cron

import (
	"time"
	_ "time/tzdata" // 450 KB: zones on Windows and in images without files; the limiter's calendars need them too
)

// A Timetable says when a schedule is due. It is immutable.
type Timetable struct {
	every time.Duration
	cron  expression
	zone  *time.Location
}

// maxSteps bounds the search for one tick. A day that came twice has 1,440 clock times to pass over,
// and ten years have at most 40 changes of a clock.
const maxSteps = 3000

// Next is the first tick after an instant, in whole seconds UTC; zero when there is none within ten
// years.
func (t *Timetable) Next(after time.Time) time.Time {
	switch {
	case t.every > 0:
		period := int64(t.every / time.Second)
		n := after.Unix() / period
		if after.Unix()%period < 0 {
			n--
		}
		return time.Unix((n+1)*period, 0).UTC()
	case t.cron.steady:
		return t.nextSteady(after)
	default:
		return t.nextFixed(after)
	}
}

// Upcoming are the next n ticks after an instant; fewer when there are no more within ten years.
func (t *Timetable) Upcoming(after time.Time, n int) []time.Time {
	ticks := make([]time.Time, 0, max(0, min(n, 1000)))
	for range n {
		after = t.Next(after)
		if after.IsZero() {
			break
		}
		ticks = append(ticks, after)
	}
	return ticks
}

// nextSteady follows the clock on the wall from one of its changes to the next.
func (t *Timetable) nextSteady(after time.Time) time.Time {
	at := after.In(t.zone)
	wall := onWall(at)
	for range maxSteps {
		next := t.cron.next(wall)
		if next.IsZero() {
			return time.Time{}
		}
		_, change := at.ZoneBounds()
		tick := asIf(next, at)
		if change.IsZero() || tick.Before(change) {
			return tick
		}
		at = change
		wall = onWall(change).Add(-time.Second) // the instant of the change may be a tick
	}
	return time.Time{}
}

// nextFixed passes over clock times whose instant is not later than after: they came twice, or fall
// together on the instant of a change.
func (t *Timetable) nextFixed(after time.Time) time.Time {
	wall := onWall(after.In(t.zone))
	for range maxSteps {
		if wall = t.cron.next(wall); wall.IsZero() {
			return time.Time{}
		}
		if at := t.instant(wall); at.After(after) {
			return at
		}
	}
	return time.Time{}
}

// instant is when the clock shows wall: the first time when it does so twice, the instant of the change
// when it never does.
func (t *Timetable) instant(wall time.Time) time.Time {
	near := time.Date(wall.Year(), wall.Month(), wall.Day(), wall.Hour(), wall.Minute(), wall.Second(), 0, t.zone)
	start, end := near.ZoneBounds()
	periods := []time.Time{near}
	if !start.IsZero() {
		periods = append(periods, start.Add(-time.Second))
	}
	if !end.IsZero() {
		periods = append(periods, end)
	}
	var first time.Time
	for _, p := range periods {
		at := asIf(wall, p)
		if onWall(at.In(t.zone)).Equal(wall) && (first.IsZero() || at.Before(first)) {
			first = at
		}
	}
	if !first.IsZero() {
		return first
	}
	for _, change := range []time.Time{start, end} {
		if !change.IsZero() && onWall(change).After(wall) && onWall(change.Add(-time.Second)).Before(wall) {
			return change.UTC()
		}
	}
	return near.UTC()
}

// onWall is what a clock in at's zone shows at that instant, as if it were UTC.
func onWall(at time.Time) time.Time {
	_, offset := at.Zone()
	return at.UTC().Add(time.Duration(offset) * time.Second)
}

// asIf is the instant of a clock time by the offset that is in force at another instant.
func asIf(wall, in time.Time) time.Time {
	_, offset := in.Zone()
	return wall.Add(-time.Duration(offset) * time.Second).UTC()
}
