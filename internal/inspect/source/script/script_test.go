package script

import (
	"errors"
	"slices"
	"testing"

	"github.com/dop251/goja/ast"
)

func TestEverySyntaxBecomesATreeThatKnowsItsPlace(t *testing.T) {
	for _, tc := range []struct {
		name, file, src string
		line, column    int // of the only new expression
	}{
		{"types are taken away", "a.ts", "type A<T> = { a: T };\nconst q: A<number> = new Queue<string>('a') as any;", 2, 22},
		{"a default import is followed", "a.ts", "import Queue from 'bull';\n\n  new Queue('a')", 3, 3},
		{"a column counts characters, not bytes", "a.ts", "const s = '💥é'; new Queue('a');", 1, 17},
		{"JSX is a call", "a.tsx", "const e = <div>{new Queue('a')}</div>;", 1, 17},
		{"decorators and parameter properties", "a.ts", "@Module({})\nclass A { constructor(@Inject('x') private x: any) { new Queue('a') } }", 2, 54},
		{"a class field, optional chains and nullish values", "a.ts", "class A { #q = a?.b ?? new Queue('a') }", 1, 24},
		{"an await outside a function", "a.mts", "import a from 'a';\nawait a();\nconst q = await new Queue('a');", 3, 17},
		{"an await without any import", "a.ts", "await a; await b;\nnew Queue('a')", 2, 1},
		{"a loop that awaits", "a.ts", "async function f() { for await (const x of y) { new Queue(x) } }", 1, 49},
		{"an import while it runs", "a.ts", "const load = () => import('./queue'); new Queue('a')", 1, 39},
		{"CommonJS is left alone", "a.cjs", "const Q = require('bull');\nmodule.exports = new Q('a');", 2, 18},
		{"a field that is called get", "a.js", "class A { get = 1; it = new Queue('a') }", 1, 25},
		{"a look-behind is no error", "a.js", "const r = /(?<=a)b/u; new Queue(r)", 1, 23},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := Parse(tc.file, []byte(tc.src))
			if err != nil {
				t.Fatal(err)
			}
			line, column := 0, 0
			Walk(f.Program, func(n ast.Node) bool {
				if n, ok := n.(*ast.NewExpression); ok {
					if name, ok := n.Callee.(*ast.Identifier); !ok || name.Name != "Error" {
						if l, c, ok := f.Position(n.New); ok {
							line, column = l, c
						}
					}
				}
				return true
			})
			if line != tc.line || column != tc.column {
				t.Errorf("new Queue at %d:%d, want %d:%d", line, column, tc.line, tc.column)
			}
		})
	}
}

func TestASyntaxErrorSaysWhere(t *testing.T) {
	_, err := Parse("a.ts", []byte("const a = 1;\nconst é = = 2;\n"))
	e, ok := errors.AsType[*SyntaxError](err)
	if !ok || e.Line != 2 || e.Column != 11 {
		t.Errorf("Parse = %v, want a syntax error at 2:11", err)
	}
	if _, err := Parse("a.css", nil); err == nil {
		t.Error("a style sheet was parsed")
	}
}

func TestImportsOfEveryKindAreListed(t *testing.T) {
	got, err := Requires("a.ts", []byte(`import a from './a'; import type { T } from './t'; export * from "./b";
const c = require('./c'); const d = () => import('./d');`))
	want := []string{"./a", "./b", "./c", "./d"}
	slices.Sort(got)
	// An import that nothing uses may be a type, so it is left out.
	if want = want[1:]; err != nil || !slices.Equal(got, want) {
		t.Errorf("Requires = %q, %v, want %q", got, err, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("new Queue('a')")
	f.Add("await a; class A { static { } }")
	f.Add("`${a}` ?? /x/")
	f.Fuzz(func(_ *testing.T, src string) {
		if file, err := Parse("a.ts", []byte(src)); err == nil {
			Walk(file.Program, func(n ast.Node) bool {
				if _, whole := n.(*ast.Program); !whole { // an empty one has no first character
					file.Position(n.Idx0())
				}
				return true
			})
		}
	})
}
