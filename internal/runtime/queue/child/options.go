package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Defaults and limits of Options.
const (
	DefaultMaxResult  = 64 << 10
	DefaultGrace      = 5 * time.Second
	DefaultRetryAfter = time.Minute

	maxResult   = 4 << 20
	reasonBytes = 2 << 10 // the end of what is written to standard error
)

// Limits bound what a command may use. A zero field is no limit of its own.
type Limits struct {
	// CPU is the time on a processor of each of its processes, in whole seconds, rounded up.
	CPU time.Duration

	// Memory is the address space of each of its processes, in bytes. What a runtime reserves without
	// using counts: Node and Go reserve gigabytes.
	Memory int64

	// Files is how many files each of its processes may have open; at least 8.
	Files int64

	// FileSize is the largest file that it may write, in bytes.
	FileSize int64
}

// Options say what to run. Command is required.
type Options struct {
	// Command is the program and its arguments. A program without a slash is looked up in PATH once.
	// Required.
	Command []string

	// Dir is where it runs. Default a new directory for each job, removed when the job has ended.
	Dir string

	// Env are variables for it, as NAME=VALUE.
	Env []string

	// Pass are the names of variables of this process that it gets. Default PATH, LANG, LC_ALL, TZ, TMPDIR
	// and, on Windows, TEMP; an empty list that is not nil passes none.
	Pass []string

	// Limits bound it. Default none.
	Limits Limits

	// Timeout bounds one attempt, besides the job's own timeout. Default none.
	Timeout time.Duration

	// Grace is how long it may take to end after SIGTERM. Default 5s.
	Grace time.Duration

	// RetryAfter is when a job is tried again whose command ended with 75. Default 1m.
	RetryAfter time.Duration

	// MaxResult is the most bytes of its standard output that are kept as the result. Of more nothing is
	// kept, and Notice is told; the job is done all the same. Default 64 KiB; at most 4 MiB; negative keeps
	// none.
	MaxResult int

	// Notice is told of a result that was not kept. May be nil.
	Notice func(error)
}

func (o Options) withDefaults() Options {
	if o.Pass == nil {
		o.Pass = []string{"PATH", "LANG", "LC_ALL", "TZ", "TMPDIR"}
		if runtime.GOOS == "windows" {
			o.Pass = append(o.Pass, "TEMP")
		}
	}
	if o.Grace == 0 {
		o.Grace = DefaultGrace
	}
	if o.RetryAfter == 0 {
		o.RetryAfter = DefaultRetryAfter
	}
	if o.MaxResult == 0 {
		o.MaxResult = DefaultMaxResult
	}
	if o.Notice == nil {
		o.Notice = func(error) {}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if len(o.Command) == 0 || o.Command[0] == "" {
		bad("command: missing")
	}
	for _, word := range o.Command {
		if strings.ContainsRune(word, 0) {
			bad("command: a word contains a NUL")
		}
	}
	if o.Dir != "" {
		if st, err := os.Stat(o.Dir); err != nil {
			bad("dir: %w", err)
		} else if !st.IsDir() {
			bad("dir: %s is a file", o.Dir)
		}
	}
	for _, v := range o.Env {
		if name, _, ok := strings.Cut(v, "="); !ok || name == "" || strings.ContainsRune(v, 0) {
			bad("env: want NAME=VALUE") // the value may be a secret
		}
	}
	for _, name := range o.Pass {
		if name == "" || strings.ContainsAny(name, "=\x00") {
			bad("pass: got %q, want the name of a variable", name)
		}
	}
	for name, d := range map[string]time.Duration{"timeout": o.Timeout, "grace": o.Grace, "retry_after": o.RetryAfter, "limits.cpu": o.Limits.CPU} {
		if d < 0 {
			bad("%s: got %s, want 0 or more", name, d)
		}
	}
	for name, n := range map[string]int64{"limits.memory": o.Limits.Memory, "limits.files": o.Limits.Files, "limits.file_size": o.Limits.FileSize} {
		if n < 0 {
			bad("%s: got %d, want 0 or more", name, n)
		}
	}
	if o.Limits.Files > 0 && o.Limits.Files < 8 {
		bad("limits.files: got %d, want at least 8", o.Limits.Files)
	}
	if err := o.Limits.supported(); err != nil {
		errs = append(errs, fmt.Errorf("limits: %w", err))
	}
	if o.MaxResult > maxResult {
		bad("max_result: got %d, want at most %d", o.MaxResult, maxResult)
	}
	return errors.Join(errs...)
}

// lookUp is the absolute path of the program.
func lookUp(program string) (string, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return "", fmt.Errorf("command: %w", err)
	}
	return filepath.Abs(path)
}
