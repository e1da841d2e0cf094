package gittree

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// A repository is one that a test makes.
type repository struct {
	t   *testing.T
	dir string
}

func newRepository(t *testing.T) repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	r := repository{t, t.TempDir()}
	r.git("init", "-q", "-b", "main")
	return r
}

// git leaves nothing running behind, which would write into a directory that is being removed.
func (r repository) git(args ...string) string {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", append([]string{"-C", r.dir, "-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false", "-c", "maintenance.auto=false"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull)
	out, err := cmd.CombinedOutput()
	if err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repository) write(name, text string) {
	r.t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		r.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

func (r repository) commit() {
	r.git("add", "-A")
	r.git("commit", "-q", "-m", "x")
}

func all(File) bool { return true }

func listed(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil || strings.HasPrefix(rel, ".git") {
			return err
		}
		text, err := os.ReadFile(p)
		files[filepath.ToSlash(rel)] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestARevisionIsReadWhateverTheWorkTreeHolds(t *testing.T) {
	r := newRepository(t)
	r.write("app/a b.ts", "one\n")
	r.write("app/sub/ü.ts", "")
	r.write("app/.env", "SECRET=1\n")
	r.write("other.ts", "no")
	if err := os.Symlink("/etc/passwd", filepath.Join(r.dir, "app", "link.ts")); err != nil {
		t.Fatal(err)
	}
	r.commit()
	r.write("app/a b.ts", "changed\n")
	if err := os.Remove(filepath.Join(r.dir, "app/.env")); err != nil {
		t.Fatal(err)
	}
	before := r.git("status", "--porcelain")
	into := t.TempDir()
	tree, err := Extract(t.Context(), filepath.Join(r.dir, "app"), "main", into, all)
	if err != nil {
		t.Fatal(err)
	}
	got := listed(t, into)
	if len(got) != 3 || got["a b.ts"] != "one\n" || got["sub/ü.ts"] != "" || got[".env"] != "SECRET=1\n" {
		t.Errorf("files %q", got)
	}
	if tree.Files != 3 || tree.Commit != r.git("rev-parse", "main") {
		t.Errorf("tree = %+v", tree)
	}
	if after := r.git("status", "--porcelain"); after != before {
		t.Errorf("the work tree changed from %q to %q", before, after)
	}
	index, err := os.ReadFile(filepath.Join(into, ".git", "index"))
	if err != nil || !strings.HasPrefix(string(index), "DIRC\x00\x00\x00\x02") || !strings.Contains(string(index), ".env") {
		t.Errorf("the index does not say what git keeps: %v %q", err, index)
	}
}

func TestOnlyWhatIsWantedIsWritten(t *testing.T) {
	r := newRepository(t)
	r.write("a.ts", "one")
	r.write("b.png", strings.Repeat("x", 1000))
	r.commit()
	into := t.TempDir()
	if _, err := Extract(t.Context(), r.dir, "HEAD", into, func(f File) bool { return f.Size < 10 }); err != nil {
		t.Fatal(err)
	}
	if got := listed(t, into); len(got) != 1 || got["a.ts"] != "one" {
		t.Errorf("files %q, want a.ts alone", got)
	}
	if tree, err := Extract(t.Context(), r.dir, "HEAD", t.TempDir(), func(File) bool { return false }); err != nil || tree.Files != 0 {
		t.Errorf("nothing wanted: %+v, %v", tree, err)
	}
}

func TestWhatCannotBeReadSaysWhy(t *testing.T) {
	r := newRepository(t)
	r.write("a.ts", "one")
	r.commit()
	r.write("a.ts", "two")
	r.commit()
	if err := os.Mkdir(filepath.Join(r.dir, "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	shallow := filepath.Join(t.TempDir(), "clone")
	r.git("clone", "-q", "--depth", "1", "file://"+r.dir, shallow)
	for name, x := range map[string]struct {
		dir, revision string
		want          Reason
	}{
		"no such revision":                  {r.dir, "nowhere", NoRevision},
		"a revision that looks like a flag": {r.dir, "--output=/tmp/x", NoRevision},
		"one with a line break":             {r.dir, "main\nmain", NoRevision},
		"no revision at all":                {r.dir, "", NoRevision},
		"a file":                            {r.dir, "main:a.ts", NoRevision},
		"a directory it does not have":      {filepath.Join(r.dir, "new"), "main", NoDirectory},
		"what a shallow clone left out":     {shallow, "HEAD~1", Shallow},
		"no repository":                     {t.TempDir(), "main", NoRepository},
	} {
		_, err := Extract(t.Context(), x.dir, x.revision, t.TempDir(), all)
		e, ok := errors.AsType[*Error](err)
		if !ok || e.Reason != x.want {
			t.Errorf("%s: %v, want the reason %q", name, err, x.want)
		}
	}
	t.Setenv("PATH", t.TempDir())
	if e, ok := errors.AsType[*Error](func() error { _, err := Extract(t.Context(), r.dir, "main", t.TempDir(), all); return err }()); !ok || e.Reason != NoGit {
		t.Errorf("without git: %v", e)
	}
}

func TestPathsThatWouldLeaveTheDirectoryAreLeftOut(t *testing.T) {
	line := func(mode, path string) string { return mode + " blob 0123 4\t" + path + "\x00" }
	listing := line("100644", "a.ts") + line("100644", "../b.ts") + line("100644", "/c.ts") + line("100644", "d/.GIT/hooks/x") +
		line("120000", "link") + "160000 commit 0123 -\tmodule\x00" + line("100755", "run.js") + "broken\x00"
	objects, files := parseListing([]byte(listing), all)
	want := []File{{"a.ts", 4}, {"run.js", 4}}
	if !slices.Equal(files, want) || len(objects) != 2 {
		t.Errorf("files = %v, want %v", files, want)
	}
}

func FuzzListings(f *testing.F) {
	f.Add([]byte("100644 blob 0123 4\ta.ts\x00120000 blob 1 2\tb\x00"))
	f.Fuzz(func(t *testing.T, listing []byte) {
		objects, files := parseListing(listing, all)
		if len(objects) != len(files) {
			t.Fatalf("%d objects for %d files", len(objects), len(files))
		}
		for _, x := range files {
			if !safe(x.Path) {
				t.Errorf("%q would be written", x.Path)
			}
		}
	})
}
