package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/inspect/gate/gittree"
	"github.com/redisopt/redisopt/internal/inspect/source"
)

// baselineOf is what the change is compared with: a file where there is one of that name, else the code
// of a git revision. Nil where nothing was named.
func (a *app) baselineOf(ctx context.Context, f budgetFlags) (*gate.Baseline, error) {
	if f.baseline == "" {
		return nil, nil //nolint:nilnil // nothing is compared, which is no error
	}
	if info, err := os.Stat(f.baseline); err == nil && info.Mode().IsRegular() {
		return a.baselineFile(f.baseline)
	}
	if f.code == "" {
		return nil, usagef("--baseline %s: there is no such file, and without --code no revision is read", f.baseline)
	}
	return a.baselineRevision(ctx, f)
}

func (a *app) baselineFile(path string) (*gate.Baseline, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, usagef("--baseline %s: %w", path, withoutPath(err))
	}
	defer func() { _ = in.Close() }()
	b, err := gate.ReadBaseline(in)
	if err != nil {
		err = usagef("--baseline %s: %w", path, err)
		if _, other := errors.AsType[*gate.VersionError](err); other {
			return nil, withHint(err, "write it anew with this version: redisopt audit budget --write-baseline "+path)
		}
		return nil, err
	}
	b.Source = path
	return b, nil
}

// baselineRevision scans the code of a revision, as git keeps it, in a directory of its own.
func (a *app) baselineRevision(ctx context.Context, f budgetFlags) (*gate.Baseline, error) {
	into, err := os.MkdirTemp("", "redisopt-baseline-")
	if err != nil {
		return nil, err
	}
	defer func() { _ = os.RemoveAll(into) }()
	bar := a.progress("files")
	bar.begin("read "+f.baseline, 0)
	defer bar.finish()
	tree, err := gittree.Extract(ctx, f.code, f.baseline, into, func(x gittree.File) bool { return source.Reads(x.Path, x.Size) })
	if e, ok := errors.AsType[*gittree.Error](err); ok && e.Reason == gittree.NoDirectory {
		a.note("%s has no %s: everything in it is new", f.baseline, f.code)
		b := gate.BaselineOf(gate.Evidence{Static: &gate.Static{}})
		b.Source = f.baseline
		return b, nil
	}
	if err != nil {
		return nil, baselineError(f.baseline, err)
	}
	opts := f.Options
	s, err := staticEvidence(ctx, into, opts, f.provider.value)
	if _, missing := errors.AsType[*source.EntryError](err); missing {
		opts.Entries = nil // the change adds the process
		s, err = staticEvidence(ctx, into, opts, f.provider.value)
	}
	if err != nil {
		return nil, fmt.Errorf("--baseline %s: %w", f.baseline, err)
	}
	if s == nil {
		s = &gate.Static{} // no code is no connections
	}
	b := gate.BaselineOf(gate.Evidence{Static: s})
	b.Source = f.baseline
	if short := tree.Commit[:min(len(tree.Commit), 7)]; short != f.baseline {
		b.Source += " at " + short
	}
	return b, nil
}

// baselineError says what to do about a revision that cannot be read.
func baselineError(revision string, err error) error {
	e, ok := errors.AsType[*gittree.Error](err)
	if !ok {
		return fmt.Errorf("--baseline %s: %w", revision, err)
	}
	next := map[gittree.Reason]string{
		gittree.NoGit:        "install git, or compare with a file: --baseline FILE, which --write-baseline FILE writes",
		gittree.NoRepository: "run it in a git repository, or compare with a file that --write-baseline FILE wrote; git refuses one of another owner without safe.directory",
		gittree.NoRevision:   "git fetch origin, and name it as git does: origin/main, a tag or a commit",
		gittree.Shallow:      "fetch it: git fetch --depth=1 origin main:refs/remotes/origin/main, fetch-depth: 0 in actions/checkout, GIT_DEPTH: 0 on GitLab",
		gittree.Failed:       "a partial clone lacks files: fetch them with git fetch --refetch --no-filter",
	}[e.Reason]
	return withHint(usagef("--baseline %s: no file has this name, and as a git revision it cannot be read: %w", revision, err), next)
}

// keepBaseline writes what is so now.
func (a *app) keepBaseline(path string, ev gate.Evidence) error {
	if path == "" {
		return nil
	}
	if a.flags.dryRun {
		a.note("%s is not written under --dry-run", path)
		return nil
	}
	if err := replaceFile(path, func(out *os.File) error { return gate.BaselineOf(ev).Write(out) }); err != nil {
		return usagef("--write-baseline %s: %w", path, withoutPath(err))
	}
	a.note("wrote %s", path)
	return nil
}
