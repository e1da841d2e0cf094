package config

import (
	"encoding/json"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated files")

// TestDescriptionsAreTheDocComments keeps testdata/descriptions.json equal to the doc comments.
func TestDescriptionsAreTheDocComments(t *testing.T) {
	want := map[string]string{}
	for _, file := range []string{"config.go", "ramp.go", "cache.go", "limits.go", "queues.go", "serve.go", "jobs.go", "upstash.go", "migrate.go", filepath.Join("..", "budget", "budget.go"), filepath.Join("..", "budget", "gate.go")} {
		readComments(t, file, want)
	}
	text, err := json.MarshalIndent(want, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	text = append(text, '\n')
	const path = "testdata/descriptions.json"
	if *update {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("needs a second run: the file is embedded when the test is compiled")
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(got)); diff != "" {
		t.Errorf("%s is not what the comments say; run go test -update (-want +got):\n%s", path, diff)
	}
}

func readComments(t *testing.T, file string, into map[string]string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	for _, decl := range f.Decls {
		general, ok := decl.(*ast.GenDecl)
		if !ok || general.Tok != token.TYPE {
			continue
		}
		for _, spec := range general.Specs {
			typ := spec.(*ast.TypeSpec)
			structure, ok := typ.Type.(*ast.StructType)
			if !ok {
				continue
			}
			for _, field := range structure.Fields.List {
				if field.Tag == nil || len(field.Names) != 1 {
					continue
				}
				name := field.Names[0].Name
				key := fmt.Sprintf("%s.%s.%s", f.Name.Name, typ.Name.Name, name)
				comment := sentence(name, field.Doc.Text())
				if comment == "" {
					t.Errorf("%s has no doc comment", key)
				}
				into[key] = comment
			}
		}
	}
}

// sentence is a doc comment without the Go name that it begins with: "MaxTTL is the longest …"
// becomes "The longest …".
func sentence(name, doc string) string {
	doc = strings.Join(strings.Fields(doc), " ")
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(doc, name+verb); ok {
			runes := []rune(rest)
			return string(unicode.ToUpper(runes[0])) + string(runes[1:])
		}
	}
	return doc
}

func TestTheReferencePageListsEveryKey(t *testing.T) {
	entries, err := Reference()
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("| Key | Type | Default | Set by | Meaning |\n|---|---|---|---|---|\n")
	for _, e := range entries {
		def := ""
		if e.Default != "" {
			def = "`" + e.Default + "`"
		}
		var by []string
		if e.Flag != "" {
			by = append(by, "`--"+e.Flag+"`")
		}
		for _, env := range e.Env {
			by = append(by, "`"+env+"`")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", e.Key, e.Type, def, strings.Join(by, ", "), e.Description)
	}

	const path = "../../../docs/configuration.md"
	const begin, end = "<!-- keys: begin (generated: go test ./internal/runtime/config -update) -->\n", "<!-- keys: end -->\n"
	page, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok := strings.Cut(string(page), begin)
	got, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		t.Fatalf("%s has no place for the table of keys between %q and %q", path, begin, end)
	}
	if *update {
		if err := os.WriteFile(path, []byte(before+begin+b.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(b.String(), got); diff != "" {
		t.Errorf("%s differs from the code; run go test -update (-want +got):\n%s", path, diff)
	}
	for _, e := range entries {
		for _, env := range e.Env {
			if !slices.Contains(strings.FieldsFunc(before+after, func(r rune) bool {
				return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
			}), env) {
				t.Errorf("%s does not explain %s outside the table", path, env)
			}
		}
	}
}
