package source

import (
	"strings"

	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// expireNotAwaited finds a TTL that is set on the side: when that fails, the key stays for ever.
func expireNotAwaited(f *facts) {
	for _, m := range f.scripts {
		script.Walk(m.file.Program, func(n ast.Node) bool {
			s, ok := n.(*ast.ExpressionStatement)
			if !ok {
				return true
			}
			call := expireOf(s.Expression)
			if call == nil {
				return true
			}
			at := place{mod: m, at: s.Expression.Idx0()}
			var change *inspect.Fix
			if o, ok := originalAt(at); ok && strings.Contains(string(o.rest), "xpire(") {
				change = fix("wait for it", o.replace(0, "await "))
			}
			f.found(at, inspect.Finding{
				Severity: inspect.Warning, Subject: "EXPIRE",
				Message: "nothing waits for this EXPIRE: when it fails the key never expires, and memory and quota grow without bound",
				Remedy:  "set the TTL in the same step as the value: SET ... EX, or inside the script", Fix: change,
			})
			return true
		})
	}
}

// expireOf is the call of expire in an expression that nothing waits for.
func expireOf(e ast.Expression) *ast.CallExpression {
	for {
		of, name, call, ok := methodCall(e)
		if !ok {
			return nil
		}
		switch name {
		case "catch", "then", "finally":
			e = of
			continue
		case "expire", "pexpire":
			if chained(of) || len(call.ArgumentList) < 2 {
				return nil
			}
			return call
		}
		return nil
	}
}
