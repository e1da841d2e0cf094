package migrate

import (
	"errors"
	"os"

	"golang.org/x/sys/windows"
)

// lockAlive locks f until it is closed, for its writer or for readers. It does not wait: while another process
// has it, the error is errAlive. What is locked is a byte far behind the content, which others may still read.
func lockAlive(f *os.File, write bool) error {
	flags := uint32(windows.LOCKFILE_FAIL_IMMEDIATELY)
	if write {
		flags |= windows.LOCKFILE_EXCLUSIVE_LOCK
	}
	err := windows.LockFileEx(windows.Handle(f.Fd()), flags, 0, 1, 0, &windows.Overlapped{OffsetHigh: 1})
	if errors.Is(err, windows.ERROR_LOCK_VIOLATION) {
		return errAlive
	}
	return err
}
