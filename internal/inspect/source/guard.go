package source

// A guard is a reason why something may happen less often, or more often, than once.
type guard struct {
	kind guardKind

	// group and branch tell the branches of one decision apart; branches is how many it has.
	group, branch, branches int

	place place

	// why is what could not be known, in words: an environment variable, a list.
	why string
}

type guardKind int

const (
	// branchGuard: one of several ways is taken.
	branchGuard guardKind = iota
	// loopGuard: it happens once for each of an unknown number of things.
	loopGuard
	// handlerGuard: it happens on every request, message or tick.
	handlerGuard
	// callbackGuard: a function was handed to code that is not read, and may be called.
	callbackGuard
	// uncalledGuard: nothing that is read calls the function.
	uncalledGuard
	// unreachedGuard: no entry point loads the file.
	unreachedGuard
)

// under runs f with one more guard.
func (ev *evaluator) under(g guard, f func()) {
	n := len(ev.guards)
	ev.guards = append(ev.guards[:n:n], g)
	f()
	ev.guards = ev.guards[:n]
}

// branch runs every way of a decision whose outcome is not known.
func (ev *evaluator) branch(at place, test value, ways ...func()) (group int) {
	ev.groups++
	group = ev.groups
	for i, way := range ways {
		if way != nil {
			ev.under(guard{kind: branchGuard, group: group, branch: i, branches: len(ways), place: at, why: whyUnknown(test)}, way)
		}
	}
	return group
}

func whyUnknown(v value) string {
	if u, ok := v.(*unknown); ok && u.env != "" {
		return "process.env." + u.env
	}
	return ""
}

// A span is how many there are, at least and at most.
type span struct {
	min, max float64

	// open says that there may be more than max: as many as something that the code does not say.
	open bool
}

func (s span) plus(o span) span { return span{s.min + o.min, s.max + o.max, s.open || o.open} }

// A weighed thing happens under guards.
type weighed struct {
	guards []guard
	span   span
}

// total adds things up: branches of one decision exclude each other, whatever may not happen counts
// for nothing at least, and whatever repeats is open above.
func total(all []weighed) span { return totalFrom(all, 0) }

func totalFrom(all []weighed, depth int) span {
	var sum span
	grouped := make(map[guard][]weighed)
	var order []guard
	for _, w := range all {
		if len(w.guards) <= depth {
			sum = sum.plus(w.span)
			continue
		}
		g := w.guards[depth]
		key := guard{kind: g.kind, group: g.group, branches: g.branches}
		if g.kind != branchGuard {
			key = g
		}
		if _, seen := grouped[key]; !seen {
			order = append(order, key)
		}
		grouped[key] = append(grouped[key], w)
	}
	for _, key := range order {
		sum = sum.plus(guarded(key, grouped[key], depth))
	}
	return sum
}

func guarded(key guard, all []weighed, depth int) span {
	switch key.kind {
	case branchGuard:
		ways := make([][]weighed, key.branches)
		for _, w := range all {
			b := w.guards[depth].branch
			ways[b] = append(ways[b], w)
		}
		out := totalFrom(ways[0], depth+1)
		for _, way := range ways[1:] {
			s := totalFrom(way, depth+1)
			out = span{min(out.min, s.min), max(out.max, s.max), out.open || s.open}
		}
		return out
	case loopGuard, handlerGuard:
		s := totalFrom(all, depth+1)
		return span{0, s.max, s.max > 0 || s.open}
	case callbackGuard, uncalledGuard, unreachedGuard:
		s := totalFrom(all, depth+1)
		return span{0, s.max, s.open}
	}
	return span{}
}
