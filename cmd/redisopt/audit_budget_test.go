package main

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect/gate"
	"github.com/redisopt/redisopt/internal/inspect/source"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// A sampleRepo is a git repository with an application of eleven queues on one shared connection, whose
// budget has room for one more.
type sampleRepo struct {
	t   *testing.T
	dir string
}

func newSampleRepo(t *testing.T) sampleRepo {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("needs git")
	}
	r := sampleRepo{t, t.TempDir()}
	if err := os.CopyFS(r.dir, os.DirFS(sampleCode("apps", "bullmq-shared"))); err != nil {
		t.Fatal(err)
	}
	r.write("redisopt.yaml", `version: 1
budgets:
  connections: {fleet: 13}
  commands: {per_month: 70000000}
  increase: {connections: 1}
  require: [static]
`)
	r.git("init", "-q", "-b", "main")
	r.commit("eleven queues on one connection")
	return r
}

func (r sampleRepo) write(name, text string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.dir, name), []byte(text), 0o644); err != nil {
		r.t.Fatal(err)
	}
}

// git runs git as nobody in particular, at a fixed time, so that commits have the same names everywhere. It leaves nothing
// running in a directory that is removed.
func (r sampleRepo) git(args ...string) {
	r.t.Helper()
	cmd := exec.CommandContext(r.t.Context(), "git", append([]string{"-C", r.dir, "-c", "commit.gpgsign=false", "-c", "maintenance.auto=false"}, args...)...)
	cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_AUTHOR_DATE=2026-11-01T00:00:00Z",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com", "GIT_COMMITTER_DATE=2026-11-01T00:00:00Z")
	if out, err := cmd.CombinedOutput(); err != nil {
		r.t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func (r sampleRepo) commit(message string) {
	r.git("add", "-A")
	r.git("commit", "-q", "-m", message)
}

// addWorker is the change that a pull request makes: one more worker, on a connection of its own or on
// the shared one.
func (r sampleRepo) addWorker(shared bool) {
	r.t.Helper()
	index, err := os.ReadFile(filepath.Join(r.dir, "src", "index.ts"))
	if err != nil {
		r.t.Fatal(err)
	}
	r.write("src/index.ts", "import './digest';\n"+string(index))
	worker := `import { Worker } from 'bullmq';

// Sends the daily digest.
export const digest = new Worker('digest', async (job) => job.data, {
  connection: { host: process.env.REDIS_HOST || '127.0.0.1' },
  drainDelay: 300,
  stalledInterval: 300000,
});
`
	if shared {
		worker = strings.Replace(worker, "{ host: process.env.REDIS_HOST || '127.0.0.1' }", "getConnection()", 1)
		worker = strings.Replace(worker, "\n\n", "\nimport { getConnection } from './connection';\n\n", 1)
	}
	r.write("src/digest.ts", worker)
}

// document is what audit budget prints about the repository, offline and against a revision.
func (r sampleRepo) document(baseline string) report.Document {
	r.t.Helper()
	var out recorder
	a := &app{streams: out.streams(), now: func() time.Time { return time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC) }}
	a.flags.config = filepath.Join(r.dir, "redisopt.yaml")
	f := budgetFlags{code: r.dir, baseline: baseline, offline: true, Options: source.Options{Replicas: 1}}
	conf, opts, err := a.budgets(f)
	if err != nil {
		r.t.Fatal(err)
	}
	ev, root, err := a.offlineEvidence(r.t.Context(), f)
	if err != nil {
		r.t.Fatal(err)
	}
	if opts.Baseline, err = a.baselineOf(r.t.Context(), f); err != nil {
		r.t.Fatal(err)
	}
	if err := a.liveEvidence(r.t.Context(), f, conf, &ev); err != nil {
		r.t.Fatal(err)
	}
	judged, err := gate.Judge(ev, opts)
	if err != nil {
		r.t.Fatal(err)
	}
	return budgetDocument(judged, budgetView{root: root, comment: "default", file: "redisopt.yaml", line: budgetLines(conf)})
}

