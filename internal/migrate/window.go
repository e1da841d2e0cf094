package migrate

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Window is a time of the week in which a migration may go forward: some days, from one time of day to
// another, in one time zone. One that ends before it begins lasts beyond midnight, and counts for the
// day on which it began.
type Window struct {
	days     [7]bool // by time.Weekday
	from, to int     // minutes after midnight
	zone     *time.Location
	text     string
}

// String is the window as it was written.
func (w Window) String() string { return w.text }

// ParseWindow reads "Mon-Fri 02:00-05:00 Europe/Vienna": days are one day, a range, or several of both
// with commas, or "daily"; the time zone is an IANA name, UTC when left out.
func ParseWindow(text string) (Window, error) {
	w := Window{text: text, zone: time.UTC}
	words := strings.Fields(text)
	if len(words) < 2 || len(words) > 3 {
		return w, fmt.Errorf("window: got %q, want days, times and perhaps a time zone, such as \"Mon-Fri 02:00-05:00 Europe/Vienna\"", text)
	}
	if err := w.parseDays(words[0]); err != nil {
		return w, err
	}
	from, to, ok := strings.Cut(words[1], "-")
	if !ok {
		return w, fmt.Errorf("window: got times %q, want such as 02:00-05:00", words[1])
	}
	var err error
	if w.from, err = parseClock(from); err != nil {
		return w, err
	}
	if w.to, err = parseClock(to); err != nil {
		return w, err
	}
	if w.from == w.to {
		return w, fmt.Errorf("window: got %q, which is no time at all", words[1])
	}
	if len(words) == 3 {
		if w.zone, err = time.LoadLocation(words[2]); err != nil || words[2] == "Local" {
			return w, fmt.Errorf("window: got time zone %q, want an IANA name such as Europe/Vienna", words[2])
		}
	}
	return w, nil
}

func (w *Window) parseDays(text string) error {
	if strings.EqualFold(text, "daily") {
		w.days = [7]bool{true, true, true, true, true, true, true}
		return nil
	}
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, "-")
		a, ok := parseDay(first)
		b := a
		if ranged && ok {
			b, ok = parseDay(last)
		}
		if !ok {
			return fmt.Errorf("window: got days %q, want such as Mon-Fri, Sat,Sun or daily", text)
		}
		for d := a; ; d = (d + 1) % 7 {
			w.days[d] = true
			if d == b {
				break
			}
		}
	}
	return nil
}

func parseDay(text string) (int, bool) {
	for d := time.Sunday; d <= time.Saturday; d++ {
		if strings.EqualFold(text, d.String()[:3]) || strings.EqualFold(text, d.String()) {
			return int(d), true
		}
	}
	return 0, false
}

func parseClock(text string) (int, error) {
	hour, minute, ok := strings.Cut(text, ":")
	h, errH := strconv.Atoi(hour)
	m, errM := strconv.Atoi(minute)
	if !ok || errH != nil || errM != nil || h < 0 || h > 24 || m < 0 || m > 59 || h == 24 && m > 0 || len(minute) != 2 {
		return 0, fmt.Errorf("window: got time %q, want hh:mm", text)
	}
	return h*60 + m, nil
}

// Open tells whether now is inside the window.
func (w Window) Open(now time.Time) bool {
	t := now.In(w.zone)
	minute, day := t.Hour()*60+t.Minute(), int(t.Weekday())
	if w.from < w.to {
		return w.days[day] && minute >= w.from && minute < w.to
	}
	return w.days[day] && minute >= w.from || w.days[(day+6)%7] && minute < w.to
}

// InWindow tells whether any of windows is open at now, which no window at all always is. next is when
// that changes, within eight days, else the zero time.
func InWindow(windows []Window, now time.Time) (open bool, next time.Time) {
	is := func(at time.Time) bool {
		for _, w := range windows {
			if w.Open(at) {
				return true
			}
		}
		return len(windows) == 0
	}
	open = is(now)
	if len(windows) == 0 {
		return open, time.Time{}
	}
	at := now.Truncate(time.Minute)
	for range 8 * 24 * 60 {
		if at = at.Add(time.Minute); is(at) != open {
			return open, at
		}
	}
	return open, time.Time{}
}
