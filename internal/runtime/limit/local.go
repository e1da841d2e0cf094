package limit

import (
	"hash/maphash"
	"sync"

	"github.com/redisopt/redisopt/internal/runtime/limit/lease"
	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// A local is what this process knows of one key.
type local struct {
	mu     sync.Mutex
	plan   *plan // another plan means that the rules were replaced
	key    string
	name   string // under which it is remembered
	other  bool   // counted on the side of Options.Other
	ledger lease.Ledger
	last   answer // the last answer of the server
	lastAt int64  // and when it came
	flight *flight
	own    window.State // what was counted here while Redis was away
	used   int64        // when it was last used; guarded by the shard
}

// A flight is a call under way whose grant others may wait for.
type flight struct {
	done chan struct{}
	room int64 // units of it that nobody waits for yet; guarded by the local
	err  error // why there is no grant; read after done
}

const shards = 64

// locals remembers a bounded number of keys. When it is full, of a few entries the one longest unused
// is forgotten.
type locals struct {
	seed   maphash.Seed
	each   int
	shards [shards]shard
}

type shard struct {
	mu   sync.Mutex
	keys map[string]*local
}

func newLocals(most int) *locals {
	ls := &locals{seed: maphash.MakeSeed(), each: max(1, most/shards)}
	for i := range ls.shards {
		ls.shards[i].keys = map[string]*local{}
	}
	return ls
}

func (ls *locals) shard(key string) *shard {
	return &ls.shards[maphash.String(ls.seed, key)%shards]
}

// find is what is known under a name and p, nil when nothing is.
func (ls *locals) find(key string, p *plan, now int64) *local {
	s := ls.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.keys[key]
	if e == nil || e.plan != p {
		return nil
	}
	e.used = now
	return e
}

// make is what is known of key under a name and p, remembered from now on.
func (ls *locals) make(key, name string, p *plan, other bool, now int64) *local {
	s := ls.shard(name)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.keys[name]
	if e == nil || e.plan != p {
		if e == nil && len(s.keys) >= ls.each {
			s.forget()
		}
		e = &local{plan: p, key: key, name: name, other: other}
		s.keys[name] = e
	}
	e.used = now
	return e
}

// forget removes one entry.
func (s *shard) forget() {
	var oldest *local
	n := 0
	for _, e := range s.keys {
		if oldest == nil || e.used < oldest.used {
			oldest = e
		}
		if n++; n == 8 {
			break
		}
	}
	if oldest != nil {
		delete(s.keys, oldest.name)
	}
}

// drop forgets key.
func (ls *locals) drop(key string) {
	s := ls.shard(key)
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.keys, key)
}

func (ls *locals) len() int {
	n := 0
	for i := range ls.shards {
		ls.shards[i].mu.Lock()
		n += len(ls.shards[i].keys)
		ls.shards[i].mu.Unlock()
	}
	return n
}

// all are all entries.
func (ls *locals) all() []*local {
	var all []*local
	for i := range ls.shards {
		s := &ls.shards[i]
		s.mu.Lock()
		for _, e := range s.keys {
			all = append(all, e)
		}
		s.mu.Unlock()
	}
	return all
}

// sweep forgets what was not used since before.
func (ls *locals) sweep(before int64) {
	for i := range ls.shards {
		s := &ls.shards[i]
		s.mu.Lock()
		for key, e := range s.keys {
			if e.used < before {
				delete(s.keys, key)
			}
		}
		s.mu.Unlock()
	}
}
