// Package gittree reads the files of a revision from git's objects, without touching the work tree, the
// index or any reference. It runs the git of the machine, which asks no network.
package gittree

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// A Reason says why a revision cannot be read.
type Reason string

// The reasons.
const (
	NoGit        Reason = "git is not installed"
	NoRepository Reason = "not in a git repository"
	NoRevision   Reason = "no such revision"
	Shallow      Reason = "no such revision in a shallow clone"
	NoDirectory  Reason = "the revision does not have this directory"
	Failed       Reason = "git failed"
)

// An Error says that a revision cannot be read.
type Error struct {
	Revision string
	Reason   Reason
	Detail   string // what git said, on one line; may be empty
}

// Error is the revision and why it cannot be read.
func (e *Error) Error() string {
	out := fmt.Sprintf("revision %q: %s", e.Revision, e.Reason)
	if e.Detail != "" {
		out += " (" + e.Detail + ")"
	}
	return out
}

// A Tree is what was read.
type Tree struct {
	Commit string // its full name
	Files  int    // written
}

// A File is one of a revision.
type File struct {
	Path string // relative to the directory, with forward slashes
	Size int64
}

// Extract writes the files of revision that are below dir in the work tree into the directory into, which
// must be empty: regular files that want picks, under the paths that they have below dir. Symbolic links
// and submodules are left out. An index beside them (into/.git/index) says what git keeps. The error is
// an *Error where the revision cannot be read.
func Extract(ctx context.Context, dir, revision, into string, want func(File) bool) (*Tree, error) {
	g := &git{dir: dir, revision: revision}
	if _, err := exec.LookPath("git"); err != nil {
		return nil, g.fail(NoGit, "")
	}
	about, err := g.run(ctx, nil, "rev-parse", "--is-shallow-repository", "--show-prefix")
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, g.fail(NoRepository, detail(err))
	}
	shallow, prefix, _ := strings.Cut(string(about), "\n")
	prefix = strings.TrimSuffix(strings.TrimSuffix(prefix, "\n"), "/")
	commit, err := g.run(ctx, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", revision+"^{commit}")
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil && shallow == "true":
		return nil, g.fail(Shallow, "")
	case err != nil:
		return nil, g.fail(NoRevision, "")
	}
	t := &Tree{Commit: strings.TrimSpace(string(commit))}
	tree, err := g.run(ctx, nil, "rev-parse", "--verify", "--quiet", "--end-of-options", t.Commit+":"+prefix)
	if err != nil {
		return nil, g.fail(NoDirectory, prefix)
	}
	if err := g.extract(ctx, strings.TrimSpace(string(tree)), into, want, t); err != nil {
		return nil, err
	}
	return t, nil
}

type git struct{ dir, revision string }

func (g *git) fail(reason Reason, detail string) error {
	return &Error{Revision: g.revision, Reason: reason, Detail: detail}
}

// command is git as this package runs it: no pager, no prompt, no lock, no fetching of what is missing.
func (g *git) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-C", g.dir}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", "GIT_NO_LAZY_FETCH=1")
	return cmd
}

// A runError is what git said when it failed.
type runError struct {
	said string
	err  error
}

func (e *runError) Error() string { return e.said }
func (e *runError) Unwrap() error { return e.err }

func (g *git) run(ctx context.Context, env []string, args ...string) ([]byte, error) {
	cmd := g.command(ctx, args...)
	cmd.Env = append(cmd.Env, env...)
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return nil, &runError{oneLine(said.String()), err}
	}
	return out.Bytes(), nil
}

func oneLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return strings.TrimPrefix(strings.TrimSpace(line), "fatal: ")
}

func detail(err error) string {
	if e, ok := errors.AsType[*runError](err); ok {
		return e.said
	}
	return ""
}

// extract writes the files of a tree, and its index.
func (g *git) extract(ctx context.Context, tree, into string, want func(File) bool, t *Tree) error {
	listing, err := g.run(ctx, nil, "ls-tree", "-r", "-z", "-l", "--full-tree", tree)
	if err != nil {
		return g.fail(Failed, detail(err))
	}
	objects, files := parseListing(listing, want)
	if err := g.blobs(ctx, objects, files, into); err != nil {
		return err
	}
	t.Files = len(files)
	if err := os.MkdirAll(filepath.Join(into, ".git"), 0o700); err != nil {
		return err
	}
	index, err := filepath.Abs(filepath.Join(into, ".git", "index"))
	if err != nil {
		return err
	}
	if _, err := g.run(ctx, []string{"GIT_INDEX_FILE=" + index}, "-c", "index.version=2", "-c", "core.splitIndex=false", "read-tree", tree); err != nil {
		return g.fail(Failed, detail(err))
	}
	return nil
}

// parseListing reads what ls-tree -z -l prints: mode, type, object and size, a tab, the path, a NUL.
func parseListing(listing []byte, want func(File) bool) (objects []string, files []File) {
	for entry := range bytes.SplitSeq(listing, []byte{0}) {
		head, path, ok := strings.Cut(string(entry), "\t")
		fields := strings.Fields(head)
		if !ok || len(fields) != 4 || fields[0] != "100644" && fields[0] != "100755" {
			continue
		}
		size, err := strconv.ParseInt(fields[3], 10, 64)
		if err != nil || !safe(path) {
			continue
		}
		if f := (File{path, size}); want(f) {
			objects, files = append(objects, fields[2]), append(files, f)
		}
	}
	return objects, files
}

// safe refuses paths that would leave the directory or write into its .git.
func safe(path string) bool {
	if !filepath.IsLocal(filepath.FromSlash(path)) || strings.ContainsRune(path, 0) {
		return false
	}
	for part := range strings.SplitSeq(path, "/") {
		if strings.EqualFold(part, ".git") {
			return false
		}
	}
	return true
}

// blobs writes objects to their files, in one run of git.
func (g *git) blobs(ctx context.Context, objects []string, files []File, into string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := g.command(ctx, "cat-file", "--batch")
	cmd.Stdin = strings.NewReader(strings.Join(objects, "\n") + "\n")
	if len(objects) == 0 {
		return nil
	}
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = writeBlobs(bufio.NewReader(out), files, into)
	if err != nil {
		cancel()
	}
	waitErr := cmd.Wait()
	switch {
	case err != nil:
		if missing, ok := errors.AsType[*missingError](err); ok {
			return g.fail(Failed, missing.Error())
		}
		return err
	case waitErr != nil:
		return g.fail(Failed, oneLine(said.String()))
	}
	return nil
}

// A missingError is an object that the clone does not have.
type missingError struct{ path, said string }

func (e *missingError) Error() string {
	return fmt.Sprintf("%s is not in this clone: %s", e.path, e.said)
}

func writeBlobs(in *bufio.Reader, files []File, into string) error {
	for _, f := range files {
		head, err := in.ReadString('\n')
		fields := strings.Fields(head)
		if err != nil || len(fields) != 3 || fields[1] != "blob" {
			return &missingError{f.Path, oneLine(head)}
		}
		size, err := strconv.ParseInt(fields[2], 10, 64)
		if err != nil {
			return &missingError{f.Path, oneLine(head)}
		}
		name := filepath.Join(into, filepath.FromSlash(f.Path))
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := writeFile(name, io.LimitReader(in, size)); err != nil {
			return err
		}
		if _, err := in.Discard(1); err != nil {
			return &missingError{f.Path, "cut short"}
		}
	}
	return nil
}

func writeFile(name string, from io.Reader) error {
	out, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, from)
	return errors.Join(err, out.Close())
}
