package source

import (
	"encoding/json"
	"path"
	"slices"
	"strings"
)

// libraries lists the packages that talk to a Redis, with their versions.
func (p *project) libraries() []Package {
	out := []Package{}
	for _, m := range p.packages {
		locked := p.locked(m.dir)
		for _, deps := range []map[string]string{m.Dependencies, m.DevDependencies} {
			for name, wanted := range deps {
				if talks(name) {
					out = append(out, Package{Name: name, Wanted: wanted, Locked: locked[name], File: m.rel})
				}
			}
		}
	}
	slices.SortFunc(out, func(a, b Package) int { return strings.Compare(a.File+a.Name, b.File+b.Name) })
	return out
}

// talks reports packages that open connections, those that are followed and those that are only known
// by name.
func talks(name string) bool {
	switch name {
	case "@nestjs/bull", "@nestjs/bullmq", "connect-redis", "rate-limit-redis", "@socket.io/redis-adapter", "cache-manager-ioredis",
		"cache-manager-redis-store", "@keyv/redis", "@nestjs-modules/ioredis", "agenda", "kue", "rate-limiter-flexible", "@bull-board/api":
		return true
	}
	return counts(name)
}

// locked reads the versions out of a package-lock.json.
func (p *project) locked(dir string) map[string]string {
	out := make(map[string]string)
	rel := joinPath(dir, "package-lock.json")
	if !p.tree.others[rel] {
		return out
	}
	src, err := p.read(rel)
	if err != nil {
		return out
	}
	var lock struct {
		Packages map[string]struct {
			Version string `json:"version"`
		} `json:"packages"`
	}
	if json.Unmarshal(src, &lock) != nil {
		return out
	}
	for where, pkg := range lock.Packages {
		if name, ok := strings.CutPrefix(where, "node_modules/"); ok && !strings.Contains(name, "node_modules/") {
			out[path.Clean(name)] = pkg.Version
		}
	}
	return out
}
