package main

import (
	"context"
	"errors"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// lookAmong looks where t stands, one of several migrations of which none was named. What is wrong with t's
// journal alone keeps nobody from going on with the others: it is in the Err of what is returned, with what to
// do about it. An error is what would meet all of them.
func (a *app) lookAmong(ctx context.Context, up *upstream.Upstream, t migrate.Target, dir string) (migrate.Standing, error) {
	s, err := migrate.Look(ctx, up.Client(), migrate.SessionOptions{Target: t, StateDir: dir})
	if err != nil {
		err = a.migrationHint(err, t)
		if ctx.Err() != nil || !ofOneJournal(err) {
			return s, err
		}
		s.State, s.Err = migrate.State{Steps: []migrate.StepState{}}, err
	}
	return s, remember(&s, dir, up)
}

// ofOneJournal is whether err can be about one migration only, and not about the Redis that all of them are in.
func ofOneJournal(err error) bool {
	class := upstreamClass(err)
	return class == upstream.None || class == upstream.Server
}

// unread joins what keeps the journals of all from being read, nil when nothing does.
func unread(all []migrate.Standing) error {
	var errs []error
	for _, s := range all {
		errs = append(errs, s.Err)
	}
	return errors.Join(errs...)
}

// noteUnread tells which of all are left out, why, and what to do about each.
func (a *app) noteUnread(all []migrate.Standing) {
	for _, s := range all {
		if why, hint := unreadText(s); why != "" {
			a.note("%s is left out: %s", s.Target, why)
			if hint != "" {
				a.note("%s: %s", s.Target, hint)
			}
		}
	}
}

// unreadText is why the journal of s cannot be read and what to do about it, both empty when it was read.
func unreadText(s migrate.Standing) (why, hint string) {
	if s.Err == nil {
		return "", ""
	}
	var h hinter
	if errors.As(s.Err, &h) {
		hint = h.hint()
	}
	return s.Err.Error(), hint
}
