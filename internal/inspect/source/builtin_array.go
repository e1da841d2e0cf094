package source

import (
	"slices"
	"strings"
)

// arrayMethod runs the methods of arrays that code uses to make things.
func (ev *evaluator) arrayMethod(a *array, key string, c call) (value, bool) {
	switch key {
	case "push", "unshift":
		a.items = append(a.items, c.args...)
		return float64(len(a.items)), true
	case "concat":
		out := &array{items: slices.Clone(a.items), open: a.open}
		for _, v := range c.args {
			items, _, known := ev.items(v)
			out.items = append(out.items, items...)
			out.open = out.open || !known
		}
		return out, true
	case "slice", "reverse", "sort", "flat", "values", "filter":
		if key == "flat" {
			return ev.flat(a), true
		}
		if key == "filter" {
			return ev.filter(a, c), true
		}
		return ev.slice(a, key, c), true
	case "forEach":
		ev.eachItem(a, c, func(value) {})
		return undefined{}, true
	case "map":
		out := &array{open: a.open}
		ev.eachItem(a, c, func(v value) { out.items = append(out.items, v) })
		return out, true
	case "flatMap":
		out := &array{open: a.open}
		ev.eachItem(a, c, func(v value) { out.items = append(out.items, v) })
		return ev.flat(out), true
	case "reduce":
		return ev.reduce(a, c), true
	case "find", "some", "every":
		ev.eachItem(a, c, func(value) {})
		if len(a.items) > 0 && key == "find" {
			return either(append(slices.Clone(a.items), undefined{})...), true
		}
		return &unknown{}, true
	case "includes", "indexOf":
		return ev.contains(a, key, c), true
	case "join":
		return joined(a, c), true
	case "keys":
		out := &array{open: a.open}
		for i := range a.items {
			out.items = append(out.items, float64(i))
		}
		return out, true
	case "entries":
		out := &array{open: a.open}
		for i, v := range a.items {
			out.items = append(out.items, &array{items: []value{float64(i), v}})
		}
		return out, true
	case "fill":
		for i := range a.items {
			a.items[i] = c.arg(0)
		}
		return a, true
	case "at":
		if i, ok := c.arg(0).(float64); ok && len(a.items) > 0 && !a.open {
			n := int(i)
			if n < 0 {
				n += len(a.items)
			}
			if n >= 0 && n < len(a.items) {
				return a.items[n], true
			}
		}
		return &unknown{}, true
	}
	return nil, false
}

// eachItem calls a function for every item, and once more for those that are not known.
func (ev *evaluator) eachItem(a *array, c call, take func(value)) {
	f := c.arg(0)
	for i, v := range slices.Clone(a.items) {
		if i > maxIterations {
			break
		}
		take(ev.apply(f, call{this: undefined{}, args: []value{v, float64(i), a}, place: c.place}))
	}
	if a.open {
		ev.under(guard{kind: loopGuard, place: c.place}, func() {
			take(ev.apply(f, call{this: undefined{}, args: []value{&unknown{}, &unknown{}, a}, place: c.place}))
		})
	}
}

func (ev *evaluator) filter(a *array, c call) value {
	out := &array{open: a.open}
	for i, v := range slices.Clone(a.items) {
		f := c.arg(0)
		if n, ok := f.(*native); ok && n.name == "Boolean" {
			if truthy(v) != no {
				out.items = append(out.items, v)
			}
			continue
		}
		switch truthy(ev.apply(f, call{this: undefined{}, args: []value{v, float64(i), a}, place: c.place})) {
		case yes:
			out.items = append(out.items, v)
		case maybe:
			out.open = true
		case no:
		}
	}
	return out
}

func (ev *evaluator) slice(a *array, key string, c call) value {
	out := &array{items: slices.Clone(a.items), open: a.open}
	switch key {
	case "reverse":
		slices.Reverse(out.items)
	case "slice":
		from, ok := c.arg(0).(float64)
		if !ok {
			return out
		}
		to := float64(len(out.items))
		if t, ok := c.arg(1).(float64); ok {
			to = t
		}
		bound := func(f float64) int {
			n := int(f)
			if n < 0 {
				n += len(out.items)
			}
			return min(max(n, 0), len(out.items))
		}
		i, j := bound(from), bound(to)
		out.items = out.items[i:max(i, j)]
	}
	return out
}

func (ev *evaluator) flat(a *array) value {
	out := &array{open: a.open}
	for _, v := range a.items {
		if inner, ok := v.(*array); ok {
			out.items = append(out.items, inner.items...)
			out.open = out.open || inner.open
			continue
		}
		out.items = append(out.items, v)
	}
	return out
}

func (ev *evaluator) reduce(a *array, c call) value {
	items := a.items
	var acc value
	if len(c.args) > 1 {
		acc = c.args[1]
	} else {
		if len(items) == 0 {
			return &unknown{}
		}
		acc, items = items[0], items[1:]
	}
	for i, v := range items {
		acc = ev.apply(c.arg(0), call{this: undefined{}, args: []value{acc, v, float64(i), a}, place: c.place})
	}
	if a.open {
		ev.under(guard{kind: loopGuard, place: c.place}, func() {
			ev.apply(c.arg(0), call{this: undefined{}, args: []value{acc, &unknown{}, &unknown{}, a}, place: c.place})
		})
	}
	return acc
}

func (ev *evaluator) contains(a *array, key string, c call) value {
	for i, v := range a.items {
		switch equal(v, c.arg(0)) {
		case yes:
			if key == "indexOf" {
				return float64(i)
			}
			return true
		case maybe:
			return &unknown{env: envOf(c.arg(0))}
		case no:
		}
	}
	if a.open {
		return &unknown{}
	}
	if key == "indexOf" {
		return -1.0
	}
	return false
}

func joined(a *array, c call) value {
	sep, ok := c.arg(0).(string)
	if !ok {
		sep = ","
	}
	var parts []string
	for _, v := range a.items {
		s, ok := text(v)
		if !ok || a.open {
			return &unknown{}
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, sep)
}
