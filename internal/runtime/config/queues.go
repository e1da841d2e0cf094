package config

import (
	"cmp"
	"slices"
	"time"
)

// ByMigrationOrder is the queues, safest to migrate first; those without a place come last, as
// listed.
func (q Queues) ByMigrationOrder() []Queue {
	all := slices.Clone(q.List)
	slices.SortStableFunc(all, func(a, b Queue) int {
		if (a.MigrationOrder == 0) != (b.MigrationOrder == 0) {
			return cmp.Compare(b.MigrationOrder, a.MigrationOrder)
		}
		return cmp.Compare(a.MigrationOrder, b.MigrationOrder)
	})
	return all
}

// A Pause says whether a queue may be paused.
type Pause struct {
	// Safe is whether it may be paused at all.
	Safe bool

	// Most is how long it may be paused; zero with Safe means for any time.
	Most time.Duration

	// Guards are the critical queues that depend on this one, directly or through others, sorted.
	Guards []string
}

// PauseOf says whether the queue name may be paused. A critical queue may not. One that critical
// queues depend on may be paused for its max_pause, and not at all while that is unknown. A queue
// that is not listed may not be paused either: nothing is known about it.
func (q Queues) PauseOf(name string) Pause {
	i := slices.IndexFunc(q.List, func(x Queue) bool { return x.Name == name })
	if i < 0 {
		return Pause{}
	}
	queue := q.List[i]
	p := Pause{Most: queue.MaxPause}
	for _, other := range q.List {
		if other.Criticality == Critical && other.Name != name && q.reaches(other.Name, name) {
			p.Guards = append(p.Guards, other.Name)
		}
	}
	slices.Sort(p.Guards)
	switch {
	case queue.Criticality == Critical:
		p.Most = 0
	case len(p.Guards) == 0:
		p.Safe = true
	default:
		p.Safe = queue.MaxPause > 0
	}
	return p
}

// reaches is whether from depends on to, directly or through others.
func (q Queues) reaches(from, to string) bool {
	seen := map[string]bool{from: true}
	for next := []string{from}; len(next) > 0; {
		name := next[0]
		next = next[1:]
		for _, queue := range q.List {
			if queue.Name != name {
				continue
			}
			for _, on := range queue.DependsOn {
				if on == to {
					return true
				}
				if !seen[on] {
					seen[on] = true
					next = append(next, on)
				}
			}
		}
	}
	return false
}

// cycle is a circle of dependencies, its first name repeated at its end, or nil.
func (q Queues) cycle() []string {
	on := map[string][]string{}
	for _, queue := range q.List {
		on[queue.Name] = queue.DependsOn
	}
	const (
		open = 1 + iota
		done
	)
	state := map[string]int{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		switch state[name] {
		case done:
			return nil
		case open:
			return append(slices.Clone(path[slices.Index(path, name):]), name)
		}
		state[name] = open
		path = append(path, name)
		for _, next := range on[name] {
			if found := visit(next); found != nil {
				return found
			}
		}
		path = path[:len(path)-1]
		state[name] = done
		return nil
	}
	for _, queue := range q.List {
		if found := visit(queue.Name); found != nil {
			return found
		}
	}
	return nil
}
