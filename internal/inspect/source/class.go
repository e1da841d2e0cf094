package source

import "github.com/dop251/goja/ast"

func (ev *evaluator) classOf(e *ast.ClassLiteral) value {
	c := &class{
		node: e, mod: ev.mod, statics: newObject(),
		methods: make(map[string]*function), getters: make(map[string]*function),
	}
	if e.SuperClass != nil {
		c.super = likely(ev.eval(e.SuperClass))
	}
	outer := ev.scope
	ev.scope = newScope(outer, false)
	c.scope = ev.scope
	defer func() { ev.scope = outer }()
	if e.Name != nil {
		c.name = e.Name.Name.String()
		ev.scope.declare(c.name, c)
	}
	for _, el := range e.Body {
		if m, ok := el.(*ast.MethodDefinition); ok {
			ev.classMethod(c, m)
		}
	}
	for _, el := range e.Body {
		switch el := el.(type) {
		case *ast.FieldDefinition:
			if el.Static {
				ev.staticField(c, el)
			}
		case *ast.ClassStaticBlock:
			ev.asStatic(c, func() {
				ev.hoist(el.DeclarationList)
				ev.scoped(func() completion { return ev.block(el.Block.List) })
			})
		}
	}
	return c
}

func (ev *evaluator) classMethod(c *class, m *ast.MethodDefinition) {
	key, ok := ev.key(m.Key, m.Computed)
	if !ok {
		return
	}
	f := ev.functionOf(m.Body)
	f.name, f.home = key, c
	switch {
	case m.Kind == ast.PropertyKindGet && m.Static:
		c.statics.set(key, undefined{}).getter = f
	case m.Kind == ast.PropertyKindGet:
		c.getters[key] = f
	case m.Kind == ast.PropertyKindSet:
	case m.Static:
		c.statics.set(key, f)
	default:
		c.methods[key] = f
	}
}

// asStatic runs code whose this is the class.
func (ev *evaluator) asStatic(c *class, f func()) {
	outer := ev.frame
	ev.frame = &frame{this: c, home: c}
	defer func() { ev.frame = outer }()
	f()
}

func (ev *evaluator) staticField(c *class, f *ast.FieldDefinition) {
	key, ok := ev.key(f.Key, f.Computed)
	if !ok {
		return
	}
	ev.asStatic(c, func() {
		var v value = undefined{}
		if f.Initializer != nil {
			v = ev.eval(f.Initializer)
		}
		c.statics.set(key, v)
	})
}

// initInstance runs what new runs.
func (ev *evaluator) initInstance(c *class, o *object, args call) {
	if ctor := c.methods["constructor"]; ctor != nil {
		if c.super == nil {
			ev.fields(c, o)
		}
		args.this = o
		ev.callFunction(ctor, args) // super() runs the fields of a class that extends another
		return
	}
	if c.super != nil {
		ev.initSuper(c, o, args)
	}
	ev.fields(c, o)
}

func (ev *evaluator) initSuper(c *class, o *object, args call) {
	switch super := c.super.(type) {
	case *class:
		ev.initInstance(super, o, args)
	case *native:
		if super.call == nil {
			o.open = true
			return
		}
		made, ok := super.call(ev, args).(*object)
		if !ok {
			o.open = true
			return
		}
		o.native = made.native
		for _, k := range made.keys {
			o.set(k, made.props[k].v)
		}
		if k, ok := o.native.(*construction); ok {
			k.self = o
		}
	default:
		o.open = true
	}
}

// fields runs the initializers of a class's own fields.
func (ev *evaluator) fields(c *class, o *object) {
	mod, sc, fr := ev.mod, ev.scope, ev.frame
	defer func() { ev.mod, ev.scope, ev.frame = mod, sc, fr }()
	ev.mod, ev.scope, ev.frame = c.mod, c.scope, &frame{this: o, home: c}
	for _, el := range c.node.Body {
		f, ok := el.(*ast.FieldDefinition)
		if !ok || f.Static {
			continue
		}
		key, ok := ev.key(f.Key, f.Computed)
		if !ok {
			continue
		}
		if f.Initializer == nil {
			if !o.has(key) { // a parameter property was assigned already
				o.set(key, undefined{})
			}
			continue
		}
		o.set(key, ev.eval(f.Initializer))
	}
}
