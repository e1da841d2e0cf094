package source

import (
	"context"
	"errors"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// maxParsedBytes bounds the code whose trees are kept. Beyond it only what reaches a library is followed.
const maxParsedBytes = 16 << 20

// A project is the tree of code with what is known of its files.
type project struct {
	root  string
	tree  *tree
	files map[string]bool

	// requires are what each script asks for; direct marks those that ask for a library themselves.
	requires map[string][]string
	direct   map[string]bool

	// reach are the scripts that import a library, themselves or through others.
	reach map[string]bool

	packages []*manifest
	paths    []pathRule

	parsed      map[string]*script.File
	parsedBytes int
	beyond      map[string]bool // not followed because of maxParsedBytes

	syntax []inspect.Finding
	lines  int
	bytes  int
}

// open lists a root and looks at every script once.
func open(ctx context.Context, root string, opts Options) (*project, error) {
	t, err := walk(ctx, root, opts.Exclude)
	if err != nil {
		return nil, err
	}
	p := &project{
		root: root, tree: t, files: make(map[string]bool), requires: make(map[string][]string),
		direct: make(map[string]bool), parsed: make(map[string]*script.File), beyond: make(map[string]bool),
	}
	p.readManifests()
	p.readConfigs()
	for _, s := range t.scripts {
		p.files[s] = true
	}
	if err := p.outline(ctx, opts.Workers); err != nil {
		return nil, err
	}
	p.reach = p.reaching()
	return p, nil
}

func (p *project) read(rel string) ([]byte, error) {
	return os.ReadFile(filepath.Join(p.root, filepath.FromSlash(rel)))
}

// outline finds what every script imports, with a bounded number of readers.
func (p *project) outline(ctx context.Context, workers int) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	next := make(chan string)
	for range workers {
		wg.Go(func() {
			for rel := range next {
				p.outlineFile(rel, &mu)
			}
		})
	}
	for _, rel := range p.tree.scripts {
		if ctx.Err() != nil {
			break
		}
		next <- rel
	}
	close(next)
	wg.Wait()
	slices.SortFunc(p.syntax, func(a, b inspect.Finding) int { return strings.Compare(a.File, b.File) })
	return ctx.Err()
}

func (p *project) outlineFile(rel string, mu *sync.Mutex) {
	src, err := p.read(rel)
	var requires []string
	tooDense := err == nil && minified(src)
	if err == nil && !tooDense {
		requires, err = script.Requires(rel, src)
	}
	mu.Lock()
	defer mu.Unlock()
	switch {
	case tooDense:
		p.tree.skipped.Minified++
		delete(p.files, rel)
		return
	case err != nil:
		delete(p.files, rel)
		if e, ok := errors.AsType[*script.SyntaxError](err); ok {
			p.syntax = append(p.syntax, syntaxFinding(rel, e))
		} else {
			p.tree.skipped.Unreadable++
		}
		return
	}
	p.bytes += len(src)
	p.lines += strings.Count(string(src), "\n") + 1
	p.requires[rel] = requires
	p.direct[rel] = slices.ContainsFunc(requires, counts)
}

// parse returns the tree of a script, nil when it cannot be had.
func (p *project) parse(rel string) *script.File {
	if f, ok := p.parsed[rel]; ok {
		return f
	}
	p.parsed[rel] = nil
	if !p.files[rel] {
		return nil
	}
	src, err := p.read(rel)
	if err != nil {
		return nil
	}
	if p.parsedBytes += len(src); p.parsedBytes > maxParsedBytes && !p.reach[rel] {
		p.beyond[rel] = true
		return nil
	}
	f, err := script.Parse(rel, src)
	if err != nil {
		if e, ok := errors.AsType[*script.SyntaxError](err); ok {
			p.syntax = append(p.syntax, syntaxFinding(rel, e))
		}
		return nil
	}
	p.parsed[rel] = f
	return f
}

// reaching are the scripts that import a library, themselves or through others.
func (p *project) reaching() map[string]bool {
	importers := make(map[string][]string)
	for rel, list := range p.requires {
		for _, spec := range list {
			if to, ok := p.resolve(rel, spec); ok {
				importers[to] = append(importers[to], rel)
			}
		}
	}
	out := make(map[string]bool)
	var queue []string
	for rel, direct := range p.direct {
		if direct {
			out[rel] = true
			queue = append(queue, rel)
		}
	}
	for len(queue) > 0 {
		rel := queue[0]
		queue = queue[1:]
		for _, from := range importers[rel] {
			if !out[from] {
				out[from] = true
				queue = append(queue, from)
			}
		}
	}
	return out
}

// roots are the scripts that no other imports, without tests and tools.
func (p *project) roots() []string {
	imported := make(map[string]bool)
	for rel, list := range p.requires {
		if isTest(rel) {
			continue
		}
		for _, spec := range list {
			if to, ok := p.resolve(rel, spec); ok && to != rel {
				imported[to] = true
			}
		}
	}
	var out []string
	for rel := range p.requires {
		if !imported[rel] && !isTest(rel) {
			out = append(out, rel)
		}
	}
	slices.Sort(out)
	return out
}

// own reports that a name is meant to be a file of the project rather than a package.
func (p *project) own(spec string) bool {
	return strings.HasPrefix(spec, ".") || strings.HasPrefix(spec, "/")
}

func joinPath(dir, rel string) string {
	return strings.TrimPrefix(path.Clean(path.Join(dir, rel)), "./")
}