func TestTheGateOverOneMoreWorkerLooksAsRecordedInEveryFormat(t *testing.T) {
	r := newSampleRepo(t)
	r.addWorker(false)
	for _, format := range report.Formats() {
		t.Run("a worker of its own as "+string(format), func(t *testing.T) {
			wantGolden(t, "audit.budget", format, r.document("main"))
		})
	}
	r.write("redisopt.yaml", `version: 1
budgets:
  connections: {fleet: 13, plan_limit: 100}
  commands: {per_month: 60000000}
  latency: {search: {p95: 20ms}}
  operations: [{name: GET /users, commands: 3}]
  rules: {finished-jobs-kept: off, idle-polling: fail}
  require: [static, live]
  waivers:
    - {rule: connections.fleet, owner: mail team, reason: the connection is shared next week, expires: 2026-11-30}
    - {rule: idle-polling, file: src/*.ts, owner: mail team, reason: was known, expires: 2026-11-01}
    - {rule: keys-command, owner: mail team, reason: gone since, expires: 2027-01-01}
`)
	for _, format := range report.Formats() {
		t.Run("waivers, levels and missing evidence as "+string(format), func(t *testing.T) {
			wantGolden(t, "audit.budget.waived", format, r.document(""))
		})
	}
}

func TestTheGatePointsAtTheWorkerInEveryFormat(t *testing.T) {
	r := newSampleRepo(t)
	r.addWorker(false)
	t.Chdir(r.dir)
	for format, want := range map[report.Format][]string{
		report.FormatTable:    {"14 connections, 13 allowed", "at src/digest.ts:4:23", "pass the shared ioredis"},
		report.FormatJSON:     {`"verdict": "fail"`, `"line": 4`, "pass the shared ioredis instance as connection"},
		report.FormatMarkdown: {"<!-- redisopt:audit.budget:default -->\n", "14 connections, 13 allowed", "(src/digest.ts:4:23)", "Remedy: "},
		report.FormatJUnit:    {`file="src/digest.ts" line="4"`, "14 connections, 13 allowed", "pass the shared ioredis"},
		report.FormatSARIF:    {`"uri": "src/digest.ts"`, `"startLine": 4`, "pass the shared ioredis", `"ruleId": "budget-connections-fleet"`},
		report.FormatGitHub:   {"::error file=src/digest.ts,line=4,col=23,title=budget-connections-fleet::connections: fleet (static): 14 connections, 13 allowed", "pass the shared ioredis"},
		report.FormatGitLab:   {`"path": "src/digest.ts"`, `"begin": 4`, "14 connections, 13 allowed", "pass the shared ioredis"},
	} {
		var out recorder
		if got := run(t.Context(), []string{"audit", "budget", "--offline", "--baseline", "main", "-o", string(format)}, out.streams()); got != exitViolated {
			t.Errorf("%s: exit %d, want 3: %s", format, got, out.err.String())
		}
		for _, text := range want {
			if !strings.Contains(out.out.String(), text) {
				t.Errorf("%s does not say %q:\n%s", format, text, out.out.String())
			}
		}
	}
}

func TestTheGatePassesWhenTheWorkerSharesTheConnection(t *testing.T) {
	r := newSampleRepo(t)
	r.addWorker(true)
	t.Chdir(r.dir)
	for _, format := range report.Formats() {
		var out recorder
		if got := run(t.Context(), []string{"audit", "budget", "--offline", "--strict", "--fail-on", "warn", "--baseline", "main", "-o", string(format)}, out.streams()); got != exitOK {
			t.Errorf("%s: exit %d, want 0: %s\n%s", format, got, out.err.String(), out.out.String())
		}
	}
}

