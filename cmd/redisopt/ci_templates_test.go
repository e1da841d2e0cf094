package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// An action is what is read of deploy/ci/github/action.yml.
type action struct {
	Inputs map[string]struct {
		Default  string `yaml:"default"`
		Required bool   `yaml:"required"`
	} `yaml:"inputs"`
	Outputs map[string]struct {
		Value string `yaml:"value"`
	} `yaml:"outputs"`
	Runs struct {
		Steps []struct {
			ID    string            `yaml:"id"`
			Name  string            `yaml:"name"`
			If    string            `yaml:"if"`
			Shell string            `yaml:"shell"`
			Dir   string            `yaml:"working-directory"`
			Env   map[string]string `yaml:"env"`
			Run   string            `yaml:"run"`
		} `yaml:"steps"`
	} `yaml:"runs"`
}

// needShell skips where the templates cannot run.
func needShell(t *testing.T) {
	t.Helper()
	for _, name := range []string{"bash", "git"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Skip("needs " + name)
		}
	}
}

// onPath is a directory with this program as redisopt, and with a gh that notes what it is asked and
// says that comment 42 is ours, or that there is none.
func onPath(t *testing.T, comments string) (bin, asked string) {
	t.Helper()
	bin = t.TempDir()
	asked = filepath.Join(bin, "asked")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(bin, "redisopt")); err != nil {
		t.Skip("needs symbolic links: " + err.Error())
	}
	gh := "#!/bin/sh\necho \"$*\" >>'" + asked + "'\ncase \"$*\" in *--paginate*) printf '" + comments + "' ;; esac\n"
	if err := os.WriteFile(filepath.Join(bin, "gh"), []byte(gh), 0o755); err != nil {
		t.Fatal(err)
	}
	return bin, asked
}

// shell runs a script and returns its exit code and what it printed.
func shell(t *testing.T, dir, script string, env ...string) (int, string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script)
	cmd.Dir, cmd.Env = dir, env
	out, err := cmd.CombinedOutput()
	if exit, failed := errors.AsType[*exec.ExitError](err); failed {
		return exit.ExitCode(), string(out)
	}
	if err != nil {
		t.Fatal(err)
	}
	return 0, string(out)
}

// A job plays a composite action as a runner does: inputs and outputs filled in, steps one after the
// other until one fails.
type job struct {
	t       *testing.T
	action  action
	inputs  map[string]string
	dir     string
	bin     string
	temp    string
	outputs map[string]string
}

func newJob(t *testing.T, dir, bin string, inputs map[string]string) *job {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "ci", "github", "action.yml"))
	if err != nil {
		t.Fatal(err)
	}
	j := &job{t: t, inputs: inputs, dir: dir, bin: bin, temp: t.TempDir(), outputs: map[string]string{}}
	if err := yaml.Unmarshal(text, &j.action); err != nil {
		t.Fatal(err)
	}
	return j
}

var expression = regexp.MustCompile(`\$\{\{\s*([a-z._-]+)\s*\}\}`)

func (j *job) fill(text string) string {
	return expression.ReplaceAllStringFunc(text, func(m string) string {
		name := expression.FindStringSubmatch(m)[1]
		switch {
		case strings.HasPrefix(name, "inputs."):
			key := strings.TrimPrefix(name, "inputs.")
			if v, given := j.inputs[key]; given {
				return v
			}
			return j.fill(j.action.Inputs[key].Default)
		case strings.HasPrefix(name, "steps.gate.outputs."):
			return j.outputs[strings.TrimPrefix(name, "steps.gate.outputs.")]
		case name == "github.token":
			return "token"
		case name == "github.event.pull_request.number":
			return "7"
		}
		j.t.Fatalf("the action asks for %s, which this test does not know", name)
		return ""
	})
}

