package source

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/inspect"
)

func scanDir(t *testing.T, dir string) *Report {
	t.Helper()
	r, err := Scan(t.Context(), dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func of(r *Report, rule string) []inspect.Finding {
	return slices.DeleteFunc(slices.Clone(r.Findings), func(f inspect.Finding) bool { return f.Rule != rule })
}

func TestEveryRuleFindsItsBadSampleAndLeavesItsGoodOne(t *testing.T) {
	ids := []string{"syntax-error"}
	for _, r := range rules() {
		ids = append(ids, r.id)
	}
	for _, id := range ids {
		if id == "env-file-tracked" {
			continue // needs a repository: TestASecretThatGitKeepsIsNamedAndNotShown
		}
		t.Run(id, func(t *testing.T) {
			dir := filepath.Join("testdata", "rules", id)
			bad := of(scanDir(t, filepath.Join(dir, "bad")), id)
			if len(bad) == 0 {
				t.Fatalf("nothing found in the bad sample")
			}
			for _, f := range bad {
				if f.File == "" || f.Line == 0 || f.Column == 0 || f.Message == "" || f.Remedy == "" {
					t.Errorf("incomplete: %+v", f)
				}
			}
			if good := of(scanDir(t, filepath.Join(dir, "good")), id); len(good) != 0 {
				t.Errorf("found in the good sample: %+v", good)
			}
			applied := repair(t, filepath.Join(dir, "bad"), bad)
			if applied == "" {
				return
			}
			r := scanDir(t, applied)
			if left := of(r, id); len(left) != 0 {
				t.Errorf("after its own fix: %+v", left)
			}
			if broken := of(r, "syntax-error"); len(broken) != 0 {
				t.Errorf("the fix breaks the file: %+v", broken)
			}
		})
	}
}

// repair applies the fixes of findings to a copy and returns it; "" when one of them has none.
func repair(t *testing.T, dir string, found []inspect.Finding) string {
	t.Helper()
	to := t.TempDir()
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	var edits []inspect.Edit
	for _, f := range found {
		if f.Fix == nil {
			return ""
		}
		edits = append(edits, f.Fix.Edits...)
	}
	// From the end, so that places before an edit stay where they are.
	slices.SortStableFunc(edits, func(a, b inspect.Edit) int {
		if a.Line != b.Line {
			return b.Line - a.Line
		}
		return b.Column - a.Column
	})
	for _, e := range edits {
		file := filepath.Join(to, e.File)
		src, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(src), "\n")
		if e.Line != e.EndLine {
			t.Fatalf("an edit over lines: %+v", e)
		}
		line := []rune(lines[e.Line-1])
		lines[e.Line-1] = string(line[:e.Column-1]) + e.Text + string(line[e.EndColumn-1:])
		if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return to
}
