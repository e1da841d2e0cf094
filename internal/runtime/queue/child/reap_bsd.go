//go:build unix && !linux

package child

import (
	"os/exec"
	"syscall"
)

// dieWithParent does nothing: only Linux kills a process when its parent dies.
func dieWithParent(*syscall.SysProcAttr) {}

// waitGroup waits for the command and ends what it left behind. Here its number is free in between: a new
// group of the same user would have to get it in that moment to be hit.
func waitGroup(cmd *exec.Cmd) {
	_ = cmd.Wait()
	killGroup(cmd)
}
