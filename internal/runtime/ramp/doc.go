// Package ramp takes an engine from one Redis to another, key by key, while it is used.
//
// Which side a key is on is decided by the control document (control.Route), the same in every replica and
// known without a command. Of each route, such as "cache", three percentages are in the document: under its
// own name the keys that are on the new side; under NAME.mirror those that are written on both sides, so
// that they can change sides either way at any moment; and under NAME.shadow the reads of the old side that
// are compared with the new one in the background.
//
// What the two sides did is counted in a Ledger, from which gates have their evidence.
package ramp

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/control"
)

// The routes that serve takes itself.
const (
	Cache = "cache" // by the key in Redis
	Limit = "limit" // by the subject that is counted
)

// Mirror is the name in control.Document.Ramps of the percentage of a route's keys that are written on
// both sides, and Shadow that of the reads that are compared.
func Mirror(route string) string { return route + ".mirror" }

// Shadow is the name of the percentage of reads that are compared; see Mirror.
func Shadow(route string) string { return route + ".shadow" }

// A Router says where keys are. It is safe for concurrent use.
type Router struct {
	control *control.Control
	now     atomic.Pointer[routes]
}

// routes are what one document says.
type routes struct {
	doc     control.Document
	mirrors control.Document // the percentages of mirrors, under the routes' own names
	left    control.Document // the percentage of Limit's mirror as it was before it ended
	ended   time.Time        // when it did; zero: never
}

// NewRouter makes a Router that says what is in force in c. It starts nothing; see Run.
func NewRouter(c *control.Control) *Router {
	r := &Router{control: c}
	r.take()
	return r
}

// Run follows the document until ctx ends. It sends no command. It returns nil.
func (r *Router) Run(ctx context.Context) error {
	for {
		changed := r.control.Changed()
		r.take()
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

func (r *Router) take() {
	d := r.control.Current()
	mirrors := control.Document{Ramps: map[string]float64{}}
	for _, route := range []string{Cache, Limit} {
		mirrors.Ramps[route] = d.Ramps[Mirror(route)]
	}
	next := &routes{doc: d, mirrors: mirrors}
	if last := r.now.Load(); last != nil {
		next.left, next.ended = last.left, last.ended
		if was := last.mirrors.Ramps[Limit]; was > mirrors.Ramps[Limit] {
			next.left = control.Document{Ramps: map[string]float64{Limit: max(was, last.left.Ramps[Limit])}}
			next.ended = time.Now()
		}
	}
	r.now.Store(next)
}

// New is whether key is on the new side of route.
func (r *Router) New(route, key string) bool { return control.Route(r.now.Load().doc, route, key) }

// Mirrored is whether key may be on either side soon, or was lately.
func (r *Router) Mirrored(route, key string) bool {
	return control.Route(r.now.Load().mirrors, route, key)
}

// Left is since when subject, of Limit, is no longer mirrored; zero where it never was since this Router was
// made, or is. What only the new side counted before is there until its window ends.
func (r *Router) Left(subject string) time.Time {
	n := r.now.Load()
	if n.ended.IsZero() || !control.Route(n.left, Limit, subject) || control.Route(n.mirrors, Limit, subject) {
		return time.Time{}
	}
	return n.ended
}

// Mirroring is whether any key of route is mirrored.
func (r *Router) Mirroring(route string) bool { return r.now.Load().mirrors.Ramps[route] > 0 }

// Shadow is the percentage of route's reads that are compared.
func (r *Router) Shadow(route string) float64 { return r.now.Load().doc.Ramps[Shadow(route)] }
