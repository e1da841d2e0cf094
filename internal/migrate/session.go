package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/user"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/journal"
)

// SessionOptions say which migration to open.
type SessionOptions struct {
	// Target is what is migrated. Required.
	Target Target

	// StateDir is the directory that keeps the local journals. Required; made when missing.
	StateDir string

	// Owner is who asks, as others are told. Default Owner().
	Owner string

	// LeaseTTL is how long the lease outlives its last renewal. Default 30 seconds; at least 1 second.
	LeaseTTL time.Duration

	// LeaseRest is the same while nothing moves. Default 20 minutes; at least LeaseTTL. A process that is killed
	// then keeps those out for as long who do not share its state directory and do not unlock it by force.
	LeaseRest time.Duration
}

func (o SessionOptions) withDefaults() SessionOptions {
	if o.Owner == "" {
		o.Owner = Owner()
	}
	return o
}

func (o SessionOptions) validate() error {
	var dir error
	if o.StateDir == "" {
		dir = errors.New("state directory: got none")
	}
	return errors.Join(o.Target.validate(), dir)
}

// A Standing is what can be known of a migration without taking part in it.
type Standing struct {
	Target  Target          `json:"target"`
	State   State           `json:"state"`
	Holder  *Holder         `json:"holder"` // nil when nobody works on it, or is known to be gone
	Pulse   *Pulse          `json:"pulse,omitempty"`
	Intents []Intent        `json:"intents"`
	Entries []journal.Entry `json:"-"`

	// Err is why the journal cannot be read, where whoever looked goes on with other migrations all the same; nil
	// when it was read. With it there is no State.
	Err error `json:"-"`

	// Emergency is a way back without the Redis of which the journal does not know yet, where whoever
	// looked knows of one; nil without.
	Emergency *Emergency `json:"emergency,omitempty"`
}

// Held returns a *HeldError when somebody works on the migration, and nil when nobody does.
func (s Standing) Held() error {
	if s.Holder == nil {
		return nil
	}
	return &HeldError{Key: s.Target.LeaseKey(), Owner: s.Holder.Owner, Expires: s.Holder.Expires}
}

// Look reads where a migration stands. It writes nothing, neither to Redis nor to disk, and needs no
// lease. Price: 5 commands, 6 while somebody holds the lease; 2 in a database that never saw a migration.
func Look(ctx context.Context, client redis.UniversalClient, opts SessionOptions) (Standing, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return Standing{}, err
	}
	out := Standing{Target: opts.Target, Intents: []Intent{}}
	id, err := databaseID(ctx, client)
	if err != nil {
		return out, err
	}
	if out.Holder, err = Holding(ctx, client, opts.Target.LeaseKey()); err != nil {
		return out, err
	}
	if id != "" && out.Holder != nil && gone(alivePath(opts.StateDir, id, opts.Target.LeaseKey()), out.Holder.token) {
		out.Holder = nil
	}
	if id != "" {
		out.Entries, err = journal.Read(ctx, journal.Options{
			Path: opts.Target.file(opts.StateDir, id), Client: client, Key: opts.Target.JournalKey(),
		})
		if err != nil {
			return out, err
		}
		wishes, err := ReadWishes(ctx, client, opts.Target, time.Now())
		if err != nil {
			return out, err
		}
		out.Pulse, out.Intents = wishes.Pulse, wishes.List()
	}
	out.State, err = ReadState(out.Entries)
	return out, err
}

// A Session is the right to work on one migration: its lease and its journal.
type Session struct {
	Lease   *Lease
	Journal *journal.Journal

	// Readings is the path of the file for what is seen of the migration's jobs; see Target.Readings.
	Readings string

	alive *aliveFile // nil when it could not be had
}

// OpenSession takes the lease and opens the journal, in this order, because opening brings the two
// copies of the journal together. It returns a *HeldError while somebody else works on it; the lease of a
// process that shared the state directory and is gone is taken over. The caller goes on with Run at once,
// which gives everything back.
//
// Price: 5 commands and 3 in a script, 1 more the first time in a database, 6 more to take over, and what
// journal.Open says.
func OpenSession(ctx context.Context, client redis.UniversalClient, opts SessionOptions) (*Session, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	lease, err := takeLease(ctx, client, opts)
	if err != nil {
		return nil, err
	}
	id, err := giveID(ctx, client)
	if err != nil {
		return nil, errors.Join(err, lease.release(ctx))
	}
	j, err := openJournal(ctx, client, opts, id, lease)
	if err != nil {
		return nil, errors.Join(err, lease.release(ctx))
	}
	// Without the file the lease is a lease all the same; only its end has to be waited for after a crash.
	alive, _ := sayAlive(ctx, alivePath(opts.StateDir, id, lease.Key()), lease.Token())
	return &Session{Lease: lease, Journal: j, Readings: opts.Target.Readings(opts.StateDir, id), alive: alive}, nil
}

// takeLease takes the lease of a migration, also from a process that is known to be gone.
func takeLease(ctx context.Context, client redis.UniversalClient, opts SessionOptions) (*Lease, error) {
	want := LeaseOptions{
		Key: opts.Target.LeaseKey(), Counter: opts.Target.counterKey(), Owner: opts.Owner, TTL: opts.LeaseTTL, Rest: opts.LeaseRest,
	}
	lease, err := Acquire(ctx, client, want)
	if _, held := errors.AsType[*HeldError](err); !held {
		return lease, err
	}
	id, idErr := databaseID(ctx, client)
	if idErr != nil || id == "" {
		return nil, errors.Join(err, idErr)
	}
	shown, holdErr := Holding(ctx, client, want.Key)
	if holdErr != nil || shown != nil && !gone(alivePath(opts.StateDir, id, want.Key), shown.token) {
		return nil, errors.Join(err, holdErr)
	}
	if shown != nil {
		if _, err := ForceUnlock(ctx, client, want.Key, *shown); err != nil {
			return nil, err
		}
	}
	return Acquire(ctx, client, want)
}

func openJournal(ctx context.Context, client redis.UniversalClient, opts SessionOptions, id string, lease *Lease) (*journal.Journal, error) {
	if err := register(ctx, client, opts.Target); err != nil {
		return nil, err
	}
	return journal.Open(ctx, journal.Options{
		Path: opts.Target.file(opts.StateDir, id), Client: client, Key: opts.Target.JournalKey(),
		Fence: journal.Fence{Key: lease.Key(), Token: lease.Token()},
	})
}

// Run calls work while the lease is kept, then closes the journal and gives the lease back. See Hold for
// what happens when the lease is lost.
func (s *Session) Run(ctx context.Context, work func(context.Context) error) error {
	err := s.Lease.Hold(ctx, work)
	return errors.Join(err, s.Journal.Close(), s.alive.close())
}

// Owner is how this process is called to others: user@host pid.
func Owner() string {
	name, host := "unknown", "unknown"
	if u, err := user.Current(); err == nil && u.Username != "" {
		name = u.Username
	}
	if h, err := os.Hostname(); err == nil && h != "" {
		host = h
	}
	return fmt.Sprintf("%s@%s %d", name, host, os.Getpid())
}

// Checkpoint is the last checkpoint of the named step in the last run, nil when there is none.
func (s Standing) Checkpoint(step string) json.RawMessage {
	if st := s.State.step(step); st != nil {
		return st.Checkpoint
	}
	return nil
}

// Mark is how far the named step is.
func (s Standing) Mark(step string) Mark {
	if st := s.State.step(step); st != nil {
		return st.Mark
	}
	return Pending
}
