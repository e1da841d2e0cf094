//go:build linux || darwin || freebsd

package child

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"

	"golang.org/x/sys/unix"
)

func (l Limits) supported() error {
	if runtime.GOOS == "darwin" && l.Memory > 0 {
		return errors.New("memory: macOS does not enforce it")
	}
	return nil
}

// self is this program, also when its file has been replaced since it was started.
func self() (string, error) {
	if runtime.GOOS == "linux" {
		return "/proc/self/exe", nil
	}
	return os.Executable()
}

// become sets limits and replaces this process by a command.
func become(l Limits, args []string) error {
	debug.SetGCPercent(-1) // nothing may need memory once there is little left
	env := os.Environ()
	set := func(name string, resource int, soft, hard int64) error {
		if soft == 0 {
			return nil
		}
		var now unix.Rlimit
		if err := unix.Getrlimit(resource, &now); err != nil {
			return fmt.Errorf("limit of %s: %w", name, err)
		}
		// What is stricter already stays.
		limit := unix.Rlimit{Cur: min(now.Max, number(soft)), Max: min(now.Max, number(hard))}
		if err := unix.Setrlimit(resource, &limit); err != nil {
			return fmt.Errorf("limit of %s: %w", name, err)
		}
		return nil
	}
	seconds := l.seconds()
	more := seconds
	if seconds > 0 {
		more++ // SIGXCPU first, SIGKILL a second later
	}
	if err := errors.Join(
		set("processor time", unix.RLIMIT_CPU, seconds, more),
		set("file size", unix.RLIMIT_FSIZE, l.FileSize, l.FileSize),
		set("open files", unix.RLIMIT_NOFILE, l.Files, l.Files),
		set("memory", unix.RLIMIT_AS, l.Memory, l.Memory),
	); err != nil {
		return err
	}
	return syscall.Exec(args[0], args, env) //nolint:gosec // the configured command
}
