package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
)

// readyMost is how long the governor's first look is waited for.
const readyMost = 2 * time.Second

// returnGrace is how long who runs a job may take to return after it was interrupted.
const returnGrace = 2 * time.Second

// An Engine runs queues. Its methods may be called from several goroutines, before, while and after Run
// is called; only Lease and what belongs to it need Run.
type Engine struct {
	opts      Options
	scripts   scripts
	cluster   bool
	lines     map[string]*line
	byBand    map[string]*line
	order     []*line
	announced sync.Map // bands that asynq's tools know
	governor  *governor.Governor
	witness   *witness
	desk      *desk
	watch     *watch

	interrupt context.Context // ends when running jobs are interrupted
	stop      context.CancelFunc
	aide      struct { // what runs aside
		sync.Mutex
		wg     sync.WaitGroup
		ctx    context.Context
		cancel context.CancelFunc
	}

	state struct {
		sync.Mutex
		started  bool
		stopping bool
	}
}

// New checks Options and compiles the queues' schemas. It adds hooks to Options.Jobs and sends nothing.
func New(o Options) (*Engine, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return nil, fmt.Errorf("queue: %w", err)
	}
	e := &Engine{opts: o, scripts: newScripts(), lines: map[string]*line{}, byBand: map[string]*line{}}
	_, e.cluster = o.Client.(*redis.ClusterClient)
	e.cluster = e.cluster || o.Cluster
	var errs []error
	for _, q := range o.Queues {
		l, err := newLine(q)
		if err != nil {
			errs = append(errs, fmt.Errorf("queue %s: schema: %w", q.Name, err))
			continue
		}
		e.order = append(e.order, l)
		e.lines[q.Name] = l
		for _, band := range l.bands {
			e.byBand[band] = l
		}
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	e.desk = newDesk(e)
	for _, l := range e.order {
		l.runner = l.def.Runner
		if l.def.Mode == Lease {
			l.runner = e.desk.open(l)
		}
	}
	e.watch = newWatch(o.Watchdog)
	e.witness = newWitness(e)
	e.interrupt, e.stop = context.WithCancel(context.Background())
	e.aide.ctx, e.aide.cancel = context.WithCancel(context.Background())
	if err := e.compose(); err != nil {
		return nil, err
	}
	e.control()
	return e, nil
}

// line is the queue by this name.
func (e *Engine) line(name string) (*line, error) {
	if l := e.lines[name]; l != nil {
		return l, nil
	}
	return nil, &UnknownQueueError{Queue: name, Known: slices.Sorted(maps.Keys(e.lines))}
}

// worked are the bands that this process takes jobs from, with their weights.
func (e *Engine) worked() map[string]int {
	all := map[string]int{}
	for _, l := range e.order {
		if l.def.Mode == "" {
			continue
		}
		w := l.def.Weights
		for i, n := range []int{w.High, w.Normal, w.Low} {
			all[l.bands[i]] = n
		}
	}
	return all
}

// admit is whether a job of a band may be taken now, besides one of each of ahead. It is asked before each
// dequeue.
func (e *Engine) admit(band string, ahead []string) bool {
	l := e.byBand[band]
	if l == nil || l.def.Mode == "" {
		return false
	}
	more := 0
	for _, b := range ahead {
		if e.byBand[b] == l {
			more++
		}
	}
	if !e.opts.Admit(l.def.Name, more) {
		return false
	}
	if l.def.Mode == Lease && !e.desk.wants(l, more) {
		return false
	}
	return l.admit(band, more, time.Now(), func() { e.governor.Admitted(l.bands...) })
}

// Run takes and runs jobs until ctx ends, then gives running ones Options.ShutdownTimeout to end, interrupts
// the others and gives them back, and returns nil; or it returns an *UnreachableError when nothing was heard
// from Redis for too long. It is called once. When it returns nothing it started is left, except what a
// Runner does that does not return after its context has ended.
func (e *Engine) Run(ctx context.Context) error {
	e.state.Lock()
	if e.state.started {
		e.state.Unlock()
		return errors.New("queue: Run is called once")
	}
	e.state.started = true
	e.state.Unlock()

	var wg sync.WaitGroup
	defer wg.Wait()
	defer e.close()
	base, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	wg.Go(func() {
		if err := e.governor.Run(base); err != nil {
			e.opts.Notice(err)
		}
	})
	wg.Go(func() { e.follow(base) })
	e.ready(ctx)
	server, err := e.start()
	if err != nil {
		return fmt.Errorf("queue: %w", err)
	}
	failed := e.watch.guard(ctx, e.opts.Reconnect, e.opts.Notice)
	e.shutdown(server)
	return failed
}

