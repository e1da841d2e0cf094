package source

// A cell holds one variable.
type cell struct {
	v value

	// load makes the value when it is first asked for; nil when it is there.
	load func() value
}

func (c *cell) get() value {
	if load := c.load; load != nil {
		c.load, c.v = nil, &unknown{} // what asks for itself meanwhile gets nothing
		c.v = load()
	}
	return c.v
}

// A scope is the variables of a block, a function or a module.
type scope struct {
	vars   map[string]*cell
	parent *scope

	// fn says that var declarations end here.
	fn bool
}

func newScope(parent *scope, fn bool) *scope { return &scope{parent: parent, fn: fn} }

func (s *scope) declare(name string, v value) {
	if s.vars == nil {
		s.vars = make(map[string]*cell)
	}
	s.vars[name] = &cell{v: v}
}

func (s *scope) lookup(name string) *cell {
	for ; s != nil; s = s.parent {
		if c, ok := s.vars[name]; ok {
			return c
		}
	}
	return nil
}

// hoist declares a var in the function it belongs to, unless it is there.
func (s *scope) hoist(name string) {
	for !s.fn && s.parent != nil {
		s = s.parent
	}
	if _, ok := s.vars[name]; !ok {
		s.declare(name, undefined{})
	}
}
