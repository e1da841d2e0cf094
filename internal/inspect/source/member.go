package source

import (
	"strconv"
)

// A resident is what a library made: it answers for the methods and properties of the object that
// stands for it.
type resident interface {
	// method runs a method; it is not ok where the library has none of that name.
	method(ev *evaluator, self *object, name string, c call) (v value, ok bool)

	// property is nil where the library has none of that name.
	property(ev *evaluator, self *object, name string) value
}

// get reads a property.
func (ev *evaluator) get(of value, key string, at place) value {
	switch of := of.(type) {
	case *object:
		return ev.objectGet(of, key, at)
	case *array:
		if key == "length" {
			if of.open {
				return &unknown{}
			}
			return float64(len(of.items))
		}
		if i, err := strconv.Atoi(key); err == nil {
			if i >= 0 && i < len(of.items) {
				return of.items[i]
			}
			if !of.open {
				return undefined{}
			}
		}
		return &unknown{}
	case string:
		if key == "length" {
			return float64(len(of))
		}
		return &unknown{}
	case *class:
		return ev.classGet(of, key, at)
	case *function:
		if of.props != nil {
			if p := of.props.props[key]; p != nil {
				return p.v
			}
		}
		if key == "name" {
			return of.name
		}
		return &unknown{}
	case *native:
		if v, ok := of.props[key]; ok {
			return v
		}
		return &unknown{}
	case *unknown:
		var all []value
		for _, a := range of.alts {
			if nullish(a) == no {
				all = append(all, ev.get(a, key, at))
			}
		}
		if len(all) > 0 {
			return either(all...)
		}
	}
	return &unknown{}
}

func (ev *evaluator) objectGet(o *object, key string, at place) value {
	if p := o.find(key, 0); p != nil {
		if p.getter != nil {
			return ev.apply(p.getter, call{this: o, place: at})
		}
		return p.v
	}
	for c := o.class; c != nil; {
		if f := c.methods[key]; f != nil {
			return f
		}
		if f := c.getters[key]; f != nil {
			return ev.apply(f, call{this: o, place: at})
		}
		super, ok := c.super.(*class)
		if !ok {
			break
		}
		c = super
	}
	if key == "constructor" && o.class != nil {
		return o.class
	}
	if r, ok := o.native.(resident); ok {
		if v := r.property(ev, o, key); v != nil {
			return v
		}
		return &unknown{}
	}
	if o.open || o.class != nil && o.class.opaque() {
		return &unknown{}
	}
	return undefined{}
}

// opaque reports that a class extends one that is not read.
func (c *class) opaque() bool {
	for c != nil {
		switch super := c.super.(type) {
		case nil:
			return false
		case *class:
			c = super
		default:
			return true
		}
	}
	return false
}

func (ev *evaluator) classGet(c *class, key string, at place) value {
	if key == "prototype" {
		return &object{props: make(map[string]*prop), open: true, class: c}
	}
	for ; c != nil; c, _ = c.super.(*class) {
		if p := c.statics.props[key]; p != nil {
			if p.getter != nil {
				return ev.apply(p.getter, call{this: c, place: at})
			}
			return p.v
		}
		if key == "name" {
			return c.name
		}
	}
	return &unknown{}
}

// superMethod is the method that super.key names.
func superMethod(home *class, key string) *function {
	if home == nil {
		return nil
	}
	for c, _ := home.super.(*class); c != nil; c, _ = c.super.(*class) {
		if f := c.methods[key]; f != nil {
			return f
		}
	}
	return nil
}
