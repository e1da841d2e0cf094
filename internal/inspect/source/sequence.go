package source

import (
	"slices"
	"strings"

	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// A sentCall is a call of a method that has the name of a Redis command and no other likely meaning.
type sentCall struct {
	name string // lower case
	call *ast.CallExpression

	// parallel is the Promise.all that it stands in; nil when there is none.
	parallel *ast.CallExpression

	// queued says that it is part of a chain on pipeline() or multi(), which sends all at once.
	queued bool
}

// sequences are the sorted-set commands of each function of a script, in the order of the text.
func sequences(m *module) [][]sentCall {
	var out [][]sentCall
	script.Walk(m.file.Program, func(n ast.Node) bool {
		var body ast.Node
		switch n := n.(type) {
		case *ast.FunctionLiteral:
			body = n.Body
		case *ast.ArrowFunctionLiteral:
			body = n.Body
		default:
			return true
		}
		if list := sequence(body); len(list) > 0 {
			out = append(out, list)
		}
		return true
	})
	return out
}

func sequence(body ast.Node) []sentCall {
	var out []sentCall
	inside := make(map[ast.Node]*ast.CallExpression)
	script.Walk(body, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.FunctionLiteral, *ast.ArrowFunctionLiteral:
			return n == body
		}
		of, name, call, ok := methodCall(n)
		if !ok {
			return true
		}
		if isPromiseAll(of, name) {
			script.Walk(call, func(in ast.Node) bool {
				inside[in] = call
				return true
			})
		}
		switch lower := strings.ToLower(name); lower {
		case "zadd", "zcard", "zcount", "zremrangebyscore", "expire", "pexpire", "incr":
			// A chain is visited from its end, so its calls come in the wrong order; they are queued anyway.
			out = append(out, sentCall{lower, call, inside[n], chained(of)})
		}
		return true
	})
	return out
}

func isPromiseAll(of ast.Expression, name string) bool {
	id, ok := of.(*ast.Identifier)
	return ok && id.Name == "Promise" && (name == "all" || name == "allSettled")
}

// chained reports that a call is made on a pipeline or transaction, as far as names tell.
func chained(of ast.Expression) bool {
	for {
		switch e := of.(type) {
		case *ast.Identifier:
			name := strings.ToLower(e.Name.String())
			return strings.Contains(name, "pipe") || strings.Contains(name, "multi") || name == "tx" || name == "trx" || name == "transaction"
		case *ast.CallExpression:
			left, name, _, ok := methodCall(e)
			if !ok {
				return false
			}
			if name == "multi" || name == "pipeline" {
				return true
			}
			of = left
		default:
			return false
		}
	}
}

// index is where a command stands in a sequence, or -1.
func index(list []sentCall, names ...string) int {
	for i, c := range list {
		if slices.Contains(names, c.name) {
			return i
		}
	}
	return -1
}
