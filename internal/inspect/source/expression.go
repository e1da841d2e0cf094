package source

import (
	"strings"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/token"
)

// eval returns what an expression is known to be.
func (ev *evaluator) eval(e ast.Expression) value {
	if e == nil || !ev.step() {
		return &unknown{}
	}
	if ev.depth++; ev.depth > maxDepth {
		ev.depth--
		return &unknown{}
	}
	defer func() { ev.depth-- }()
	if v, ok := literal(e); ok {
		return v
	}
	switch e := e.(type) {
	case *ast.Identifier:
		return ev.name(e)
	case *ast.ThisExpression:
		return ev.frame.this
	case *ast.ObjectLiteral:
		return ev.objectLiteral(e)
	case *ast.ArrayLiteral:
		return ev.arrayLiteral(e)
	case *ast.FunctionLiteral, *ast.ArrowFunctionLiteral:
		return ev.functionOf(e)
	case *ast.ClassLiteral:
		return ev.classOf(e)
	case *ast.TemplateLiteral:
		return ev.template(e)
	case *ast.DotExpression:
		return ev.member(e.Left, e.Identifier.Name.String(), e)
	case *ast.PrivateDotExpression:
		return ev.get(ev.eval(e.Left), "#"+e.Identifier.Name.String(), ev.here(e.Idx1()))
	case *ast.BracketExpression:
		return ev.bracket(e)
	case *ast.OptionalChain:
		return ev.eval(e.Expression)
	case *ast.Optional:
		return ev.eval(e.Expression)
	case *ast.CallExpression:
		return ev.callExpression(e)
	case *ast.NewExpression:
		return ev.newExpression(e)
	case *ast.AwaitExpression:
		return ev.eval(e.Argument)
	case *ast.YieldExpression:
		v := ev.eval(e.Argument)
		ev.frame.yields = append(ev.frame.yields, v)
		return &unknown{}
	case *ast.SequenceExpression:
		var v value = undefined{}
		for _, x := range e.Sequence {
			v = ev.eval(x)
		}
		return v
	case *ast.ConditionalExpression:
		return ev.conditional(e)
	case *ast.BinaryExpression:
		return ev.binary(e)
	case *ast.UnaryExpression:
		return ev.unary(e)
	case *ast.AssignExpression:
		return ev.assignment(e)
	}
	return &unknown{}
}

func literal(e ast.Expression) (value, bool) {
	switch e := e.(type) {
	case *ast.StringLiteral:
		return e.Value.String(), true
	case *ast.NumberLiteral:
		switch n := e.Value.(type) {
		case int64:
			return float64(n), true
		case float64:
			return n, true
		}
		return &unknown{}, true
	case *ast.BooleanLiteral:
		return e.Value, true
	case *ast.NullLiteral:
		return null{}, true
	}
	return nil, false
}

func (ev *evaluator) name(e *ast.Identifier) value {
	name := e.Name.String()
	if c := ev.scope.lookup(name); c != nil {
		return c.get()
	}
	if v, ok := ev.globals[name]; ok {
		return v
	}
	return &unknown{}
}

func (ev *evaluator) objectLiteral(e *ast.ObjectLiteral) value {
	o := newObject()
	o.place, o.end = ev.here(e.LeftBrace), e.RightBrace
	for _, p := range e.Value {
		switch p := p.(type) {
		case *ast.PropertyShort:
			name := p.Name.Name.String()
			put := o.set(name, ev.name(&p.Name))
			put.place = ev.here(p.Name.Idx)
		case *ast.PropertyKeyed:
			ev.keyed(o, p)
		case *ast.SpreadElement:
			ev.spread(o, ev.eval(p.Expression))
		}
	}
	return o
}

func (ev *evaluator) keyed(o *object, p *ast.PropertyKeyed) {
	key, ok := ev.key(p.Key, p.Computed)
	if p.Kind == ast.PropertyKindGet {
		if f, isFunction := ev.eval(p.Value).(*function); isFunction && ok {
			o.set(key, undefined{}).getter = f
		}
		return
	}
	if p.Kind == ast.PropertyKindSet {
		return
	}
	v := ev.eval(p.Value)
	if !ok {
		o.open = true
		return
	}
	if f, isFunction := v.(*function); isFunction && f.name == "" {
		f.name = key
	}
	put := o.set(key, v)
	put.place, put.node = ev.here(p.Key.Idx0()), p.Value
}

func (ev *evaluator) key(e ast.Expression, computed bool) (string, bool) {
	if !computed {
		switch e := e.(type) {
		case *ast.Identifier:
			return e.Name.String(), true
		case *ast.PrivateIdentifier:
			return "#" + e.Name.String(), true
		case *ast.StringLiteral:
			return e.Value.String(), true
		case *ast.NumberLiteral:
			return e.Literal, true
		}
	}
	return text(likely(ev.eval(e)))
}

// spread copies the properties of a value into an object.
func (ev *evaluator) spread(o *object, v value) {
	switch v := likely(v).(type) {
	case *object:
		for _, k := range v.keys {
			p := v.props[k]
			put := o.set(k, ev.get(v, k, p.place))
			put.place, put.node = p.place, p.node
		}
		o.open = o.open || v.open
	case *unknown:
		o.open = true
	}
}

func (ev *evaluator) arrayLiteral(e *ast.ArrayLiteral) value {
	a := &array{place: ev.here(e.LeftBracket)}
	for _, x := range e.Value {
		s, ok := x.(*ast.SpreadElement)
		if !ok {
			a.items = append(a.items, ev.eval(x))
			continue
		}
		items, _, known := ev.items(ev.eval(s.Expression))
		a.items = append(a.items, items...)
		a.open = a.open || !known
	}
	return a
}

