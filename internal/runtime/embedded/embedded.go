// Package embedded is a Redis inside the process, for trying the product out and for tests.
//
// The store is miniredis. What miniredis leaves out and an operator's tool lives on is added here:
// CLIENT LIST and its relatives with the fields of Redis 7.0, INFO with commandstats that count
// in-script commands as Redis does, keys that expire by themselves, connections that can be killed,
// and a simulated plan that refuses with the provider's own texts. Any client can connect over TCP,
// on loopback only. The unmodified libraries of Bull 4 and BullMQ 5 and 6 run on it.
//
// It is volatile: everything is gone when it is closed. With Options.DataDir a real redis-server
// with an append-only file is started instead. What the in-process store lacks is listed by [Lacks].
// It runs Lua 16 to 80 times slower than Redis: it must not be measured in Redis' place, nor put in
// production.
package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Options say where to listen and what to pretend. The zero value is a volatile Redis without limits
// on a free port of 127.0.0.1.
type Options struct {
	// Addr is host:port to listen on. Default "127.0.0.1:0", a free port. The host must be a
	// loopback address or "localhost": an embedded Redis has no password and no limits worth the name.
	Addr string

	// Plan is the provider's plan to simulate. The zero value limits nothing.
	Plan Plan

	// DataDir, when not empty, is an existing directory in which a real redis-server from PATH is
	// started with an append-only file, synced every second: a crash of the machine loses up to the
	// last second, a crash of this process nothing. A Plan cannot be simulated there.
	DataDir string
}

// A Plan is what a provider sells, simulated. The zero value limits nothing.
type Plan struct {
	// Name is shown to people; it has no effect.
	Name string `json:"name"`

	// MaxConnections is the number of connections at a time; one more is answered with
	// "ERR max concurrent connections exceeded" and closed. Default 0: 10,000, the default of Redis,
	// with the error text of Redis.
	MaxConnections int `json:"max_connections"`

	// MonthlyCommands is the number of billed commands, counted from Start and never reset. Once
	// spent, billed commands are refused with "ERR max requests limit exceeded. …" and free ones
	// still work. In-script commands are billed, and so is the call of the script; a script that has
	// begun runs to its end, so usage can exceed the limit a little. Default 0: no quota.
	MonthlyCommands int64 `json:"monthly_commands"`

	// Latency is added once to what a client sends together, as a longer way to the server would.
	// Default 0.
	Latency time.Duration `json:"-"`
}

func (o Options) withDefaults() Options {
	if o.Addr == "" {
		o.Addr = "127.0.0.1:0"
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if err := checkLoopback(o.Addr); err != nil {
		errs = append(errs, err)
	}
	if o.Plan.MaxConnections < 0 {
		errs = append(errs, fmt.Errorf("plan.max_connections: got %d, want 0 (no limit) or more", o.Plan.MaxConnections))
	}
	if o.Plan.MonthlyCommands < 0 {
		errs = append(errs, fmt.Errorf("plan.monthly_commands: got %d, want 0 (no quota) or more", o.Plan.MonthlyCommands))
	}
	if o.Plan.Latency < 0 || o.Plan.Latency > time.Minute {
		errs = append(errs, fmt.Errorf("plan.latency: got %s, want 0 to 1m", o.Plan.Latency))
	}
	if o.DataDir != "" && (o.Plan.MaxConnections != 0 || o.Plan.MonthlyCommands != 0 || o.Plan.Latency != 0) {
		errs = append(errs, errors.New("plan: cannot be simulated together with a data directory, where a real redis-server runs; leave one of them out"))
	}
	return errors.Join(errs...)
}

// checkLoopback says why addr is not one to listen on.
func checkLoopback(addr string) error {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: want host:port such as 127.0.0.1:0", addr)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 0 || n > 65535 {
		return fmt.Errorf("address %q: port is not a number from 0 (a free one) to 65535", addr)
	}
	if strings.EqualFold(host, "localhost") {
		return nil
	}
	if ip, err := netip.ParseAddr(host); err == nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("address %q: the embedded Redis has no password, so it listens on loopback only; use 127.0.0.1:%s, or run a real Redis for other hosts", addr, port)
}

// A Server is one embedded Redis that runs. Its methods may be called from any goroutine.
type Server struct {
	opts  Options
	mem   *memory // nil with a data directory
	child *child  // nil without one
}

// Start starts an embedded Redis and returns when it accepts connections. ctx bounds the start only;
// Close ends the server.
func Start(ctx context.Context, opts Options) (*Server, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	s := &Server{opts: opts}
	var err error
	if opts.DataDir != "" {
		s.child, err = startChild(ctx, opts.Addr, opts.DataDir)
	} else {
		s.mem, err = startMemory(ctx, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("embedded redis: %w", err)
	}
	return s, nil
}

// Addr is where the server listens: host:port with a loopback host.
func (s *Server) Addr() string {
	if s.child != nil {
		return s.child.addr
	}
	return s.mem.addr
}

// URL is the server's address as a redis:// URL.
func (s *Server) URL() string { return "redis://" + s.Addr() }

// Volatile is true when everything is lost on Close.
func (s *Server) Volatile() bool { return s.mem != nil }

// DialFrom opens a connection that CLIENT LIST shows as coming from addr, an IP address and port that
// need not exist: a simulated client of another host. It is in memory and takes no port. The caller
// closes it; Close of the server does so too. With a data directory it is an error.
func (s *Server) DialFrom(addr string) (net.Conn, error) {
	if s.mem == nil {
		return nil, errors.New("embedded redis: a real redis-server cannot be reached from a simulated address; connect to Addr")
	}
	from, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, fmt.Errorf("embedded redis: simulated address %q: want ip:port", addr)
	}
	return s.mem.dialFrom(from)
}

// Billed is the number of commands that a provider who bills in-script commands would have charged
// since Start, simulated plan or not. It is 0 with a data directory, where nothing is simulated.
func (s *Server) Billed() int64 {
	if s.mem == nil {
		return 0
	}
	return s.mem.quota.used.Load()
}

// InScript is the number of commands that scripts have run since Start, refused ones included. They are
// counted before the script's reply is written. It is 0 with a data directory.
func (s *Server) InScript() int64 {
	if s.mem == nil {
		return 0
	}
	return s.mem.stats.inScript.Load()
}

// Close stops the server and returns when nothing of it is left: no goroutine, no connection, no
// process. With a data directory the redis-server gets SIGTERM and writes what it has to disk.
// Closing twice does nothing.
func (s *Server) Close() error {
	if s.child != nil {
		return s.child.close()
	}
	s.mem.close()
	return nil
}
