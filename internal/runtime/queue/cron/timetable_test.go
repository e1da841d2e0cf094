package cron

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func timetable(t testing.TB, expr, zone string) *Timetable {
	t.Helper()
	table, err := Schedule{Name: "x", Queue: "q", Cron: expr, Zone: zone}.Timetable()
	if err != nil {
		t.Fatalf("%q in %s: %v", expr, zone, err)
	}
	return table
}

func instant(t testing.TB, text string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

func TestClocksThatAreChanged(t *testing.T) {
	for _, c := range []struct {
		name, cron, zone, from string
		want                   []string // in the zone, in order
	}{
		{
			"a fixed time in the skipped hour runs at the change", "30 2 * * *", "America/New_York",
			"2026-03-07T12:00:00Z",
			[]string{"2026-03-08T03:00:00-04:00", "2026-03-09T02:30:00-04:00"},
		},
		{
			"a fixed time in the repeated hour runs the first time", "30 1 * * *", "America/New_York",
			"2026-11-01T00:00:00Z",
			[]string{"2026-11-01T01:30:00-04:00", "2026-11-02T01:30:00-05:00"},
		},
		{
			"a fixed time is not run again when asked between the two", "30 1 * * *", "America/New_York",
			"2026-11-01T06:10:00Z",
			[]string{"2026-11-02T01:30:00-05:00"},
		},
		{
			"fixed times that fall on the change are one tick", "0,30 2,3 * * *", "Europe/Berlin",
			"2026-03-29T00:00:00Z",
			[]string{"2026-03-29T03:00:00+02:00", "2026-03-29T03:30:00+02:00", "2026-03-30T02:00:00+02:00"},
		},
		{
			"quarters of an hour are kept through the skipped hour", "*/15 * * * *", "Europe/Berlin",
			"2026-03-29T00:30:00Z",
			[]string{"2026-03-29T01:45:00+01:00", "2026-03-29T03:00:00+02:00", "2026-03-29T03:15:00+02:00"},
		},
		{
			"quarters of an hour are kept through the repeated hour", "*/30 * * * *", "Europe/Berlin",
			"2026-10-25T00:00:00Z",
			[]string{
				"2026-10-25T02:30:00+02:00", "2026-10-25T02:00:00+01:00",
				"2026-10-25T02:30:00+01:00", "2026-10-25T03:00:00+01:00",
			},
		},
		{
			"minutes of the skipped hour that follow the clock do not run", "*/30 2 * * *", "Europe/Berlin",
			"2026-03-28T12:00:00Z",
			[]string{"2026-03-30T02:00:00+02:00", "2026-03-30T02:30:00+02:00"},
		},
		{
			"a midnight that there is not", "0 0 * * *", "America/Sao_Paulo",
			"2018-11-03T12:00:00Z",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"},
		},
		{
			"half an hour is skipped", "15 2 * * *", "Australia/Lord_Howe",
			"2026-10-03T00:00:00Z",
			[]string{"2026-10-04T02:30:00+11:00", "2026-10-05T02:15:00+11:00"},
		},
		{
			"half an hour comes twice", "45 1 * * *", "Australia/Lord_Howe",
			"2026-04-04T00:00:00Z",
			[]string{"2026-04-05T01:45:00+11:00", "2026-04-06T01:45:00+10:30"},
		},
		{
			"a whole day is skipped", "0 10 * * *", "Pacific/Apia",
			"2011-12-29T21:00:00Z",
			[]string{"2011-12-31T00:00:00+14:00", "2011-12-31T10:00:00+14:00"},
		},
		{
			"no change in UTC", "30 2 * * *", "",
			"2026-03-29T00:00:00Z",
			[]string{"2026-03-29T02:30:00Z", "2026-03-30T02:30:00Z"},
		},
		{
			"29 February is eight years away", "0 0 29 2 *", "UTC",
			"2096-03-01T00:00:00Z",
			[]string{"2104-02-29T00:00:00Z"},
		},
		{
			"7 is Sunday", "0 12 * * 5-7", "UTC",
			"2026-11-26T00:00:00Z",
			[]string{"2026-11-27T12:00:00Z", "2026-11-28T12:00:00Z", "2026-11-29T12:00:00Z", "2026-12-04T12:00:00Z"},
		},
		{
			"either of two day fields is enough", "0 0 13 * fri", "UTC",
			"2026-11-10T00:00:00Z",
			[]string{"2026-11-13T00:00:00Z", "2026-11-20T00:00:00Z", "2026-11-27T00:00:00Z", "2026-12-04T00:00:00Z", "2026-12-11T00:00:00Z", "2026-12-13T00:00:00Z"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := timetable(t, c.cron, c.zone)
			var got []string
			for _, at := range table.Upcoming(instant(t, c.from), len(c.want)) {
				got = append(got, at.In(table.zone).Format(time.RFC3339))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("ticks (-want +got):\n%s", diff)
			}
		})
	}
}

// byTheMinute finds ticks as cron does: it wakes every minute and looks at the clock on the wall.
func byTheMinute(e expression, zone *time.Location, from, to time.Time) []time.Time {
	matches := func(wall time.Time) bool {
		bit := func(set uint64, n int) bool { return set>>n&1 == 1 }
		dom, dow := bit(e.spec.Dom, wall.Day()), bit(e.spec.Dow, int(wall.Weekday()))
		day := dom || dow
		if e.spec.Dom>>63 == 1 || e.spec.Dow>>63 == 1 {
			day = dom && dow
		}
		return day && bit(e.spec.Month, int(wall.Month())) && bit(e.spec.Hour, wall.Hour()) && bit(e.spec.Minute, wall.Minute())
	}
	var ticks []time.Time
	highest := onWall(from.In(zone))
	for at := from.Add(time.Minute); !at.After(to); at = at.Add(time.Minute) {
		wall := onWall(at.In(zone))
		due := matches(wall)
		if !e.steady {
			due = due && wall.After(highest)
			for virtual := highest.Add(time.Minute); virtual.Before(wall); virtual = virtual.Add(time.Minute) {
				due = due || matches(virtual)
			}
		}
		if due {
			ticks = append(ticks, at)
		}
		highest = later(highest, wall)
	}
	return ticks
}

func TestATimetableAgreesWithACronThatLooksEveryMinute(t *testing.T) {
	t.Run("spring", func(t *testing.T) { agree(t, instant(t, "2026-02-12T00:00:00Z"), instant(t, "2026-04-07T00:00:00Z")) })
	t.Run("autumn", func(t *testing.T) { agree(t, instant(t, "2026-09-01T00:00:00Z"), instant(t, "2026-11-03T00:00:00Z")) })
}

func agree(t *testing.T, from, to time.Time) {
	t.Helper()
	for _, zone := range []string{"America/New_York", "Europe/London", "Australia/Lord_Howe", "Africa/Casablanca", "America/Santiago", "Asia/Kolkata"} {
		for _, expr := range []string{"*/20 * * * *", "30 1 * * *", "30 2 * * *", "0,30 0-3 * * *", "0 */3 * * 1-5", "15 2 * * 0", "* 1 * * 6", "0 0 1,15 * 7", "59 23 31 * *"} {
			table := timetable(t, expr, zone)
			want := byTheMinute(table.cron, table.zone, from, to)
			got := make([]time.Time, 0, len(want))
			for at := table.Next(from); !at.After(to); at = table.Next(at) {
				got = append(got, at)
			}
			if i := slices.IndexFunc(got, func(at time.Time) bool { return !slices.Contains(want, at) }); len(got) < 500 && i >= 0 {
				t.Errorf("%q in %s: %s is no tick", expr, zone, got[i].In(table.zone))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q in %s: got %d ticks, want %d", expr, zone, len(got), len(want))
			}
		}
	}
}

func TestEveryCountsFromTheEpoch(t *testing.T) {
	table, err := Schedule{Name: "x", Queue: "q", Every: 90 * time.Minute}.Timetable()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ after, want string }{
		{"1970-01-01T00:00:00Z", "1970-01-01T01:30:00Z"},
		{"1969-12-31T23:59:59Z", "1970-01-01T00:00:00Z"},
		{"2026-11-29T13:30:00.5Z", "2026-11-29T15:00:00Z"},
	} {
		if got := table.Next(instant(t, c.after)); !got.Equal(instant(t, c.want)) {
			t.Errorf("Next(%s) = %s, want %s", c.after, got, c.want)
		}
	}
}

