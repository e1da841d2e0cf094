//go:build !linux

package connections

import (
	"fmt"
	"runtime"
)

// kernelProcesses is only written for Linux; elsewhere connections are grouped by host.
func kernelProcesses([]socket) (map[socket]owner, error) {
	return nil, fmt.Errorf("processes behind connections cannot be read on %s", runtime.GOOS)
}
