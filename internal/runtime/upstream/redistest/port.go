package redistest

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"syscall"
)

// Ports are chosen from below those that systems give to whoever asks for any and to outgoing connections, so that
// nobody gets the port of a server that is down between Kill and Restart. That goes for the bus of a Cluster's node
// too, 10,000 above, which is no other server's port either.
const (
	lowestPort   = 10_240
	highestPort  = 20_239
	portAttempts = 1000
)

// A heldPort is a port of 127.0.0.1 that no other test gets until it is released: its namesake at 127.0.0.2 is
// listened on, which the system ends with the process. Where there is no such address, nobody holds it.
type heldPort struct {
	number int
	guard  net.Listener // nil where there is no 127.0.0.2
}

// release lets others have the port; nil and twice do nothing.
func (p *heldPort) release() {
	if p != nil && p.guard != nil {
		_ = p.guard.Close()
		p.guard = nil
	}
}

// holdPort finds a port on which nobody listens, and holds it.
func holdPort(ctx context.Context) (*heldPort, error) {
	last := errors.New("no free port")
	for range portAttempts {
		p := &heldPort{number: lowestPort + rand.IntN(highestPort-lowestPort+1)}
		var err error
		if p.guard, err = listen(ctx, "127.0.0.2", p.number); err != nil && !errors.Is(err, syscall.EADDRNOTAVAIL) {
			last = err
			continue
		}
		l, err := listen(ctx, "127.0.0.1", p.number)
		if err == nil {
			err = l.Close()
		}
		if err == nil {
			return p, nil
		}
		p.release()
		last = err
	}
	return nil, last
}

func listen(ctx context.Context, host string, port int) (net.Listener, error) {
	return (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port)))
}
