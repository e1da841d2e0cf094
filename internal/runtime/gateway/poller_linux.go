package gateway

import (
	"errors"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// canLoop is whether there are loops on this system.
const canLoop = true

// A poller waits for many descriptors at once. They are watched edge by edge: each time something comes is
// told once, so nothing has to be said to the system per request. Only wait is not for concurrent use.
type poller struct {
	epoll, event int
	events       [256]unix.EpollEvent
	ready        [256]readiness
}

func newPoller() (*poller, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(os.NewSyscallError("eventfd", err), unix.Close(epoll))
	}
	p := &poller{epoll: epoll, event: event}
	if err := p.watch(event); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

// watch begins to tell of fd; what is there already counts. It ends when the last handle on what fd stands
// for is closed, or with forget.
func (p *poller) watch(fd int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | edge, Fd: int32(fd)} //nolint:gosec // a descriptor is an int32
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(p.epoll, unix.EPOLL_CTL_ADD, fd, &e))
}

// edge is EPOLLET, which the package unix has as a negative number.
const edge = 1 << 31

func (p *poller) forget(fd int) {
	_ = unix.EpollCtl(p.epoll, unix.EPOLL_CTL_DEL, fd, nil)
}

// wait returns the descriptors that have something to read or have ended, when there are any, when wake is
// called, or when d has passed; below 0 is for ever. They may include some that are closed since, and the
// poller's own. The result is valid until the next call.
func (p *poller) wait(d time.Duration) ([]readiness, error) {
	ms := -1
	if d >= 0 {
		ms = int(min((d+time.Millisecond-1)/time.Millisecond, time.Hour/time.Millisecond))
	}
	n, err := unix.EpollWait(p.epoll, p.events[:], ms)
	if err != nil {
		if errors.Is(err, unix.EINTR) {
			return nil, nil
		}
		return nil, os.NewSyscallError("epoll_wait", err)
	}
	for i, e := range p.events[:n] {
		p.ready[i] = readiness{int(e.Fd), e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0}
	}
	return p.ready[:n], nil
}

// wake ends the wait of the moment, or the next one.
func (p *poller) wake() {
	_, _ = unix.Write(p.event, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it fails only when it is full, and then it has rung
}

func (p *poller) close() {
	_ = unix.Close(p.event)
	_ = unix.Close(p.epoll)
}

// errNotReady is that nothing is there to be read, or nothing is taken, for now.
var errNotReady = errors.New("not ready")

func readFD(fd int, b []byte) (int, error) {
	return ready(func() (int, error) { return unix.Read(fd, b) })
}

func writeFD(fd int, b []byte) (int, error) {
	return ready(func() (int, error) { return unix.Write(fd, b) })
}

func ready(call func() (int, error)) (int, error) {
	for {
		n, err := call()
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			return 0, errNotReady
		default:
			return 0, err
		}
	}
}

func closeFD(fd int) { _ = unix.Close(fd) }

// detach makes a bare descriptor of a connection, of which the runtime knows nothing any more.
func detach(tcp *net.TCPConn) (int, error) {
	raw, err := tcp.SyscallConn()
	if err != nil {
		return 0, err
	}
	var fd int
	var dup error
	if err := raw.Control(func(from uintptr) { fd, dup = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return 0, err
	}
	if dup != nil {
		return 0, os.NewSyscallError("dup", dup)
	}
	_ = tcp.Close()
	return fd, nil
}

// attach is the inverse of detach. The descriptor is closed in any case.
func attach(fd int) (net.Conn, error) {
	f := os.NewFile(uintptr(fd), "client") //nolint:gosec // a descriptor is not negative
	defer func() { _ = f.Close() }()
	return net.FileConn(f)
}
