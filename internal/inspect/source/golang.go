package source

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path"
	"slices"
	"strconv"
	"strings"
)

// A goPlace is where something is written in a Go file.
type goPlace struct {
	file         string
	line, column int
}

// A goFile is one parsed Go file with the names under which it imports what we look for.
type goFile struct {
	rel    string
	syntax *ast.File
	set    *token.FileSet
	redis  string // "" when it does not import go-redis
	asynq  string
}

// readGo finds what the Go files make. They are one process: which of it runs together the code of one
// package does not say.
func (p *project) readGo() *run {
	ev := &evaluator{project: p, modules: make(map[string]*module)}
	for _, rel := range p.tree.goFiles {
		src, err := p.read(rel)
		if err != nil {
			p.tree.skipped.Unreadable++
			continue
		}
		p.lines += strings.Count(string(src), "\n")
		// Imports first: most files have nothing to do with a Redis.
		set := token.NewFileSet()
		head, err := parser.ParseFile(set, rel, src, parser.ImportsOnly)
		if err != nil {
			p.syntax = append(p.syntax, goSyntax(rel, err))
			continue
		}
		g := &goFile{rel: rel, set: set, redis: importName(head, "redis", isGoRedis), asynq: importName(head, "asynq", isAsynq)}
		if g.redis == "" && g.asynq == "" {
			continue
		}
		if g.syntax, err = parser.ParseFile(set, rel, src, parser.SkipObjectResolution); err != nil {
			p.syntax = append(p.syntax, goSyntax(rel, err))
			continue
		}
		ev.made = append(ev.made, g.constructions()...)
	}
	if len(ev.made) == 0 {
		return nil
	}
	return &run{start: start{"go", nil}, started: true, ev: ev}
}

func isGoRedis(p string) bool {
	return p == "github.com/redis/go-redis/v9" || strings.HasPrefix(p, "github.com/go-redis/redis")
}

func isAsynq(p string) bool { return p == "github.com/hibiken/asynq" }

// importName is the name under which a file imports a package.
func importName(f *ast.File, fallback string, is func(string) bool) string {
	for _, i := range f.Imports {
		p, err := strconv.Unquote(i.Path.Value)
		if err != nil || !is(p) {
			continue
		}
		if i.Name != nil {
			return i.Name.Name
		}
		return fallback
	}
	return ""
}

func (g *goFile) constructions() []*construction {
	var out []*construction
	var above []ast.Node
	ast.Inspect(g.syntax, func(n ast.Node) bool {
		if n == nil {
			above = above[:len(above)-1]
			return true
		}
		above = append(above, n)
		if call, ok := n.(*ast.CallExpr); ok {
			if k := g.construction(call); k != nil {
				k.place = g.place(call)
				k.guards = g.loops(above)
				if k.goClient.options != nil {
					at := g.set.Position(k.goClient.options.Lbrace)
					k.lbrace = goPlace{path.Clean(g.rel), at.Line, at.Column}
				}
				out = append(out, k)
			}
		}
		return true
	})
	return out
}

func (g *goFile) place(n ast.Node) place {
	p := g.set.Position(n.Pos())
	return place{pos: &goPlace{path.Clean(g.rel), p.Line, p.Column}}
}

// loops are guards for what stands in a loop, whose turns are not counted in Go.
func (g *goFile) loops(above []ast.Node) []guard {
	if i := slices.IndexFunc(above, func(n ast.Node) bool {
		switch n.(type) {
		case *ast.ForStmt, *ast.RangeStmt:
			return true
		}
		return false
	}); i >= 0 {
		return []guard{{kind: loopGuard, place: g.place(above[i])}}
	}
	return nil
}

func (g *goFile) construction(call *ast.CallExpr) *construction {
	sel, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return nil
	}
	pkg, ok := sel.X.(*ast.Ident)
	if !ok {
		return nil
	}
	switch {
	case g.redis != "" && pkg.Name == g.redis:
		return g.redisClient(sel.Sel.Name, call)
	case g.asynq != "" && pkg.Name == g.asynq:
		return g.asynqPart(sel.Sel.Name, call)
	}
	return nil
}

// literalOf is the composite literal that an argument is, or that a variable of its name is set to in
// the same file.
func (g *goFile) literalOf(e ast.Expr) *ast.CompositeLit {
	if u, ok := e.(*ast.UnaryExpr); ok {
		e = u.X
	}
	switch e := e.(type) {
	case *ast.CompositeLit:
		return e
	case *ast.Ident:
		return g.assigned(e.Name)
	}
	return nil
}

func (g *goFile) assigned(name string) *ast.CompositeLit {
	var found *ast.CompositeLit
	match := func(left ast.Expr, right ast.Expr) {
		if id, ok := left.(*ast.Ident); !ok || id.Name != name || found != nil {
			return
		}
		if u, ok := right.(*ast.UnaryExpr); ok {
			right = u.X
		}
		found, _ = right.(*ast.CompositeLit)
	}
	ast.Inspect(g.syntax, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.AssignStmt:
			if len(n.Lhs) == len(n.Rhs) {
				for i := range n.Lhs {
					match(n.Lhs[i], n.Rhs[i])
				}
			}
		case *ast.ValueSpec:
			if len(n.Names) == len(n.Values) {
				for i := range n.Names {
					match(n.Names[i], n.Values[i])
				}
			}
		}
		return true
	})
	return found
}

// field is an entry of a struct literal; nil when it is absent.
func field(lit *ast.CompositeLit, name string) ast.Expr {
	if lit == nil {
		return nil
	}
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if id, ok := kv.Key.(*ast.Ident); ok && id.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

// goNumber is a number or duration, in seconds where time's units are used.
func goNumber(e ast.Expr) (float64, bool) {
	switch e := e.(type) {
	case *ast.BasicLit:
		f, err := strconv.ParseFloat(strings.ReplaceAll(e.Value, "_", ""), 64)
		return f, err == nil
	case *ast.UnaryExpr:
		f, ok := goNumber(e.X)
		return -f, ok && e.Op == token.SUB
	case *ast.ParenExpr:
		return goNumber(e.X)
	case *ast.BinaryExpr:
		a, ok := goNumber(e.X)
		b, ok2 := goNumber(e.Y)
		switch e.Op { //nolint:exhaustive // no other operator matters here
		case token.MUL:
			return a * b, ok && ok2
		case token.ADD:
			return a + b, ok && ok2
		}
	case *ast.SelectorExpr:
		units := map[string]float64{"Millisecond": 0.001, "Second": 1, "Minute": 60, "Hour": 3600}
		f, ok := units[e.Sel.Name]
		return f, ok
	}
	return 0, false
}
