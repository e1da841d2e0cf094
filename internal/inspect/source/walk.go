package source

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redisopt/redisopt/internal/inspect/source/script"
)

// Skipped counts what was not read, by reason.
type Skipped struct {
	Directories int `json:"directories"` // node_modules, dist and the like
	Links       int `json:"symbolic_links"`
	Huge        int `json:"huge_files"`
	Minified    int `json:"minified_files"`
	Excluded    int `json:"excluded"`
	Unreadable  int `json:"unreadable"`
	Tests       int `json:"test_files"` // never part of a process that nothing else starts
}

// A tree is what walking found, all paths relative with forward slashes.
type tree struct {
	scripts  []string
	goFiles  []string
	packages []string // package.json
	configs  []string // tsconfig.json
	envs     []string
	others   map[string]bool // lock files, Procfile
	skipped  Skipped
}

// walk lists the files below a root. Symbolic links are not followed, so there is no way round in a
// circle.
func walk(ctx context.Context, root string, exclude []string) (*tree, error) {
	t := &tree{others: make(map[string]bool)}
	info, err := os.Stat(root)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return nil, &fs.PathError{Op: "scan", Path: root, Err: errors.New("not a directory")}
	}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		rel, relErr := filepath.Rel(root, p)
		if err != nil || relErr != nil {
			if p == root {
				return errors.Join(err, relErr)
			}
			t.skipped.Unreadable++
			return nil
		}
		return t.visit(filepath.ToSlash(rel), d, exclude)
	})
	return t, err
}

func (t *tree) visit(rel string, d fs.DirEntry, exclude []string) error {
	name := d.Name()
	switch {
	case rel == ".":
		return nil
	case d.Type()&fs.ModeSymlink != 0:
		t.skipped.Links++
		return nil
	case excluded(rel, exclude):
		t.skipped.Excluded++
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	case d.IsDir():
		if generated(name) {
			t.skipped.Directories++
			return fs.SkipDir
		}
		return nil
	case !d.Type().IsRegular():
		return nil
	}
	t.take(rel, name)
	if script.Loads(name) || strings.HasSuffix(name, ".go") {
		if info, err := d.Info(); err == nil && info.Size() > maxFileBytes {
			t.skipped.Huge++
			t.drop(rel)
		}
	}
	return nil
}

// Reads reports whether a scan would read a file, by its path relative to the root and its size.
func Reads(rel string, size int64) bool {
	parts := strings.Split(rel, "/")
	name := parts[len(parts)-1]
	if slices.ContainsFunc(parts[:len(parts)-1], generated) {
		return false
	}
	t := &tree{others: make(map[string]bool)}
	t.take(rel, name)
	if len(t.scripts) > 0 || len(t.goFiles) > 0 {
		return size <= maxFileBytes
	}
	return len(t.packages) > 0 || len(t.configs) > 0 || len(t.envs) > 0 || len(t.others) > 0
}

func (t *tree) take(rel, name string) {
	switch {
	case name == "package.json":
		t.packages = append(t.packages, rel)
	case name == "tsconfig.json" || name == "jsconfig.json":
		t.configs = append(t.configs, rel)
	case name == ".env" || strings.HasPrefix(name, ".env."):
		t.envs = append(t.envs, rel)
	case name == "package-lock.json" || name == "yarn.lock" || name == "pnpm-lock.yaml" || name == "Procfile" || name == "go.mod":
		t.others[rel] = true
	case strings.HasSuffix(name, ".min.js"):
		t.skipped.Minified++
	case script.Loads(name):
		t.scripts = append(t.scripts, rel)
	case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
		t.goFiles = append(t.goFiles, rel)
	}
}

// drop takes back the file that was listed last.
func (t *tree) drop(rel string) {
	for _, list := range []*[]string{&t.scripts, &t.goFiles} {
		if n := len(*list); n > 0 && (*list)[n-1] == rel {
			*list = (*list)[:n-1]
		}
	}
}

// generated reports a directory of code that nobody here wrote.
func generated(name string) bool {
	switch name {
	case "node_modules", "bower_components", "dist", "build", "out", "coverage", ".git", ".next", ".nuxt", ".output", ".turbo", ".cache", "vendor", ".yarn", ".pnpm-store":
		return true
	}
	return false
}

func excluded(rel string, globs []string) bool {
	for _, g := range globs {
		g = strings.TrimSuffix(strings.TrimPrefix(g, "./"), "/")
		for _, s := range []string{rel, path.Base(rel)} {
			if ok, _ := path.Match(strings.TrimSuffix(g, "/**"), s); ok {
				return true
			}
		}
	}
	return false
}

// isTest reports files that run tests, tools or stories rather than the application.
func isTest(rel string) bool {
	base := path.Base(rel)
	for _, mark := range []string{".test.", ".spec.", ".e2e-spec.", ".stories.", ".config.", ".mock.", ".bench."} {
		if strings.Contains(base, mark) {
			return true
		}
	}
	for dir := range strings.SplitSeq(path.Dir(rel), "/") {
		switch dir {
		case "test", "tests", "__tests__", "__mocks__", "e2e", "spec", "fixtures", "cypress":
			return true
		}
	}
	return false
}

// minified reports code that a tool wrote: lines that nobody would read, and hardly any others.
func minified(src []byte) bool {
	lines := bytes.Count(src, []byte{'\n'}) + 1
	if len(src)/lines < minifiedAverage {
		return false
	}
	for rest := src; len(rest) > minifiedLine; {
		i := bytes.IndexByte(rest, '\n')
		if i < 0 || i > minifiedLine {
			return true
		}
		rest = rest[i+1:]
	}
	return false
}

func dirOf(p string) string { return path.Dir(p) }