// run returns the exit code of the step that failed, and what all printed.
func (j *job) run() (code int, printed string) {
	j.t.Helper()
	actions, err := filepath.Abs(filepath.Join("..", "..", "deploy", "ci", "github"))
	if err != nil {
		j.t.Fatal(err)
	}
	for _, s := range j.action.Runs.Steps {
		if strings.Contains(s.If, "inputs.comment") && j.fill("${{ inputs.comment }}") != "true" {
			continue
		}
		if s.Shell != "bash" {
			j.t.Fatalf("step %s runs in %q, want bash", s.Name, s.Shell)
		}
		env := []string{
			"PATH=" + j.bin + ":" + os.Getenv("PATH"), "HOME=" + j.temp, "RUNNER_TEMP=" + j.temp, "GITHUB_ACTION_PATH=" + actions,
			"GITHUB_OUTPUT=" + filepath.Join(j.temp, "output"), "GITHUB_STEP_SUMMARY=" + filepath.Join(j.temp, "summary"),
			"GITHUB_PATH=" + filepath.Join(j.temp, "path"), "GITHUB_REPOSITORY=owner/app", hurried,
		}
		for name, value := range s.Env {
			env = append(env, name+"="+j.fill(value))
		}
		exit, out := shell(j.t, filepath.Join(j.dir, j.fill(s.Dir)), s.Run, env...)
		printed += out
		if exit != 0 {
			return exit, printed
		}
		for line := range strings.Lines(j.file("output")) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			j.outputs[name] = value
		}
	}
	return 0, printed
}

func (j *job) file(name string) string {
	text, err := os.ReadFile(filepath.Join(j.temp, name))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		j.t.Fatal(err)
	}
	return string(text)
}

func TestTheActionFailsThePullRequestThatAddsAWorker(t *testing.T) {
	needShell(t)
	r := newSampleRepo(t)
	r.git("checkout", "-q", "-b", "change")
	r.addWorker(false)
	r.commit("send a digest")
	bin, asked := onPath(t, `42\n43\n`)
	j := newJob(t, r.dir, bin, map[string]string{"version": "installed", "baseline": "main", "comment": "true"})
	code, printed := j.run()
	if code != exitViolated {
		t.Errorf("exit %d, want 3: %s", code, printed)
	}
	want := "::error file=src/digest.ts,line=4,col=23,title=budget-connections-fleet::connections: fleet (static): 14 connections, 13 allowed"
	if !strings.Contains(printed, want) {
		t.Errorf("no annotation %q in %s", want, printed)
	}
	if summary := j.file("summary"); !strings.HasPrefix(summary, "<!-- redisopt:audit.budget:default -->\n") || !strings.Contains(summary, "pass the shared ioredis instance") {
		t.Errorf("summary %q", summary)
	}
	if sarif := j.file("redisopt.sarif"); !json.Valid([]byte(sarif)) || j.outputs["sarif"] == "" {
		t.Errorf("sarif at %q: %s", j.outputs["sarif"], sarif)
	}
	calls, err := os.ReadFile(asked)
	if err != nil || !strings.Contains(string(calls), "-X PATCH repos/owner/app/issues/comments/42 -F body=@"+j.outputs["comment-file"]) || strings.Contains(string(calls), "POST") {
		t.Errorf("the comment that is there is not changed: %v %s", err, calls)
	}
}

func TestTheActionPassesTheWorkerThatShares(t *testing.T) {
	needShell(t)
	r := newSampleRepo(t)
	r.git("checkout", "-q", "-b", "change")
	r.addWorker(true)
	r.commit("send a digest")
	bin, asked := onPath(t, "")
	j := newJob(t, r.dir, bin, map[string]string{"version": "installed", "baseline": "main", "comment": "true", "args": "--strict --fail-on warn"})
	if code, printed := j.run(); code != 0 {
		t.Errorf("exit %d, want 0: %s", code, printed)
	}
	if calls, err := os.ReadFile(asked); err != nil || !strings.Contains(string(calls), "-X POST repos/owner/app/issues/7/comments -F body=@") {
		t.Errorf("no comment is written: %v %s", err, calls)
	}
}

