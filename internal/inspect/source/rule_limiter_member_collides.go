package source

import (
	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// limiterMemberCollides finds members of a sorted set that are only the time: two requests in one
// millisecond are then one.
func limiterMemberCollides(f *facts) {
	for _, m := range f.scripts {
		script.Walk(m.file.Program, func(n ast.Node) bool {
			_, name, call, ok := methodCall(n)
			if !ok || name != "zadd" && name != "zAdd" {
				return true
			}
			score, member := scoreAndMember(call.ArgumentList)
			if score == nil || member == nil || !onlyTime(member, score) {
				return true
			}
			at := place{mod: m, at: member.Idx0()}
			f.found(at, inspect.Finding{
				Severity: inspect.Critical, Subject: "rate limiter",
				Message: "the member is only the time, so requests in the same millisecond count as one: 100 at once count as 1",
				Remedy:  "make it unique: `${now}-${crypto.randomUUID()}`", Fix: uniqueFix(at, member),
			})
			return true
		})
	}
}

// scoreAndMember are the arguments of ZADD key score member, or of { score, member }.
func scoreAndMember(args []ast.Expression) (score, member ast.Expression) {
	if len(args) == 2 {
		if list, ok := args[1].(*ast.ArrayLiteral); ok && len(list.Value) > 0 {
			args = []ast.Expression{args[0], list.Value[0]}
		}
		if o, ok := args[1].(*ast.ObjectLiteral); ok {
			score, member = literalProp(o, "score"), literalProp(o, "member")
			if member == nil {
				member = literalProp(o, "value")
			}
			return score, member
		}
	}
	if len(args) == 3 {
		return args[1], args[2]
	}
	return nil, nil
}

// onlyTime reports that a member holds nothing but its score.
func onlyTime(member, score ast.Expression) bool {
	switch e := member.(type) {
	case *ast.TemplateLiteral:
		if len(e.Expressions) != 1 {
			return false
		}
		for _, part := range e.Elements {
			if part.Parsed != "" {
				return false
			}
		}
		return onlyTime(e.Expressions[0], score)
	case *ast.CallExpression:
		if id, ok := e.Callee.(*ast.Identifier); ok && id.Name == "String" && len(e.ArgumentList) == 1 {
			return onlyTime(e.ArgumentList[0], score)
		}
		if of, name, _, ok := methodCall(e); ok {
			if name == "toString" {
				return onlyTime(of, score)
			}
			id, isName := of.(*ast.Identifier)
			return isName && id.Name == "Date" && name == "now"
		}
	case *ast.Identifier:
		s, ok := score.(*ast.Identifier)
		return ok && s.Name == e.Name
	}
	return false
}

func uniqueFix(at place, member ast.Expression) *inspect.Fix {
	o, ok := originalAt(at)
	if !ok {
		return nil
	}
	if _, ok := member.(*ast.TemplateLiteral); ok {
		if !o.starts("`${") {
			return nil
		}
		for i := 1; i < len(o.rest); i++ {
			if o.rest[i] == '`' {
				o.column += i
				return fix("make the member unique", o.replace(0, "-${crypto.randomUUID()}"))
			}
		}
		return nil
	}
	if id, ok := member.(*ast.Identifier); ok && o.starts(id.Name.String()) {
		return fix("make the member unique", o.replace(len(id.Name.String()), "`${"+id.Name.String()+"}-${crypto.randomUUID()}`"))
	}
	return nil
}