func TestExpressionsThatAreRefusedSayWhy(t *testing.T) {
	for expr, want := range map[string]string{
		"":                       "got 0 fields, want 5",
		"* * * *":                "got 4 fields, want 5",
		"0 * * * * *":            "got 6 fields, want 5",
		"60 * * * *":             `minute: got "60", want 0 to 59`,
		"* 24 * * *":             `hour: got "24", want 0 to 23`,
		"* * 0 * *":              `day of month: got "0", want 1 to 31`,
		"* * * 13 *":             `month: got "13", want 1 to 12`,
		"* * * * 8":              `day of week: got "8", want 0 to 7`,
		"*/90 * * * *":           "for longer periods use every",
		"*/0 * * * *":            `got step "0"`,
		", * * * *":              `got "", want 0 to 59`,
		"1,,2 * * * *":           `got "", want 0 to 59`,
		"*-5 * * * *":            `got "*", want 0 to 59`,
		"+5 * * * *":             `got "+5"`,
		"30-10 * * * *":          "begins after its end",
		"* * L * *":              `day of month: got "L"`,
		"* * * * 5#2":            `day of week: got "5#2"`,
		"0 0 30 2 *":             "has no tick within ten years",
		"TZ=Europe/Rome 0 0 * *": "the time zone is a field of its own",
		"TZ=x":                   "the time zone is a field of its own",
		"@every 5m":              "@every is the field every",
		"@reboot":                `got "@reboot"`,
		"1 1 1 1 unf":            `day of week: got "unf"`,
	} {
		_, err := Schedule{Name: "x", Queue: "q", Cron: expr}.Timetable()
		if expr == "" {
			_, err = parseExpression(expr)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", expr, err, want)
		}
	}
}

