package mux

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// canPump is whether sockets can be watched by descriptor.
const canPump = true

// descriptorOf is the way to a socket's descriptor, or nil where bytes do not come from it as they are.
func descriptorOf(conn net.Conn) syscall.RawConn {
	sc, ok := conn.(syscall.Conn)
	if !ok {
		return nil
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// readRaw reads once, without waiting; 0 bytes without an error means that nothing is there.
func readRaw(raw syscall.RawConn, p []byte) (n int, err error) {
	outer := raw.Read(func(fd uintptr) bool {
		n, err = again(func() (int, error) { return syscall.Read(int(fd), p) })
		return true
	})
	switch {
	case outer != nil:
		return 0, outer
	case errors.Is(err, syscall.EAGAIN):
		return 0, nil
	case err != nil:
		return 0, err
	case n == 0:
		return 0, io.EOF
	}
	return n, nil
}

// writeRaw writes what the socket takes at once. The error is errWouldBlock when that is not all of p.
func writeRaw(raw syscall.RawConn, p []byte) (n int, err error) {
	outer := raw.Write(func(fd uintptr) bool {
		n, err = again(func() (int, error) { return syscall.Write(int(fd), p) })
		return true
	})
	n = max(n, 0)
	switch {
	case outer != nil:
		return 0, outer
	case err == nil && n < len(p), errors.Is(err, syscall.EAGAIN):
		return n, errWouldBlock
	}
	return n, err
}

// again repeats a call that a signal interrupted.
func again(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		if !errors.Is(err, syscall.EINTR) {
			return n, err
		}
	}
}
