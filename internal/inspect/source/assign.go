package source

import (
	"strconv"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// named evaluates an initializer and gives a function or class without a name that of its variable.
func (ev *evaluator) named(e ast.Expression, target ast.Expression) value {
	v := ev.eval(e)
	if name, ok := target.(*ast.Identifier); ok {
		switch v := v.(type) {
		case *function:
			if v.name == "" {
				v.name = name.Name.String()
			}
		case *class:
			if v.name == "" {
				v.name = name.Name.String()
			}
		}
	}
	return v
}

func (ev *evaluator) assignment(e *ast.AssignExpression) value {
	switch e.Operator { //nolint:exhaustive // no other operator matters here
	case token.ASSIGN:
		v := ev.named(e.Right, e.Left)
		ev.assign(e.Left, v)
		return v
	case token.LOGICAL_OR, token.LOGICAL_AND, token.COALESCE:
		v := ev.logical(e.Operator, ev.eval(e.Left), e.Right)
		ev.assign(e.Left, v)
		return v
	}
	v := operate(e.Operator, ev.eval(e.Left), ev.eval(e.Right))
	ev.assign(e.Left, v)
	return v
}

// assign puts a value where an expression on the left of an assignment says.
func (ev *evaluator) assign(target ast.Expression, v value) {
	switch t := target.(type) {
	case *ast.Identifier:
		ev.assignName(t.Name.String(), v)
	case *ast.DotExpression:
		ev.put(ev.eval(t.Left), t.Identifier.Name.String(), v)
	case *ast.PrivateDotExpression:
		ev.put(ev.eval(t.Left), "#"+t.Identifier.Name.String(), v)
	case *ast.BracketExpression:
		left := ev.eval(t.Left)
		if key, ok := text(likely(ev.eval(t.Member))); ok {
			ev.put(left, key, v)
		} else {
			ev.reopen(left, v)
		}
	case *ast.ObjectPattern, *ast.ArrayPattern, *ast.AssignExpression:
		ev.bind(target, v, ev.assignName)
	}
}

// reopen notes that something unknown was put into a value.
func (ev *evaluator) reopen(into, _ value) {
	switch into := likely(into).(type) {
	case *object:
		into.open = true
	case *array:
		into.open = true
	}
}

func (ev *evaluator) assignName(name string, v value) {
	c := ev.scope.lookup(name)
	if c == nil {
		ev.scope.hoist(name)
		c = ev.scope.lookup(name)
	}
	c.v, c.load = ev.unsure(c.get(), v), nil
}

// unsure is what a variable holds after an assignment that may not have happened.
func (ev *evaluator) unsure(old, v value) value {
	for _, g := range ev.guards {
		if g.kind != branchGuard {
			continue
		}
		if nullish(old) != no {
			return v
		}
		return either(v, old)
	}
	return v
}

func (ev *evaluator) put(into value, key string, v value) {
	switch into := likely(into).(type) {
	case *object:
		p := into.set(key, v)
		p.node = nil
	case *array:
		i, err := strconv.Atoi(key)
		if err == nil && i >= 0 && i <= len(into.items)+1000 {
			for len(into.items) <= i {
				into.items = append(into.items, undefined{})
			}
			into.items[i] = v
		}
	case *class:
		into.statics.set(key, v)
	case *function:
		if into.props == nil {
			into.props = newObject()
		}
		into.props.set(key, v)
	}
}

// bind takes a value apart by a pattern.
func (ev *evaluator) bind(target ast.Expression, v value, declare func(string, value)) {
	switch t := target.(type) {
	case *ast.Identifier:
		declare(t.Name.String(), v)
	case *ast.Binding:
		if t.Initializer != nil {
			v = ev.orDefault(v, t.Initializer)
		}
		ev.bind(t.Target, v, declare)
	case *ast.AssignExpression:
		ev.bind(t.Left, ev.orDefault(v, t.Right), declare)
	case *ast.ObjectPattern:
		ev.bindObject(t, v, declare)
	case *ast.ArrayPattern:
		items, _, known := ev.items(v)
		for i, e := range t.Elements {
			if e == nil {
				continue
			}
			var item value = undefined{}
			switch {
			case i < len(items):
				item = items[i]
			case !known:
				item = &unknown{}
			}
			ev.bind(e, item, declare)
		}
		if t.Rest != nil {
			rest := &array{open: !known}
			if len(items) > len(t.Elements) {
				rest.items = items[len(t.Elements):]
			}
			ev.bind(t.Rest, rest, declare)
		}
	case *ast.DotExpression, *ast.BracketExpression, *ast.PrivateDotExpression:
		ev.assign(target, v)
	}
}

func (ev *evaluator) orDefault(v value, initial ast.Expression) value {
	switch v := v.(type) {
	case undefined:
		return ev.eval(initial)
	case *unknown:
		if v.env != "" {
			ev.defaults[v.env] = true
			return ev.eval(initial)
		}
		if len(v.alts) == 0 {
			var d value
			ev.branch(ev.here(initial.Idx0()), v, func() { d = ev.eval(initial) }, nil)
			return either(d, v)
		}
	}
	return v
}

func (ev *evaluator) bindObject(t *ast.ObjectPattern, v value, declare func(string, value)) {
	taken := make(map[string]bool)
	for _, p := range t.Properties {
		switch p := p.(type) {
		case *ast.PropertyShort:
			name := p.Name.Name.String()
			taken[name] = true
			got := ev.get(v, name, ev.here(p.Name.Idx))
			if p.Initializer != nil {
				got = ev.orDefault(got, p.Initializer)
			}
			declare(name, got)
		case *ast.PropertyKeyed:
			key, ok := ev.key(p.Key, p.Computed)
			var got value = &unknown{}
			if ok {
				taken[key] = true
				got = ev.get(v, key, ev.here(p.Key.Idx0()))
			}
			ev.bind(p.Value, got, declare)
		}
	}
	if t.Rest == nil {
		return
	}
	rest := newObject()
	if o, ok := likely(v).(*object); ok {
		ev.spread(rest, o)
		for k := range taken {
			rest.drop(k)
		}
	} else {
		rest.open = true
	}
	ev.bind(t.Rest, rest, declare)
}
