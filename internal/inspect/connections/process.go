package connections

import (
	"fmt"
	"net"
	"strings"
)

// A socket is a TCP connection as its client sees it: local is the client's end, remote the server's.
type socket struct{ local, remote string }

// An owner is the process that holds a socket.
type owner struct {
	pid     int
	command string
}

// A lookup finds the processes of this host that hold the given sockets. Sockets of other hosts, and of
// processes whose descriptors may not be read, are absent. It returns an error where the kernel's
// tables are not available at all.
type lookup func([]socket) (map[socket]owner, error)

// sockets returns the socket of each client; a Unix socket has none.
func socketOf(c Client) (socket, bool) {
	if strings.HasPrefix(c.Addr, "/") || c.LocalAddr == "" {
		return socket{}, false
	}
	if _, _, err := net.SplitHostPort(c.Addr); err != nil {
		return socket{}, false
	}
	return socket{local: c.Addr, remote: c.LocalAddr}, true
}

// processID names where a client runs: the process when found, else its host.
func processID(c Client, found map[socket]owner) (id string, p Process) {
	if s, ok := socketOf(c); ok {
		if o, ok := found[s]; ok {
			host, _, _ := net.SplitHostPort(c.Addr)
			id = fmt.Sprintf("pid %d", o.pid)
			if o.command != "" {
				id = fmt.Sprintf("pid %d (%s)", o.pid, o.command)
			}
			return id, Process{ID: id, Host: host, PID: o.pid, Command: o.command}
		}
	}
	host, _, err := net.SplitHostPort(c.Addr)
	switch {
	case strings.HasPrefix(c.Addr, "/"):
		host = "unix socket"
		return host, Process{ID: host, Host: host}
	case err != nil || host == "":
		host = c.Addr
	}
	id = "host " + host
	return id, Process{ID: id, Host: host}
}
