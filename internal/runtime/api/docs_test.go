package api

import (
	"context"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/limit"
)

func readPage(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "docs", "api.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// An example is a block of shell in the page, and the block after it, which shows what it prints.
type example struct{ shell, prints string }

func examples(page string) []example {
	fence := regexp.MustCompile("(?ms)^```(\\w+)\n(.*?)^```$")
	var all []example
	for _, block := range fence.FindAllStringSubmatch(page, -1) {
		switch kind, text := block[1], block[2]; {
		case kind == "sh" && strings.Contains(text, "curl "):
			all = append(all, example{shell: text})
		case kind != "sh" && len(all) > 0 && all[len(all)-1].prints == "":
			all[len(all)-1].prints = text
		}
	}
	return all
}

func TestTheExamplesOfThePageWork(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Skip("needs curl")
	}
	client := open(t)
	o := engines(t, client)
	l, err := limit.New(limit.Options{Client: client, Deadline: patience, HashKey: []byte("0123456789abcdef"), Rules: append(limit.DefaultRules(), limit.SMS())})
	if err != nil {
		t.Fatal(err)
	}
	o.Limit = l
	o.Tokens = []Token{{Name: "page", Secret: "page-token", Scopes: Scopes()}}
	o.Probes = []Probe{{Name: "cache", Transport: "tcp", Write: WriteTest(client, "redisopt:ready")}}
	addr, _ := start(t, newAPI(t, o))
	all := examples(readPage(t))
	if len(all) < 10 {
		t.Fatalf("the page has %d examples, want all of them found", len(all))
	}
	for _, e := range all {
		cmd := exec.CommandContext(context.WithoutCancel(t.Context()), "sh", "-ec", e.shell)
		cmd.Env = append(os.Environ(), "REDISOPT=http://"+addr, "REDISOPT_TOKEN=page-token", "no_proxy=*")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("%s\n%v: %s", e.shell, err, out)
			continue
		}
		got := strings.TrimSpace(strings.ReplaceAll(string(out), "\r", ""))
		if want := strings.TrimSpace(e.prints); !prints(got, want) {
			t.Errorf("%s\nprints:\n%s\nand the page says:\n%s", e.shell, got, want)
		}
	}
}

// prints is whether got is want, where … stands for anything.
func prints(got, want string) bool {
	var pattern strings.Builder
	for i, part := range strings.Split(want, "…") {
		if i > 0 {
			pattern.WriteString("(?s:.*?)")
		}
		pattern.WriteString(regexp.QuoteMeta(part))
	}
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(got)
}

func TestThePageListsEveryOperationWithItsScope(t *testing.T) {
	t.Parallel()
	page := readPage(t)
	for _, op := range operations(t, newAPI(t, Options{})) {
		scope := op.scope
		if scope == "" {
			scope = "none"
		} else {
			scope = "`" + scope + "`"
		}
		if row := "| `" + op.method + " " + op.path + "` | " + scope; !strings.Contains(page, row) {
			t.Errorf("docs/api.md has no row that begins with %s", row)
		}
	}
}

func TestThePageListsEveryErrorAndEveryMetric(t *testing.T) {
	t.Parallel()
	page := readPage(t)
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	codes, metrics := map[string]bool{}, map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`newProblem\([\w.]+, "([a-z_]+)"`).FindAllSubmatch(text, -1) {
			codes[string(m[1])] = true
		}
		for _, m := range regexp.MustCompile(`"(redisopt_\w+)"`).FindAllSubmatch(text, -1) {
			metrics[string(m[1])] = true
		}
	}
	delete(codes, "not_modified") // has no body
	if len(codes) < 20 || len(metrics) < 40 {
		t.Fatalf("found %d codes and %d metrics in the source, want all", len(codes), len(metrics))
	}
	for _, name := range append(slices.Collect(maps.Keys(codes)), slices.Collect(maps.Keys(metrics))...) {
		if !strings.Contains(page, "`"+name+"`") {
			t.Errorf("docs/api.md does not list %s", name)
		}
	}
}
