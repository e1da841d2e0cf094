package cron

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func planOf(t testing.TB, s Schedule) *plan {
	t.Helper()
	s.Name, s.Queue = "x", "q"
	table, err := s.Timetable()
	if err != nil {
		t.Fatal(err)
	}
	return &plan{s.withDefaults(), table}
}

func TestWhatIsMadeUpFor(t *testing.T) {
	at := func(text string) time.Time { return instant(t, "2026-11-29T"+text+"Z") }
	for _, c := range []struct {
		name      string
		schedule  Schedule
		done, now string
		want      []string
		late      bool
		skipped   int
	}{
		{"nothing is due before its time", Schedule{Cron: "0 * * * *"}, "10:00:00", "10:59:59", nil, false, 0},
		{"a tick is due at its instant", Schedule{Cron: "0 * * * *"}, "10:00:00", "11:00:00", []string{"11:00:00"}, false, 0},
		{"within the grace all that is due runs", Schedule{Every: 20 * time.Second}, "10:00:00", "10:00:45", []string{"10:00:20", "10:00:40"}, false, 0},
		{"once runs the latest of what was missed", Schedule{Every: 10 * time.Minute}, "10:00:00", "11:05:00", []string{"11:00:00"}, true, 5},
		{"once makes one run of what was missed and what is due", Schedule{Every: time.Minute}, "10:00:00", "10:05:30", []string{"10:05:00"}, true, 4},
		{"skip keeps what is within the grace", Schedule{Every: time.Minute, Misfire: Skip}, "10:00:00", "10:05:30", []string{"10:05:00"}, true, 4},
		{"skip runs nothing that was missed", Schedule{Every: 10 * time.Minute, Misfire: Skip}, "10:00:00", "10:25:00", nil, true, 2},
		{"all runs everything that was missed, in order", Schedule{Every: 10 * time.Minute, Misfire: All}, "10:00:00", "10:35:00", []string{"10:10:00", "10:20:00", "10:30:00"}, true, 0},
		{"all runs the latest of too many", Schedule{Every: 10 * time.Minute, Misfire: All, MisfireMax: 2}, "10:00:00", "10:35:00", []string{"10:20:00", "10:30:00"}, true, 1},
		{"all runs what is due besides", Schedule{Every: time.Minute, Misfire: All, MisfireMax: 2}, "10:00:00", "10:05:30", []string{"10:03:00", "10:04:00", "10:05:00"}, true, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := planOf(t, c.schedule).due(at(c.done), at(c.now), time.Minute)
			var got []string
			for _, tick := range b.run {
				got = append(got, tick.Format(time.TimeOnly))
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("run (-want +got):\n%s", diff)
			}
			if b.late != c.late || b.skipped != c.skipped || b.more {
				t.Errorf("late %t, skipped %d, more %t; want %t, %d, false", b.late, b.skipped, b.more, c.late, c.skipped)
			}
			// Whatever was settled does not come again.
			if again := planOf(t, c.schedule).due(b.done, at(c.now), time.Minute); len(again.run) > 0 || again.skipped > 0 {
				t.Errorf("a second look finds %v and %d skipped", again.run, again.skipped)
			}
		})
	}
}

func TestYearsOfSecondsAreNotCountedOneByOne(t *testing.T) {
	now := instant(t, "2026-11-29T10:00:00Z")
	for misfire, want := range map[Misfire]int{Once: 1, Skip: 61, All: 5 + 61} {
		b := planOf(t, Schedule{Every: time.Second, Misfire: misfire, MisfireMax: 5}).due(now.AddDate(-5, 0, 0), now, time.Minute)
		if len(b.run) != want || !b.more || !b.done.Equal(now) {
			t.Errorf("%s: %d run, more %t, done %s; want %d, true, %s", misfire, len(b.run), b.more, b.done, want, now)
		}
	}
	// Ticks that are dense only long ago: the latest 3 are found behind 11 months without any.
	b := planOf(t, Schedule{Cron: "* * * 1 *", Misfire: All, MisfireMax: 3}).due(now.AddDate(-5, 0, 0), now, time.Minute)
	want := []time.Time{instant(t, "2026-01-31T23:57:00Z"), instant(t, "2026-01-31T23:58:00Z"), instant(t, "2026-01-31T23:59:00Z")}
	if diff := cmp.Diff(want, b.run); diff != "" {
		t.Errorf("run (-want +got):\n%s", diff)
	}
}

func TestJitterIsTheSameInEveryReplicaAndKeepsTheOrder(t *testing.T) {
	p, q := planOf(t, Schedule{Every: 2 * time.Second, Jitter: 1900 * time.Millisecond}), planOf(t, Schedule{Every: 2 * time.Second, Jitter: 1900 * time.Millisecond})
	at := instant(t, "2026-11-29T10:00:00Z")
	seen := map[time.Duration]bool{}
	for range 100 {
		at = at.Add(2 * time.Second)
		delay := p.fireAt(at).Sub(at)
		if delay < 0 || delay > 1900*time.Millisecond || !q.fireAt(at).Equal(p.fireAt(at)) {
			t.Fatalf("%s is delayed by %s", at, delay)
		}
		seen[delay] = true
	}
	if len(seen) < 50 {
		t.Errorf("100 ticks have %d different delays", len(seen))
	}
}
