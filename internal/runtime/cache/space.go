package cache

import (
	"sync"
)

// maxSpaces bounds the namespaces that are counted one by one; keys come from outside.
const maxSpaces = 256

// A space is a namespace with everything that follows from its configuration.
type space struct {
	name string
	Namespace
	class     Class // zero without one
	sensitive bool
	bare      bool // keys and values are as others have them
	deny      []rule
	counts    *counts
	reuse     *reuse
}

// spaces finds namespaces by name. Those that nobody configured are made when they are first seen.
type spaces struct {
	configured map[string]*space
	deny       []rule

	mu     sync.RWMutex
	others map[string]*space
	rest   *space // stands for all that are too many
}

func newSpaces(o *Options) *spaces {
	s := &spaces{
		configured: map[string]*space{},
		deny:       compileDeny(o.Deny),
		others:     map[string]*space{},
	}
	for name, ns := range o.Namespaces {
		class := o.Classes[ns.Class]
		s.configured[name] = &space{
			name: name, Namespace: ns, class: class,
			sensitive: class.Sensitive,
			bare:      ns.Codec == IORedisJSON,
			deny:      without(s.deny, ns.Allow),
			counts:    &counts{},
			reuse:     newReuse(),
		}
	}
	s.rest = s.plain("(others)")
	return s
}

func (s *spaces) plain(name string) *space {
	return &space{name: name, Namespace: Namespace{Codec: Raw}, deny: s.deny, counts: &counts{}, reuse: newReuse()}
}

func (s *spaces) find(name string) *space {
	if sp, ok := s.configured[name]; ok {
		return sp
	}
	s.mu.RLock()
	sp, ok := s.others[name]
	s.mu.RUnlock()
	if ok {
		return sp
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if sp, ok := s.others[name]; ok {
		return sp
	}
	if len(s.others) >= maxSpaces || !plainPart(name) {
		return s.rest
	}
	sp = s.plain(name)
	s.others[name] = sp
	return sp
}

// each calls f for every namespace that has been seen or configured.
func (s *spaces) each(f func(*space)) {
	for _, sp := range s.configured {
		f(sp)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for _, sp := range s.others {
		f(sp)
	}
	f(s.rest)
}
