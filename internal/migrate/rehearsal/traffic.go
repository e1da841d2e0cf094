package rehearsal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/replica"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/api"
	"github.com/redisopt/redisopt/internal/runtime/control"
	"github.com/redisopt/redisopt/internal/runtime/limit"
	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// How the traffic of phase 1 goes.
const (
	gateEvery  = 50 * time.Millisecond // how often gates are asked
	trafficGap = 2 * time.Millisecond  // between two rounds over all keys
	subjects   = 20                    // of the limiter
	quota      = 10                    // of each, in an hour
	ownKeys    = 20                    // where no string was copied
	mostValues = 200                   // keys that are read and written
	patience   = 20 * time.Second      // of one command on the stage, which only a machine takes that stands still
	ownPrefix  = "redisopt:rehearsal:"
)

// A traffic is what a replica of redisopt serve and its callers would do in phase 1: it reads and writes the
// copied strings by the way that the control document has in force, checks limits, counts both sides, and
// answers the migration what it counted. It is the real router, ramp, limiter and API, without a listener.
type traffic struct {
	told      []string // what is different from the real one
	made      time.Time
	values    []capture.Key
	next      redis.UniversalClient // the new side
	control   *control.Control
	router    *ramp.Router
	ledger    *ramp.Ledger
	ramp      *ramp.Client
	limiter   *limit.Limiter // nil where limits do not move
	api       *api.API
	old       redis.UniversalClient
	mu        sync.Mutex
	wrong     []string // what callers were answered wrongly
	reads     int64
	writes    int64
	checks    int64
	admitted  map[string]int64
	returning bool  // the way back has begun
	again     int64 // units that were admitted beyond a limit since then
	following sync.WaitGroup
	stop      context.CancelFunc
}

func newTraffic(s *Stage, plan step.Phase1Plan, keys []capture.Key) (*traffic, error) {
	t := &traffic{admitted: map[string]int64{}, ledger: ramp.NewLedger(), made: time.Now()}
	t.old, t.next = s.callers()
	if plan.SameDatabase {
		t.next = t.old
	}
	t.pick(keys, plan.KeyPrefixes)
	var err error
	if t.control, err = control.Open(control.Options{Client: t.old, Key: plan.ControlKey}); err != nil {
		return nil, err
	}
	t.router = ramp.NewRouter(t.control)
	t.ramp, err = ramp.NewClient(ramp.ClientOptions{
		Route: ramp.Cache, Old: t.old, New: t.next, Router: t.router, Ledger: t.ledger, SameDatabase: plan.SameDatabase,
		Timeout: patience, MirrorWait: patience, // the stage is slower than a Redis, and nobody waits for it
	})
	if err != nil {
		return nil, err
	}
	if slices.Contains(plan.Routes, ramp.Limit) {
		if t.limiter, err = t.limits(plan.SameDatabase); err != nil {
			return nil, err
		}
	}
	t.api, err = api.New(api.Options{Control: t.control, Ramp: &api.RampView{
		Ledger: t.ledger, Configured: true, SameDatabase: plan.SameDatabase, Backlogs: t.ramp.Backlogs,
	}})
	return t, err
}

// pick chooses the strings that callers use: those under the prefixes of the plan, else any that were
// copied.
func (t *traffic) pick(keys []capture.Key, prefixes []string) {
	var named, others []capture.Key
	for _, k := range keys {
		if k.Type != "string" || accounts(k.Name) || ofQueue(k.Name, nil) || strings.HasPrefix(k.Name, "redisopt:limit:") {
			continue
		}
		if hasAny(k.Name, prefixes) {
			named = append(named, k)
		}
		others = append(others, k)
	}
	switch {
	case len(named) > 0:
		t.values = named
	case len(others) > 0:
		t.values = others
		t.told = append(t.told, fmt.Sprintf("no key was found under %s; %d other strings go the way that they would go", strings.Join(prefixes, ", "), min(len(others), mostValues)))
	default:
		t.told = append(t.told, fmt.Sprintf("no string was copied, so %d keys of its own stand in", ownKeys))
		for i := range ownKeys {
			t.values = append(t.values, capture.Key{Name: fmt.Sprintf("%skey:%d", ownPrefix, i), Type: "string", Value: fmt.Sprintf(`{"n":%d}`, i), TTL: time.Hour})
		}
	}
	if len(t.values) > mostValues {
		t.values = t.values[:mostValues]
	}
}

func (t *traffic) limits(same bool) (*limit.Limiter, error) {
	return limit.New(limit.Options{
		Client: t.old, Prefix: ownPrefix + "limit", Deadline: 2 * patience, // half of it for what was carried before
		Rules: []limit.Rule{{Name: "rehearsal", Limit: quota, Period: time.Hour, By: limit.ByKey, OnError: limit.Closed, Lease: limit.LeaseOff}},
		Other: &limit.Other{
			Client:       t.next,
			Takes:        func(subject string) bool { return t.router.New(ramp.Limit, subject) },
			Carries:      func(subject string) bool { return t.router.Mirrored(ramp.Limit, subject) },
			Left:         t.router.Left,
			SameDatabase: same,
			Observed: func(other bool, took time.Duration, err error) {
				side := ramp.Old
				if other {
					side = ramp.New
				}
				t.ledger.Called(ramp.Call{Route: ramp.Limit, Side: side, Took: took, Failed: err != nil}, 1)
				t.ledger.Answered(ramp.Limit, took)
			},
		},
	})
}

