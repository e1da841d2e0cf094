package source

import (
	"context"
	"slices"

	"github.com/dop251/goja/ast"
	"github.com/dop251/goja/file"

	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// Bounds of one process, so that no code can keep the scan from ending.
const (
	maxSteps      = 30_000_000
	maxDepth      = 400
	maxRecursion  = 6
	maxIterations = 2_000
	maxNesting    = 5_000 // modules that load one another
	maxGuards     = 40    // decisions inside one another whose outcome is not known
	maxUnsure     = 2_000 // calls of one function that may not happen
)

// A module is one file as one process loads it.
type module struct {
	path    string // relative to the root, with forward slashes
	file    *script.File
	scope   *scope
	module  *object // the CommonJS module object, whose exports matter
	entry   bool
	started bool
}

// An evaluator plays one process through: it runs what the top level of its modules runs, with values
// where the code tells them and unknowns where it does not, and keeps what it constructs.
type evaluator struct {
	ctx     context.Context //nolint:containedctx // it is the state of one run, which ends with it
	project *project
	modules map[string]*module
	globals map[string]value

	mod   *module
	scope *scope
	frame *frame

	guards      []guard
	groups      int
	steps       int
	depth       int
	nested      int
	active      map[ast.Node]int
	called      map[ast.Node]bool
	unsureCalls map[ast.Node]int

	made     []*construction
	commands []*command
	known    map[string]string // environment variables with a value
	env      map[string]bool
	defaults map[string]bool
	nest     nest

	// stopped is why the run was cut short, and empty when it was not.
	stopped string
	unread  map[string]bool // imports that were not read
}

// A frame is one running function.
type frame struct {
	this   value
	home   *class
	args   []value
	yields []value
}

func newEvaluator(ctx context.Context, p *project, known map[string]string) *evaluator {
	ev := &evaluator{
		ctx: ctx, project: p, known: known, modules: make(map[string]*module), active: make(map[ast.Node]int),
		called: make(map[ast.Node]bool), unsureCalls: make(map[ast.Node]int), env: make(map[string]bool), defaults: make(map[string]bool),
		unread: make(map[string]bool), frame: &frame{this: undefined{}},
	}
	ev.globals = globals()
	return ev
}

func (ev *evaluator) here(at file.Idx) place { return place{mod: ev.mod, at: at} }

// step counts work and reports whether there is some left.
func (ev *evaluator) step() bool {
	ev.steps++
	if ev.stopped != "" {
		return false
	}
	if ev.steps > maxSteps {
		ev.stopped = "the code takes too many steps to follow"
		return false
	}
	if ev.steps%4096 == 0 && ev.ctx.Err() != nil {
		ev.stopped = "interrupted"
		return false
	}
	return true
}

// load runs a module once and returns its exports.
func (ev *evaluator) load(path string) value {
	m := ev.modules[path]
	if m == nil {
		m = &module{path: path}
		ev.modules[path] = m
	}
	if m.module == nil {
		m.module = newObject()
		m.module.set("exports", newObject())
	}
	if m.started {
		return m.module.props["exports"].v
	}
	m.started = true
	m.file = ev.project.parse(path)
	if m.file == nil || ev.nested > maxNesting {
		m.module.set("exports", &unknown{})
		return m.module.props["exports"].v
	}
	ev.run(m)
	return m.module.props["exports"].v
}

// run plays the top level of a module.
func (ev *evaluator) run(m *module) {
	mod, sc, fr, guards, depth := ev.mod, ev.scope, ev.frame, ev.guards, ev.depth
	ev.nested++
	ev.depth = 0 // a chain of imports is no chain of calls
	defer func() {
		ev.nested--
		ev.mod, ev.scope, ev.frame, ev.guards, ev.depth = mod, sc, fr, guards, depth
	}()
	m.scope = newScope(nil, true)
	m.scope.declare("module", m.module)
	m.scope.declare("exports", m.module.props["exports"].v)
	m.scope.declare("require", ev.require(m))
	m.scope.declare("__filename", m.path)
	m.scope.declare("__dirname", dirOf(m.path))
	ev.mod, ev.scope, ev.frame = m, m.scope, &frame{this: undefined{}}
	// A module is loaded once, whoever asks first and however often: it is not part of a loop or of a
	// function that was only handed over.
	ev.guards = slices.DeleteFunc(slices.Clone(guards), func(g guard) bool { return g.kind == loopGuard || g.kind == handlerGuard })
	ev.hoist(m.file.Program.DeclarationList)
	ev.block(m.file.Program.Body)
}

func (ev *evaluator) require(m *module) *native {
	main := newObject()
	main.open = true
	n := &native{name: "require", props: map[string]value{"main": main, "resolve": &native{name: "resolve"}}}
	if m.entry {
		n.props["main"] = m.module
	}
	n.call = func(ev *evaluator, c call) value {
		spec, ok := likely(c.arg(0)).(string)
		if !ok {
			return &unknown{}
		}
		return ev.imports(m, spec)
	}
	return n
}

// imports returns what a module exports that another asks for by name.
func (ev *evaluator) imports(from *module, spec string) value {
	if lib := library(spec); lib != nil {
		return lib
	}
	path, ok := ev.project.resolve(from.path, spec)
	if !ok {
		if ev.project.own(spec) {
			ev.unread[from.path+": "+spec] = true
		}
		return &unknown{}
	}
	return ev.load(path)
}
