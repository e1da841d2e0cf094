package source

import (
	"slices"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"
)

func (ev *evaluator) arguments(list []ast.Expression) []value {
	var out []value
	for _, e := range list {
		s, ok := e.(*ast.SpreadElement)
		if !ok {
			out = append(out, ev.eval(e))
			continue
		}
		items, _, known := ev.items(ev.eval(s.Expression))
		out = append(out, items...)
		if !known {
			out = append(out, &unknown{})
		}
	}
	return out
}

func (ev *evaluator) callExpression(e *ast.CallExpression) value {
	callee := e.Callee
	for {
		switch inner := callee.(type) {
		case *ast.OptionalChain:
			callee = inner.Expression
			continue
		case *ast.Optional:
			callee = inner.Expression
			continue
		}
		break
	}
	at := ev.here(e.Idx0())
	switch callee := callee.(type) {
	case *ast.DotExpression:
		key := callee.Identifier.Name.String()
		if _, ok := callee.Left.(*ast.SuperExpression); ok {
			return ev.superCall(key, call{this: ev.frame.this, args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: at})
		}
		of := ev.eval(callee.Left)
		return ev.callMethod(of, key, call{this: of, args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: ev.placeOf(callee.Left.Idx0(), callee.Identifier.Idx)})
	case *ast.PrivateDotExpression:
		of := ev.eval(callee.Left)
		return ev.callMethod(of, "#"+callee.Identifier.Name.String(), call{this: of, args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: at})
	case *ast.BracketExpression:
		of := ev.eval(callee.Left)
		if key, ok := text(likely(ev.eval(callee.Member))); ok {
			return ev.callMethod(of, key, call{this: of, args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: at})
		}
		return ev.apply(ev.bracket(callee), call{this: of, args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: at})
	case *ast.SuperExpression:
		c := call{this: ev.frame.this, args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: at, isNew: true}
		if o, ok := ev.frame.this.(*object); ok && ev.frame.home != nil {
			ev.initSuper(ev.frame.home, o, c)
			ev.fields(ev.frame.home, o)
		}
		return undefined{}
	}
	f := ev.eval(callee)
	return ev.apply(f, call{this: undefined{}, args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: at})
}

// placeOf prefers the beginning of a call on one thing, and the method's name in a chain of calls.
func (ev *evaluator) placeOf(_, method file.Idx) place { return ev.here(method) }

func (ev *evaluator) superCall(key string, c call) value {
	if f := superMethod(ev.frame.home, key); f != nil {
		return ev.apply(f, c)
	}
	if o, ok := c.this.(*object); ok {
		if r, ok := o.native.(resident); ok {
			if v, ok := r.method(ev, o, key, c); ok {
				return v
			}
		}
	}
	return &unknown{}
}

func (ev *evaluator) newExpression(e *ast.NewExpression) value {
	f := ev.eval(e.Callee)
	return ev.construct(f, call{args: ev.arguments(e.ArgumentList), nodes: e.ArgumentList, place: ev.here(e.New), isNew: true})
}

// construct runs new.
func (ev *evaluator) construct(f value, c call) value {
	c.isNew = true
	switch f := likely(f).(type) {
	case *class:
		o := newObject()
		o.class = f
		if f.made == nil {
			f.made = o
		}
		ev.initInstance(f, o, c)
		return o
	case *native:
		if f.call == nil {
			return &unknown{}
		}
		return f.call(ev, c)
	case *function:
		o := newObject()
		o.open = true // its prototype is not followed
		c.this = o
		if v, ok := ev.apply(f, c).(*object); ok {
			return v
		}
		return o
	}
	return ev.outside("new", c)
}

// apply calls a value.
func (ev *evaluator) apply(f value, c call) value {
	switch f := f.(type) {
	case *function:
		return ev.callFunction(f, c)
	case *native:
		if f.call == nil {
			return ev.outside(f.name, c)
		}
		return f.call(ev, c)
	case *class:
		return &unknown{}
	case *unknown:
		for _, a := range f.alts {
			switch a.(type) {
			case *function, *native:
				return either(ev.apply(a, c), &unknown{})
			}
		}
	}
	return ev.outside("", c)
}

// callMethod calls a method of a value by name.
func (ev *evaluator) callMethod(of value, key string, c call) value {
	switch of := of.(type) {
	case *object:
		if v := ev.objectGet(of, key, c.place); !isUnknown(v) && nullish(v) == no {
			return ev.apply(v, c)
		}
		if r, ok := of.native.(resident); ok {
			if v, ok := r.method(ev, of, key, c); ok {
				return v
			}
		}
	case *array:
		if v, ok := ev.arrayMethod(of, key, c); ok {
			return v
		}
	case string:
		if v, ok := stringMethod(of, key, c); ok {
			return v
		}
	case *native:
		if v, ok := of.props[key]; ok {
			return ev.apply(v, c)
		}
	case *function:
		if v, ok := ev.functionMethod(of, key, c); ok {
			return v
		}
	case *class:
		if v := ev.classGet(of, key, c.place); !isUnknown(v) {
			return ev.apply(v, c)
		}
	case *unknown:
		if v, ok := ev.unknownMethod(of, key, c); ok {
			return v
		}
	}
	switch key {
	case "then":
		if isCallable(c.arg(0)) {
			return ev.apply(c.arg(0), call{this: undefined{}, args: []value{of}, place: c.place})
		}
		return of
	case "catch":
		ev.maybeCall(c.arg(0), c.place, "only after an error")
		return of
	case "finally":
		if isCallable(c.arg(0)) {
			ev.apply(c.arg(0), call{this: undefined{}, place: c.place})
		}
		return of
	}
	return ev.outside(key, c)
}

