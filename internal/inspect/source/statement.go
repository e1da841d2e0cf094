package source

import (
	"slices"

	"github.com/dop251/goja/ast"
)

// A flow is how a statement ends.
type flow int

const (
	falls flow = iota
	returns
	breaks
	continues
	throws
)

// A completion is how a statement ended. A statement that may have ended the function, or the turn of
// a loop, leaves a rest that only runs otherwise.
type completion struct {
	flow  flow
	v     value
	label string

	rest     *guard
	returned []value
}

func (ev *evaluator) hoist(list []*ast.VariableDeclaration) {
	for _, d := range list {
		for _, b := range d.List {
			ev.hoistTarget(b.Target)
		}
	}
}

func (ev *evaluator) hoistTarget(t ast.Expression) {
	switch t := t.(type) {
	case *ast.Identifier:
		ev.scope.hoist(t.Name.String())
	case *ast.ObjectPattern:
		for _, p := range t.Properties {
			switch p := p.(type) {
			case *ast.PropertyShort:
				ev.scope.hoist(p.Name.Name.String())
			case *ast.PropertyKeyed:
				ev.hoistTarget(p.Value)
			}
		}
		ev.hoistTarget(t.Rest)
	case *ast.ArrayPattern:
		for _, e := range t.Elements {
			ev.hoistTarget(e)
		}
		ev.hoistTarget(t.Rest)
	case *ast.AssignExpression:
		ev.hoistTarget(t.Left)
	}
}

// block runs statements one after the other in the present scope.
func (ev *evaluator) block(list []ast.Statement) completion {
	for _, s := range list {
		if f, ok := s.(*ast.FunctionDeclaration); ok {
			ev.scope.declare(f.Function.Name.Name.String(), ev.functionOf(f.Function))
		}
	}
	return ev.sequence(list)
}

func (ev *evaluator) sequence(list []ast.Statement) completion {
	for i, s := range list {
		if !ev.step() {
			return completion{}
		}
		c := ev.statement(s)
		if c.flow != falls {
			return c
		}
		if c.rest == nil {
			continue
		}
		var after completion
		ev.under(*c.rest, func() { after = ev.sequence(list[i+1:]) })
		switch after.flow {
		case returns:
			return completion{flow: returns, v: either(append(c.returned, after.v)...)}
		case falls:
			c.returned = append(c.returned, after.returned...)
			return c
		case breaks, continues, throws:
			return completion{rest: c.rest, returned: c.returned}
		}
	}
	return completion{}
}

func (ev *evaluator) scoped(f func() completion) completion {
	outer := ev.scope
	ev.scope = newScope(outer, false)
	defer func() { ev.scope = outer }()
	return f()
}

func (ev *evaluator) statement(s ast.Statement) completion {
	switch s := s.(type) {
	case *ast.ExpressionStatement:
		ev.eval(s.Expression)
	case *ast.VariableStatement:
		ev.declarations(s.List, true)
	case *ast.LexicalDeclaration:
		ev.declarations(s.List, false)
	case *ast.ClassDeclaration:
		c := ev.eval(s.Class)
		if s.Class.Name != nil {
			ev.scope.declare(s.Class.Name.Name.String(), c)
		}
	case *ast.BlockStatement:
		if s == nil {
			return completion{}
		}
		return ev.scoped(func() completion { return ev.block(s.List) })
	case *ast.IfStatement:
		return ev.ifStatement(s)
	case *ast.ReturnStatement:
		if s.Argument == nil {
			return completion{flow: returns, v: undefined{}}
		}
		return completion{flow: returns, v: ev.eval(s.Argument)}
	case *ast.ThrowStatement:
		ev.eval(s.Argument)
		return completion{flow: throws}
	case *ast.BranchStatement:
		return branchOut(s)
	case *ast.LabelledStatement:
		c := ev.statement(s.Statement)
		if c.flow != falls && c.label == s.Label.Name.String() {
			return completion{}
		}
		return c
	case *ast.TryStatement:
		return ev.try(s)
	case *ast.SwitchStatement:
		return ev.scoped(func() completion { return ev.switchStatement(s) })
	case *ast.ForStatement, *ast.ForOfStatement, *ast.ForInStatement, *ast.WhileStatement, *ast.DoWhileStatement:
		return ev.scoped(func() completion { return ev.loop(s) })
	}
	return completion{}
}

func branchOut(s *ast.BranchStatement) completion {
	c := completion{flow: breaks}
	if s.Token.String() == "continue" {
		c.flow = continues
	}
	if s.Label != nil {
		c.label = s.Label.Name.String()
	}
	return c
}

