package forecast_test

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
	_ "time/tzdata" // the zones are the same everywhere

	"github.com/redisopt/redisopt/internal/inspect/forecast"
)

// A series makes the commands of one day.
type series func(r *rand.Rand, d int, weekday time.Weekday) float64

func weekend(w time.Weekday) float64 {
	if w == time.Saturday || w == time.Sunday {
		return 0.4
	}
	return 1
}

// lasting is noise of which much stays from one day to the next.
func lasting(share float64) series {
	state := 0.0
	return func(r *rand.Rand, _ int, w time.Weekday) float64 {
		state = share*state + r.NormFloat64()*math.Sqrt(1-share*share)
		return 100_000 * weekend(w) * (1 + 0.1*state)
	}
}

func days(r *rand.Rand, s series, from time.Time, n int) []float64 {
	all := make([]float64, n)
	for i := range all {
		all[i] = max(0, s(r, i, from.AddDate(0, 0, i).Weekday()))
	}
	return all
}

// hourly are the samples of whole hours of the days, with as many commands in each hour of a day.
func hourly(from time.Time, perDay []float64, until time.Time) []forecast.Sample {
	var all []forecast.Sample
	for at := from; at.Before(until); at = at.Add(time.Hour) {
		n := perDay[int(at.Sub(from).Hours())/24]
		all = append(all, forecast.Sample{At: at.Add(time.Hour), Span: time.Hour, Commands: n / 24})
	}
	return all
}

func TestTheBandOf80PercentHoldsTheTruthIn75To85PercentOfMonths(t *testing.T) {
	cases := []struct {
		name string
		make func() series
	}{
		{"an even load with noise", func() series {
			return func(r *rand.Rand, _ int, _ time.Weekday) float64 { return 50_000 * (1 + 0.15*r.NormFloat64()) }
		}},
		{"quiet weekends", func() series {
			return func(r *rand.Rand, _ int, w time.Weekday) float64 {
				return 100_000*weekend(w) + 10_000*r.NormFloat64()
			}
		}},
		{"growth of 1% a day and quiet weekends", func() series {
			return func(r *rand.Rand, d int, w time.Weekday) float64 {
				return (100_000+1000*float64(d))*weekend(w) + 10_000*r.NormFloat64()
			}
		}},
		{"noise in proportion to the load", func() series {
			return func(r *rand.Rand, _ int, w time.Weekday) float64 {
				return 100_000 * weekend(w) * (1 + 0.1*r.NormFloat64())
			}
		}},
		{"noise that lasts for days", func() series { return lasting(0.4) }},
	}
	r := rand.New(rand.NewPCG(1, 2))
	all, held := 0, 0
	for _, c := range cases {
		name := c.name
		months, inside, off := 0, 0, 0.0
		for range 400 {
			start := time.Date(2025, time.Month(1+r.IntN(12)), 1, 0, 0, 0, 0, time.UTC)
			length := start.AddDate(0, 1, 0).Sub(start)
			now := start.Add(time.Duration(5+r.IntN(18)) * 24 * time.Hour).Add(time.Duration(r.IntN(24)) * time.Hour)
			from := start.AddDate(0, 0, -35+now.Day()) // what the ring holds
			perDay := days(r, c.make(), from, int(start.Add(length).Sub(from).Hours())/24)
			truth := 0.0
			for i, n := range perDay {
				if d := from.AddDate(0, 0, i); !d.Before(start) {
					truth += n
				}
			}
			f := forecast.Month(hourly(from, perDay, now), now, nil)
			if f.Inconclusive != "" {
				t.Fatalf("%s: %s", name, f.Inconclusive)
			}
			months++
			off += math.Abs(f.Expected-truth) / truth
			if f.Low <= truth && truth <= f.High {
				inside++
			}
		}
		share := float64(inside) / float64(months)
		t.Logf("%-40s %.1f%% of %d months inside, off by %.1f%% in the mean", name, 100*share, months, 100*off/float64(months))
		if share < 0.70 || share > 0.90 {
			t.Errorf("%s: %.1f%% inside, want about 80%%", name, 100*share)
		}
		all, held = all+months, held+inside
	}
	if share := float64(held) / float64(all); share < 0.75 || share > 0.85 {
		t.Errorf("%.1f%% of all months inside, want 75 to 85%%", 100*share)
	} else {
		t.Logf("%.1f%% of all %d months inside", 100*share, all)
	}
}