func TestTheActionSaysWhyThereIsNoVerdict(t *testing.T) {
	needShell(t)
	r := newSampleRepo(t)
	bin, _ := onPath(t, "")
	j := newJob(t, r.dir, bin, map[string]string{"version": "installed", "baseline": "origin/main", "comment": "true"})
	if code, printed := j.run(); code != exitUsage || !strings.Contains(printed, "::error title=redisopt::the gate ended with code 2 before a verdict") || !strings.Contains(printed, "no such revision") {
		t.Errorf("exit %d: %s", code, printed)
	}
	j = newJob(t, r.dir, bin, map[string]string{"version": "latest; rm -rf /"})
	if code, printed := j.run(); code != exitUsage || !strings.Contains(printed, "want one such as v1.0.0, or installed") {
		t.Errorf("a version that is none: exit %d: %s", code, printed)
	}
}

func TestACommentThatMayNotBeWrittenFailsNothing(t *testing.T) {
	needShell(t)
	r := newSampleRepo(t)
	bin, _ := onPath(t, "")
	if err := os.WriteFile(filepath.Join(bin, "gh"), []byte("#!/bin/sh\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	j := newJob(t, r.dir, bin, map[string]string{"version": "installed", "comment": "true"})
	if code, printed := j.run(); code != 0 || !strings.Contains(printed, "::notice title=redisopt::the comment could not be written") {
		t.Errorf("exit %d: %s", code, printed)
	}
}

func TestTheGitLabTemplateReportsTheSame(t *testing.T) {
	needShell(t)
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "ci", "gitlab", "redisopt.gitlab-ci.yml"))
	if err != nil {
		t.Fatal(err)
	}
	var jobs map[string]struct {
		Variables map[string]string `yaml:"variables"`
		Script    []string          `yaml:"script"`
		Artifacts struct {
			Reports map[string]string `yaml:"reports"`
			Paths   []string          `yaml:"paths"`
		} `yaml:"artifacts"`
	}
	if err := yaml.Unmarshal(text, &jobs); err != nil {
		t.Fatal(err)
	}
	template := jobs["redisopt budget"]
	if len(template.Script) == 0 {
		t.Fatal("there is no job called redisopt budget")
	}
	for name, c := range map[string]struct {
		shared  bool
		version string
		code    int
	}{
		"a worker of its own":    {false, "installed", exitViolated},
		"a worker that shares":   {true, "installed", exitOK},
		"a version that is none": {true, "", exitUsage},
	} {
		t.Run(name, func(t *testing.T) {
			r := newSampleRepo(t)
			r.addWorker(c.shared)
			bin, _ := onPath(t, "")
			env := []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "CI_PROJECT_DIR=" + r.dir, hurried}
			for name, value := range template.Variables {
				env = append(env, name+"="+strings.ReplaceAll(value, "$CI_MERGE_REQUEST_DIFF_BASE_SHA", "main"))
			}
			env = append(env, "REDISOPT_VERSION="+c.version)
			code, printed := shell(t, r.dir, strings.Join(template.Script, "\n"), env...)
			if code != c.code {
				t.Fatalf("exit %d, want %d: %s", code, c.code, printed)
			}
			if c.code == exitUsage {
				return
			}
			files := append([]string{template.Artifacts.Reports["codequality"], template.Artifacts.Reports["junit"]}, template.Artifacts.Paths...)
			for _, file := range files {
				text, err := os.ReadFile(filepath.Join(r.dir, file))
				if err != nil {
					t.Errorf("no report: %v", err)
				}
				if found := strings.Contains(string(text), "14 connections, 13 allowed"); found == c.shared {
					t.Errorf("%s: %s", file, text)
				}
			}
		})
	}
}
