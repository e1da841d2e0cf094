package commands

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Options of an audit. The zero value works.
type Options struct {
	// Window is how long is measured. Default 1 minute; at least 1 second. A timer longer than the
	// window may not fire in it and is then reported as not seen, not as absent.
	Window time.Duration

	// Provider names the price profile: "upstash-free", "upstash-payg", "upstash-fixed" or "none".
	// Default: Upstash's free plan on Upstash, "none" elsewhere.
	Provider string

	// Budget is the number of billed commands per 30 days to compare with. Default 500,000, what
	// Upstash's free plan includes.
	Budget int64

	// Deep also asks each queue whether something is delayed, which keeps an idle BullMQ worker polling
	// every 10 seconds: one ZCARD per queue.
	Deep bool

	// OwnName is the connection name, or the beginning of it, that our own clients use.
	// Default "redisopt".
	OwnName string

	// Progress, when not nil, is called about once a second with how much of the window has passed.
	Progress func(elapsed, window time.Duration)
}

func (o Options) withDefaults() Options {
	if o.Window == 0 {
		o.Window = time.Minute
	}
	if o.Budget == 0 {
		o.Budget = freeCommands
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Window < time.Second {
		errs = append(errs, fmt.Errorf("window: got %s, want at least 1s", o.Window))
	}
	if o.Budget < 0 {
		errs = append(errs, fmt.Errorf("budget: got %d, want 0 or more", o.Budget))
	}
	if _, ok := providerByName(o.Provider); o.Provider != "" && !ok {
		errs = append(errs, fmt.Errorf("provider: got %q, want one of %s", o.Provider, strings.Join(Providers(), ", ")))
	}
	return errors.Join(errs...)
}
