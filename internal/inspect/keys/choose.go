package keys

import (
	"cmp"
	"slices"
)

// A group is the names of one prefix, in the order in which they came.
type group struct {
	prefix string
	family Family
	draws  int      // names, those drawn twice counted twice
	names  []string // each once
}

// groups divides names by prefix, most names first.
func (a *audit) groups(names []string) []*group {
	depth := 2
	if a.opts.Prefix != "" {
		depth = len(partsOf(a.opts.Prefix)) + 1
	}
	g := newGrouper(names, depth)
	by := map[string]*group{}
	once := map[string]bool{}
	var all []*group
	for _, name := range names {
		p, f := g.of(name)
		one := by[p]
		if one == nil {
			one = &group{prefix: p, family: f}
			by[p] = one
			all = append(all, one)
		}
		one.draws++
		if !once[name] {
			once[name] = true
			one.names = append(one.names, name)
		}
	}
	slices.SortFunc(all, func(a, b *group) int {
		return cmp.Or(cmp.Compare(b.draws, a.draws), cmp.Compare(a.prefix, b.prefix))
	})
	return merge(all)
}

// maxPrefixes is how many prefixes a report tells apart; the smallest of the rest are one.
const maxPrefixes = 30

// merge puts the smallest groups of the application's own keys together.
func merge(all []*group) []*group {
	if len(all) <= maxPrefixes {
		return all
	}
	kept, other := all[:0:0], &group{prefix: otherPrefix}
	for i, g := range all {
		if i < maxPrefixes-1 || g.family != "" {
			kept = append(kept, g)
			continue
		}
		other.draws += g.draws
		other.names = append(other.names, g.names...)
	}
	if other.draws == 0 {
		return kept
	}
	return append(kept, other)
}

// choose picks n keys: three quarters by lot, at least minSamples of each prefix while that lasts and the
// rest in proportion; the others for their name, since one without an id in it is likely a collection. Unless
// the names are complete, the collections that a queue has are among these even when nobody saw their names.
// With room for all, all are taken.
func choose(groups []*group, n int, complete bool) (lot, picked []*Key) {
	total := 0
	for _, g := range groups {
		total += len(g.names)
	}
	byLot := n
	if total > n {
		byLot = n - n/4
	}
	lot, picked = take(groups, byLot, complete)
	// Other keys are drawn when more are, so that fewer of those picked may be among them: then a few less are drawn.
	for spare := n - len(lot) - len(picked); spare > 0 && total > n; {
		lot, picked = take(groups, byLot+spare, complete)
		over := len(lot) + len(picked) - n
		if over <= 0 {
			break
		}
		if spare -= over; spare <= 0 {
			lot, picked = take(groups, byLot, complete)
		}
	}
	if left := max(n-len(lot), 0); len(picked) > left {
		// Those of queues and limiters first: they are known to grow.
		slices.SortStableFunc(picked, func(a, b *Key) int { return cmp.Compare(rank(a), rank(b)) })
		picked = picked[:left]
	}
	return lot, picked
}

// take draws n keys by lot and lists those of the others that have no id in their name or are a queue's.
func take(groups []*group, n int, complete bool) (lot, named []*Key) {
	quota := divide(groups, n)
	for i, g := range groups {
		chosen := map[int]bool{}
		for k := range quota[i] {
			at := k * len(g.names) / quota[i] // evenly: names came in no order that matters
			chosen[at] = true
			lot = append(lot, &Key{Name: g.names[at], Prefix: g.prefix, Family: g.family})
		}
		have := map[string]bool{}
		for at, name := range g.names {
			have[name] = true
			if !chosen[at] && structural(name) {
				named = append(named, &Key{Name: name, Prefix: g.prefix, Family: g.family, picked: true})
			}
		}
		if complete {
			continue
		}
		for _, name := range collections(g.prefix, g.family) {
			if !have[name] {
				named = append(named, &Key{Name: name, Prefix: g.prefix, Family: g.family, picked: true, guessed: true})
			}
		}
	}
	return lot, named
}

func rank(k *Key) int {
	if k.Family.owned() {
		return 0
	}
	return 1
}

// divide gives each group its number of samples: one, then up to half of minSamples and up to all of it,
// the largest groups first, then in proportion.
func divide(groups []*group, n int) []int {
	quota := make([]int, len(groups))
	for _, enough := range []int{1, minSamples / 2, minSamples} {
		for i, g := range groups {
			more := min(min(len(g.names), enough)-quota[i], n)
			quota[i] += more
			n -= more
		}
	}
	rest := 0
	for i, g := range groups {
		rest += len(g.names) - quota[i]
	}
	left := n
	for i, g := range groups {
		if rest == 0 {
			break
		}
		more := min((len(g.names)-quota[i])*left/rest, len(g.names)-quota[i], n)
		quota[i] += more
		n -= more
	}
	for i, g := range groups { // what rounding left
		more := min(len(g.names)-quota[i], n)
		quota[i] += more
		n -= more
	}
	return quota
}
