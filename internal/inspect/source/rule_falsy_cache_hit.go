package source

import (
	"strings"

	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// falsyCacheHit finds caches that take 0, false and the empty string for a miss.
func falsyCacheHit(f *facts) {
	for _, m := range f.scripts {
		script.Walk(m.file.Program, func(n ast.Node) bool {
			s, ok := n.(*ast.IfStatement)
			if !ok {
				return true
			}
			id, ok := s.Test.(*ast.Identifier)
			if !ok || !strings.Contains(strings.ToLower(id.Name.String()), "cached") || !returnsIt(s.Consequent, id.Name.String()) {
				return true
			}
			at := place{mod: m, at: id.Idx}
			var change *inspect.Fix
			if o, ok := originalAt(at); ok && o.starts(id.Name.String()+")") {
				change = fix("tell a miss from a false value", o.replace(len(id.Name.String()), id.Name.String()+" != null"))
			}
			f.found(at, inspect.Finding{
				Severity: inspect.Note, Subject: id.Name.String(),
				Message: "0, false and \"\" are stored and never hit, so each read goes to the database and is written again",
				Remedy:  "compare with null, and cache the absence of a value too", Fix: change,
			})
			return true
		})
	}
}

func returnsIt(s ast.Statement, name string) bool {
	if b, ok := s.(*ast.BlockStatement); ok && len(b.List) == 1 {
		s = b.List[0]
	}
	r, ok := s.(*ast.ReturnStatement)
	if !ok {
		return false
	}
	id, ok := r.Argument.(*ast.Identifier)
	return ok && id.Name.String() == name
}
