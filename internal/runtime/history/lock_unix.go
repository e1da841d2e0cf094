//go:build unix

package history

import (
	"errors"
	"os"
	"syscall"
)

// lock takes an exclusive lock on the file at path, which stays where it is. The kernel gives the
// lock back when the process ends, however it ends.
func lock(path string) (unlock func() error, err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, err
	}
	return file.Close, nil
}
