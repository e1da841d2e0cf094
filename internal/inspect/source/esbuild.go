package source

import "fmt"

// esbuildHelp answers for the functions that esbuild writes into a file to say what plain JavaScript
// cannot say; nil for any other name.
func (ev *evaluator) esbuildHelp(name string) *native {
	if len(name) < 3 || name[:2] != "__" {
		return nil
	}
	var f func(*evaluator, call) value
	switch name {
	case "__export":
		f = exportHelp
	case "__toESM":
		f = toESM
	case "__toCommonJS":
		f = func(_ *evaluator, c call) value {
			if o, ok := c.arg(0).(*object); ok {
				o.esModule = true
			}
			return c.arg(0)
		}
	case "__reExport":
		f = reExport
	case "__spreadValues":
		f = func(ev *evaluator, c call) value {
			if o, ok := c.arg(0).(*object); ok {
				ev.spread(o, c.arg(1))
			}
			return c.arg(0)
		}
	case "__spreadProps":
		f = func(ev *evaluator, c call) value {
			if o, ok := c.arg(0).(*object); ok {
				ev.spread(o, c.arg(1))
			}
			return c.arg(0)
		}
	case "__decorateClass":
		f = decorate
	case "__decorateParam":
		f = func(_ *evaluator, c call) value {
			return &paramDecorator{index: c.arg(0), decorator: c.arg(1)}
		}
	case "__privateAdd", "__privateSet", "__privateGet", "__privateMethod":
		f = privateHelp
	case "__publicField", "__defNormalProp":
		f = func(ev *evaluator, c call) value {
			if key, ok := text(c.arg(1)); ok {
				ev.put(c.arg(0), key, c.arg(2))
			}
			return c.arg(2)
		}
	case "__commonJS", "__esm":
		return nil
	default:
		f = func(*evaluator, call) value { return &unknown{} }
	}
	return &native{name: name, call: f}
}

func exportHelp(_ *evaluator, c call) value {
	into, ok := c.arg(0).(*object)
	from, ok2 := c.arg(1).(*object)
	if !ok || !ok2 {
		return undefined{}
	}
	for _, k := range from.keys {
		if f, ok := from.props[k].v.(*function); ok {
			into.set(k, undefined{}).getter = f
		}
	}
	return undefined{}
}

// toESM is how an import sees a module: CommonJS exports are its default.
func toESM(_ *evaluator, c call) value {
	o, ok := c.arg(0).(*object)
	if ok && o.esModule {
		return o
	}
	if n, ok := c.arg(0).(*native); ok {
		return n
	}
	out := newObject()
	out.esModule = true
	out.set("default", c.arg(0))
	if ok {
		out.reexports = []*object{o}
	} else {
		out.open = true
	}
	if u, ok := c.arg(0).(*unknown); ok {
		return u
	}
	return out
}

func reExport(_ *evaluator, c call) value {
	from, ok := c.arg(1).(*object)
	for _, v := range []value{c.arg(0), c.arg(2)} {
		into, isObject := v.(*object)
		if !isObject || into == from {
			continue
		}
		if ok {
			into.reexports = append(into.reexports, from)
		} else {
			into.open = true
		}
	}
	return undefined{}
}

// privateHelp reads and writes private members that esbuild keeps in a WeakMap of their own.
func privateHelp(ev *evaluator, c call) value {
	key := fmt.Sprintf("#%p", c.arg(1))
	if len(c.args) == 2 {
		return ev.get(c.arg(0), key, c.place)
	}
	ev.put(c.arg(0), key, c.arg(2))
	return c.arg(2)
}
