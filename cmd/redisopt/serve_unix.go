//go:build unix

package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// hangups says when SIGHUP came, which asks for the configuration to be read again. stop ends that.
func hangups() (c <-chan struct{}, stop func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGHUP)
	out, done := make(chan struct{}), make(chan struct{})
	var watching sync.WaitGroup
	watching.Go(func() {
		for {
			select {
			case <-done:
				return
			case <-signals:
			}
			select {
			case <-done:
				return
			case out <- struct{}{}:
			}
		}
	})
	return out, func() {
		signal.Stop(signals)
		close(done)
		watching.Wait()
	}
}
