package main

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/redisopt/redisopt/"

// A floor says what one package may import of this module, and why no more. A name that ends in
// "/..." stands for everything below it.
type floor struct {
	pkg string
	may []string
	why string
}

// floors is the order of the packages, from the top. The first row that names a package counts.
func floors() []floor {
	audit := []string{"internal/inspect", "internal/runtime/upstream"}
	return []floor{
		{"cmd/redisopt/internal/report", nil, "printing knows no domain, so every domain can be printed"},
		{"cmd/redisopt/internal/demo", []string{"internal/..."}, "the demo plays the whole journey"},
		{"cmd/redisopt", []string{"internal/...", "cmd/redisopt/internal/..."}, "the command line puts everything together"},

		{
			"internal/migrate/step",
			[]string{
				"internal/migrate", "internal/migrate/journal", "internal/migrate/mover", "internal/migrate/mover/tend",
				"internal/migrate/outcome", "internal/migrate/portable", "internal/migrate/backup",
				"internal/migrate/replica",
				"internal/runtime/upstream", "internal/runtime/control", "internal/runtime/ramp", "internal/runtime/queue/cron", "internal/runtime/limit",
			},
			"a step does one change and knows nothing of audits or of the other steps' order",
		},
		{
			"internal/migrate/mover/tend",
			[]string{"internal/migrate/mover", "internal/runtime/upstream"},
			"jobs are looked after in the layouts that can be moved, whoever asks for it",
		},
		{"internal/migrate/mover/capture", nil, "it is data, with a way to load it and to compare"},
		{"internal/migrate/mover", []string{"internal/runtime/upstream"}, "jobs are moved the same whoever asks for it"},
		{
			"internal/migrate/rehearsal",
			[]string{
				"internal/migrate", "internal/migrate/journal", "internal/migrate/mover", "internal/migrate/mover/capture",
				"internal/migrate/mover/tend", "internal/migrate/replica", "internal/migrate/step", "internal/runtime/...",
			},
			"a rehearsal runs the steps on a stage with what the runtime puts around them, and reads the real Redis alone",
		},
		{"internal/migrate/livetest", nil, "tests of every package run the real libraries with it"},
		{"internal/migrate/portable", []string{"internal/runtime/upstream"}, "a key is read and written the same whatever it is for"},
		{"internal/migrate/transfer", []string{"internal/migrate", "internal/migrate/portable"}, "copying keys knows nothing of what they are for"},
		{"internal/migrate/backup", []string{"internal/migrate/portable"}, "a file of keys knows nothing of why they are kept"},
		{
			"internal/migrate/outcome",
			[]string{"internal/migrate", "internal/migrate/mover"},
			"what became of jobs is read in the layouts that can be moved, and is evidence for gates",
		},
		{"internal/migrate/replica", nil, "replicas are asked over HTTP, whoever wants to know"},
		{
			"internal/migrate/preflight",
			[]string{"internal/migrate"},
			"whether a Redis is fit is looked at before a phase, and is a list of problems",
		},
		{"internal/migrate/journal", nil, "what must survive every crash depends on as little as possible"},
		{
			"internal/migrate",
			[]string{"internal/migrate/journal", "internal/inspect", "internal/runtime/history", "internal/runtime/budget"},
			"the engine knows steps only by their interface",
		},

		{"internal/inspect/connections", audit, "an audit reads a Redis and returns findings"},
		{
			"internal/inspect/commands",
			append(audit, "internal/inspect/connections"),
			"commands are charged to whoever is connected, which the audit of connections finds out",
		},
		{
			"internal/inspect/keys",
			append(audit, "internal/inspect/connections"),
			"an audit reads a Redis and returns findings; who answers is told as the audit of connections tells it",
		},
		{
			"internal/inspect/source",
			[]string{"internal/inspect", "internal/inspect/source/script"},
			"reading code needs no Redis and no configuration",
		},
		{"internal/inspect/source/script", nil, "reading code knows nothing of what is looked for in it"},
		{"internal/inspect/gate/gittree", nil, "reading a revision knows nothing of what is looked for in it"},
		{
			"internal/inspect/gate",
			[]string{"internal/inspect", "internal/runtime/budget"},
			"a verdict is arithmetic over evidence, whoever gathered it",
		},
		{"internal/inspect/plan", []string{"internal/inspect"}, "pricing a load is arithmetic, whoever measured it"},
		{"internal/inspect/upstash/upstashtest", nil, "tests of every package ask the API that it stands in for"},
		{"internal/inspect/upstash", []string{"internal/inspect"}, "what Upstash counted is asked over HTTP, without a Redis"},
		{"internal/inspect/forecast", nil, "a forecast is arithmetic over numbers, whoever counted them"},
		{"internal/inspect/cause", []string{"internal/inspect"}, "errors are told from texts and facts, whoever gathered them"},
		{"internal/inspect/record", []string{"internal/inspect"}, "it is given a way to the Redis and counts what passes, whatever is behind it"},
		{"internal/inspect", nil, "findings are plain values"},

		{
			"internal/bench/scenario",
			[]string{"internal/bench", "internal/runtime/..."},
			"what is measured is what the runtime offers, used as an application uses it",
		},
		{"internal/bench/page", []string{"internal/bench"}, "drawing a result needs the result alone"},
		{"internal/bench", nil, "measuring knows nothing of what is measured"},

		{"internal/runtime/config", []string{"internal/runtime/budget"}, "configuration is inert: values, defaults, validation"},
		{
			"internal/runtime/gateway",
			[]string{"internal/runtime/upstream", "internal/runtime/upstream/mux", "internal/runtime/meter"},
			"the protocol in front of any upstream knows no engine and no configuration",
		},
		{"internal/runtime/history", []string{"internal/runtime/upstream"}, "samples are numbers, whoever took them"},
		{"internal/runtime/control", []string{"internal/runtime/upstream"}, "one document, read and changed through any client"},
		{"internal/runtime/ramp", []string{"internal/runtime/control"}, "it divides commands between two clients by what the control document says, whatever sends them"},
		{"internal/runtime/sidecar", []string{"internal/runtime/..."}, "it composes the runtime, and imports nothing above it"},
		{
			"internal/runtime/api",
			[]string{
				"internal/runtime/cache", "internal/runtime/limit", "internal/runtime/control", "internal/runtime/meter",
				"internal/runtime/budget", "internal/runtime/upstream", "internal/runtime/queue",
				"internal/runtime/queue/cron", "internal/runtime/queue/shed", "internal/runtime/upstream/fleet", "internal/runtime/ramp",
			},
			"it puts the engines on HTTP, and names the classes of their errors",
		},
		{
			"internal/runtime/upstream/transporttest",
			[]string{"internal/runtime/upstream", "internal/runtime/meter"},
			"one suite for every way to a Redis knows ways, and nothing of what uses them",
		},
		{"internal/runtime/upstream/redistest", nil, "tests of every package start servers with it"},
		{"internal/runtime/upstream/fleet", nil, "it is given a client; sharing out connections knows nothing of what they carry"},
		{"internal/runtime/upstream/rest", []string{"internal/runtime/meter", "internal/runtime/upstream/mux"}, "a way to carry commands, which knows their table and nothing of who uses it"},
		{"internal/runtime/upstream/mux", []string{"internal/runtime/meter"}, "a shared connection counts what it carries, and knows nothing of who dialed it"},
		{
			"internal/runtime/upstream",
			[]string{"internal/runtime/meter", "internal/runtime/upstream/mux", "internal/runtime/upstream/rest"},
			"the only way to a Redis, below everything that needs one",
		},
		{"internal/runtime/limit/window", nil, "deciding is arithmetic, the same for the engine, a simulation and a look from outside"},
		{"internal/runtime/limit/lease", nil, "what is held is arithmetic over times that it is given"},
		{
			"internal/runtime/limit/simulate",
			[]string{"internal/runtime/limit", "internal/runtime/limit/window", "internal/runtime/limit/lease"},
			"a simulation decides by the engine's own arithmetic and needs no Redis",
		},
		{
			"internal/runtime/limit",
			[]string{"internal/runtime/limit/window", "internal/runtime/limit/lease"},
			"it is given a client and counts for itself, whatever is behind it",
		},
		{"internal/runtime/queue/cron", nil, "a schedule knows when and hands its tick to whoever takes jobs"},
		{"internal/runtime/queue/child", []string{"internal/runtime/queue"}, "a way to run jobs knows what a job is, and nothing of where jobs are kept"},
		{"internal/runtime/queue/push", []string{"internal/runtime/queue"}, "a way to run jobs knows what a job is, and nothing of where jobs are kept"},
		{
			"internal/runtime/queue/governor",
			nil,
			"it is given clients and feeds, and answers for the Redis behind them whatever that is",
		},
		{"internal/runtime/queue/shed", []string{"internal/runtime/budget"}, "what a budget allows is arithmetic, and needs neither queues nor a Redis"},
		{
			"internal/runtime/queue",
			[]string{"internal/runtime/queue/governor", "internal/runtime/upstream"},
			"it is given clients, runs jobs with asynq behind the governor, and names the classes of its errors",
		},
		{"internal/runtime/cache", nil, "it is given a client and counts for itself, whatever is behind it"},
		{"internal/runtime/budget", nil, "arithmetic that enforcers and judges share"},
		{"internal/runtime/meter", nil, "counting is below everything that is counted"},
		{"internal/runtime/embedded", nil, "a Redis for trying out must not depend on its clients"},
	}
}

