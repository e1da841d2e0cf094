package control

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Defaults of Options.
const (
	// DefaultKey is where the document is. Its name with ":changed" behind it is the bell's channel.
	DefaultKey = "redisopt:control"

	// DefaultSweep is how often a replica looks without having been told: 120 commands in a 30-day
	// month for each replica.
	DefaultSweep = 6 * time.Hour

	// DefaultTimeout is how long one reading or one change may take.
	DefaultTimeout = 5 * time.Second
)

// A Feed is one subscription to the bell.
type Feed struct {
	// Rings receives once for every message. When it is closed the feed is over.
	Rings <-chan []byte

	// Gaps receives when messages may have been missed, after a reconnect.
	Gaps <-chan struct{}

	// Close ends the feed; it is called once.
	Close func()
}

// Options say where the document is kept. Client is required.
type Options struct {
	// Client reaches the Redis that holds the document. It need not be up. Required.
	Client redis.UniversalClient

	// Subscribe opens the bell for one channel. Without it changes are found by the sweep alone.
	Subscribe func(ctx context.Context, channel string) (Feed, error)

	// StateDir is the directory in which the last document and the override are kept, made with mode
	// 0700 if need be. Empty means that nothing survives a restart.
	StateDir string

	// Key is the document's key. Default DefaultKey. Give each environment that shares a Redis one of
	// its own.
	Key string

	// Sweep is the time between two readings that nobody asked for. Default DefaultSweep; at least 1
	// minute. A month of it costs 30 days divided by Sweep, in commands, for each replica.
	Sweep time.Duration

	// Timeout bounds one reading or one change. Default DefaultTimeout.
	Timeout time.Duration

	// InScript is told of commands that a script ran on the server; may be nil.
	InScript func(command string, n int64)

	// Failed is told of every reading and every write to disk that did not succeed; may be nil. It is
	// called without a lock held and must return soon.
	Failed func(error)
}

func (o Options) withDefaults() Options {
	if o.Key == "" {
		o.Key = DefaultKey
	}
	if o.Sweep == 0 {
		o.Sweep = DefaultSweep
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.InScript == nil {
		o.InScript = func(string, int64) {}
	}
	if o.Failed == nil {
		o.Failed = func(error) {}
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("client: missing"))
	}
	if len(o.Key) > 512 {
		errs = append(errs, fmt.Errorf("key: %d bytes long, want at most 512", len(o.Key)))
	}
	if o.Sweep < time.Minute {
		errs = append(errs, fmt.Errorf("sweep: got %s, want at least 1m", o.Sweep))
	}
	if o.Timeout < time.Millisecond {
		errs = append(errs, fmt.Errorf("timeout: got %s, want at least 1ms", o.Timeout))
	}
	return errors.Join(errs...)
}

// Source says where the document in force came from.
type Source string

// The sources.
const (
	FromNowhere  Source = "none"     // no document was ever seen
	FromUpstream Source = "upstream" // read, or written, by this process
	FromDisk     Source = "disk"     // the last one seen before a restart
	FromOverride Source = "override" // set on this replica alone
)

// A State is the document in force and how much it can be relied on.
type State struct {
	// Document is the one in force.
	Document Document

	// Source is where it came from.
	Source Source

	// Confirmed is when the upstream was last read; zero when it never was.
	Confirmed time.Time

	// Err is why it may not be the newest: the last reading failed, the upstream has lost the
	// document, or the file on disk is damaged. Nil when all is well.
	Err error
}

// A Control follows the document. Its methods may be called from several goroutines.
type Control struct {
	opts Options
	disk disk

	updating sync.Mutex // one change at a time

	mu        sync.Mutex
	stored    Document  // the last one the upstream was seen to hold
	override  *Document // nil when there is none
	source    Source    // of stored
	confirmed time.Time
	readErr   error
	diskErr   error
	seen      int64         // the epoch that the upstream was last seen to hold, 0 for none
	changed   chan struct{} // closed and replaced when the document in force changes
}

