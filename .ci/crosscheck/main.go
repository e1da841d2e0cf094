// Command crosscheck type-checks a program for other platforms, with everything that it imports, from
// source: crosscheck ./cmd/redisopt windows/arm64 darwin/arm64. What it finds is what the compiler
// would refuse; it generates no code, which makes it some twenty times as fast as a build.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

func main() {
	if len(os.Args) < 3 {
		_, _ = fmt.Fprintln(os.Stderr, "usage: crosscheck PACKAGE OS/ARCH...")
		os.Exit(2)
	}
	for _, platform := range os.Args[2:] {
		if err := check(context.Background(), os.Args[1], platform); err != nil {
			_, _ = fmt.Fprintf(os.Stderr, "crosscheck: %s: %v\n", platform, err)
			os.Exit(1)
		}
		_, _ = fmt.Fprintln(os.Stdout, "type-checks:", platform)
	}
}

// A listed package is what go list says of one.
type listed struct {
	ImportPath string
	Dir        string
	GoFiles    []string
	CgoFiles   []string
	ImportMap  map[string]string
	Standard   bool
	Module     *struct {
		GoVersion string
		Main      bool
	}
	Error *struct{ Err string }
}

func check(ctx context.Context, pkg, platform string) error {
	goos, goarch, ok := strings.Cut(platform, "/")
	if !ok {
		return errors.New("want OS/ARCH")
	}
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "-deps",
		"-json=ImportPath,Dir,GoFiles,CgoFiles,ImportMap,Standard,Module,Error", pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS="+goos, "GOARCH="+goarch)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	c := &checker{
		fset:  token.NewFileSet(),
		sizes: types.SizesFor("gc", goarch),
		done:  map[string]*types.Package{"unsafe": types.Unsafe},
	}
	if err := c.all(out); err != nil {
		return errors.Join(err, cmd.Wait())
	}
	return cmd.Wait()
}

// A checker type-checks packages in the order of go list -deps: what is imported comes first.
type checker struct {
	fset  *token.FileSet
	sizes types.Sizes
	done  map[string]*types.Package
}

func (c *checker) all(list io.Reader) error {
	decoder := json.NewDecoder(list)
	for {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return fmt.Errorf("read go list: %w", err)
		}
		if p.ImportPath == "unsafe" {
			continue
		}
		if err := c.one(&p); err != nil {
			return fmt.Errorf("%s: %w", p.ImportPath, err)
		}
	}
}

func (c *checker) one(p *listed) error {
	if p.Error != nil {
		return errors.New(p.Error.Err)
	}
	if len(p.CgoFiles) > 0 {
		return errors.New("it needs cgo")
	}
	ours := p.Module != nil && p.Module.Main
	files := make([]*ast.File, 0, len(p.GoFiles))
	for _, name := range p.GoFiles {
		file, err := parser.ParseFile(c.fset, filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		files = append(files, file)
	}
	var problems []error
	config := types.Config{
		Importer:         within{c.done, p.ImportMap},
		Sizes:            c.sizes,
		IgnoreFuncBodies: !ours, // the bodies of others are their own tests' business
		Error:            func(err error) { problems = append(problems, err) },
	}
	if p.Module != nil && p.Module.GoVersion != "" {
		config.GoVersion = "go" + p.Module.GoVersion
	}
	c.done[p.ImportPath], _ = config.Check(p.ImportPath, c.fset, files, nil)
	return errors.Join(problems...)
}

// within resolves the imports of one package among those that were checked before it.
type within struct {
	done  map[string]*types.Package
	named map[string]string // what an import path stands for, where that is another
}

func (w within) Import(path string) (*types.Package, error) {
	if target, ok := w.named[path]; ok {
		path = target
	}
	if p := w.done[path]; p != nil {
		return p, nil
	}
	return nil, fmt.Errorf("%q is not listed before what imports it", path)
}
