package source

import (
	"slices"
	"strconv"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
)

// A value is what an expression is known to be: undefined, null, bool, float64, string, *object,
// *array, *function, *native, *class or *unknown.
type value any

type (
	undefined struct{}
	null      struct{}
)

// An unknown is a value that reading the code does not tell.
type unknown struct {
	// env is the environment variable it came from, when that is all it is.
	env string

	// alts are the values it may have; none when nothing is known.
	alts []value

	// from is what produced it, for rules that ask.
	from *command
}

// A place is where something is written.
type place struct {
	mod *module
	at  file.Idx
	pos *goPlace // in a Go file, instead of the others
}

// A prop is one property, with where it was written when an object literal holds it.
type prop struct {
	v      value
	getter *function
	place  place          // of the key
	node   ast.Expression // the value as written; nil when it was not written out
}

// An object is an object literal, an instance of a class, or the exports of a module.
type object struct {
	props map[string]*prop
	keys  []string

	class *class

	// native is what a library made of it: *construction, *collection, *nestModule and the like.
	native any

	// open says that it may have properties that are not listed.
	open bool

	// reexports are modules whose exports are also its own.
	reexports []*object

	// esModule says that it is the exports of a module with import and export.
	esModule bool

	place place // of the literal's first brace
	end   file.Idx
}

type array struct {
	items []value
	open  bool // it may have more items
	place place
}

// A function is one written in the code that is read.
type function struct {
	node   ast.Node // *ast.FunctionLiteral or *ast.ArrowFunctionLiteral
	name   string
	mod    *module
	scope  *scope
	this   value  // of an arrow function, and of a bound one
	home   *class // the class whose method it is
	arrow  bool
	props  *object
	params *ast.ParameterList
}

// A native is a function of the language or of a library.
type native struct {
	name  string
	props map[string]value
	call  func(*evaluator, call) value
}

// A call is one call of a native.
type call struct {
	this  value
	args  []value
	isNew bool
	place place
	nodes []ast.Expression
}

func (c call) arg(i int) value {
	if i < len(c.args) {
		return c.args[i]
	}
	return undefined{}
}

// A class is one written in the code that is read.
type class struct {
	node    *ast.ClassLiteral
	name    string
	mod     *module
	scope   *scope
	super   value
	statics *object
	methods map[string]*function
	getters map[string]*function
	nest    nestClass

	// made is the first instance, for methods that nothing calls.
	made *object
}

func newObject() *object { return &object{props: make(map[string]*prop)} }

func (o *object) set(key string, v value) *prop {
	p := o.props[key]
	if p == nil {
		p = &prop{}
		o.props[key] = p
		o.keys = append(o.keys, key)
	}
	p.v, p.getter = v, nil
	return p
}

func (o *object) drop(key string) {
	if _, ok := o.props[key]; ok {
		delete(o.props, key)
		o.keys = slices.DeleteFunc(o.keys, func(k string) bool { return k == key })
	}
}

// find looks in the object and, without end in a circle, in what it exports again.
func (o *object) find(key string, depth int) *prop {
	if p, ok := o.props[key]; ok {
		return p
	}
	if depth > 16 || key == "default" {
		return nil
	}
	for _, r := range o.reexports {
		if p := r.find(key, depth+1); p != nil {
			return p
		}
	}
	return nil
}

// has reports whether a property is set to something other than undefined.
func (o *object) has(key string) bool {
	if o == nil {
		return false
	}
	p := o.props[key]
	if p == nil {
		return false
	}
	_, not := p.v.(undefined)
	return !not
}

// field returns the property's value without running a getter; nil when it is absent.
func (o *object) field(key string) value {
	if o == nil {
		return nil
	}
	if p := o.props[key]; p != nil && p.getter == nil {
		return p.v
	}
	return nil
}

// A truth is whether something counts as true, if that is known.
type truth int

const (
	maybe truth = iota
	yes
	no
)

func truthOf(b bool) truth {
	if b {
		return yes
	}
	return no
}

func truthy(v value) truth {
	switch v := v.(type) {
	case undefined, null:
		return no
	case bool:
		return truthOf(v)
	case float64:
		return truthOf(v != 0 && v == v)
	case string:
		return truthOf(v != "")
	case *unknown:
		if len(v.alts) == 0 {
			return maybe
		}
		first := truthy(v.alts[0])
		for _, a := range v.alts[1:] {
			if truthy(a) != first {
				return maybe
			}
		}
		return first
	}
	return yes
}

func nullish(v value) truth {
	switch v := v.(type) {
	case undefined, null:
		return yes
	case *unknown:
		if len(v.alts) == 0 {
			return maybe
		}
		first := nullish(v.alts[0])
		for _, a := range v.alts[1:] {
			if nullish(a) != first {
				return maybe
			}
		}
		return first
	}
	return no
}

// either is a value that is one of several.
func either(values ...value) value {
	u := &unknown{}
	for _, v := range values {
		if n, ok := v.(*unknown); ok {
			if len(n.alts) == 0 {
				// Whatever else it may be, it may be anything.
				u.env, u.from = n.env, n.from
				continue
			}
			for _, a := range n.alts {
				u.add(a)
			}
			continue
		}
		u.add(v)
	}
	if len(u.alts) == 1 && len(values) > 1 && allSame(values) {
		return u.alts[0]
	}
	return u
}

func allSame(values []value) bool {
	for _, v := range values[1:] {
		if !same(v, values[0]) {
			return false
		}
	}
	return true
}

func (u *unknown) add(v value) {
	const most = 8 // more tell nothing
	for _, a := range u.alts {
		if same(a, v) {
			return
		}
	}
	if len(u.alts) < most {
		u.alts = append(u.alts, v)
	}
}

func same(a, b value) bool {
	switch a := a.(type) {
	case undefined, null, bool, float64, string:
		return a == b
	}
	return a == b // pointers
}

// likely is the value, or the first of several that something can be done with.
func likely(v value) value {
	u, ok := v.(*unknown)
	if !ok {
		return v
	}
	for _, a := range u.alts {
		if nullish(a) == no {
			return a
		}
	}
	return v
}

// text is how a value reads in a string, if it is known.
func text(v value) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64), true
	case bool:
		return strconv.FormatBool(v), true
	case undefined:
		return "undefined", true
	case null:
		return "null", true
	}
	return "", false
}

func number(v value) (float64, bool) {
	switch v := v.(type) {
	case float64:
		return v, true
	case string:
		f, err := strconv.ParseFloat(v, 64)
		return f, err == nil
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	case null:
		return 0, true
	}
	return 0, false
}
