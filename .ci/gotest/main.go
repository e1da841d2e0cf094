// Command gotest runs go test with its own arguments and ends with the list of skipped tests, each
// with its reason, and one line of counts. With CI=true in the environment a skip is a failure.
// Where TEST_SUMMARY names a file, "passed failed skipped" is appended to it.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

func main() {
	code, err := run(context.Background(), os.Args[1:], os.Stdout)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "gotest:", err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, args []string, out io.Writer) (code int, err error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, args...)...)
	cmd.Stderr = out
	events, err := cmd.StdoutPipe()
	if err != nil {
		return 1, err
	}
	if err := cmd.Start(); err != nil {
		return 1, err
	}
	s := newSummary(out)
	if err := s.read(events); err != nil {
		return 1, errors.Join(err, cmd.Wait())
	}
	code = 0
	if cmd.Wait() != nil {
		code = 1
	}
	strict := os.Getenv("CI") == "true"
	s.print(strict)
	if name := os.Getenv("TEST_SUMMARY"); name != "" {
		if err := s.appendTo(name); err != nil {
			return 1, err
		}
	}
	if strict && len(s.skips) > 0 {
		code = 1
	}
	return code, nil
}
