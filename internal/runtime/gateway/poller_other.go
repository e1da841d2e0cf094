//go:build !linux

package gateway

import (
	"errors"
	"net"
	"time"
)

// canLoop is whether there are loops on this system.
const canLoop = false

// A poller is for Linux alone.
type poller struct{}

var errNotReady = errors.New("not ready")

func newPoller() (*poller, error)                       { return nil, errors.ErrUnsupported }
func (*poller) watch(int) error                         { return errors.ErrUnsupported }
func (*poller) forget(int)                              {}
func (*poller) wait(time.Duration) ([]readiness, error) { return nil, errors.ErrUnsupported }
func (*poller) wake()                                   {}
func (*poller) close()                                  {}
func readFD(int, []byte) (int, error)                   { return 0, errors.ErrUnsupported }
func writeFD(int, []byte) (int, error)                  { return 0, errors.ErrUnsupported }
func closeFD(int)                                       {}
func detach(*net.TCPConn) (int, error)                  { return 0, errors.ErrUnsupported }
func attach(int) (net.Conn, error)                      { return nil, errors.ErrUnsupported }
