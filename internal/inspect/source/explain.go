package source

import (
	"fmt"
	"slices"
	"strings"
)

// explain says what the numbers rest on.
func (s *scan) explain(r *Report) {
	r.Assumptions = []string{"processes: " + s.how}
	defaults := make(map[string]bool)
	unread := make(map[string]bool)
	for _, run := range s.runs {
		for name := range run.ev.defaults {
			defaults[name] = true
		}
		for what := range run.ev.unread {
			unread[what] = true
		}
		if run.ev.stopped != "" {
			r.Missing = append(r.Missing, processName(run.start)+": "+run.ev.stopped)
		}
	}
	if len(defaults) > 0 {
		r.Assumptions = append(r.Assumptions, "these variables are not set, so their defaults hold: "+strings.Join(sorted(defaults), ", "))
	}
	r.Assumptions = append(r.Assumptions,
		"NODE_ENV is production; a rolling deploy runs the old and the new version beside each other",
		"idle: nothing is added to any queue; 30 days")
	if n := len(s.project.beyond); n > 0 {
		r.Missing = append(r.Missing, fmt.Sprintf("%d files beyond %d MiB of loaded code were not followed", n, maxParsedBytes>>20))
	}
	for _, what := range sorted(unread) {
		r.Missing = append(r.Missing, "not found: "+what)
	}
}

func sorted(set map[string]bool) []string {
	out := make([]string, 0, len(set))
	for k := range set {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}

// unresolved lists the places where what the code does hangs on something that it does not tell.
func (s *scan) unresolved(r *Report) {
	seen := make(map[Unresolved]bool)
	add := func(p place, what, why string) {
		u := Unresolved{What: what, Why: why}
		u.File, u.Line, u.Column, _ = where(p)
		if !seen[u] {
			seen[u] = true
			r.Unresolved = append(r.Unresolved, u)
		}
	}
	for _, run := range s.runs {
		for _, k := range run.ev.made {
			what := fmt.Sprintf("how many times this makes a %s %s", k.library, k.kind)
			for _, g := range k.guards {
				if g.kind != unreachedGuard {
					add(k.place, what, g.reason())
				}
			}
			if k.link == unlinked {
				add(k.place, "whether the connection is shared", "the options come from code that is not read")
			}
			if k.kind == Client && k.lazy != nil && !k.used && k.library != Upstash {
				add(k.place, "whether the client ever connects", "nothing that was read uses it")
			}
		}
	}
}

// reason is why something may not happen exactly once.
func (g guard) reason() string {
	_, line, _, ok := where(g.place)
	at := ""
	if ok {
		at = fmt.Sprintf(" (line %d)", line)
	}
	why := g.why
	switch {
	case why != "" && g.kind == branchGuard:
		why = "depends on " + why
	case why != "" && g.kind == loopGuard:
		why = "once for each of " + why
	case why != "":
	case g.kind == branchGuard:
		why = "a condition is not known"
	case g.kind == loopGuard:
		why = "a list is not known"
	default:
		why = "the calls are not known"
	}
	return why + at
}
