package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect/commands"
	"github.com/redisopt/redisopt/internal/inspect/connections"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/migrate/rehearsal"
	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// defaultWindow is twice the period of Bull's polling, so that every worker polls as often as any.
const defaultWindow = 10 * time.Second

// The pace of the live producer, and how much it adds at most in each direction. The capture has a
// custom job id 777, and Bull overwrites such a job when its own counter comes to that number: the
// counter stands at 32 and must not get there.
const (
	addEvery = 5 * time.Millisecond
	mostAdds = 250
)

// Options of a demo. The zero value works.
type Options struct {
	// Window is how long the commands of the idle application are counted. Default 10 seconds; at
	// least 1 second. Shorter is quicker and less exact.
	Window time.Duration

	// Progress, when not nil, is called when a stage begins.
	Progress func(stage string)

	// Tick, when not nil, is called about once a second while the commands are counted.
	Tick func(elapsed, window time.Duration)
}

func (o Options) withDefaults() Options {
	if o.Window == 0 {
		o.Window = defaultWindow
	}
	if o.Progress == nil {
		o.Progress = func(string) {}
	}
	return o
}

// A journey is one run of the demo.
type journey struct {
	opts    Options
	result  *Result
	server  *embedded.Server
	audits  *upstream.Upstream
	moves   *upstream.Upstream
	app     *legacy
	keys    []capture.Key // the capture, locks included
	state   string        // directory of the journals
	queues  []*passenger
	stage   *rehearsal.Stage // where phases 1, 2 and 4 go
	tours   []*tour
	moved   struct{ there, back PhaseLeg } // phase 3
	added   []string
	cleanup []func() error
}

// Run goes through the whole journey. When it returns, nothing it started is left. An error means that
// something failed to work; a Result whose Passed is false means that it worked and the answer is no.
func Run(ctx context.Context, opts Options) (*Result, error) {
	j := &journey{opts: opts.withDefaults(), result: &Result{Simulated: simulated()}}
	began := time.Now()
	err := j.run(ctx)
	for _, f := range slices.Backward(j.cleanup) {
		err = errors.Join(err, f())
	}
	if err != nil {
		return nil, err
	}
	j.result.Duration = time.Since(began)
	j.result.DurationSeconds = j.result.Duration.Seconds()
	return j.result, nil
}

func (j *journey) run(ctx context.Context) error {
	for _, stage := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"start an embedded Redis", j.start},
		{"load the keys of a real Bull 4.16.5", j.load},
		{"attach the simulated application", j.attach},
		{"audit its connections", j.auditConnections},
		{fmt.Sprintf("audit its commands for %s", j.opts.Window), j.auditCommands},
		{"run eleven queues of redisopt's own beside it", j.ours},
		{"plan the move to BullMQ and name its losses", j.plan},
		{"phase 1: take cache and limits to another Redis, under traffic", j.phase1},
		{"phase 2: pause the queues that can wait", j.phase2},
		{"phase 3: stop the workers and move the queues, under traffic", j.costed(&j.moved.there, j.there)},
		{"phase 4: save and delete what is left of a queue", j.phase4},
		{"back from phase 4: restore it", func(ctx context.Context) error { return j.end(ctx, "phase 4") }},
		{"back from phase 3: roll back, under traffic", j.costed(&j.moved.back, j.back)},
		{"back from phase 2: let the queues go on", func(ctx context.Context) error { return j.end(ctx, "phase 2") }},
		{"back from phase 1: all keys at once", func(ctx context.Context) error { return j.end(ctx, "phase 1") }},
		{"phase 3 once more: a queue to redisopt's own engine and back", j.toAsynq},
		{"compare every key with the capture", j.compare},
		{"tell what the phases did", j.tell},
	} {
		if err := ctx.Err(); err != nil {
			return err
		}
		j.opts.Progress(stage.name)
		if err := stage.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", stage.name, err)
		}
		if j.app != nil {
			if err := j.app.problem(); err != nil {
				return err
			}
		}
	}
	j.result.Cost = Cost{Audit: j.audits.Spent(), Migrate: j.moves.Spent().Plus(j.stage.Old.Spent()).Plus(j.stage.New.Spent())}
	return nil
}

// start starts the Redis and opens what the audits and the moves use.
func (j *journey) start(ctx context.Context) error {
	var err error
	if j.server, err = embedded.Start(ctx, embedded.Options{Plan: embedded.Plan{Name: "demo, unlimited"}}); err != nil {
		return err
	}
	j.cleanup = append(j.cleanup, j.server.Close)
	j.result.Server = j.server.Describe()
	if j.audits, err = j.open(ctx, meter.Audit); err != nil {
		return err
	}
	if j.moves, err = j.open(ctx, meter.Migrate); err != nil {
		return err
	}
	if j.state, err = os.MkdirTemp("", "redisopt-demo"); err != nil {
		return err
	}
	j.cleanup = append(j.cleanup, func() error { return os.RemoveAll(j.state) })
	return nil
}

func (j *journey) open(ctx context.Context, who meter.Component) (*upstream.Upstream, error) {
	up, err := upstream.Open(ctx, upstream.Options{URL: j.server.URL(), Component: who, ClientName: "redisopt-" + string(who), ReadOnly: who == meter.Audit})
	if err != nil {
		return nil, err
	}
	j.cleanup = append(j.cleanup, up.Close)
	return up, nil
}

