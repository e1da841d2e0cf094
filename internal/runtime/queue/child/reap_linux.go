package child

import (
	"errors"
	"os/exec"
	"syscall"

	"golang.org/x/sys/unix"
)

func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }

// waitGroup waits for the command and ends what it left behind. The state says more than Wait's error.
func waitGroup(cmd *exec.Cmd) {
	// Until it is waited for, its number and that of its group belong to nobody else.
	for {
		err := unix.Waitid(unix.P_PID, cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	killGroup(cmd)
	_ = cmd.Wait()
}
