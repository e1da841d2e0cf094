//go:build unix

package child

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

// separate makes the command the leader of a group of its own.
func separate(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
}

// askGroup asks the group to end, and killGroup ends it. A group that is gone is not an error.
func askGroup(cmd *exec.Cmd)  { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
func killGroup(cmd *exec.Cmd) { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }

// ended says how a command ended that did not succeed.
func ended(state *os.ProcessState, limits Limits) string {
	status, ok := state.Sys().(syscall.WaitStatus)
	if !ok || !status.Signaled() {
		return state.String()
	}
	switch signal := status.Signal(); {
	case limits.CPU > 0 && (signal == syscall.SIGXCPU || signal == syscall.SIGKILL && state.UserTime()+state.SystemTime() >= limits.CPU):
		return fmt.Sprintf("it used up its processor time of %s (signal %s)", limits.CPU, signal)
	case limits.FileSize > 0 && signal == syscall.SIGXFSZ:
		return fmt.Sprintf("it wrote a file larger than %d bytes (signal %s)", limits.FileSize, signal)
	}
	return state.String()
}