func TestASteadyLoadIsForecastExactly(t *testing.T) {
	from := time.Date(2026, 10, 20, 0, 0, 0, 0, time.UTC)
	now := time.Date(2026, 11, 11, 6, 0, 0, 0, time.UTC)
	perDay := make([]float64, 60)
	for i := range perDay {
		perDay[i] = 24_000
	}
	f := forecast.Month(hourly(from, perDay, now), now, nil)
	if math.Abs(f.Expected-720_000) > 1 || math.Abs(f.Spent-246_000) > 1 || f.High-f.Low > 1 || f.Estimated != 0 {
		t.Errorf("got %+v, want 720,000 of which 246,000 are spent", f)
	}
	if on, early, late := f.RunOut(500_000); on != "2026-11-21" || early != on || late != on {
		t.Errorf("500,000 run out on %s, %s, %s, want 2026-11-21", on, early, late)
	}
	if on, _, _ := f.RunOut(800_000); on != "" {
		t.Errorf("800,000 run out on %s, want never in this month", on)
	}
}

func TestAPatternOfWeekdaysAndATrendAreTold(t *testing.T) {
	from := time.Date(2026, 10, 8, 0, 0, 0, 0, time.UTC)
	now := time.Date(2026, 11, 12, 0, 0, 0, 0, time.UTC)
	perDay := make([]float64, 60)
	truth := 0.0
	for i := range perDay {
		d := from.AddDate(0, 0, i)
		perDay[i] = 10_000 + 100*float64(i)
		if weekend(d.Weekday()) < 1 {
			perDay[i] -= 6000
		}
		if d.Month() == time.November {
			truth += perDay[i]
		}
	}
	f := forecast.Month(hourly(from, perDay, now), now, nil)
	if math.Abs(f.Expected-truth) > truth/1000 || math.Abs(f.TrendPerDay-100) > 1 || f.Model != "level, trend and weekdays" {
		t.Errorf("got %+v, want %.0f with 100 more every day", f, truth)
	}
}

func TestTooLittleDataIsInconclusive(t *testing.T) {
	now := time.Date(2026, 11, 12, 9, 0, 0, 0, time.UTC)
	for name, samples := range map[string][]forecast.Sample{
		"none":     nil,
		"two days": hourly(now.Add(-57*time.Hour), []float64{1, 1, 1, 1}, now),
		"an hour of each day": {
			{At: now.Add(-24 * time.Hour), Span: time.Hour, Commands: 1},
			{At: now.Add(-48 * time.Hour), Span: time.Hour, Commands: 1},
			{At: now.Add(-72 * time.Hour), Span: time.Hour, Commands: 1},
			{At: now.Add(-96 * time.Hour), Span: time.Hour, Commands: 1},
		},
		"nonsense": {{At: now.Add(time.Hour), Span: time.Hour, Commands: 1}, {At: now, Commands: 1}, {At: now, Span: time.Hour, Commands: math.NaN()}, {At: now, Span: time.Hour, Commands: -1}},
		"too old":  hourly(now.AddDate(-1, 0, 0), make([]float64, 100), now.AddDate(-1, 0, 90)),
	} {
		f := forecast.Month(samples, now, nil)
		if f.Inconclusive == "" || f.Expected != 0 || len(f.Days) != 0 {
			t.Errorf("%s: got %+v, want inconclusive", name, f)
		}
		if on, _, _ := f.RunOut(1); on != "" {
			t.Errorf("%s: runs out on %s", name, on)
		}
	}
}