func (ev *evaluator) declarations(list []*ast.Binding, hoisted bool) {
	for _, b := range list {
		if name, ok := b.Target.(*ast.Identifier); ok {
			if help := ev.esbuildHelp(name.Name.String()); help != nil {
				ev.scope.declare(name.Name.String(), help)
				continue
			}
		}
		if name, ok := b.Target.(*ast.Identifier); ok && b.Initializer != nil {
			if load := ev.later(b.Initializer); load != nil {
				ev.scope.declare(name.Name.String(), undefined{})
				ev.scope.vars[name.Name.String()].load = load
				continue
			}
		}
		if b.Initializer == nil {
			if name, ok := b.Target.(*ast.Identifier); ok && !hoisted {
				ev.scope.declare(name.Name.String(), undefined{})
			}
			continue
		}
		v := ev.named(b.Initializer, b.Target)
		ev.bind(b.Target, v, func(name string, v value) {
			if hoisted {
				ev.assignName(name, v)
				return
			}
			ev.scope.declare(name, v)
		})
	}
}

func (ev *evaluator) ifStatement(s *ast.IfStatement) completion {
	test := ev.eval(s.Test)
	switch truthy(test) {
	case yes:
		return ev.statement(s.Consequent)
	case no:
		if s.Alternate == nil {
			return completion{}
		}
		return ev.statement(s.Alternate)
	case maybe:
	}
	var then, otherwise completion
	group := ev.branch(ev.here(s.If), test,
		func() { then = ev.statement(s.Consequent) },
		func() {
			if s.Alternate != nil {
				otherwise = ev.statement(s.Alternate)
			}
		})
	rest := func(branch int) *guard {
		return &guard{kind: branchGuard, group: group, branch: branch, branches: 2, place: ev.here(s.If), why: whyUnknown(test)}
	}
	return ev.merge(then, otherwise, rest)
}

// merge joins two ways that exclude each other. What throws is taken not to happen.
func (ev *evaluator) merge(a, b completion, rest func(branch int) *guard) completion {
	switch {
	case a.flow == throws:
		return b
	case b.flow == throws:
		return a
	case a.flow == falls && b.flow == falls:
		returned := slices.Concat(a.returned, b.returned)
		if a.rest != nil {
			return completion{rest: a.rest, returned: returned}
		}
		return completion{rest: b.rest, returned: returned}
	case a.flow == returns && b.flow == returns:
		return completion{flow: returns, v: either(a.v, b.v)}
	case a.flow == falls:
		c := completion{rest: rest(0), returned: a.returned}
		if b.flow == returns {
			c.returned = append(c.returned, b.v)
		}
		return c
	case b.flow == falls:
		c := completion{rest: rest(1), returned: b.returned}
		if a.flow == returns {
			c.returned = append(c.returned, a.v)
		}
		return c
	}
	return a
}

func (ev *evaluator) try(s *ast.TryStatement) completion {
	c := ev.statement(s.Body)
	if s.Catch != nil {
		handle := func() completion {
			return ev.scoped(func() completion {
				if s.Catch.Parameter != nil {
					ev.bind(s.Catch.Parameter, &unknown{}, ev.scope.declare)
				}
				return ev.block(s.Catch.Body.List)
			})
		}
		if c.flow == throws {
			c = handle()
		} else {
			ev.under(guard{kind: callbackGuard, place: ev.here(s.Catch.Catch), why: "only after an error"}, func() { handle() })
		}
	}
	if s.Finally != nil {
		if f := ev.statement(s.Finally); f.flow != falls {
			return f
		}
	}
	return c
}

func (ev *evaluator) switchStatement(s *ast.SwitchStatement) completion {
	subject := ev.eval(s.Discriminant)
	start := -1
	known := true
	for i, c := range s.Body {
		if c.Test == nil {
			continue
		}
		switch equal(subject, ev.eval(c.Test)) {
		case yes:
			if known {
				start = i
			}
		case maybe:
			known = false
		case no:
			continue
		}
		if start >= 0 {
			break
		}
	}
	if !known {
		return ev.switchUnknown(s, subject)
	}
	if start < 0 {
		start = s.Default
	}
	if start < 0 {
		return completion{}
	}
	var all []ast.Statement
	for _, c := range s.Body[start:] {
		all = append(all, c.Consequent...)
	}
	c := ev.block(all)
	if c.flow == breaks && c.label == "" {
		return completion{}
	}
	return c
}

func (ev *evaluator) switchUnknown(s *ast.SwitchStatement, subject value) completion {
	ways := make([]func(), 0, len(s.Body)+1)
	var returned []value
	allReturn := s.Default >= 0
	for _, c := range s.Body {
		ways = append(ways, func() {
			done := ev.block(c.Consequent)
			returned = append(returned, done.returned...)
			switch done.flow {
			case returns:
				returned = append(returned, done.v)
			case throws:
			case falls:
				if len(c.Consequent) > 0 {
					allReturn = false
				}
			case breaks, continues:
				allReturn = false
			}
		})
	}
	if s.Default < 0 {
		ways = append(ways, func() {})
	}
	group := ev.branch(ev.here(s.Switch), subject, ways...)
	if allReturn && len(returned) > 0 {
		return completion{flow: returns, v: either(returned...)}
	}
	if len(returned) > 0 {
		return completion{returned: returned, rest: &guard{kind: branchGuard, group: group, branch: len(ways) - 1, branches: len(ways), place: ev.here(s.Switch)}}
	}
	return completion{}
}