// reachable are the shares in which at least one key of the traffic is: a gate that never sees one would
// wait for ever.
func (t *traffic) reachable(shares []float64) []float64 {
	var out []float64
	for _, share := range shares {
		d := control.Document{Ramps: map[string]float64{ramp.Cache: share}}
		if share >= 100 || slices.ContainsFunc(t.values, func(k capture.Key) bool { return control.Route(d, ramp.Cache, k.Name) }) {
			out = append(out, share)
		}
	}
	return out
}

// fleet is the one replica that there is, asked without a network.
func (t *traffic) fleet() replica.Fleet {
	return replica.Fleet{URLs: []string{rehearsalURL}, Client: &http.Client{Transport: t}}
}

// RoundTrip answers what the migration asks its replicas, as the API of redisopt serve does. What is in
// force is read anew each time: the stage has no bell.
func (t *traffic) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := t.control.Read(r.Context()); err != nil {
		return nil, err
	}
	w := &answer{header: http.Header{}, status: http.StatusOK}
	t.api.ServeHTTP(w, r)
	return &http.Response{
		StatusCode: w.status, Status: http.StatusText(w.status), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: w.header, Body: io.NopCloser(&w.body), ContentLength: int64(w.body.Len()), Request: r,
	}, nil
}

// An answer is an http.ResponseWriter in memory.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header are the headers.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader sets the status.
func (a *answer) WriteHeader(status int) { a.status = status }

// Write adds to the body.
func (a *answer) Write(p []byte) (int, error) { return a.body.Write(p) }

// begin starts what follows the document and the callers, until end.
func (t *traffic) begin(ctx context.Context) {
	ctx, t.stop = context.WithCancel(ctx)
	t.following.Go(func() { _ = t.router.Run(ctx) })
	t.following.Go(func() { _ = t.ramp.Run(ctx) })
	t.following.Go(func() {
		gap := time.NewTicker(trafficGap)
		defer gap.Stop()
		for round := 0; ; round++ {
			t.round(ctx, round)
			select {
			case <-ctx.Done():
				return
			case <-gap.C:
			}
		}
	})
}

// end waits until nothing of it is left.
func (t *traffic) end() {
	if t.stop != nil {
		t.stop()
		t.following.Wait()
		t.stop = nil
	}
}

// back says that the way back begins.
func (t *traffic) back() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.returning = true
}

// close releases what newTraffic made.
func (t *traffic) close() error {
	t.end()
	return t.ramp.Close()
}

// round reads every key once, writes every fourth, and asks for a unit of each limit.
func (t *traffic) round(ctx context.Context, round int) {
	for i, k := range t.values {
		if ctx.Err() != nil {
			return
		}
		t.read(ctx, k)
		if (i+round)%4 == 0 {
			t.write(ctx, k)
		}
		if i < subjects {
			t.check(ctx, fmt.Sprintf("subject-%d", i))
		}
	}
}

func (t *traffic) read(parent context.Context, k capture.Key) {
	ctx, cancel := context.WithTimeout(parent, patience)
	defer cancel()
	began := time.Now()
	got, err := t.ramp.Redis().Get(ctx, k.Name).Result()
	if parent.Err() != nil {
		return
	}
	t.ledger.Answered(ramp.Cache, time.Since(began))
	t.mu.Lock()
	t.reads++
	t.mu.Unlock()
	switch {
	case errors.Is(err, redis.Nil):
		if k.TTL < 0 {
			t.fault("%s was not found by its reader", ramp.Redact(k.Name))
		}
	case err != nil:
		t.fault("%s could not be read: %v", ramp.Redact(k.Name), err)
	case got != k.Value:
		t.fault("%s was read with another value than was written", ramp.Redact(k.Name))
	}
}

// write writes the key as it is, with the time that is left to it.
func (t *traffic) write(parent context.Context, k capture.Key) {
	ctx, cancel := context.WithTimeout(parent, patience)
	defer cancel()
	left := time.Duration(0)
	if k.TTL > 0 {
		if left = k.TTL - time.Since(t.made); left <= time.Second {
			return // it is about to end, and is not brought back
		}
	}
	if err := t.ramp.Redis().Set(ctx, k.Name, k.Value, left).Err(); err != nil && parent.Err() == nil {
		t.fault("%s could not be written: %v", ramp.Redact(k.Name), err)
	}
	t.mu.Lock()
	t.writes++
	t.mu.Unlock()
}

func (t *traffic) check(ctx context.Context, subject string) {
	if t.limiter == nil {
		return
	}
	got, err := t.limiter.Check(ctx, limit.Request{Rule: "rehearsal", Subject: limit.Subject{Key: subject}})
	if err != nil || ctx.Err() != nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.checks++
	if got.Allowed {
		t.admitted[subject]++
	}
	switch n := t.admitted[subject]; {
	case n <= quota || !got.Allowed:
	case t.returning && n <= 2*quota:
		t.again++
	default:
		t.wrongly("a limit of %d let %d through while it was carried", quota, n)
	}
}

func (t *traffic) fault(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wrongly(format, args...)
}

// wrongly notes a wrong answer; t.mu is held.
func (t *traffic) wrongly(format string, args ...any) {
	if text := fmt.Sprintf(format, args...); len(t.wrong) < maxTold && !slices.Contains(t.wrong, text) {
		t.wrong = append(t.wrong, text)
	}
}

// arrived is how many of the keys the new side has as they should be, once each was written by its way.
func (t *traffic) arrived(ctx context.Context) (int, error) {
	for _, k := range t.values {
		t.write(ctx, k)
	}
	n := 0
	for _, k := range t.values {
		got, err := t.next.Get(ctx, k.Name).Result()
		switch {
		case errors.Is(err, redis.Nil):
		case err != nil:
			return n, fmt.Errorf("read the new side: %w", err)
		case got == k.Value:
			n++
		}
	}
	return n, nil
}
