package source

import (
	"math"
	"strconv"
	"strings"
)

// globals are what code finds without importing it.
func globals() map[string]value {
	global := newObject()
	object := objectGlobal()
	g := map[string]value{
		"undefined": undefined{}, "NaN": math.NaN(), "Infinity": math.Inf(1),
		"global": global, "globalThis": global,
		"process": process(), "Object": object, "Array": arrayGlobal(), "Math": mathGlobal(),
		"Map": newCollection(false), "Set": newCollection(true),
		"WeakMap": newCollection(false), "WeakSet": newCollection(true),
		"Promise": promiseGlobal(), "JSON": jsonGlobal(),
		"Number": conversion("Number", toNumber), "parseInt": conversion("parseInt", toInteger),
		"parseFloat": conversion("parseFloat", toNumber), "String": conversion("String", toText),
		"Boolean": conversion("Boolean", toBool), "Symbol": conversion("Symbol", func(value) value { return &unknown{} }),
		"Error": conversion("Error", func(value) value { return &unknown{} }),
	}
	for _, name := range []string{"setTimeout", "setImmediate", "queueMicrotask", "setInterval"} {
		g[name] = &native{name: name}
	}
	return g
}

func method(name string, f func(ev *evaluator, c call) value) *native {
	return &native{name: name, call: f}
}

func conversion(name string, f func(value) value) *native {
	return method(name, func(_ *evaluator, c call) value {
		v := likely(c.arg(0))
		if u, ok := v.(*unknown); ok {
			return &unknown{env: u.env}
		}
		return f(v)
	})
}

func toNumber(v value) value {
	if n, ok := number(v); ok {
		return n
	}
	return &unknown{}
}

func toInteger(v value) value {
	if s, ok := v.(string); ok {
		s = strings.TrimSpace(s)
		end := 0
		for end < len(s) && (s[end] >= '0' && s[end] <= '9' || end == 0 && s[end] == '-') {
			end++
		}
		if n, err := strconv.Atoi(s[:end]); err == nil {
			return float64(n)
		}
		return &unknown{}
	}
	if n, ok := number(v); ok {
		return math.Trunc(n)
	}
	return &unknown{}
}

func toText(v value) value {
	if s, ok := text(v); ok {
		return s
	}
	return &unknown{}
}

func toBool(v value) value {
	switch truthy(v) {
	case yes:
		return true
	case no:
		return false
	case maybe:
	}
	return &unknown{}
}

// environment is process.env: the names are of interest, the values are never read.
type environment struct{}

func (environment) method(*evaluator, *object, string, call) (value, bool) { return nil, false }

func (environment) property(ev *evaluator, _ *object, name string) value {
	if v, ok := ev.known[name]; ok {
		ev.env[name] = true
		return v
	}
	if name == "NODE_ENV" {
		return "production"
	}
	ev.env[name] = true
	return &unknown{env: name}
}

func process() *object {
	env := newObject()
	env.native = environment{}
	p := newObject()
	p.open = true
	p.set("env", env)
	p.set("on", method("on", ignore))
	p.set("once", method("once", ignore))
	p.set("exit", method("exit", ignore))
	p.set("nextTick", &native{name: "nextTick"})
	return p
}

// ignore is for functions whose callbacks run when the process ends.
func ignore(*evaluator, call) value { return undefined{} }

func objectGlobal() *native {
	list := func(take func(ev *evaluator, o *object, k string, at place) value) func(*evaluator, call) value {
		return func(ev *evaluator, c call) value {
			out := &array{}
			switch v := likely(c.arg(0)).(type) {
			case *object:
				out.open = v.open
				for _, k := range v.keys {
					out.items = append(out.items, take(ev, v, k, c.place))
				}
			case *array:
				for i, item := range v.items {
					o := newObject()
					o.set(strconv.Itoa(i), item)
					out.items = append(out.items, take(ev, o, strconv.Itoa(i), c.place))
				}
				out.open = v.open
			default:
				out.open = true
			}
			return out
		}
	}
	same := func(_ *evaluator, c call) value { return c.arg(0) }
	return &native{name: "Object", props: map[string]value{
		"keys":   method("keys", list(func(_ *evaluator, _ *object, k string, _ place) value { return k })),
		"values": method("values", list(func(ev *evaluator, o *object, k string, at place) value { return ev.get(o, k, at) })),
		"entries": method("entries", list(func(ev *evaluator, o *object, k string, at place) value {
			return &array{items: []value{k, ev.get(o, k, at)}}
		})),
		"freeze": method("freeze", same), "seal": method("seal", same), "preventExtensions": method("preventExtensions", same),
		"assign": method("assign", func(ev *evaluator, c call) value {
			into, ok := likely(c.arg(0)).(*object)
			if !ok {
				return c.arg(0)
			}
			for _, v := range c.args[1:] {
				ev.spread(into, v)
			}
			return into
		}),
		"fromEntries": method("fromEntries", func(ev *evaluator, c call) value {
			out := newObject()
			items, _, known := ev.items(c.arg(0))
			out.open = !known
			for _, item := range items {
				pair, ok := item.(*array)
				if !ok || len(pair.items) < 2 {
					out.open = true
					continue
				}
				if k, ok := text(pair.items[0]); ok {
					out.set(k, pair.items[1])
				} else {
					out.open = true
				}
			}
			return out
		}),
		"create": method("create", func(*evaluator, call) value { return newObject() }),
		"defineProperty": method("defineProperty", func(_ *evaluator, c call) value {
			o, ok := likely(c.arg(0)).(*object)
			key, known := text(c.arg(1))
			if d, isObject := c.arg(2).(*object); ok && known && isObject {
				if f, isGetter := d.field("get").(*function); isGetter {
					o.set(key, undefined{}).getter = f
				} else if d.has("value") {
					o.set(key, d.field("value"))
				}
				if key == "__esModule" {
					o.esModule = true
					o.drop(key)
				}
			}
			return c.arg(0)
		}),
	}}
}

