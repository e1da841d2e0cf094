package source

// A collection is a Map or a Set.
type collection struct {
	keys []value
	vals []value
	set  bool
	open bool
}

func newCollection(isSet bool) *native {
	name := "Map"
	if isSet {
		name = "Set"
	}
	return &native{name: name, call: func(ev *evaluator, c call) value {
		out := &collection{set: isSet}
		o := newObject()
		o.native = out
		if nullish(c.arg(0)) == yes {
			return o
		}
		items, _, known := ev.items(c.arg(0))
		out.open = !known
		for _, item := range items {
			if isSet {
				out.put(item, item)
				continue
			}
			if pair, ok := item.(*array); ok && len(pair.items) > 1 {
				out.put(pair.items[0], pair.items[1])
			} else {
				out.open = true
			}
		}
		return o
	}}
}

func (c *collection) index(key value) (int, truth) {
	if isUnknown(key) {
		return -1, maybe
	}
	for i, k := range c.keys {
		if same(k, key) {
			return i, yes
		}
	}
	if c.open {
		return -1, maybe
	}
	return -1, no
}

func (c *collection) put(key, v value) {
	switch i, found := c.index(key); found {
	case yes:
		c.vals[i] = v
	case no:
		c.keys, c.vals = append(c.keys, key), append(c.vals, v)
	case maybe:
		c.keys, c.vals = append(c.keys, key), append(c.vals, v)
		c.open = true
	}
}

// entries are what a loop over it visits.
func (c *collection) entries() []value {
	if c.set {
		return c.vals
	}
	out := make([]value, len(c.keys))
	for i := range c.keys {
		out[i] = &array{items: []value{c.keys[i], c.vals[i]}}
	}
	return out
}

func (c *collection) method(ev *evaluator, self *object, name string, k call) (value, bool) {
	i, found := c.index(k.arg(0))
	switch name {
	case "get":
		switch found {
		case yes:
			return c.vals[i], true
		case no:
			return undefined{}, true
		case maybe:
		}
		return either(append([]value{undefined{}}, c.vals...)...), true
	case "has":
		if found == maybe {
			return &unknown{}, true
		}
		return found == yes, true
	case "set":
		c.put(k.arg(0), k.arg(1))
		return self, true
	case "add":
		c.put(k.arg(0), k.arg(0))
		return self, true
	case "delete":
		if found == yes {
			c.keys = append(c.keys[:i:i], c.keys[i+1:]...)
			c.vals = append(c.vals[:i:i], c.vals[i+1:]...)
		}
		return true, true
	case "values":
		return &array{items: c.vals, open: c.open}, true
	case "keys":
		return &array{items: c.keys, open: c.open}, true
	case "entries":
		return &array{items: c.entries(), open: c.open}, true
	case "forEach":
		for j := range c.vals {
			ev.apply(k.arg(0), call{this: undefined{}, args: []value{c.vals[j], c.keys[j], self}, place: k.place})
		}
		return undefined{}, true
	}
	return nil, false
}

func (c *collection) property(_ *evaluator, _ *object, name string) value {
	if name == "size" && !c.open {
		return float64(len(c.vals))
	}
	return nil
}
