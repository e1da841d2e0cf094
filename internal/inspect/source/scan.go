package source

import (
	"context"
	"path"
	"slices"
	"strings"

	"github.com/dop251/goja/ast"

	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// Scan reads the code below root and predicts what it costs. It returns an error only when the root
// cannot be listed, the options are wrong or ctx ends; whatever is wrong with one file is a finding.
func Scan(ctx context.Context, root string, opts Options) (*Report, error) {
	opts = opts.withDefaults()
	if err := opts.Validate(); err != nil {
		return nil, err
	}
	p, err := open(ctx, root, opts)
	if err != nil {
		return nil, err
	}
	s := &scan{ctx: ctx, opts: opts, project: p}
	if err := s.run(); err != nil {
		return nil, err
	}
	return s.report(), nil
}

// An EntryError says that no script has the names that were given for entry points.
type EntryError struct{ Entries []string }

// Error names them.
func (e *EntryError) Error() string {
	return "entry: no script matches " + strings.Join(e.Entries, ", ")
}

// A scan is one run over a project.
type scan struct {
	ctx     context.Context //nolint:containedctx // it is the state of one run, which ends with it
	opts    Options
	project *project
	runs    []*run
	how     string
}

// A run is one process played through.
type run struct {
	start   start
	started bool
	ev      *evaluator
}

func (s *scan) run() error {
	starts, how := s.project.starts(s.opts.Entries)
	if len(s.opts.Entries) > 0 && len(starts) == 0 {
		return &EntryError{s.opts.Entries}
	}
	s.how = how
	reaching := s.project.reach
	loaded := make(map[string]bool)
	for _, st := range starts {
		r := &run{start: st, started: true, ev: newEvaluator(s.ctx, s.project, s.opts.Env)}
		r.play(reaching)
		for f := range r.ev.modules {
			loaded[f] = true
		}
		s.runs = append(s.runs, r)
	}
	var left []string
	for f := range reaching {
		if !loaded[f] && !isTest(f) {
			left = append(left, f)
		}
	}
	if len(left) > 0 && len(s.opts.Entries) == 0 {
		slices.Sort(left)
		r := &run{start: start{"not started", left}, ev: newEvaluator(s.ctx, s.project, s.opts.Env)}
		r.ev.guards = []guard{{kind: unreachedGuard, why: "no entry point loads the file"}}
		r.play(reaching)
		s.runs = append(s.runs, r)
	}
	if r := s.project.readGo(); r != nil {
		s.runs = append(s.runs, r)
	}
	return s.ctx.Err()
}

// play loads the entries and then runs what nothing called.
func (r *run) play(reaching map[string]bool) {
	ev := r.ev
	for _, e := range r.start.entries {
		if m := ev.modules[e]; m != nil && m.started {
			continue
		}
		ev.modules[e] = &module{path: e, entry: true}
		ev.load(e)
	}
	ev.bootRest()
	ev.uncalled(reaching)
}

// uncalled runs the functions that nothing which was read calls, in files that reach a library: a
// framework may call them.
func (ev *evaluator) uncalled(reaching map[string]bool) {
	var paths []string
	for f := range ev.modules {
		if reaching[f] {
			paths = append(paths, f)
		}
	}
	slices.Sort(paths)
	for _, f := range paths {
		m := ev.modules[f]
		if m.file == nil || m.scope == nil {
			continue
		}
		ev.mod, ev.scope, ev.frame = m, m.scope, &frame{this: undefined{}}
		script.Walk(m.file.Program, func(n ast.Node) bool { return ev.probe(m, n) })
	}
}

// probe runs a function that was never called, and reports whether to look inside.
func (ev *evaluator) probe(m *module, n ast.Node) bool {
	switch n := n.(type) {
	case *ast.ClassLiteral:
		ev.probeClass(m, n)
		return true
	case *ast.FunctionLiteral:
		ev.probeFunction(n, undefined{}, nil)
	case *ast.ArrowFunctionLiteral:
		ev.probeFunction(n, undefined{}, nil)
	}
	return true
}

func (ev *evaluator) probeClass(m *module, n *ast.ClassLiteral) {
	for _, e := range n.Body {
		method, ok := e.(*ast.MethodDefinition)
		if !ok || ev.called[method.Body] {
			continue
		}
		this := newObject()
		this.open = true
		c := ev.classNamed(m, n)
		if c != nil && c.made != nil && !method.Static {
			ev.probeFunction(method.Body, c.made, c)
			continue
		}
		if c != nil && c.methods["constructor"] == nil && !method.Static {
			this.class = c
		}
		ev.probeFunction(method.Body, this, c)
	}
}

// classNamed finds the class that a literal became, if it is still to be found by its name.
func (ev *evaluator) classNamed(m *module, n *ast.ClassLiteral) *class {
	for _, c := range m.scope.vars {
		if k, ok := c.v.(*class); ok && k.node == n {
			return k
		}
	}
	return nil
}

func (ev *evaluator) probeFunction(e ast.Expression, this value, home *class) {
	if ev.called[e] || ev.stopped != "" {
		return
	}
	f := ev.functionOf(e)
	f.this, f.home = nil, home
	if f.arrow {
		f.this = this
	}
	args := make([]value, len(f.params.List))
	for i := range args {
		args[i] = &unknown{}
	}
	at := ev.here(e.Idx0())
	ev.under(guard{kind: uncalledGuard, place: at, why: "nothing that was read calls the function"}, func() {
		ev.callFunction(f, call{this: this, args: args, place: at})
	})
}

// where is a place in the words of a report; ok is false for code that nobody wrote.
func where(p place) (file string, line, column int, ok bool) {
	if p.pos != nil {
		return p.pos.file, p.pos.line, p.pos.column, true
	}
	if p.mod == nil || p.mod.file == nil {
		return "", 0, 0, false
	}
	line, column, ok = p.mod.file.Position(p.at)
	return p.mod.path, line, column, ok
}

func processName(st start) string {
	if len(st.entries) == 1 {
		return st.name + " (" + path.Clean(st.entries[0]) + ")"
	}
	return st.name
}
