package main

import (
	"fmt"
	"strings"
	"time"
)

// redrawEvery bounds how often a line on a terminal is drawn again.
const redrawEvery = 100 * time.Millisecond

// progress tells how far long work came: on a terminal one line that is drawn again and again, with
// rate and time left; elsewhere one plain line when a step begins, and one more when it ends if it took
// longer than a second. --quiet hides it. It is used by one goroutine.
type progress struct {
	a     *app
	unit  string
	live  bool
	drawn bool

	step    string
	started time.Time
	last    time.Time
	done    int64
	total   int64
}

// progress starts to report work that is counted in unit, a plural such as "jobs". The caller ends it with
// finish.
func (a *app) progress(unit string) *progress {
	live := a.errTerminal && !a.flags.quiet && a.ansi && a.getenv("TERM") != "dumb"
	return &progress{a: a, unit: unit, live: live}
}

// begin ends the step before, if any, and begins the next. total is 0 where it is not known.
func (p *progress) begin(step string, total int64) {
	p.finish()
	p.step, p.started, p.done, p.total = step, p.a.now(), 0, total
	p.last = time.Time{}
	if p.live {
		p.draw()
		return
	}
	if total > 0 {
		p.a.note("%s: %s", step, p.count(total))
	} else {
		p.a.note("%s", step)
	}
}

// update says how much of the step is done. total replaces what begin said when it is not 0.
func (p *progress) update(done, total int64) {
	p.done = done
	if total > 0 {
		p.total = total
	}
	if p.live && p.a.now().Sub(p.last) >= redrawEvery {
		p.draw()
	}
}

// finish ends the step with one line that stays. Without a step it does nothing.
func (p *progress) finish() {
	if p.step == "" {
		return
	}
	p.erase()
	took := p.a.now().Sub(p.started)
	switch {
	case !p.live && took < time.Second:
	case p.done > 0:
		p.a.note("%s: %s in %s (%s)", p.step, p.count(p.done), shortDuration(took), p.rate(took))
	default:
		p.a.note("%s: done in %s", p.step, shortDuration(took))
	}
	p.step = ""
}

// count is n of the unit: "1 job", "2 jobs".
func (p *progress) count(n int64) string {
	return plural(n, strings.TrimSuffix(p.unit, "s"))
}

func (p *progress) draw() {
	p.last = p.a.now()
	text := p.line(p.last)
	if limit := p.a.columns() - 1; len(text) > limit {
		text = text[:limit]
	}
	_, _ = fmt.Fprint(p.a.err, "\r\x1b[K"+text)
	p.drawn = true
}

func (p *progress) erase() {
	if p.drawn {
		_, _ = fmt.Fprint(p.a.err, "\r\x1b[K")
		p.drawn = false
	}
}

// line is "copy mail: 1200/5000 jobs, 24%, 800 jobs/s, 5s left", as far as it is known.
func (p *progress) line(now time.Time) string {
	took := now.Sub(p.started)
	var parts []string
	switch {
	case p.total > 0:
		parts = append(parts, fmt.Sprintf("%d/%d %s", p.done, p.total, p.unit), fmt.Sprintf("%d%%", 100*p.done/p.total))
	case p.done > 0:
		parts = append(parts, p.count(p.done))
	default:
		return fmt.Sprintf("%s: %s", p.step, shortDuration(took))
	}
	if p.done > 0 && took > 0 {
		parts = append(parts, p.rate(took))
		if left := p.total - p.done; left > 0 {
			wait := time.Duration(float64(took) / float64(p.done) * float64(left))
			parts = append(parts, shortDuration(wait)+" left")
		}
	}
	return p.step + ": " + strings.Join(parts, ", ")
}

func (p *progress) rate(took time.Duration) string {
	if took <= 0 {
		return "at once"
	}
	return fmt.Sprintf("%.0f %s/s", float64(p.done)/took.Seconds(), p.unit)
}

// shortDuration rounds d to what a person reads: milliseconds below a second, seconds above.
func shortDuration(d time.Duration) string {
	switch {
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	case d < 10*time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}
