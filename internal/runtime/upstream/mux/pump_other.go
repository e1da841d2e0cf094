//go:build !linux

package mux

import (
	"errors"
	"net"
	"syscall"
)

// canPump is whether sockets can be watched by descriptor.
const canPump = false

func descriptorOf(net.Conn) syscall.RawConn { return nil }

func readRaw(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }

func writeRaw(syscall.RawConn, []byte) (int, error) { return 0, errors.ErrUnsupported }