// Open reads what the last run left in StateDir, and nothing else: it sends no command, and works
// while the upstream is down. A damaged file is no error but State's Err; one that a newer program
// wrote is a *SchemaError.
func Open(o Options) (*Control, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("control: %w", err)
	}
	c := &Control{opts: o, disk: disk{dir: o.StateDir}, source: FromNowhere, changed: make(chan struct{})}
	if o.StateDir == "" {
		return c, nil
	}
	k, err := c.disk.load()
	if newer, ok := errors.AsType[*SchemaError](err); ok {
		return nil, newer
	}
	c.diskErr = err // then k is empty
	c.stored, c.override = k.Stored.normal(), k.Override
	if k.Stored.Epoch > 0 {
		c.source = FromDisk
	}
	return c, nil
}

// Current is the document in force: the override if there is one, else the last one that the upstream
// was seen to hold, else the zero Document. It sends nothing. The result is the caller's own.
func (c *Control) Current() Document { return c.State().Document }

// State is the document in force and where it came from. It sends nothing.
func (c *Control) State() State {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := State{Document: c.stored.Clone(), Source: c.source, Confirmed: c.confirmed, Err: errors.Join(c.readErr, c.diskErr)}
	if c.override != nil {
		s.Document, s.Source = c.override.Clone(), FromOverride
	}
	return s
}

// Changed is closed at the next change of the document in force. Take it before Current, so that no
// change falls between the two.
func (c *Control) Changed() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.changed
}

// announce wakes those who wait for a change. c.mu is held.
func (c *Control) announce() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// Override puts d in force on this replica alone, at once and also while the upstream is down, and
// keeps it on disk. It holds until the upstream is seen to hold an epoch higher than d's; d's own epoch
// is raised to the highest this replica knows, so that what is already known does not end it. It sends
// nothing.
//
// An error that wraps a failure of the disk means that d is in force but does not survive a restart;
// any other that it is not in force.
func (c *Control) Override(d Document) error {
	if err := d.Validate(); err != nil {
		return fmt.Errorf("control: %w", err)
	}
	d = d.normal()
	c.mu.Lock()
	d.Schema = Schema
	d.Epoch = max(d.Epoch, c.stored.Epoch)
	c.override = &d
	c.announce()
	err := c.save()
	c.mu.Unlock()
	if err != nil {
		return fmt.Errorf("the override is in force until this process ends, but is not kept: %w", err)
	}
	return nil
}

// EndOverride puts the upstream's document in force again, and reports whether there was an override.
func (c *Control) EndOverride() (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.override == nil {
		return false, nil
	}
	c.override = nil
	c.announce()
	return true, c.save()
}

// save writes what must survive. c.mu is held: the file must not go back to an older state.
func (c *Control) save() error {
	if c.opts.StateDir == "" {
		return nil
	}
	c.diskErr = c.disk.save(kept{Stored: c.stored, Override: c.override})
	return c.diskErr
}

// take makes d the last one seen at the upstream. One with a lower epoch than is known, from a replica
// behind or a restored backup, is not taken: the next change goes above both.
func (c *Control) take(d Document, now time.Time) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.confirmed, c.readErr, c.seen = now, nil, d.Epoch
	if d.Epoch < c.stored.Epoch {
		c.readErr = fmt.Errorf("control: %s holds epoch %d, but %d was seen before; the newer one stays in force", c.opts.Key, d.Epoch, c.stored.Epoch)
		return nil
	}
	before := c.source
	c.source = FromUpstream
	ends := c.override != nil && d.Epoch > c.override.Epoch
	if d.same(c.stored) && !ends && c.diskErr == nil {
		if before != FromUpstream && before != FromDisk {
			return c.save()
		}
		return nil
	}
	differs := !d.same(c.stored)
	c.stored = d
	if ends {
		c.override = nil
	}
	if ends || differs && c.override == nil {
		c.announce()
	}
	return c.save()
}
