//go:build unix

package migrate

import (
	"errors"
	"os"
	"syscall"
)

// lockAlive locks f until it is closed, for its writer or for readers. It does not wait: while another process
// has it, the error is errAlive.
func lockAlive(f *os.File, write bool) error {
	how := syscall.LOCK_SH
	if write {
		how = syscall.LOCK_EX
	}
	err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		return errAlive
	}
	return err
}
