package connections

import (
	"errors"
	"fmt"
	"time"
)

// Options of an audit. The zero value works.
type Options struct {
	// Limit is the number of connections the plan allows. Default 0: the server's own maxclients.
	Limit int

	// Max is the gate: more connections than this, ours not counted, is a critical finding.
	// Default 0: no gate.
	Max int

	// Deep also looks up which BullMQ version opened each queue: one HGET per BullMQ queue.
	Deep bool

	// Paused names the queues that phase 2 would pause and close. Default none: phase 2 then closes
	// nothing, for a paused queue keeps its connections.
	Paused []string

	// Counters reads INFO all instead of INFO, so that Report.Counters has the command counters of the very
	// moment of the list. It costs no further command.
	Counters bool

	// OwnName is the connection name, or the beginning of it, that our own clients use.
	// Default "redisopt". The connection that asks is always recognised, by CLIENT ID.
	OwnName string

	// ZombieAfter is how long a connection that neither blocks nor subscribes may be idle before it is
	// worth a note. Default 1 hour; at least 1 minute.
	ZombieAfter time.Duration
}

func (o Options) withDefaults() Options {
	if o.OwnName == "" {
		o.OwnName = "redisopt"
	}
	if o.ZombieAfter == 0 {
		o.ZombieAfter = time.Hour
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Limit < 0 {
		errs = append(errs, fmt.Errorf("limit: got %d, want 0 or more", o.Limit))
	}
	if o.Max < 0 {
		errs = append(errs, fmt.Errorf("max: got %d, want 0 or more", o.Max))
	}
	if o.ZombieAfter < time.Minute {
		errs = append(errs, fmt.Errorf("zombie after: got %s, want at least 1m", o.ZombieAfter))
	}
	return errors.Join(errs...)
}