func TestTheGateEndsWithTheCodeOfItsCause(t *testing.T) {
	r := newSampleRepo(t)
	r.write("strict.yaml", "version: 1\nbudgets:\n  connections: {fleet: 12}\n")
	r.write("needs-live.yaml", "version: 1\nbudgets:\n  connections: {fleet: 13}\n  require: [live]\n")
	r.write("needs-both.yaml", "version: 1\nbudgets:\n  connections: {fleet: 3}\n  require: [live]\n")
	r.write("per-test.yaml", "version: 1\nbudgets:\n  operations: [{name: 'GET /users', commands: 3}]\n")
	r.write("warn.yaml", "version: 1\nbudgets:\n  commands: {per_month: 60000000}\n")
	r.write("contradictory.yaml", "version: 1\nbudgets:\n  connections: {fleet: 3, per_process: 9, plan_limit: 2}\n  rules: {idle-poling: off}\n  waivers: [{rule: idle-polling, reason: x, expires: 2027-01-01}]\n")
	r.write("expired.yaml", "version: 1\nbudgets:\n  waivers: [{rule: idle-polling, owner: me, reason: x, expires: 2020-01-01}]\n")
	r.write("record.json", `{"kind":"record/v1","data":{"tests":[{"name":"GET /users","runs":1,"billed_work":4,"max_billed_work_per_run":4}]}}`)
	r.write("other.json", `{"kind":"budget-baseline/v7","data":{}}`)
	if err := os.Mkdir(filepath.Join(r.dir, "broken"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.write("broken/a.ts", "const = 1;\n")
	if err := os.Mkdir(filepath.Join(r.dir, "empty"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(r.dir)
	for _, c := range []struct {
		name           string
		args           []string
		want           int
		stdout, stderr string
	}{
		{"warnings alone pass", []string{"--offline"}, exitOK, "Budgets: warn", ""},
		{"a Redis is not needed where none is configured", nil, exitOK, "no Redis is configured: set REDIS_URL", ""},
		{"exactly the budget is within it", []string{"--offline", "--budget", "strict.yaml"}, exitOK, "12 connections, 12 allowed", ""},
		{"one connection too many", []string{"--offline", "--budget", "strict.yaml", "--replicas", "2"}, exitViolated, "24 connections, 12 allowed", "connections.fleet"},
		{"required evidence is missing, without --strict", []string{"--offline", "--budget", "needs-live.yaml"}, exitInconclusive, "required and missing", "live evidence is required"},
		{"a violation goes before missing evidence", []string{"--offline", "--budget", "needs-both.yaml"}, exitViolated, "required and missing", "connections.fleet"},
		{"no record is inconclusive, and passes", []string{"--offline", "--budget", "per-test.yaml"}, exitOK, "no recorded run was given: --record FILE", ""},
		{"under --strict it does not", []string{"--offline", "--budget", "per-test.yaml", "--strict"}, exitInconclusive, "", "--record FILE"},
		{"a test that costs too much", []string{"--offline", "--budget", "per-test.yaml", "--record", "record.json"}, exitViolated, "4 commands, 3 allowed", ""},
		{"a warning passes", []string{"--offline", "--budget", "warn.yaml"}, exitOK, "warns at 80%", ""},
		{"unless it is asked to fail", []string{"--offline", "--budget", "warn.yaml", "--fail-on", "warn"}, exitViolated, "", "commands.per_month"},
		{"an expired waiver fails", []string{"--offline", "--budget", "expired.yaml"}, exitViolated, "expired on 2020-01-01", "waiver of idle-polling"},
		{"code that cannot be parsed is a finding", []string{"--offline", "--code", "broken"}, exitOK, "syntax-error  broken/a.ts:1", ""},
		{"without code there is nothing to judge by", []string{"--offline", "--code", ""}, exitInconclusive, "Budgets: inconclusive", "no code was read"},
		{"nor is there in a directory without any", []string{"--offline", "--code", "empty"}, exitInconclusive, "found below empty", "static evidence is required"},
		{"a revision that is not there", []string{"--offline", "--baseline", "nowhere"}, exitUsage, "", "no such revision"},
		{"a baseline of another version", []string{"--offline", "--baseline", "other.json"}, exitUsage, "", `is of the kind "budget-baseline/v7"`},
		{"a record that is none", []string{"--offline", "--record", "other.json"}, exitUsage, "", "record/v1"},
		{"a benchmark that is not there", []string{"--offline", "--bench", "nowhere.json"}, exitUsage, "", "--bench nowhere.json: no such file"},
		{"a directory that is not there", []string{"--offline", "--code", "nowhere"}, exitUsage, "", "nowhere"},
		{"no such file of budgets", []string{"--offline", "--budget", "nowhere.yaml"}, exitUsage, "", "no such file"},
		{"two files of budgets", []string{"--offline", "--budget", "a.yaml", "--config", "b.yaml"}, exitUsage, "", "name it once"},
		{"offline and a Redis", []string{"--offline", "--redis-url", "redis://127.0.0.1:1"}, exitUsage, "", "--offline asks no Redis"},
		{"a format that is none", []string{"--offline", "--report", "pdf=x"}, exitUsage, "", "want one of table"},
		{"a report without a file", []string{"--offline", "--report", "sarif"}, exitUsage, "", "want format=file"},
		{"a report where none can be", []string{"--offline", "--report", "sarif=nowhere/x"}, exitUsage, "", "--report sarif=nowhere/x"},
		{"an unreachable Redis is told after the verdict", []string{"--redis-url", "redis://127.0.0.1:1"}, exitUnreachable, "the Redis could not be measured", "127.0.0.1:1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out recorder
			if got := run(t.Context(), append([]string{"audit", "budget"}, c.args...), out.streams()); got != c.want {
				t.Errorf("exit %d, want %d; %s", got, c.want, out.err.String())
			}
			flat := strings.Join(strings.Fields(out.out.String()), " ")
			if !strings.Contains(out.out.String(), c.stdout) && !strings.Contains(flat, c.stdout) || !strings.Contains(out.err.String(), c.stderr) {
				t.Errorf("stdout %q, stderr %q; want %q and %q in them", out.out.String(), out.err.String(), c.stdout, c.stderr)
			}
		})
	}
	var out recorder
	if got := run(t.Context(), []string{"audit", "budget", "--offline", "--budget", "contradictory.yaml"}, out.streams()); got != exitUsage {
		t.Errorf("contradictory budgets: exit %d, want 2", got)
	}
	for _, want := range []string{"budgets.connections.per_process", "budgets.connections.fleet", "budgets.waivers[0].owner: missing", "did you mean idle-polling?"} {
		if !strings.Contains(out.err.String(), want) {
			t.Errorf("not all at once: %q is not in %s", want, out.err.String())
		}
	}
}

func TestABaselineFileComparesWhateverItHolds(t *testing.T) {
	r := newSampleRepo(t)
	t.Chdir(r.dir)
	var out recorder
	if got := run(t.Context(), []string{"audit", "budget", "--offline", "--write-baseline", "base.json", "--dry-run"}, out.streams()); got != exitOK {
		t.Fatalf("exit %d: %s", got, out.err.String())
	}
	if _, err := os.Stat("base.json"); err == nil {
		t.Fatal("--dry-run wrote the baseline")
	}
	if got := run(t.Context(), []string{"audit", "budget", "--offline", "--write-baseline", "base.json"}, out.streams()); got != exitOK {
		t.Fatalf("exit %d: %s", got, out.err.String())
	}
	r.addWorker(false)
	out = recorder{}
	got := run(t.Context(), []string{"audit", "budget", "--offline", "--baseline", "base.json", "--report", "json=all.json", "--report", "markdown=comment.md"}, out.streams())
	if got != exitViolated || !strings.Contains(out.out.String(), "2 more") {
		t.Errorf("exit %d, want 3 with the increase: %s", got, out.out.String())
	}
	text, err := os.ReadFile("all.json")
	if err != nil || !json.Valid(text) {
		t.Errorf("the report beside it: %v", err)
	}
	if comment, err := os.ReadFile("comment.md"); err != nil || !bytes.HasPrefix(comment, []byte("<!-- redisopt:audit.budget:default -->\n")) {
		t.Errorf("the comment: %v %q", err, comment)
	}
	base, err := os.ReadFile("base.json")
	if err != nil || strings.Contains(string(base), "getConnection()") {
		t.Errorf("the baseline holds text of the code: %v", err)
	}
}

// TestEveryRuleCanBeNamed keeps the list of rules that levels and waivers may name equal to what the
// audits find.
func TestEveryRuleCanBeNamed(t *testing.T) {
	known := knownRules()
	for _, dir := range []string{"connections", "commands"} {
		files, err := filepath.Glob(filepath.Join("..", "..", "internal", "inspect", dir, "*.go"))
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", dir, err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, mark := range []string{`Rule: "`, `add("`} {
				for _, part := range strings.Split(string(text), mark)[1:] {
					rule, _, _ := strings.Cut(part, `"`)
					if watch := []string{"watch-gap", "connection-churn", "reconnect-storm", "connection-leak"}; !slices.Contains(known, rule) && !slices.Contains(watch, rule) {
						t.Errorf("%s finds %s, which no level and no waiver can name", file, rule)
					}
				}
			}
		}
	}
}

func TestOneMoreWorkerIsSeenHoweverTheElevenQueuesAreWritten(t *testing.T) {
	const alone, shared, everywhere = "do its work where a connection is held already, or allow it: budgets.connections.fleet: ",
		"pass the shared ioredis instance as connection", "pass it as connection everywhere"
	for app, x := range map[string]struct {
		entry  string
		held   float64
		remedy string
	}{
		"bull": {"index.ts", 33, alone + "35"}, "bull-shared": {"index.ts", 13, alone + "15"}, "bullmq-options": {"index.ts", 33, everywhere},
		"bullmq-shared": {"index.ts", 12, shared}, "factory": {"index.ts", 33, everywhere}, "nestjs": {"main.ts", 33, everywhere},
	} {
		t.Run(app, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.CopyFS(dir, os.DirFS(sampleCode("apps", app))); err != nil {
				t.Fatal(err)
			}
			scan := func() *gate.Static {
				s, err := staticEvidence(t.Context(), dir, source.Options{}, "")
				if err != nil {
					t.Fatal(err)
				}
				return s
			}
			before := scan()
			if before.Connections != gate.Exactly(x.held) {
				t.Fatalf("%+v connections before, want %g", before.Connections, x.held)
			}
			r := sampleRepo{t, dir}
			entry, err := os.ReadFile(filepath.Join(dir, "src", x.entry))
			if err != nil {
				t.Fatal(err)
			}
			r.write("src/"+x.entry, "import './digest';\n"+string(entry))
			r.write("src/digest.ts", "import { Worker } from 'bullmq';\n\nexport const digest = new Worker('digest', async () => null, { connection: { host: 'localhost' } });\n")
			base := gate.BaselineOf(gate.Evidence{Static: before})
			base.Source = "main"
			b := budget.Default()
			b.Connections.Fleet = int(x.held)
			judged, err := gate.Judge(gate.Evidence{Static: scan()}, gate.Options{Budgets: b, Baseline: base, Now: time.Now()})
			if err != nil {
				t.Fatal(err)
			}
			n := judged.Judgements[0]
			if n.Verdict != gate.Fail || n.Measured == nil || *n.Measured != gate.Exactly(x.held+2) || *n.Increase != gate.Exactly(2) {
				t.Errorf("%s: %s, want a failure by 2", n.Verdict, n.Message)
			}
			if len(n.Places) != 1 || n.Places[0].File != "src/digest.ts" || n.Places[0].Line != 3 || !strings.Contains(n.Remedy, x.remedy) {
				t.Errorf("places %+v, remedy %q; want src/digest.ts:3 alone and %q", n.Places, n.Remedy, x.remedy)
			}
		})
	}
}

func TestADirectoryOfARepositoryIsComparedWithItself(t *testing.T) {
	r := newSampleRepo(t)
	if err := os.Mkdir(filepath.Join(r.dir, "services"), 0o755); err != nil {
		t.Fatal(err)
	}
	r.git("mv", "src", "package.json", "services/")
	r.write("services/.env", "REDIS_PASSWORD=secret\n")
	r.commit("several services")
	if err := os.Mkdir(filepath.Join(r.dir, "services", "new"), 0o755); err != nil {
		t.Fatal(err)
	}
	below := sampleRepo{t, filepath.Join(r.dir, "services")}
	below.addWorker(false)
	r.write("services/new/index.ts", "export const nothing = 0;\n")
	t.Chdir(r.dir)
	var out recorder
	code := run(t.Context(), []string{"audit", "budget", "--offline", "--code", "services", "--baseline", "main", "-o", "github"}, out.streams())
	if code != exitViolated || !strings.Contains(out.out.String(), "::error file=services/src/digest.ts,line=4,col=23,title=budget-connections-fleet::") {
		t.Errorf("exit %d: %s%s", code, out.out.String(), out.err.String())
	}
	if strings.Contains(out.out.String(), "env-file-tracked") {
		t.Errorf("a file that the revision keeps too counts as new: %s", out.out.String())
	}
	out = recorder{}
	code = run(t.Context(), []string{"audit", "budget", "--offline", "--code", "services/new", "--baseline", "main"}, out.streams())
	if code != exitOK || !strings.Contains(out.err.String(), "main has no services/new: everything in it is new") {
		t.Errorf("a new directory: exit %d: %s", code, out.err.String())
	}
}

func TestSARIFHoldsTheExactChangeOfTheNewWorker(t *testing.T) {
	r := newSampleRepo(t)
	index, err := os.ReadFile(filepath.Join(r.dir, "src", "index.ts"))
	if err != nil {
		t.Fatal(err)
	}
	r.write("src/index.ts", string(index)+"new Worker('digest', async (job) => job.data, { connection: getConnection() });\n")
	t.Chdir(r.dir)
	var out recorder
	if code := run(t.Context(), []string{"audit", "budget", "--offline", "--baseline", "main", "-o", "sarif"}, out.streams()); code != exitOK {
		t.Fatalf("exit %d: %s", code, out.err.String())
	}
	flat := strings.Join(strings.Fields(out.out.String()), " ")
	for _, want := range []string{
		`"uri": "src/index.ts"`, `"deletedRegion": { "startLine": 22, "startColumn": 48, "endLine": 22, "endColumn": 48 }`,
		`"text": " drainDelay: 300, stalledInterval: 300000,"`,
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("no %s in %s", want, out.out.String())
		}
	}
}