// A library that only some packages may import.
type fenced struct {
	library string
	in      []string
	tests   bool // the tests of every package may too
	why     string
}

func fences() []fenced {
	terminal := []string{"cmd/redisopt/..."}
	return []fenced{
		{library: "github.com/spf13/", in: terminal, why: "only the command line has flags"},
		{library: "github.com/charmbracelet/", in: terminal, why: "only the command line has colours"},
		{library: "github.com/muesli/", in: terminal, why: "only the command line has colours"},
		{library: "github.com/olekukonko/", in: terminal, why: "only the command line draws tables"},
		{library: "golang.org/x/term", in: terminal, why: "only the command line has a terminal"},
		{library: "github.com/alicebob/miniredis", in: []string{"internal/runtime/embedded"}, tests: true, why: "the embedded Redis hides what it is made of"},
		{library: "github.com/hibiken/asynq", in: []string{"internal/runtime/queue/...", "internal/migrate/..."}, tests: true, why: "what jobs are made of is known where they are run and where they are moved"},
		{library: "go.yaml.in/", in: []string{"internal/runtime/config", "cmd/redisopt"}, why: "one package reads configuration"},
		{library: "github.com/invopop/jsonschema", in: []string{"internal/runtime/config"}, why: "one package describes configuration"},
		{
			library: module + "internal/runtime/config",
			in:      []string{"cmd/redisopt", "internal/runtime/config", "internal/runtime/sidecar"},
			why:     "every package has its own Options; only those who compose read the file",
		},
	}
}

