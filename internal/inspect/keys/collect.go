package keys

import (
	"cmp"
	"slices"
	"strconv"
	"time"
)

const maxBiggest = 10

func integer(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// collect makes the report's prefixes and largest keys of what was seen.
func (a *audit) collect(groups []*group, lot, picked []*Key) {
	r := a.report
	by := map[string][]*Key{}
	for _, k := range lot {
		if k.gone {
			r.Gone++
			continue
		}
		r.Detailed++
		by[k.Prefix] = append(by[k.Prefix], k)
	}
	for _, g := range groups {
		r.Prefixes = append(r.Prefixes, a.prefix(g, by[g.prefix]))
	}
	var all []*Key
	for _, k := range slices.Concat(lot, picked) {
		k.FullRead = a.fullRead(k)
		switch {
		case k.gone && k.picked && !k.guessed:
			r.Gone++
		case !k.gone:
			all = append(all, k)
			if k.picked {
				r.Picked++
			}
		}
	}
	slices.SortStableFunc(all, func(x, y *Key) int {
		return cmp.Or(cmp.Compare(deref(y.Bytes), deref(x.Bytes)), cmp.Compare(deref(y.Elements), deref(x.Elements)), cmp.Compare(x.Name, y.Name))
	})
	for _, k := range all[:min(len(all), maxBiggest)] {
		one := *k
		one.Name, one.Prefix = printable(k.Name), printable(k.Prefix)
		r.Biggest = append(r.Biggest, one)
	}
}

func deref(n *int64) int64 {
	if n == nil {
		return -1
	}
	return *n
}

// prefix sums up the keys of a group that were looked at by lot.
func (a *audit) prefix(g *group, keys []*Key) Prefix {
	r := a.report
	complete := r.Complete
	p := Prefix{
		Name: printable(g.prefix), Family: g.family, Share: shareOf(g.draws, r.Names, complete),
		Detailed: len(keys), Types: map[string]int{}, TTL: []Expiry{},
	}
	p.Keys = float64(g.draws)
	if !complete && r.Names > 0 && a.opts.pattern() == "" {
		p.Keys = float64(g.draws) / float64(r.Names) * float64(r.Keys)
	}
	all := complete && len(keys) == len(g.names)
	forever, known, bytes, sized := 0, 0, int64(0), 0
	var idle []float64
	for _, k := range keys {
		if k.Type != "" {
			p.Types[k.Type]++
		}
		if k.ttlKnown {
			known++
			if k.TTLSeconds == nil {
				forever++
			}
		}
		if k.Bytes != nil {
			sized++
			bytes += *k.Bytes
		}
		if k.idle != nil {
			idle = append(idle, *k.idle)
		}
	}
	p.NoTTL = shareOf(forever, known, all && known == len(keys))
	p.TTL = expiries(keys)
	if sized > 0 && (sized >= minSamples || all && sized == len(keys)) {
		mean := float64(bytes) / float64(sized)
		p.MeanBytes, p.TotalBytes = new(mean), new(mean*p.Keys)
	}
	if len(idle) > 0 {
		slices.Sort(idle)
		p.IdleMedianSeconds = new(idle[len(idle)/2])
	}
	p.Values = values(keys, all)
	return p
}

// expiries counts the keys that expire, by how long they stay.
func expiries(keys []*Key) []Expiry {
	const day = 24 * time.Hour
	bounds := []time.Duration{time.Minute, time.Hour, day, 7 * day, 30 * day}
	counts := make([]int, len(bounds)+1)
	for _, k := range keys {
		if k.TTLSeconds == nil {
			continue
		}
		i := slices.IndexFunc(bounds, func(d time.Duration) bool { return *k.TTLSeconds <= d.Seconds() })
		if i < 0 {
			i = len(bounds)
		}
		counts[i]++
	}
	out := []Expiry{}
	for i, n := range counts {
		if n == 0 {
			continue
		}
		e := Expiry{Keys: n}
		if i < len(bounds) {
			e.UpToSeconds = int64(bounds[i].Seconds())
		}
		out = append(out, e)
	}
	return out
}

// values sums up the classes of string values; nil where none was read.
func values(keys []*Key, all bool) *Values {
	v := &Values{Classes: map[Class]int{}}
	n, throws, changes, damaged, strings := 0, 0, 0, 0, 0
	for _, k := range keys {
		if k.Type == "string" {
			strings++
		}
		if k.value == nil {
			continue
		}
		n++
		v.Classes[k.value.class]++
		throws += count(k.value.throws)
		changes += count(k.value.changes)
		damaged += count(k.value.damaged)
	}
	if n == 0 {
		return nil
	}
	exact := all && n == strings
	v.Throws, v.Changes, v.Damaged = shareOf(throws, n, exact), shareOf(changes, n, exact), shareOf(damaged, n, exact)
	return v
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// fullRead prices a read of all of k. Memory stands for the length of the reply where that is not known.
func (a *audit) fullRead(k *Key) FullRead {
	commands := map[string]string{
		"string": "GET", "hash": "HGETALL", "list": "LRANGE 0 -1", "set": "SMEMBERS", "zset": "ZRANGE 0 -1", "stream": "XRANGE - +",
	}
	f := FullRead{Command: commands[k.Type], Bytes: k.Bytes}
	if k.length != nil {
		f.Bytes = k.length
	}
	if f.Bytes != nil && f.Command != "" {
		f.Commands = int(max(1, (*f.Bytes+a.opts.RequestLimit-1)/a.opts.RequestLimit))
		f.OverLimit = *f.Bytes > a.opts.RequestLimit
	}
	return f
}
