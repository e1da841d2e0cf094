//go:build unix

package main

import (
	"os"
	"syscall"
)

// forwarded are the signals that a recorded command gets from us.
func forwarded() []os.Signal {
	return []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT, syscall.SIGUSR1, syscall.SIGUSR2}
}

// endedBy is the signal that ended a process; 0 for none.
func endedBy(state *os.ProcessState) (name string, number int) {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return "", 0
	}
	return status.Signal().String(), int(status.Signal())
}