func arrayGlobal() *native {
	n := method("Array", func(_ *evaluator, c call) value {
		if length, ok := c.arg(0).(float64); ok && len(c.args) == 1 {
			return ofLength(length)
		}
		return &array{items: c.args}
	})
	n.props = map[string]value{
		"isArray": method("isArray", func(_ *evaluator, c call) value {
			switch c.arg(0).(type) {
			case *array:
				return true
			case *unknown:
				return &unknown{}
			}
			return false
		}),
		"of": method("of", func(_ *evaluator, c call) value { return &array{items: c.args} }),
		"from": method("from", func(ev *evaluator, c call) value {
			a := &array{}
			if o, ok := likely(c.arg(0)).(*object); ok && o.native == nil {
				length, known := o.field("length").(float64)
				if known {
					a = ofLength(length)
				} else {
					a.open = true
				}
			} else {
				items, _, known := ev.items(c.arg(0))
				a.items, a.open = items, !known
			}
			if len(c.args) < 2 {
				return a
			}
			out := &array{open: a.open}
			ev.eachItem(a, call{args: c.args[1:], place: c.place}, func(v value) { out.items = append(out.items, v) })
			return out
		}),
	}
	return n
}

func ofLength(length float64) *array {
	a := &array{}
	if length > maxIterations || length < 0 {
		a.open = true
		return a
	}
	for range int(length) {
		a.items = append(a.items, undefined{})
	}
	return a
}

func mathGlobal() *native {
	fold := func(pick func(a, b float64) float64) func(*evaluator, call) value {
		return func(_ *evaluator, c call) value {
			var out float64
			for i, v := range c.args {
				n, ok := v.(float64)
				if !ok {
					return &unknown{}
				}
				if out = n; i > 0 {
					first, _ := c.args[0].(float64)
					out = pick(first, n)
					c.args[0] = out
				}
			}
			return out
		}
	}
	round := func(name string, f func(float64) float64) *native {
		return method(name, func(_ *evaluator, c call) value {
			if n, ok := number(c.arg(0)); ok {
				return f(n)
			}
			return &unknown{}
		})
	}
	return &native{name: "Math", props: map[string]value{
		"max": method("max", fold(math.Max)), "min": method("min", fold(math.Min)),
		"floor": round("floor", math.Floor), "ceil": round("ceil", math.Ceil), "round": round("round", math.Round),
	}}
}

func promiseGlobal() *native {
	first := func(_ *evaluator, c call) value { return c.arg(0) }
	n := method("Promise", func(ev *evaluator, c call) value {
		var out value = undefined{}
		resolve := method("resolve", func(_ *evaluator, c call) value {
			out = c.arg(0)
			return undefined{}
		})
		ev.apply(c.arg(0), call{this: undefined{}, args: []value{resolve, method("reject", ignore)}, place: c.place})
		return out
	})
	n.props = map[string]value{
		"all": method("all", first), "resolve": method("resolve", first),
		"allSettled": method("allSettled", func(*evaluator, call) value { return &unknown{} }),
		"race":       method("race", func(*evaluator, call) value { return &unknown{} }),
		"any":        method("any", func(*evaluator, call) value { return &unknown{} }),
		"reject":     method("reject", func(*evaluator, call) value { return &unknown{} }),
	}
	return n
}

func jsonGlobal() *native {
	return &native{name: "JSON", props: map[string]value{
		"parse": method("parse", func(_ *evaluator, c call) value {
			if u, ok := c.arg(0).(*unknown); ok && u.from != nil {
				u.from.parsed = append(u.from.parsed, c.place)
			}
			return &unknown{}
		}),
		"stringify": method("stringify", func(*evaluator, call) value { return &unknown{from: &command{name: "JSON.stringify"}} }),
	}}
}