func TestAScheduleReportsAllItsProblems(t *testing.T) {
	_, err := Schedule{
		Name: "a b", Cron: "x", Every: time.Hour, Zone: "Mars/Phobos", Misfire: "maybe", MisfireMax: -1,
		Jitter: -time.Second, Job: []byte("{"), Origin: strings.Repeat("o", 200),
	}.Timetable()
	for _, want := range []string{"name:", "queue:", "cron, every:", "zone:", "misfire:", "misfire_max:", "jitter:", "job:", "origin:"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want it to name %s", err, want)
		}
	}
	for _, s := range []Schedule{
		{Every: 500 * time.Millisecond},
		{Every: 400 * 24 * time.Hour},
		{Every: time.Minute, Jitter: time.Minute},
		{Cron: "@daily", Zone: "Local"},
		{Cron: "@daily", Jitter: 2 * time.Hour},
		{},
	} {
		s.Name, s.Queue = "x", "q"
		if _, err := s.Timetable(); err == nil {
			t.Errorf("%+v was taken", s)
		}
	}
}

func FuzzExpression(f *testing.F) {
	for _, seed := range []string{"* * * * *", "*/15 0-6 1,15 jan-mar mon", "30 2 * * 7", "@daily", "59 23 31 12 5-7/2", "TZ=", "0 0 29 2 *", "1-2-3 */*/ ? , -"} {
		f.Add(seed, int64(1_774_000_000), uint8(0))
	}
	zones := []string{"UTC", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "America/Sao_Paulo", "Pacific/Apia"}
	f.Fuzz(func(t *testing.T, text string, unix int64, zone uint8) {
		e, err := parseExpression(text)
		if err != nil {
			return
		}
		loc, err := time.LoadLocation(zones[int(zone)%len(zones)])
		if err != nil {
			t.Fatal(err)
		}
		table := &Timetable{cron: e, zone: loc}
		at := time.Unix(unix%4_000_000_000, 0)
		for range 5 {
			next := table.Next(at)
			if next.IsZero() {
				return
			}
			if !next.After(at) || next.Second() != 0 && next.In(loc).Second() != 0 {
				t.Fatalf("%q in %s: after %s comes %s", text, loc, at, next)
			}
			if wall := next.In(loc); e.steady && (e.spec.Hour>>wall.Hour()&1 == 0 || e.spec.Minute>>wall.Minute()&1 == 0) {
				t.Fatalf("%q in %s: %s does not match", text, loc, wall)
			}
			at = next
		}
	})
}

func BenchmarkNext(b *testing.B) {
	for _, expr := range []string{"* * * * *", "30 2 * * *", "0 0 29 2 *"} {
		table := timetable(b, expr, "Europe/Berlin")
		at := instant(b, "2026-11-29T00:00:00Z")
		b.Run(strings.ReplaceAll(expr, " ", "_"), func(b *testing.B) {
			for b.Loop() {
				table.Next(at)
			}
		})
	}
}

func ExampleTimetable_Upcoming() {
	table, err := Schedule{Name: "report", Queue: "mail", Cron: "30 2 * * *", Zone: "Europe/Berlin"}.Timetable()
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, at := range table.Upcoming(time.Date(2026, 3, 28, 0, 0, 0, 0, time.UTC), 3) {
		fmt.Println(at.Format(time.RFC3339))
	}
	// Output:
	// 2026-03-28T01:30:00Z
	// 2026-03-29T01:00:00Z
	// 2026-03-30T00:30:00Z
}
