package source

import (
	"strconv"

	"github.com/dop251/goja/ast"
)

func (ev *evaluator) loop(s ast.Statement) completion {
	switch s := s.(type) {
	case *ast.ForOfStatement:
		items, at, ok := ev.items(ev.eval(s.Source))
		return ev.each(s.Into, s.Body, items, ok, ev.here(s.For), at)
	case *ast.ForInStatement:
		v := likely(ev.eval(s.Source))
		o, ok := v.(*object)
		var keys []value
		if ok {
			for _, k := range o.keys {
				keys = append(keys, k)
			}
			ok = !o.open
		}
		if a, isArray := v.(*array); isArray {
			for i := range a.items {
				keys = append(keys, strconv.Itoa(i))
			}
			ok = !a.open
		}
		return ev.each(s.Into, s.Body, keys, ok, ev.here(s.For), "")
	case *ast.ForStatement:
		ev.initialize(s.Initializer)
		return ev.while(s.Test, s.Update, s.Body, false, ev.here(s.For))
	case *ast.WhileStatement:
		return ev.while(s.Test, nil, s.Body, false, ev.here(s.While))
	case *ast.DoWhileStatement:
		return ev.while(s.Test, nil, s.Body, true, ev.here(s.Do))
	}
	return completion{}
}

func (ev *evaluator) initialize(init ast.ForLoopInitializer) {
	switch init := init.(type) {
	case *ast.ForLoopInitializerExpression:
		ev.eval(init.Expression)
	case *ast.ForLoopInitializerVarDeclList:
		ev.declarations(init.List, true)
	case *ast.ForLoopInitializerLexicalDecl:
		ev.declarations(init.LexicalDeclaration.List, false)
	}
}

// turn runs the body once and says whether the loop is over, and how.
func (ev *evaluator) turn(body ast.Statement, returned *[]value) (completion, bool) {
	c := ev.statement(body)
	*returned = append(*returned, c.returned...)
	switch c.flow {
	case returns, throws:
		return c, true
	case breaks:
		if c.label == "" {
			return completion{}, true
		}
		return c, true
	case continues:
		if c.label != "" {
			return c, true
		}
	case falls:
	}
	return completion{}, false
}

func (ev *evaluator) each(into ast.ForInto, body ast.Statement, items []value, known bool, at place, why string) completion {
	var returned []value
	bind := func(v value) {
		ev.scope = newScope(ev.scope.parent, false)
		switch into := into.(type) {
		case *ast.ForDeclaration:
			ev.bind(into.Target, v, ev.scope.declare)
		case *ast.ForIntoVar:
			ev.bind(into.Binding.Target, v, ev.assignName)
		case *ast.ForIntoExpression:
			ev.assign(into.Expression, v)
		}
	}
	for i, v := range items {
		if i > maxIterations || !ev.step() {
			break
		}
		bind(v)
		if c, over := ev.turn(body, &returned); over {
			c.returned = append(c.returned, returned...)
			return c
		}
	}
	if !known {
		ev.under(guard{kind: loopGuard, place: at, why: why}, func() {
			bind(&unknown{})
			c, _ := ev.turn(body, &returned)
			if c.flow == returns {
				returned = append(returned, c.v)
			}
		})
	}
	return completion{returned: returned}
}

// while runs a loop as long as its test is known to hold.
func (ev *evaluator) while(test, update ast.Expression, body ast.Statement, once bool, at place) completion {
	var returned []value
	holds := func() truth {
		if test == nil {
			return yes
		}
		return truthy(ev.eval(test))
	}
	for i := 0; ; i++ {
		t := yes
		if !once || i > 0 {
			t = holds()
		}
		if t == no || !ev.step() {
			break
		}
		endless := test == nil || i > maxIterations
		if lit, ok := test.(*ast.BooleanLiteral); ok && lit.Value {
			endless = true
		}
		if t == maybe || endless {
			ev.under(guard{kind: loopGuard, place: at}, func() {
				c, _ := ev.turn(body, &returned)
				if c.flow == returns {
					returned = append(returned, c.v)
				}
				if update != nil {
					ev.eval(update)
				}
			})
			break
		}
		if c, over := ev.turn(body, &returned); over {
			c.returned = append(c.returned, returned...)
			return c
		}
		if update != nil {
			ev.eval(update)
		}
	}
	return completion{returned: returned}
}

// items are what a loop over a value visits, why more is not known, and whether that is all.
func (ev *evaluator) items(v value) (items []value, why string, known bool) {
	switch v := likely(v).(type) {
	case *array:
		return v.items, "", !v.open
	case string:
		var out []value
		for _, r := range v {
			out = append(out, string(r))
		}
		return out, "", true
	case *object:
		if c, ok := v.native.(*collection); ok {
			return c.entries(), "", !c.open
		}
	case *unknown:
		return nil, whyUnknown(v), false
	}
	return nil, "", false
}
