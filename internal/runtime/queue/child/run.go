package child

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/redisopt/redisopt/internal/runtime/queue"
)

// Exit codes with a meaning, from sysexits.h.
const (
	exitData = 65
	exitTemp = 75
)

// pipeDelay is how long output is waited for after the command has ended, should something outside its
// group hold it open.
const pipeDelay = time.Second

// A Command runs each job with a process of its own. It is a queue.Runner.
type Command struct {
	opts Options
	path string
	args []string // with the path in front
}

// New looks the program up and checks opts.
func New(opts Options) (*Command, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("child: %w", err)
	}
	path, err := lookUp(opts.Command[0])
	if err != nil {
		return nil, fmt.Errorf("child: %w", err)
	}
	c := &Command{opts: opts, path: path, args: append([]string{path}, opts.Command[1:]...)}
	if opts.Limits != (Limits{}) {
		if c.path, c.args, err = staged(opts.Limits, c.args); err != nil {
			return nil, fmt.Errorf("child: %w", err)
		}
	}
	return c, nil
}

// An Input is what a command reads on its standard input.
type Input struct {
	Queue    string            `json:"queue"`
	ID       string            `json:"id"`
	Name     string            `json:"name"`
	Attempt  int               `json:"attempt"`
	Attempts int               `json:"attempts"`
	Deadline time.Time         `json:"deadline,omitzero"`
	Headers  map[string]string `json:"headers"`

	// Payload is the payload where it is JSON; Base64 is it where it is not.
	Payload json.RawMessage `json:"payload,omitempty"`
	Base64  []byte          `json:"payload_base64,omitempty"`
}

func newInput(job queue.Job, deadline time.Time) Input {
	in := Input{
		Queue: job.Queue, ID: job.ID, Name: job.Name, Attempt: job.Attempt, Attempts: job.Attempts, Deadline: deadline, Headers: job.Headers,
	}
	if in.Headers == nil {
		in.Headers = map[string]string{}
	}
	if json.Valid(job.Payload) {
		in.Payload = job.Payload
	} else {
		in.Base64 = job.Payload
	}
	return in
}

// Run starts the command for one job and waits until its process group has ended.
func (c *Command) Run(ctx context.Context, job queue.Job) ([]byte, error) {
	if c.opts.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.opts.Timeout)
		defer cancel()
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	deadline := job.Deadline
	if d, ok := ctx.Deadline(); ok && (deadline.IsZero() || d.Before(deadline)) {
		deadline = d
	}
	input, err := json.Marshal(newInput(job, deadline.UTC().Truncate(time.Millisecond)))
	if err != nil {
		return nil, err
	}
	dir := c.opts.Dir
	if dir == "" {
		if dir, err = os.MkdirTemp("", "redisopt-job-"); err != nil {
			return nil, fmt.Errorf("directory for the job: %w", err)
		}
		defer os.RemoveAll(dir)
	}
	out, tail := &head{limit: max(0, c.opts.MaxResult)}, &end{limit: reasonBytes}
	cmd := &exec.Cmd{
		Path: c.path, Args: c.args, Dir: dir, Env: c.environment(job, deadline),
		Stdin: bytes.NewReader(append(input, '\n')), Stdout: out, Stderr: tail, WaitDelay: pipeDelay,
	}
	// Linux kills the command when the thread that started it ends, so it must not end before.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	separate(cmd)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.opts.Command[0], err)
	}
	stopped := c.wait(ctx, cmd)
	return c.judge(ctx, cmd, stopped, out, tail)
}

// wait waits for the command and ends it with ctx. It returns why ctx ended, if the command did not end
// by itself.
func (c *Command) wait(ctx context.Context, cmd *exec.Cmd) (stopped error) {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		waitGroup(cmd)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
	}
	stopped = ctx.Err()
	askGroup(cmd)
	grace := time.NewTimer(c.opts.Grace)
	defer grace.Stop()
	select {
	case <-ended:
	case <-grace.C:
		killGroup(cmd)
		<-ended
	}
	return stopped
}

// judge is what the end of the command means.
func (c *Command) judge(ctx context.Context, cmd *exec.Cmd, stopped error, out *head, tail *end) ([]byte, error) {
	state := cmd.ProcessState
	if state == nil {
		return nil, fmt.Errorf("%s was lost", c.opts.Command[0])
	}
	if state.Success() {
		if out.more && c.opts.MaxResult >= 0 {
			c.opts.Notice(fmt.Errorf("the output of %s is longer than %d bytes; it is not kept as the result", c.opts.Command[0], c.opts.MaxResult))
		}
		if out.more || len(out.text) == 0 {
			return nil, nil
		}
		return out.text, nil
	}
	reason := ended(state, c.opts.Limits)
	if text := tail.String(); text != "" {
		reason += ": " + text
	}
	switch {
	case stopped != nil:
		return nil, fmt.Errorf("stopped: %w; %s", context.Cause(ctx), reason)
	case state.ExitCode() == exitData:
		return nil, &queue.DeadError{Reason: reason}
	case state.ExitCode() == exitTemp:
		return nil, &queue.RetryAfterError{After: c.opts.RetryAfter, Reason: reason}
	}
	return nil, errors.New(reason)
}

// environment is what the command gets.
func (c *Command) environment(job queue.Job, deadline time.Time) []string {
	env := make([]string, 0, len(c.opts.Pass)+len(c.opts.Env)+8)
	for _, name := range c.opts.Pass {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	env = append(env, c.opts.Env...)
	set := func(name, value string) { env = append(env, name+"="+strings.ReplaceAll(value, "\x00", "")) }
	set("REDISOPT_QUEUE", job.Queue)
	set("REDISOPT_JOB_ID", job.ID)
	set("REDISOPT_JOB_NAME", job.Name)
	set("REDISOPT_ATTEMPT", strconv.Itoa(job.Attempt))
	set("REDISOPT_ATTEMPTS", strconv.Itoa(job.Attempts))
	if !deadline.IsZero() {
		set("REDISOPT_DEADLINE", deadline.UTC().Format(time.RFC3339))
	}
	for name, value := range job.Headers {
		switch strings.ToLower(name) {
		case "traceparent", "tracestate":
			set(strings.ToUpper(name), value)
		}
	}
	return env
}

// A head keeps the first bytes of what is written, and takes the rest without keeping it.
type head struct {
	limit int
	text  []byte
	more  bool
}

func (h *head) Write(p []byte) (int, error) {
	room := h.limit - len(h.text)
	h.text = append(h.text, p[:min(room, len(p))]...)
	h.more = h.more || len(p) > room
	return len(p), nil
}

// An end keeps the last bytes of what is written.
type end struct {
	limit int
	text  []byte
	cut   bool
}

func (e *end) Write(p []byte) (int, error) {
	n := len(p)
	if len(p) > e.limit {
		p = p[len(p)-e.limit:]
		e.cut = true
	}
	e.text = append(e.text, p...)
	if over := len(e.text) - e.limit; over > 0 {
		e.text = append(e.text[:0], e.text[over:]...)
		e.cut = true
	}
	return n, nil
}

// String is the text on one line.
func (e *end) String() string {
	text := strings.ToValidUTF8(string(e.text), "")
	text = strings.Join(strings.FieldsFunc(text, func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }), " ")
	if e.cut {
		text = "… " + text
	}
	return text
}