func TestSparseSamplesAndGapsAreFilled(t *testing.T) {
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	var samples []forecast.Sample
	for at := now.AddDate(0, 0, -10); at.Before(now); at = at.Add(time.Hour) { // a minute of every hour, from the 10th on
		samples = append(samples, forecast.Sample{At: at.Add(30 * time.Minute), Span: time.Minute, Commands: 100})
	}
	f := forecast.Month(samples, now, nil)
	if want := 100 * 60 * 24 * 30.0; math.Abs(f.Expected-want) > want/1000 || f.Estimated < f.Spent*0.4 {
		t.Errorf("got %+v, want %.0f with the days before the 10th estimated", f, want)
	}
}

func TestTheMonthIsThatOfTheZone(t *testing.T) {
	zone := time.FixedZone("UTC-8", -8*3600)
	now := time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC) // still November there
	perDay := make([]float64, 40)
	for i := range perDay {
		perDay[i] = 24
	}
	f := forecast.Month(hourly(now.AddDate(0, 0, -35), perDay, now), now, zone)
	if f.Start.Month() != time.November || len(f.Days) != 1 || math.Abs(f.Expected-720) > 1 {
		t.Errorf("got %+v, want the last day of November", f)
	}
}

// A month's forecast must hold on every day of it, whichever day it is made.
func TestAForecastHoldsAtTheEdgesOfMonthsAndYears(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	at := func(zone *time.Location, year int, month time.Month, day, hour, minute, second, ns int) time.Time {
		return time.Date(year, month, day, hour, minute, second, ns, zone)
	}
	for _, c := range []struct {
		now  time.Time
		zone *time.Location
		days int // left, today included
		all  int // of the month
	}{
		{at(time.UTC, 2026, 12, 1, 0, 0, 0, 0), nil, 31, 31},
		{at(time.UTC, 2026, 11, 30, 23, 59, 59, 999_999_999), nil, 1, 30},
		{at(time.UTC, 2026, 12, 31, 23, 59, 59, 0), nil, 1, 31},
		{at(time.UTC, 2027, 1, 1, 0, 0, 0, 1), nil, 31, 31},
		{at(time.UTC, 2027, 1, 31, 12, 0, 0, 0), nil, 1, 31},
		{at(time.UTC, 2027, 3, 1, 0, 0, 0, 0), nil, 31, 31},
		{at(time.UTC, 2028, 2, 28, 23, 59, 59, 0), nil, 2, 29},
		{at(time.UTC, 2028, 2, 29, 0, 0, 0, 0), nil, 1, 29},
		{at(time.UTC, 2028, 3, 1, 0, 0, 1, 0), nil, 31, 31},
		{at(berlin, 2026, 11, 1, 0, 0, 0, 0), berlin, 30, 30},
		{at(berlin, 2026, 10, 25, 2, 30, 0, 0), berlin, 7, 31}, // the day of 25 hours
		{at(berlin, 2027, 3, 28, 3, 0, 0, 0), berlin, 4, 31},   // and the one of 23
		{at(time.UTC, 2026, 11, 30, 23, 30, 0, 0), berlin, 31, 31},
	} {
		perDay := make([]float64, 41)
		for i := range perDay {
			perDay[i] = 24_000
		}
		f := forecast.Month(hourly(c.now.AddDate(0, 0, -40).Truncate(time.Hour), perDay, c.now), c.now, c.zone)
		want := 24_000 * float64(c.all)
		if f.Inconclusive != "" || len(f.Days) != c.days || math.Abs(f.Expected-want) > want/100 || f.Spent > f.Expected+1 {
			t.Errorf("at %s: %d days left, expected %.0f, spent %.0f, %s; want %d and %.0f", c.now, len(f.Days), f.Expected, f.Spent, f.Inconclusive, c.days, want)
		}
		if on, _, _ := f.RunOut(want * 2); on != "" {
			t.Errorf("at %s: twice the month runs out on %s", c.now, on)
		}
	}
}
