package source

import (
	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// errorTextMatched finds errors told apart by words in their message, which HTTP clients do not put
// there.
func errorTextMatched(f *facts) {
	for _, m := range f.scripts {
		script.Walk(m.file.Program, func(n ast.Node) bool {
			of, name, call, ok := methodCall(n)
			if !ok || name != "includes" || len(call.ArgumentList) != 1 {
				return true
			}
			word, ok := call.ArgumentList[0].(*ast.StringLiteral)
			if !ok || !isErrno(word.Value.String()) || !endsIn(of, "message") {
				return true
			}
			f.found(methodPlace(m, call), inspect.Finding{
				Severity: inspect.Warning, Subject: word.Value.String(),
				Message: "the message of an error from @upstash/redis is \"fetch failed\", so this is never true, and one outage is handled in two ways by its errno",
				Remedy:  "look at error.code and error.cause?.code, and treat every failure to reach the server alike",
			})
			return true
		})
	}
}

func isErrno(s string) bool {
	switch s {
	case "ECONNREFUSED", "ETIMEDOUT", "ECONNRESET", "ENOTFOUND", "EPIPE", "EAI_AGAIN":
		return true
	}
	return false
}

// endsIn reports that an expression is a property of that name.
func endsIn(e ast.Expression, name string) bool {
	switch e := e.(type) {
	case *ast.OptionalChain:
		return endsIn(e.Expression, name)
	case *ast.Optional:
		return endsIn(e.Expression, name)
	case *ast.DotExpression:
		return e.Identifier.Name.String() == name
	}
	return false
}