// ready waits until the governor has looked at all queues, so that none is asked in vain, but not for long:
// a Redis that is down is the watchdog's business.
func (e *Engine) ready(ctx context.Context) {
	timer := time.NewTimer(readyMost)
	defer timer.Stop()
	select {
	case <-e.governor.Ready():
	case <-timer.C:
	case <-ctx.Done():
	}
}

// start begins to take jobs.
func (e *Engine) start() (*asynq.Server, error) {
	queues := e.worked()
	if len(queues) == 0 {
		return nil, nil //nolint:nilnil // this process only adds and looks
	}
	h := handler{e}
	server := asynq.NewServerFromRedisClient(e.governor.Client(slices.Sorted(maps.Keys(queues))...), asynq.Config{
		Concurrency:              e.opts.Concurrency,
		Queues:                   queues,
		StrictPriority:           true, // the governor shares the turns, and asynq need not
		TaskCheckInterval:        checkInterval,
		DelayedTaskCheckInterval: checkInterval,
		RetryDelayFunc:           e.retryDelay,
		IsFailure:                isFailure,
		ErrorHandler:             h,
		Logger:                   logger{e.opts.Notice},
		LogLevel:                 asynq.ErrorLevel,
		ShutdownTimeout:          returnGrace,
	})
	return server, server.Start(h)
}

// shutdown lets what runs end, and gives back what does not.
func (e *Engine) shutdown(server *asynq.Server) {
	e.state.Lock()
	e.state.stopping = true
	e.state.Unlock()
	e.desk.close()
	e.governor.Retire()
	if server != nil {
		server.Stop()
		e.putBack()
		e.quiet(e.opts.ShutdownTimeout)
	}
	e.stop()
	if server != nil {
		e.quiet(returnGrace)
		server.Shutdown()
	}
}

// putBack returns jobs that asynq was about to be given.
func (e *Engine) putBack() {
	ctx, cancel := context.WithTimeout(context.Background(), e.opts.CommandTimeout)
	defer cancel()
	e.governor.PutBack(ctx)
}

// quiet waits until nothing runs, but not longer than d.
func (e *Engine) quiet(d time.Duration) {
	end := time.NewTimer(d)
	defer end.Stop()
	for {
		idle := e.witness.idle()
		select {
		case <-idle:
			return
		case <-end.C:
			return
		}
	}
}

// close ends what runs aside.
func (e *Engine) close() {
	e.aide.Lock()
	e.aide.cancel()
	e.aide.Unlock()
	e.aide.wg.Wait()
	for _, l := range e.order {
		l.close()
	}
}

// aside does something in the background, which ends with Run.
func (e *Engine) aside(f func(ctx context.Context)) {
	e.aide.Lock()
	defer e.aide.Unlock()
	if e.aide.ctx.Err() == nil {
		e.aide.wg.Go(func() { f(e.aide.ctx) })
	}
}

// follow keeps to the control document.
func (e *Engine) follow(ctx context.Context) {
	if e.opts.Changed == nil {
		return
	}
	for {
		changed := e.opts.Changed()
		e.control()
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
	}
}

// control reads what the control document says about each queue.
func (e *Engine) control() {
	for _, l := range e.order {
		paused := e.opts.Paused(l.def.Name)
		l.mu.Lock()
		resumed := l.control && !paused
		l.control = paused
		l.mu.Unlock()
		if resumed {
			e.catchUp(l, l.def.CatchUp)
		}
	}
}

// Queues are the queues with their defaults. It sends nothing.
func (e *Engine) Queues() []Queue { return slices.Clone(e.opts.Queues) }

// Stats has one entry for each queue, in the order of Options.Queues. It sends nothing.
func (e *Engine) Stats() []Stats {
	all := make([]Stats, 0, len(e.order))
	for _, l := range e.order {
		s := l.snapshot()
		s.Waiting, s.Leased = e.desk.counts(l)
		all = append(all, s)
	}
	return all
}

// randomID is an id that nobody else has.
func randomID() string { return rand.Text() }

// A logger passes on what asynq has to say about errors.
type logger struct{ notice func(error) }

func (l logger) Debug(...any) {}
func (l logger) Info(...any)  {}
func (l logger) Warn(...any)  {}

func (l logger) Error(args ...any) { l.notice(errors.New("asynq: " + fmt.Sprint(args...))) }
func (l logger) Fatal(args ...any) { l.Error(args...) }
