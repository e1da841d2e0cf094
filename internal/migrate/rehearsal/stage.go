package rehearsal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue/cron"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A Stage is where migrations are walked: an embedded Redis, a second one for the new side of phase 1, and
// a directory for backups. It is for one goroutine.
type Stage struct {
	// Old is the Redis that has the copy, and New the side that phase 1 goes to.
	Old, New *upstream.Upstream

	// Callers are the ways of phase 1's callers to the two sides, so that what they send is not taken for
	// what the migration costs. Nil: Old and New themselves.
	Callers [2]*upstream.Upstream

	// Dir is where a backup is kept.
	Dir string

	owned []func() error
}

// OpenStage starts two embedded Redises and makes a directory of its own. Close ends them.
func OpenStage(ctx context.Context) (*Stage, error) {
	s := &Stage{}
	err := s.open(ctx)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start an embedded Redis: %w", err), s.Close())
	}
	return s, nil
}

func (s *Stage) open(ctx context.Context) error {
	for i, side := range []**upstream.Upstream{&s.Old, &s.New} {
		server, err := embedded.Start(ctx, embedded.Options{Plan: embedded.Plan{Name: "rehearsal, unlimited"}})
		if err != nil {
			return err
		}
		s.owned = append(s.owned, server.Close)
		for who, up := range map[meter.Component]**upstream.Upstream{meter.Migrate: side, meter.Cache: &s.Callers[i]} {
			one, err := upstream.Open(ctx, upstream.Options{URL: server.URL(), Component: who, ClientName: "redisopt-rehearsal", Timeout: patience})
			if err != nil {
				return err
			}
			s.owned = append(s.owned, one.Close)
			*up = one
		}
	}
	dir, err := os.MkdirTemp("", "redisopt-rehearsal")
	if err != nil {
		return err
	}
	s.Dir = dir
	s.owned = append(s.owned, func() error { return os.RemoveAll(dir) })
	return nil
}

// Close ends what OpenStage started; nothing where the stage is somebody else's.
func (s *Stage) Close() error {
	var errs []error
	for _, end := range slices.Backward(s.owned) {
		errs = append(errs, end())
	}
	s.owned = nil
	return errors.Join(errs...)
}

// callers are the clients of phase 1's callers.
func (s *Stage) callers() (old, next redis.UniversalClient) {
	old, next = s.Old.Client(), s.New.Client()
	if s.Callers[0] != nil {
		old = s.Callers[0].Client()
	}
	if s.Callers[1] != nil {
		next = s.Callers[1].Client()
	}
	return old, next
}

// load makes keys all that both sides have: the old one these keys, the new one nothing.
func (s *Stage) load(ctx context.Context, keys []capture.Key, age time.Duration) error {
	for _, side := range []*upstream.Upstream{s.Old, s.New} {
		if err := side.Client().FlushAll(ctx).Err(); err != nil {
			return fmt.Errorf("empty the stage: %w", err)
		}
	}
	return capture.Restore(ctx, s.Old.Client(), shorter(keys, age))
}

// dump is everything on the old side but what redisopt keeps for itself while it migrates.
func (s *Stage) dump(ctx context.Context) ([]capture.Key, error) {
	client, _ := s.callers() // looking is no part of what a migration costs
	all, err := capture.Dump(ctx, client, "*")
	if err != nil {
		return nil, err
	}
	kept := all[:0]
	for _, k := range all {
		if !accounts(k.Name) {
			kept = append(kept, k)
		}
	}
	return kept, nil
}

// accounts is whether a key is an account of a migration, or of redisopt serve beside it, and no key of the
// application: it is there while the migration is, and gone with it.
func accounts(name string) bool {
	return step.Account(name) || slices.ContainsFunc([]string{control.DefaultKey, cron.DefaultKey, ownPrefix}, func(prefix string) bool {
		return strings.HasPrefix(name, prefix)
	})
}
