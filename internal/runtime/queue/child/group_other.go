//go:build !unix

package child

import (
	"os"
	"os/exec"
)

// There is no process group here: the process alone is killed, and at once.
func separate(*exec.Cmd)      {}
func askGroup(cmd *exec.Cmd)  { _ = cmd.Process.Kill() }
func killGroup(*exec.Cmd)     {}
func waitGroup(cmd *exec.Cmd) { _ = cmd.Wait() }

// ended says how a command ended that did not succeed.
func ended(state *os.ProcessState, _ Limits) string { return state.String() }
