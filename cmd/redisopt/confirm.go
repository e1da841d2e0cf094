package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
)

// confirm shows plan and asks whether to go on. It returns nil when the answer is yes or --yes was
// given, and a usageError when the answer is no or there is nobody to ask: then nothing may be
// changed. The plan goes to stderr, because stdout is for the answer of the finished command;
// question is one sentence that ends in a question mark.
//
// A command with --dry-run prints the same plan by print and never calls confirm.
func (a *app) confirm(ctx context.Context, plan report.Document, question string) error {
	if !a.flags.quiet || !a.flags.yes {
		opts := a.writeOptions()
		opts.Color = a.colorful(a.flags.color, a.errTerminal)
		if err := report.Write(a.err, report.FormatTable, plan, opts); err != nil {
			return err
		}
	}
	if a.flags.yes {
		return nil
	}
	if !a.inTerminal || !a.errTerminal {
		return usagef("this changes data and there is no terminal to ask on; read the plan with --dry-run, then add --yes")
	}
	_, _ = fmt.Fprintf(a.err, "\n%s Type yes to go on: ", question)
	answer, err := readLine(ctx, a.in)
	if err != nil {
		return err
	}
	if !strings.EqualFold(answer, "yes") && !strings.EqualFold(answer, "y") {
		return usagef("not confirmed, nothing was changed")
	}
	return nil
}

// readLine reads one line, or gives up when ctx ends. The read itself cannot be cancelled: it is left
// behind, which is harmless because the process is about to end.
func readLine(ctx context.Context, in io.Reader) (string, error) {
	type result struct {
		line string
		err  error
	}
	read := make(chan result, 1)
	go func() {
		line, err := bufio.NewReader(in).ReadString('\n')
		read <- result{line, err}
	}()
	select {
	case <-ctx.Done():
		return "", fmt.Errorf("waiting for an answer: %w", ctx.Err())
	case r := <-read:
		if r.err != nil && !errors.Is(r.err, io.EOF) {
			return "", fmt.Errorf("read the answer: %w", r.err)
		}
		return strings.TrimSpace(r.line), nil
	}
}