// load writes the captured keys, but for the lock of the one job that was running when they were
// captured: its worker is gone, and a lock of 30 seconds would be all that is left of it.
func (j *journey) load(ctx context.Context) error {
	var err error
	if j.keys, err = capture.Bull(); err != nil {
		return err
	}
	var load []capture.Key
	for _, k := range j.keys {
		if !strings.HasSuffix(k.Name, ":lock") {
			load = append(load, k)
		}
	}
	j.queues = passengers()
	if err := j.furnish(ctx); err != nil {
		return err
	}
	if err := j.setStage(ctx); err != nil {
		return err
	}
	j.result.Capture = Capture{Library: "bull", Version: "4.16.5", Queues: len(j.queues), Jobs: countJobs(j.keys), Keys: len(j.keys)}
	return j.quietly(func(rdb redis.UniversalClient) error { return capture.Restore(ctx, rdb, load) })
}

// quietly calls f with a client whose commands are not the audits' nor the moves': they set the scene.
func (j *journey) quietly(f func(rdb redis.UniversalClient) error) error {
	rdb := redis.NewClient(&redis.Options{
		Addr: j.server.Addr(), ClientName: "redisopt-stage", PoolSize: 1, PipelinePoolSize: -1, MaxRetries: -1, DisableIdentity: true,
	})
	return errors.Join(f(rdb), rdb.Close())
}

func (j *journey) attach(ctx context.Context) error {
	captured := map[string]bool{}
	for _, q := range j.queues {
		captured[q.name.name] = true
	}
	var err error
	if j.app, err = startLegacy(ctx, j.server.DialFrom, bullPace(), captured); err != nil {
		return err
	}
	j.cleanup = append(j.cleanup, j.app.close)
	return nil
}

func (j *journey) auditConnections(ctx context.Context) error {
	r, err := connections.Audit(ctx, j.audits.Client(), connections.Options{})
	if err != nil {
		return err
	}
	bull := 0
	for _, c := range r.Connections {
		if !c.Own && c.Library == connections.LibraryBull {
			bull++
		}
	}
	j.result.Connections = Connections{
		Total: r.Total, Bull: bull, Unknown: r.Unknown, Roles: r.Roles, Phases: r.Phases, Simulated: true,
	}
	return nil
}

func (j *journey) auditCommands(ctx context.Context) error {
	r, err := commands.Audit(ctx, j.audits.Client(), commands.Options{Window: j.opts.Window, Progress: j.opts.Tick})
	if err != nil {
		return err
	}
	// Counted, not fitted to the pace of each worker as the audit does for a window of any length: this
	// one holds every worker's period a whole number of times.
	month := (30 * 24 * time.Hour).Seconds() / r.WindowSeconds
	c := Commands{
		WindowSeconds: r.WindowSeconds, TopLevel: r.Split.Top, InScript: r.Split.InScript,
		TopPerMonth: float64(r.Split.Top) * month, AllPerMonth: float64(r.Split.All) * month,
		Method: r.Split.Method, Simulated: true,
	}
	c.BudgetMultiple = c.AllPerMonth / float64(r.Projection.Budget)
	j.result.Commands = c
	j.result.Table = table(j.result.Connections.Bull, c.TopPerMonth, c.AllPerMonth)
	return nil
}

// compare dumps the captured queues and explains what differs.
func (j *journey) compare(ctx context.Context) error {
	var now []capture.Key
	for _, q := range j.queues {
		keys, err := j.dump(ctx, q.route.From)
		if err != nil {
			return err
		}
		now = append(now, keys...)
	}
	j.result.Comparison = explain(j.keys, now, liveQueue(), j.added)
	return nil
}

// dumpAll reads every key.
func (j *journey) dumpAll(ctx context.Context) (keys []capture.Key, err error) {
	err = j.quietly(func(rdb redis.UniversalClient) error {
		keys, err = capture.Dump(ctx, rdb, "*")
		return err
	})
	return keys, err
}

// dump reads every key of one queue.
func (j *journey) dump(ctx context.Context, e mover.Endpoint) (keys []capture.Key, err error) {
	err = j.quietly(func(rdb redis.UniversalClient) error {
		keys, err = capture.Dump(ctx, rdb, e.Key("*"))
		return err
	})
	return keys, err
}

// table is what eleven idle queues hold and cost, now and after. What is not measured here was measured
// on the real libraries, with 11 queues and a worker each, over 125 s and 305 s windows.
func table(bull int, top, all float64) []Setup {
	const here, library = "simulated, this run", "the real library"
	return []Setup{
		{"Bull 4, as it is now", bull, top, all, here},
		{"BullMQ, options per queue", 33, 12.3e6, 51.5e6, library},
		{"BullMQ, one shared connection", 12, 12.3e6, 51.5e6, library},
		{"the same, polling every 300 s", 12, 0.28e6, 1.40e6, library},
		{"the same, a delayed job each", 12, 5.70e6, 23.1e6, library},
	}
}

func simulated() []string {
	return []string{
		"the clients: 33 connections as 11 Bull queues open them, and a cache, two limiters and a pool of 4",
		"their idle commands: as often as counted on real Bull, in scripts that call the same commands",
		"the workers never take a job: those of the captured queues wait on an empty list instead of wait",
		"the producer: it writes what Bull's add writes, at most 200 times a second",
		"the callers of phase 1: this program, by the way that redisopt serve goes; nothing soaks for a day",
	}
}
