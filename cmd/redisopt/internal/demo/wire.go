package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"
)

// replyLimit is how long a simulated client waits for a reply, on top of what its command may block.
const replyLimit = 10 * time.Second

// A wire is one connection that sends exactly the commands it is told, as ioredis would: a Redis
// library would add commands of its own, and the audits count every one.
type wire struct {
	nc net.Conn
	r  *bufio.Reader
}

func newWire(nc net.Conn) *wire { return &wire{nc: nc, r: bufio.NewReader(nc)} }

// A replyError is an error reply.
type replyError string

func (e replyError) Error() string { return string(e) }

// do sends one command and returns the reply: a string, an int64, nil or a []any of those. The
// command may block on the server for block. It returns early when ctx ends.
func (w *wire) do(ctx context.Context, block time.Duration, args ...string) (any, error) {
	if err := w.nc.SetDeadline(time.Now().Add(replyLimit + block)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = w.nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if _, err := io.WriteString(w.nc, b.String()); err != nil {
		return nil, fmt.Errorf("send %s: %w", args[0], err)
	}
	reply, err := w.read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", strings.ToUpper(args[0]), err)
	}
	return reply, nil
}

func (w *wire) read() (any, error) {
	line, err := w.r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimSuffix(line, "\r\n")
	if line == "" {
		return nil, errors.New("empty reply")
	}
	kind, rest := line[0], line[1:]
	switch kind {
	case '+':
		return rest, nil
	case '-':
		return nil, replyError(rest)
	case ':':
		return strconv.ParseInt(rest, 10, 64)
	}
	n, err := strconv.Atoi(rest)
	if err != nil {
		return nil, fmt.Errorf("reply %q: %w", line, err)
	}
	switch {
	case n < 0:
		return nil, nil
	case kind == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(w.r, b)
		return string(b[:n]), err
	case kind == '*':
		all := make([]any, n)
		for i := range all {
			if all[i], err = w.read(); err != nil {
				return nil, err
			}
		}
		return all, nil
	}
	return nil, fmt.Errorf("reply %q is of no known type", line)
}

func (w *wire) close() { _ = w.nc.Close() }
