package forecast

import (
	"fmt"
	"time"
)

// Level is the share of months, in percent, whose truth the band is made to hold.
const Level = 80

// Limits of what a forecast needs.
const (
	MinDays  = 3       // days with samples, today not counted
	minHours = 12      // with a sample, that a day counts
	weeks    = 14      // days from which a trend and weekdays are told
	week     = 7       // days from which weekends are told
	maxAge   = 70 * 24 // hours; older samples say little about this month
)

// A Sample is how many commands were spent in the span that ended at At.
type Sample struct {
	At       time.Time
	Span     time.Duration
	Commands float64
}

// A Forecast is what a month will come to. Numbers are commands.
type Forecast struct {
	// Inconclusive says what is missing; then Expected, Low, High and Days say nothing.
	Inconclusive string `json:"inconclusive,omitempty"`

	// Start and End are the month: End is exclusive. Zone is that of its days.
	Start time.Time `json:"start"`
	End   time.Time `json:"end"`
	Zone  string    `json:"zone"`

	// Spent is the month to date, and Estimated the part of it for which there is no sample.
	Spent     float64 `json:"month_to_date"`
	Estimated float64 `json:"estimated_of_it"`

	// Expected is the whole month, Low and High the band of 80%.
	Expected float64 `json:"expected"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`

	// Model is what was told apart: "level", "level and weekends", "level, trend and weekdays".
	Model string `json:"model,omitempty"`

	// History is how many past days went in, TrendPerDay the change from one day to the next.
	History     int     `json:"history_days"`
	TrendPerDay float64 `json:"trend_per_day"`

	// Days are the rest of the month, today first: what will have been spent by the end of each.
	Days []Day `json:"days"`
}

// A Day is what will have been spent in the month by the end of a day.
type Day struct {
	Date     string  `json:"date"`
	Expected float64 `json:"expected"`
	Low      float64 `json:"low"`
	High     float64 `json:"high"`
}

// Month forecasts the calendar month of now in zone; nil is UTC, as providers bill. Samples need no order;
// those after now, without a span or with negative commands are left out, overlapping ones are averaged.
// Samples may be sparse: a day counts once 12 of its hours have one.
func Month(samples []Sample, now time.Time, zone *time.Location) Forecast {
	if zone == nil {
		zone = time.UTC
	}
	now = now.In(zone)
	start := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, zone)
	f := Forecast{Start: start, End: start.AddDate(0, 1, 0), Zone: zone.String(), Days: []Day{}}
	h := hoursOf(samples, now, zone)
	today := day(now)
	past, first := h.days(today)
	f.History = len(past)
	if len(past) < MinDays {
		f.Inconclusive = fmt.Sprintf("%d days with samples in at least %d of their hours, want %d", len(past), minHours, MinDays)
		f.Spent, _ = h.sum(start, now)
		return f
	}
	m := fit(past, first)
	f.Model, f.TrendPerDay = m.name, m.trend()
	spent, gaps := h.sum(start, now)
	sum := m.total()
	for at, missing := range gaps {
		sum.add(at, missing)
	}
	f.Estimated = sum.mean
	f.Spent = spent + f.Estimated
	midnight := start.AddDate(0, 0, now.Day())
	left := midnight.Sub(now).Hours() / midnight.Sub(start.AddDate(0, 0, now.Day()-1)).Hours()
	for d := today; d.before(f.End); d, left = d.next(), 1 {
		sum.add(d, left)
		band := sum.band()
		expected := spent + sum.mean
		f.Days = append(f.Days, Day{d.String(), expected, max(spent, expected-band), expected + band})
	}
	last := f.Days[len(f.Days)-1]
	f.Expected, f.Low, f.High = last.Expected, last.Low, last.High
	return f
}

// RunOut is the day on which limit will be spent, as expected, at the earliest and at the latest of the
// band. A day that is not in the month is empty; all are where the forecast is inconclusive.
func (f Forecast) RunOut(limit float64) (expected, earliest, latest string) {
	find := func(value func(Day) float64) string {
		for _, d := range f.Days {
			if value(d) >= limit {
				return d.Date
			}
		}
		return ""
	}
	if f.Inconclusive != "" || limit <= 0 {
		return "", "", ""
	}
	return find(func(d Day) float64 { return d.Expected }), find(func(d Day) float64 { return d.High }), find(func(d Day) float64 { return d.Low })
}
