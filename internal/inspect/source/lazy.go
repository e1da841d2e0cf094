package source

import "github.com/dop251/goja/ast"

// later puts off loading a module that reaches no library until something asks for what it exports.
// Most files of an application are never asked. It is nil when the initializer is anything else.
func (ev *evaluator) later(e ast.Expression) func() value {
	expr, ok := e.(*ast.CallExpression)
	if !ok || len(expr.ArgumentList) == 0 {
		return nil
	}
	id, ok := expr.Callee.(*ast.Identifier)
	if !ok {
		return nil
	}
	if id.Name == "__toESM" {
		inner := ev.later(expr.ArgumentList[0])
		if inner == nil {
			return nil
		}
		return func() value { return toESM(ev, call{args: []value{inner()}}) }
	}
	spec, ok := expr.ArgumentList[0].(*ast.StringLiteral)
	if !ok || id.Name != "require" || library(spec.Value.String()) != nil {
		return nil
	}
	path, ok := ev.project.resolve(ev.mod.path, spec.Value.String())
	if !ok || ev.project.reach[path] {
		return nil
	}
	return func() value { return ev.load(path) }
}
