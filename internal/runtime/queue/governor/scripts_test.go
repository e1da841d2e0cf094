package governor

import (
	"crypto/sha1"
	"encoding/hex"
	"go/ast"
	"go/parser"
	"go/token"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/hibiken/asynq"
)

// The version whose scripts are pinned; it is here so that the module stays in go.mod as what it is, a
// library that this one is written for.
var _ = asynq.NewServerFromRedisClient

func TestEveryScriptOfTheModuleIsPinned(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/hibiken/asynq").Output()
	if err != nil {
		t.Fatalf("where asynq is: %v", err)
	}
	known, found := pinned(), map[string]bool{}
	for _, name := range []string{"rdb.go", "inspect.go"} {
		path := filepath.Join(strings.TrimSpace(string(out)), "internal", "rdb", name)
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok || len(call.Args) != 1 {
				return true
			}
			if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "NewScript" {
				return true
			}
			body, ok := call.Args[0].(*ast.BasicLit)
			if !ok {
				t.Errorf("%s: a script that is not a literal: read it and pin it by hand", name)
				return true
			}
			text, err := strconv.Unquote(body.Value)
			if err != nil {
				t.Fatal(err)
			}
			sum := sha1.Sum([]byte(text))
			sha := hex.EncodeToString(sum[:])
			found[sha] = true
			if _, ok := known[sha]; !ok {
				t.Errorf("%s: a script with SHA-1 %s is not pinned: read what it does now, then change the table:\n%s", name, sha, text)
			}
			return true
		})
	}
	for sha, s := range known {
		if !found[sha] {
			t.Errorf("script %s (%d) is pinned, and asynq has it no more", sha, s)
		}
	}
	if len(found) < 40 {
		t.Errorf("found %d scripts, want all of them", len(found))
	}
}
