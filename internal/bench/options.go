package bench

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// An Operation is what is measured: one request, begun now and over when it returns. It is called from
// many goroutines at once. What it learned of where its time went it leaves in span, which is never nil.
// An error that wraps ErrLimited means that the target answered and refused for being asked too often.
type Operation func(ctx context.Context, span *Span) error

// A Span is where the time of one operation went, as far as the operation can tell; 0 is unknown or none.
type Span struct {
	Connect time.Duration // opening a connection
	TLS     time.Duration // its handshake
	Server  time.Duration // from the last byte sent to the first received
}

// ErrLimited means that the target refused because it was asked too often: HTTP 429, a denied check. Such
// answers are counted apart from errors, and their latencies are not recorded.
var ErrLimited = errors.New("refused: too many requests")

// Options say how to run an operation. The zero value runs it 50 times a second for 10 seconds, after a
// second of warming up.
type Options struct {
	// Pace says when operations start. Ignored by a closed loop, except for its Duration.
	Pace Pace

	// Closed, when not 0, makes a closed loop of so many callers, each of which begins its next operation
	// when the last has ended. Its latencies leave out what did not start while the target was slow.
	Closed int

	// WarmUp is for how long operations run, at the first rate, before anything is recorded. Default 1 s;
	// negative: none.
	WarmUp time.Duration

	// InFlight is the most operations under way at once. Further ones wait, and their latency counts from
	// when they should have started. Default 512; at most 100,000.
	InFlight int

	// Timeout ends one operation. Default 5 s.
	Timeout time.Duration

	// Slice is the length of the parts by which a run is looked at over time. Default 1 s; it is doubled
	// as often as need be to keep at most 600.
	Slice time.Duration

	// Stop, when not nil, is asked before each operation; an error ends the run early and is its Stopped.
	// It must not block.
	Stop func() error

	// Class names an error in Result.Errors; default: "timeout" or "error".
	Class func(error) string

	// OnBegin, when not nil, is called when warming up is over and recording begins; nothing is under way
	// then.
	OnBegin func()

	// OnProgress, when not nil, is called about once a second and at the end, from one goroutine that Run waits for.
	OnProgress func(Progress)

	// wait is how a moment is waited for; tests in made-up time have another one.
	wait func(ctx context.Context, at time.Time)
}

// Progress is how far a run is.
type Progress struct {
	WarmingUp     bool
	Elapsed       time.Duration // since recording began
	Of            time.Duration
	Started, Done int64
	Errors        int64
}

func (o Options) withDefaults() Options {
	o.Pace = o.Pace.withDefaults()
	if o.WarmUp == 0 {
		o.WarmUp = time.Second
	}
	if o.InFlight == 0 {
		o.InFlight = 512
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	if o.Slice == 0 {
		o.Slice = time.Second
	}
	if o.wait == nil {
		o.wait = wait
	}
	if o.Class == nil {
		o.Class = func(err error) string {
			if errors.Is(err, context.DeadlineExceeded) {
				return "timeout"
			}
			return "error"
		}
	}
	return o
}

// Validate reports all that is wrong with o, so that it can be said before a target is prepared.
func (o Options) Validate() error { return o.withDefaults().validate() }

func (o Options) validate() error {
	errs := []error{o.Pace.validate()}
	if o.Closed < 0 || o.Closed > 100_000 {
		errs = append(errs, fmt.Errorf("closed loop: got %d callers, want 1 to 100000", o.Closed))
	}
	if o.InFlight < 1 || o.InFlight > 100_000 {
		errs = append(errs, fmt.Errorf("in flight: got %d, want 1 to 100000", o.InFlight))
	}
	if o.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("timeout: got %s, want at least 1ms", o.Timeout))
	}
	if o.Slice < time.Millisecond {
		errs = append(errs, fmt.Errorf("slice: got %s, want at least 1ms", o.Slice))
	}
	return errors.Join(errs...)
}
