package source

import (
	"strings"

	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect"
)

// An original is a place in a file as it is written.
type original struct {
	file         string
	line, column int
	rest         []rune // of the line, from the column
}

// originalAt returns the text at a place; ok is false where nobody wrote it.
func originalAt(p place) (original, bool) {
	file, line, column, ok := where(p)
	if !ok {
		return original{}, false
	}
	text := []rune(p.mod.file.Line(line))
	if column-1 > len(text) {
		return original{}, false
	}
	return original{file, line, column, text[column-1:]}, true
}

// starts reports that the text begins with something.
func (o original) starts(with string) bool { return strings.HasPrefix(string(o.rest), with) }

// replace is an edit of the first n characters.
func (o original) replace(n int, text string) inspect.Edit {
	return inspect.Edit{File: o.file, Line: o.line, Column: o.column, EndLine: o.line, EndColumn: o.column + n, Text: text}
}

func fix(description string, edits ...inspect.Edit) *inspect.Fix {
	return &inspect.Fix{Description: description, Edits: edits}
}

// addOption puts text into an object literal; nil when there is no literal to put it into.
func addOption(o *object, text string) *inspect.Fix {
	edit, ok := intoLiteral(o, text)
	if !ok {
		return nil
	}
	return fix("add "+text, edit)
}

func intoLiteral(o *object, text string) (inspect.Edit, bool) {
	if o == nil {
		return inspect.Edit{}, false
	}
	at, ok := originalAt(o.place)
	if !ok || !at.starts("{") {
		return inspect.Edit{}, false
	}
	at.column++
	at.rest = at.rest[1:]
	if strings.HasPrefix(strings.TrimSpace(string(at.rest)), "}") {
		return at.replace(0, " "+text+" "), true
	}
	return at.replace(0, " "+text+","), true
}

// setOption writes a value into an object literal, in place of the number or word that is there.
func setOption(o *object, key, text string) (inspect.Edit, bool) {
	if o == nil {
		return inspect.Edit{}, false
	}
	p := o.props[key]
	if p == nil {
		return intoLiteral(o, key+": "+text)
	}
	if p.node == nil {
		return inspect.Edit{}, false
	}
	if _, literal := literal(p.node); !literal {
		return inspect.Edit{}, false
	}
	at, ok := originalAt(place{mod: p.place.mod, at: p.node.Idx0()})
	if !ok {
		return inspect.Edit{}, false
	}
	n := 0
	for n < len(at.rest) && isWord(at.rest[n]) {
		n++
	}
	if n == 0 {
		return inspect.Edit{}, false
	}
	return at.replace(n, text), true
}

func isWord(r rune) bool {
	return r == '_' || r == '.' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z'
}

// wrapped puts text around an object literal, on whatever lines it is.
func wrapped(o *object, before, after string) ([]inspect.Edit, bool) {
	if o == nil {
		return nil, false
	}
	begin, ok := originalAt(o.place)
	end, ok2 := originalAt(place{mod: o.place.mod, at: o.end})
	if !ok || !ok2 || !begin.starts("{") || !end.starts("}") || begin.file != end.file {
		return nil, false
	}
	end.column++
	return []inspect.Edit{begin.replace(0, before), end.replace(0, after)}, true
}

// methodCall takes x.name(args) apart.
func methodCall(n ast.Node) (of ast.Expression, name string, call *ast.CallExpression, ok bool) {
	call, ok = n.(*ast.CallExpression)
	if !ok {
		return nil, "", nil, false
	}
	callee := call.Callee
	for {
		switch inner := callee.(type) {
		case *ast.OptionalChain:
			callee = inner.Expression
			continue
		case *ast.Optional:
			callee = inner.Expression
			continue
		}
		break
	}
	dot, ok := callee.(*ast.DotExpression)
	if !ok {
		return nil, "", nil, false
	}
	return dot.Left, dot.Identifier.Name.String(), call, true
}

// methodPlace is where the method's name is written.
func methodPlace(m *module, call *ast.CallExpression) place {
	callee := call.Callee
	if o, ok := callee.(*ast.OptionalChain); ok {
		callee = o.Expression
	}
	if d, ok := callee.(*ast.DotExpression); ok {
		return place{mod: m, at: d.Identifier.Idx}
	}
	return place{mod: m, at: call.Idx0()}
}

// literalProp returns a property of an object literal as written.
func literalProp(o *ast.ObjectLiteral, key string) ast.Expression {
	for _, p := range o.Value {
		switch p := p.(type) {
		case *ast.PropertyKeyed:
			switch k := p.Key.(type) {
			case *ast.StringLiteral:
				if k.Value.String() == key {
					return p.Value
				}
			case *ast.Identifier:
				if k.Name.String() == key {
					return p.Value
				}
			}
		case *ast.PropertyShort:
			if p.Name.Name.String() == key {
				return &p.Name
			}
		}
	}
	return nil
}

func isFalse(e ast.Expression) bool {
	b, ok := e.(*ast.BooleanLiteral)
	return ok && !b.Value
}