// unknownMethod calls a method of whichever the value may be.
func (ev *evaluator) unknownMethod(u *unknown, key string, c call) (value, bool) {
	var alts []value
	for _, a := range u.alts {
		if nullish(a) == no {
			alts = append(alts, a)
		}
	}
	if len(alts) == 0 {
		return nil, false
	}
	if len(alts) == 1 {
		c.this = alts[0]
		return ev.callMethod(alts[0], key, c), true
	}
	var out []value
	ways := make([]func(), len(alts))
	for i, a := range alts {
		ways[i] = func() {
			c := c
			c.this = a
			out = append(out, ev.callMethod(a, key, c))
		}
	}
	ev.branch(c.place, u, ways...)
	return either(out...), true
}

func isUnknown(v value) bool {
	_, ok := v.(*unknown)
	return ok
}

func isCallable(v value) bool {
	switch v.(type) {
	case *function, *native:
		return true
	}
	return false
}

// callFunction runs a function that was read.
func (ev *evaluator) callFunction(f *function, c call) value {
	if !ev.step() || ev.depth > maxDepth || ev.active[f.node] >= maxRecursion {
		return &unknown{}
	}
	ev.called[f.node] = true
	if len(ev.guards) > 0 {
		if ev.unsureCalls[f.node]++; ev.unsureCalls[f.node] > maxUnsure || len(ev.guards) > maxGuards {
			return &unknown{}
		}
	}
	ev.active[f.node]++
	mod, sc, fr, guards := ev.mod, ev.scope, ev.frame, len(ev.guards)
	ev.depth++
	defer func() {
		ev.depth--
		ev.active[f.node]--
		ev.mod, ev.scope, ev.frame, ev.guards = mod, sc, fr, ev.guards[:guards]
	}()
	this := c.this
	if f.arrow || f.this != nil {
		this = f.this
	}
	if this == nil {
		this = undefined{}
	}
	ev.mod, ev.scope = f.mod, newScope(f.scope, true)
	ev.frame = &frame{this: this, home: f.home, args: c.args}
	if !f.arrow {
		ev.scope.declare("arguments", &array{items: c.args})
	}
	ev.parameters(f, c.args)

	var done completion
	generator := false
	switch n := f.node.(type) {
	case *ast.FunctionLiteral:
		generator = n.Generator
		ev.hoist(n.DeclarationList)
		done = ev.block(n.Body.List)
	case *ast.ArrowFunctionLiteral:
		switch body := n.Body.(type) {
		case *ast.ExpressionBody:
			return ev.eval(body.Expression)
		case *ast.BlockStatement:
			ev.hoist(n.DeclarationList)
			done = ev.block(body.List)
		}
	}
	if generator {
		return &array{items: ev.frame.yields, open: true}
	}
	switch {
	case done.flow == returns && len(done.returned) == 0:
		return done.v
	case done.flow == returns:
		return either(append(slices.Clone(done.returned), done.v)...)
	case len(done.returned) > 0:
		return either(append(slices.Clone(done.returned), undefined{})...)
	case done.flow == throws:
		return &unknown{}
	}
	return undefined{}
}

func (ev *evaluator) parameters(f *function, args []value) {
	for i, b := range f.params.List {
		var v value = undefined{}
		if i < len(args) {
			v = args[i]
		}
		ev.bind(b, v, ev.scope.declare)
	}
	if f.params.Rest != nil {
		rest := &array{}
		if len(args) > len(f.params.List) {
			rest.items = args[len(f.params.List):]
		}
		ev.bind(f.params.Rest, rest, ev.scope.declare)
	}
}

func (ev *evaluator) functionOf(e ast.Expression) *function {
	f := &function{node: e, mod: ev.mod, scope: ev.scope}
	switch e := e.(type) {
	case *ast.FunctionLiteral:
		f.params = e.ParameterList
		if e.Name != nil {
			f.name = e.Name.Name.String()
			f.scope = newScope(ev.scope, false)
			f.scope.declare(f.name, f)
		}
	case *ast.ArrowFunctionLiteral:
		f.params, f.arrow, f.this, f.home = e.ParameterList, true, ev.frame.this, ev.frame.home
	}
	return f
}

func (ev *evaluator) functionMethod(f *function, key string, c call) (value, bool) {
	if f.props != nil && f.props.has(key) {
		return ev.apply(f.props.props[key].v, c), true
	}
	switch key {
	case "call":
		if len(c.args) == 0 {
			return ev.apply(f, call{this: undefined{}, place: c.place}), true
		}
		return ev.apply(f, call{this: c.args[0], args: c.args[1:], place: c.place}), true
	case "apply":
		items, _, _ := ev.items(c.arg(1))
		return ev.apply(f, call{this: c.arg(0), args: items, place: c.place}), true
	case "bind":
		bound := *f
		if !f.arrow {
			bound.this = c.arg(0)
		}
		if len(c.args) < 2 {
			return &bound, true
		}
		first := c.args[1:]
		return &native{name: f.name, call: func(ev *evaluator, c call) value {
			c.args = append(slices.Clone(first), c.args...)
			return ev.apply(&bound, c)
		}}, true
	}
	return nil, false
}
