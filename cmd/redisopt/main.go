// Command redisopt measures what an application costs a Redis, moves its job queues off that cost,
// proves every step and can undo it.
//
// Each command is one file: flags are parsed into the Options of the package that does the work, it
// is called, and what it returned is printed as one document. Nothing here decides about the domain.
package main

import (
	"context"
	"os"

	"github.com/redisopt/redisopt/internal/runtime/queue/child"
)

// main is the only place that touches the process: its arguments, its streams and its exit.
func main() {
	if child.Staged(os.Args) { //nolint:forbidigo // a copy that is to become the command of a job
		os.Exit(child.Stage(os.Args, os.Stderr)) //nolint:forbidigo // it never becomes this program
	}
	ctx, stop := interruptible(context.Background(), func() { os.Exit(exitInterrupted) }) //nolint:forbidigo // a second signal must not wait for anything
	code := run(ctx, os.Args[1:], processStreams(os.Stdin, os.Stdout, os.Stderr))         //nolint:forbidigo // main hands the process to run
	stop()
	os.Exit(code) //nolint:forbidigo // the only exit of a command that ran to its end
}