func (ev *evaluator) template(e *ast.TemplateLiteral) value {
	var b strings.Builder
	known := e.Tag == nil
	for i, part := range e.Elements {
		b.WriteString(part.Parsed.String())
		if i < len(e.Expressions) {
			s, ok := text(likely(ev.eval(e.Expressions[i])))
			known = known && ok
			b.WriteString(s)
		}
	}
	if !known {
		return &unknown{}
	}
	return b.String()
}

func (ev *evaluator) member(left ast.Expression, key string, e *ast.DotExpression) value {
	if _, ok := left.(*ast.SuperExpression); ok {
		if f := superMethod(ev.frame.home, key); f != nil {
			return f
		}
		return &unknown{}
	}
	return ev.get(ev.eval(left), key, ev.here(e.Identifier.Idx))
}

func (ev *evaluator) bracket(e *ast.BracketExpression) value {
	left := ev.eval(e.Left)
	member := ev.eval(e.Member)
	if key, ok := text(member); ok {
		return ev.get(left, key, ev.here(e.LeftBracket))
	}
	// One of them, whichever: an object used as a table.
	switch left := likely(left).(type) {
	case *object:
		var all []value
		for _, k := range left.keys {
			all = append(all, ev.get(left, k, ev.here(e.LeftBracket)))
		}
		if len(all) > 0 {
			return either(all...)
		}
	case *array:
		if len(left.items) > 0 {
			return either(left.items...)
		}
	}
	return &unknown{}
}

func (ev *evaluator) conditional(e *ast.ConditionalExpression) value {
	test := ev.eval(e.Test)
	switch truthy(test) {
	case yes:
		return ev.eval(e.Consequent)
	case no:
		return ev.eval(e.Alternate)
	case maybe:
	}
	var a, b value
	ev.branch(ev.here(e.Test.Idx0()), test,
		func() { a = ev.eval(e.Consequent) }, func() { b = ev.eval(e.Alternate) })
	return either(a, b)
}

func (ev *evaluator) binary(e *ast.BinaryExpression) value {
	left := ev.eval(e.Left)
	switch e.Operator { //nolint:exhaustive // no other operator matters here
	case token.LOGICAL_OR, token.LOGICAL_AND, token.COALESCE:
		return ev.logical(e.Operator, left, e.Right)
	case token.COMMA:
		return ev.eval(e.Right)
	}
	return operate(e.Operator, left, ev.eval(e.Right))
}

func (ev *evaluator) logical(op token.Token, left value, rest ast.Expression) value {
	var takesLeft truth
	switch op { //nolint:exhaustive // no other operator matters here
	case token.LOGICAL_OR:
		takesLeft = truthy(left)
	case token.LOGICAL_AND:
		takesLeft = negate(truthy(left))
	case token.COALESCE:
		takesLeft = negate(nullish(left))
	}
	switch takesLeft {
	case yes:
		return left
	case no:
		return ev.eval(rest)
	case maybe:
	}
	u, _ := left.(*unknown)
	if u != nil && u.env != "" && op != token.LOGICAL_AND {
		// A variable with a default is taken to have it.
		v := ev.eval(rest)
		if _, ok := v.(*unknown); !ok {
			ev.defaults[u.env] = true
			return v
		}
		return either(v, left)
	}
	var right value
	ev.branch(ev.here(rest.Idx0()), left, func() { right = ev.eval(rest) }, nil)
	if op == token.LOGICAL_AND {
		return either(right, &unknown{})
	}
	return either(left, right)
}

func negate(t truth) truth {
	switch t {
	case yes:
		return no
	case no:
		return yes
	case maybe:
	}
	return maybe
}

func (ev *evaluator) unary(e *ast.UnaryExpression) value {
	switch e.Operator { //nolint:exhaustive // no other operator matters here
	case token.INCREMENT, token.DECREMENT:
		old, ok := number(ev.eval(e.Operand))
		if !ok {
			ev.assign(e.Operand, &unknown{})
			return &unknown{}
		}
		v := old + 1
		if e.Operator == token.DECREMENT {
			v = old - 1
		}
		ev.assign(e.Operand, v)
		if e.Postfix {
			return old
		}
		return v
	case token.DELETE:
		if d, ok := e.Operand.(*ast.DotExpression); ok {
			if o, ok := ev.eval(d.Left).(*object); ok {
				o.drop(d.Identifier.Name.String())
			}
		}
		return true
	}
	v := ev.eval(e.Operand)
	switch e.Operator { //nolint:exhaustive // no other operator matters here
	case token.NOT:
		switch truthy(v) {
		case yes:
			return false
		case no:
			return true
		case maybe:
			return &unknown{env: envOf(v)}
		}
	case token.MINUS, token.PLUS:
		if n, ok := number(v); ok {
			if e.Operator == token.MINUS {
				n = -n
			}
			return n
		}
	case token.TYPEOF:
		return typeOf(v)
	case token.VOID:
		return undefined{}
	}
	return &unknown{}
}

func envOf(v value) string {
	if u, ok := v.(*unknown); ok {
		return u.env
	}
	return ""
}

func typeOf(v value) value {
	switch v.(type) {
	case undefined:
		return "undefined"
	case string:
		return "string"
	case float64:
		return "number"
	case bool:
		return "boolean"
	case *function, *native, *class:
		return "function"
	case *object, *array, null:
		return "object"
	}
	return &unknown{}
}