// A listedPackage is what go list says about a package of this module.
type listedPackage struct {
	ImportPath                string
	Dir                       string
	Imports                   []string
	TestImports, XTestImports []string
}

func (p listedPackage) name() string { return strings.TrimPrefix(p.ImportPath, module) }

func listPackages(t *testing.T) []listedPackage {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-json=ImportPath,Dir,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = filepath.Join("..", "..")
	cmd.Stderr = os.Stderr //nolint:forbidigo // a test shows what go list complains about
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []listedPackage
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listedPackage
		switch err := dec.Decode(&p); {
		case errors.Is(err, io.EOF):
			return all
		case err != nil:
			t.Fatalf("go list: %v", err)
		}
		all = append(all, p)
	}
}

func TestEveryPackageImportsOnlyWhatItsFloorAllows(t *testing.T) {
	packages := listPackages(t)
	rows := floors()
	for _, p := range packages {
		i := slices.IndexFunc(rows, func(f floor) bool { return matches(f.pkg, p.name()) })
		if i < 0 {
			t.Errorf("%s has no row in floors: add one that says what it may import and why", p.name())
			continue
		}
		for _, imported := range p.Imports {
			ours, ok := strings.CutPrefix(imported, module)
			if ok && !matchesAny(rows[i].may, ours) {
				t.Errorf("%s imports %s, which its floor does not allow: %s", p.name(), ours, rows[i].why)
			}
		}
	}
	for _, row := range rows {
		if !slices.ContainsFunc(packages, func(p listedPackage) bool { return matches(row.pkg, p.name()) }) {
			t.Errorf("floors has a row for %s, which does not exist", row.pkg)
		}
		if row.why == "" {
			t.Errorf("floors gives no reason for %s", row.pkg)
		}
	}
}

func TestLibrariesStayBehindTheirFence(t *testing.T) {
	for _, p := range listPackages(t) {
		for _, f := range fences() {
			imports := p.Imports
			if !f.tests {
				imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
			}
			for _, imported := range imports {
				if strings.HasPrefix(imported, f.library) && !matchesAny(f.in, p.name()) {
					t.Errorf("%s imports %s: %s", p.name(), imported, f.why)
				}
			}
		}
	}
}

func TestPackagesAreNamedAfterWhatTheyDo(t *testing.T) {
	vague := []string{"util", "utils", "common", "helper", "helpers", "types", "models", "runtime"}
	for _, p := range listPackages(t) {
		if slices.Contains(vague, path.Base(p.ImportPath)) {
			t.Errorf("package %s: its name says nothing, or hides one of the standard library", p.name())
		}
	}
}

func matches(pattern, name string) bool {
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return name == above || strings.HasPrefix(name, above+"/")
	}
	return pattern == name
}

func matchesAny(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return matches(p, name) })
}
