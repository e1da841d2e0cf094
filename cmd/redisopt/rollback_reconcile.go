package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// noteEmergency keeps what an emergency did where the journals are, since the journal itself is in the Redis
// that cannot be asked. It returns the file.
func (a *app) noteEmergency(ctx context.Context, conf *config.Config, reason string, said []replica.Answer[replica.Ramp]) (string, error) {
	dir, err := a.migrationDir(conf)
	if err != nil {
		return "", err
	}
	opts, ok := sidecar.TCPOptions(conf)
	if !ok {
		return "", errors.New("no Redis over TCP is configured, so it is not known whose journal it belongs to")
	}
	opts.Component, opts.Meter, opts.ReadOnly, opts.Lazy = meter.Migrate, meter.New(), true, true
	up, err := upstream.Open(ctx, opts) // connects to nothing
	if err != nil {
		return "", err
	}
	e := migrate.Emergency{Phase: step.Phase1Name, Upstream: up.Addr(), At: a.now(), Reason: reason, Replicas: []migrate.EmergencyReplica{}}
	for _, one := range said {
		r := migrate.EmergencyReplica{URL: one.URL, Done: one.Err == nil}
		if one.Err != nil {
			r.Error = one.Err.Error()
		}
		e.Replicas = append(e.Replicas, r)
	}
	file, err := migrate.NoteEmergency(dir, e)
	return file, errors.Join(err, up.Close())
}

// remember adds to s the emergency of which its journal does not know yet.
func remember(s *migrate.Standing, dir string, up *upstream.Upstream) error {
	if s.Target.Phase != step.Phase1Name {
		return nil
	}
	var err error
	s.Emergency, err = migrate.LastEmergency(dir, s.Target.Phase, up.Addr())
	return err
}

// afterEmergency refuses to go forward while an emergency is not rolled back in the ordinary way: the next
// change of the control document would put keys to the new side again.
func afterEmergency(s migrate.Standing) error {
	if s.Emergency == nil {
		return nil
	}
	return withHint(verdictf(exitBlocked, "%s; the journal does not know of it yet", s.Emergency),
		"when the emergency is over: redisopt rollback phase1, then begin again")
}

// whyBack is why a migration is rolled back, for the journal: what was asked for, and the emergency before it.
func whyBack(s migrate.Standing, reason string) error {
	switch {
	case s.Emergency != nil && reason != "":
		return fmt.Errorf("%s; %s", reason, s.Emergency)
	case s.Emergency != nil:
		return errors.New(s.Emergency.String())
	case reason != "":
		return errors.New(reason)
	}
	return nil
}

// reconcile notes that the journal knows of the emergency by now.
func (a *app) reconcile(s migrate.Standing, dir string, up *upstream.Upstream) error {
	if s.Emergency == nil || a.flags.dryRun {
		return nil
	}
	if err := migrate.ReconcileEmergency(dir, s.Target.Phase, up.Addr()); err != nil {
		return fmt.Errorf("note that the emergency is over: %w", err)
	}
	a.note("the emergency is over: the journal knows of it")
	return nil
}
