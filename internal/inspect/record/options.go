package record

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// Limits of what a Recorder keeps.
const (
	defaultMaxRows = 4096
	maxNameBytes   = 256 // of a test, a source, a client
)

// Options say where to listen and what to record in front of. Dial is required.
type Options struct {
	// Listen is host:port to listen on, with a loopback host. Default "127.0.0.1:0", a free port.
	Listen string

	// Dial makes a connection to the Redis that is ready for commands: clients need no password and
	// what they send as one is not passed on. Required. It is called once per client.
	Dial func(ctx context.Context) (net.Conn, error)

	// InScript is how many commands scripts have run on the Redis since its start. Given, scripts are
	// passed on one at a time and each is charged what it ran; the Redis must serve nobody else then.
	// Nil: what scripts run is not known.
	InScript func() int64

	// Provider says what is billed. The zero value bills every command that is sent.
	Provider Provider

	// MaxCommands is how many commands are passed on; every further one is answered with an error.
	// Default 0: no limit.
	MaxCommands int64

	// MaxRows bounds each table of the report. Default 4096, at least 16.
	MaxRows int

	// Top is how many rows of commands, prefixes, scripts and clients the report shows. Default 50.
	Top int
}

// A Provider is how the plan that is asked about counts.
type Provider struct {
	// Name is the provider's in the catalogue of plans. Empty: every command counts, and scripts count
	// as one.
	Name string `json:"name"`

	// BillsInScript says that what a script runs is counted besides the script.
	BillsInScript bool `json:"bills_in_script"`

	// Free are the commands that nobody counts, in lower case and without a subcommand.
	Free []string `json:"free_commands"`

	// AsOf is the date of these facts.
	AsOf string `json:"as_of,omitempty"`
}

func (o Options) withDefaults() Options {
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	if o.MaxRows == 0 {
		o.MaxRows = defaultMaxRows
	}
	if o.Top == 0 {
		o.Top = 50
	}
	if o.Provider.Free == nil {
		o.Provider.Free = []string{}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Dial == nil {
		errs = append(errs, errors.New("dial: missing"))
	}
	host, _, err := net.SplitHostPort(o.Listen)
	if err != nil {
		errs = append(errs, fmt.Errorf("listen: got %q, want host:port such as 127.0.0.1:0", o.Listen))
	} else if ip, err := netip.ParseAddr(host); !strings.EqualFold(host, "localhost") && (err != nil || !ip.IsLoopback()) {
		errs = append(errs, fmt.Errorf("listen: got %q, want a loopback address: who connects needs no password", o.Listen))
	}
	if o.MaxCommands < 0 {
		errs = append(errs, fmt.Errorf("max_commands: got %d, want 0 (no limit) or more", o.MaxCommands))
	}
	if o.MaxRows < 16 {
		errs = append(errs, fmt.Errorf("max_rows: got %d, want 16 or more", o.MaxRows))
	}
	if o.Top < 1 {
		errs = append(errs, fmt.Errorf("top: got %d, want 1 or more", o.Top))
	}
	return errors.Join(errs...)
}

// A ListenError means that the recorder's address cannot be listened on.
type ListenError struct {
	Addr string // host:port
	Err  error
}

// Error says which address and why.
func (e *ListenError) Error() string { return fmt.Sprintf("listen on %s: %v", e.Addr, e.Err) }

// Unwrap is why.
func (e *ListenError) Unwrap() error { return e.Err }

// now is the clock; times in a report are UTC.
func now() time.Time { return time.Now().UTC() }
