package sidecar

import (
	"math/rand/v2"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// openRamp makes the way of the cache between the two sides.
func (w *world) openRamp() (*ramp.Client, error) {
	return ramp.NewClient(ramp.ClientOptions{
		Route: ramp.Cache, Old: w.engines.As(meter.Cache), New: w.next.As(meter.Cache),
		Router: w.router, Ledger: w.ledger, SameDatabase: w.conf.Ramp.SameDatabase,
	})
}

// holds is the upstream where a key of the cache is now.
func (w *world) holds(key string) interface {
	AddInScript(c meter.Component, command string, n int64)
} {
	if w.ramp != nil && w.ramp.OnNew(key) {
		return w.next
	}
	return w.engines
}

// otherSide is where subjects of limits move to; nil without a second upstream.
func (w *world) otherSide() *limit.Other {
	if w.next == nil {
		return nil
	}
	up := w.next
	return &limit.Other{
		Client:       up.As(meter.RateLimit),
		InScript:     func(command string, n int64) { up.AddInScript(meter.RateLimit, command, n) },
		Takes:        func(subject string) bool { return w.router.New(ramp.Limit, subject) },
		Carries:      func(subject string) bool { return w.router.Mirrored(ramp.Limit, subject) },
		Left:         w.router.Left,
		SameDatabase: w.conf.Ramp.SameDatabase,
		Compares:     func() bool { return rand.Float64()*100 < w.router.Shadow(ramp.Limit) },
		Compared:     w.comparedLimit,
		Observed: func(other bool, took time.Duration, err error) {
			side := ramp.Old
			if other {
				side = ramp.New
			}
			w.ledger.Called(ramp.Call{Route: ramp.Limit, Side: side, Took: took, Failed: err != nil}, 1)
			w.ledger.Answered(ramp.Limit, took)
		},
	}
}

// rulesOf are the rules of limits in force that which picks, with its reason.
func (w *world) rulesOf(which func(limit.Rule) (bool, string)) func() []api.RampStaying {
	return func() []api.RampStaying {
		var picked []api.RampStaying
		for _, r := range w.limit.Rules() {
			if ok, why := which(r); ok {
				picked = append(picked, api.RampStaying{Rule: r.Name, Why: why})
			}
		}
		return picked
	}
}

// comparedLimit counts a comparison of what both sides decide about a limit.
func (w *world) comparedLimit(like limit.Likeness, key string, took time.Duration) {
	if took > 0 {
		w.ledger.Called(ramp.Call{Route: ramp.Limit, Side: ramp.New, Took: took, Failed: like == limit.Unanswered}, 1)
	}
	class := ramp.Dropped
	switch like {
	case limit.Alike:
		class = ramp.Match
	case limit.Later:
		class = ramp.Late
	case limit.Unlike:
		class = ramp.Differs
	case limit.Unanswered:
		class = ramp.Failed
	case limit.Skipped:
	}
	w.ledger.Compared(ramp.Limit, class, 1, ramp.Redact(key))
}

// RampPrefixes are what the keys begin with that serve takes to the new side of a ramp.
func RampPrefixes(conf *config.Config) []string {
	root, limits := conf.Cache.Prefix+":", limit.DefaultPrefix+":"
	if conf.Cache.Environment != "" {
		root = conf.Cache.Environment + ":" + root
	}
	if conf.Limits.Environment != "" {
		limits = conf.Limits.Environment + ":" + limits
	}
	return []string{root, limits}
}

// rampView is what the API shows of the ramp and counts for it.
func (w *world) rampView() *api.RampView {
	v := &api.RampView{Ledger: w.ledger}
	if w.next == nil {
		return v
	}
	v.Configured, v.SameDatabase = true, w.conf.Ramp.SameDatabase
	v.Backlogs = w.ramp.Backlogs
	other := w.otherSide()
	v.Staying = w.rulesOf(func(r limit.Rule) (bool, string) {
		moves, why := other.Movable(r)
		return !moves, why
	})
	v.Former = w.rulesOf(other.Reads)
	return v
}
