package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// errInterrupted is the cause of a context that a signal cancelled.
var errInterrupted = errors.New("interrupted")

// interruptible returns a context that the first SIGINT or SIGTERM cancels, so that the command
// stops at a safe point. The second calls kill, which must not return. stop ends the watching and
// waits for it.
func interruptible(parent context.Context, kill func()) (ctx context.Context, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() { watchSignals(signals, done, cancel, kill) })
	return ctx, func() {
		signal.Stop(signals)
		close(done)
		watching.Wait()
		cancel(nil)
	}
}

func watchSignals(signals <-chan os.Signal, done <-chan struct{}, cancel context.CancelCauseFunc, kill func()) {
	for count := 1; ; count++ {
		select {
		case <-done:
			return
		case <-signals:
		}
		if count > 1 {
			kill()
			return
		}
		cancel(errInterrupted)
	}
}

// interrupted reports whether a signal cancelled ctx.
func interrupted(ctx context.Context) bool {
	return errors.Is(context.Cause(ctx), errInterrupted)
}
