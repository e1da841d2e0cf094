package demo

import (
	"context"
	"crypto/sha1" //nolint:gosec // EVALSHA names scripts by SHA-1
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// pace is how often an idle Bull queue with a worker talks to Redis: Bull's own defaults.
type pace struct {
	drainDelay time.Duration // a worker blocks this long for a job, again and again
	guard      time.Duration // between looks for delayed jobs that are due
	stalled    time.Duration // between looks for jobs whose worker died
}

func bullPace() pace {
	return pace{drainDelay: 5 * time.Second, guard: 5 * time.Second, stalled: 30 * time.Second}
}

// A queueName is a Bull queue with its key prefix.
type queueName struct{ prefix, name string }

func (q queueName) key(suffix string) string { return q.prefix + ":" + q.name + ":" + suffix }

// legacyQueues are the eleven queues of the application that is simulated. The three with captured
// jobs come last, so that their stalled checks, which the capture shows just done, are due last.
func legacyQueues() []queueName {
	return []queueName{
		{"bull", "batch-notifications"},
		{"bull", "suggestion-regeneration"},
		{"bull", "google-contacts-sync"},
		{"bull", "token-health-reminder"},
		{"bull", "webhook-renewal"},
		{"bull", "notification-reminder"},
		{"bull", "adaptive-sync"},
		{"bull", "webhook-health-check"},
		{"bull", "suggestion-generation"},
		{"bull", "calendar-sync"},
		{"{bull}", "token-refresh"},
	}
}

// appHost is where the simulated application runs: an address for documentation, so that nobody takes
// it for a real one.
const appHost = "192.0.2.10"

// poolSize is the number of connections of the simulated pool, which holds 2 to 10 in the field.
const poolSize = 4

// The scripts of an idle Bull queue, reduced to the commands that were counted inside the real ones.
// Neither takes a job out of a queue.
const (
	guardScript = `redis.call('ZRANGEBYSCORE', KEYS[1], 0, ARGV[1], 'LIMIT', 0, 1000)
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
return first[2] or ''`
	stalledScript = `if redis.call('EXISTS', KEYS[1]) == 1 then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
redis.call('SMEMBERS', KEYS[2])
return #redis.call('LRANGE', KEYS[3], 0, -1)`
)

// A dialer opens a connection that seems to come from the given address.
type dialer func(from string) (net.Conn, error)

// A legacy is the simulated application: 33 connections of 11 Bull queues with a worker each, and one
// cache, one limiter, one SMS limiter and a pool beside them, all idle. Its workers never take a job:
// where the queue has captured ones, they wait on a list that stays empty.
type legacy struct {
	dial   dialer
	pace   pace
	cancel context.CancelFunc
	port   int
	queues []*bullQueue
	others []*wire

	mu  sync.Mutex
	err error // the first that a simulated client met
}

// A bullQueue is one queue object with its worker: Bull's three connections.
type bullQueue struct {
	queueName
	waitOn string // list the worker blocks on

	mu     sync.Mutex // one command at a time on client
	client *wire
	sub    *wire
	worker *wire

	stop context.CancelFunc // ends the worker and its timers
	done sync.WaitGroup
}

// startLegacy attaches the application. Queues in captured keep their jobs.
func startLegacy(ctx context.Context, dial dialer, p pace, captured map[string]bool) (*legacy, error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &legacy{dial: dial, pace: p, cancel: cancel, port: 40_000}
	if err := l.attach(ctx, captured); err != nil {
		_ = l.close() // the error that matters is the first
		return nil, fmt.Errorf("attach the simulated application: %w", err)
	}
	for i, q := range l.queues {
		l.run(ctx, i, q)
	}
	return l, nil
}

// attach opens every connection in the order in which Bull does: the clients and subscribers of all
// queues, then the workers'.
func (l *legacy) attach(ctx context.Context, captured map[string]bool) error {
	for _, name := range legacyQueues() {
		q := &bullQueue{queueName: name, waitOn: name.key("wait")}
		if captured[name.name] {
			q.waitOn = "redisopt:demo:empty:" + name.name
		}
		l.queues = append(l.queues, q)
		var err error
		if q.client, err = l.open(ctx, []string{"INFO"}, []string{"EVAL", guardScript, "1", q.key("delayed"), "0"}, []string{"SCRIPT", "LOAD", stalledScript}, guardCommand(q)); err != nil {
			return err
		}
		if q.sub, err = l.open(ctx, []string{"SUBSCRIBE", q.key("delayed")}); err != nil {
			return err
		}
	}
	for _, q := range l.queues {
		var err error
		if q.worker, err = l.open(ctx, []string{"CLIENT", "SETNAME", q.prefix + ":" + base64.StdEncoding.EncodeToString([]byte(q.name))}); err != nil {
			return err
		}
	}
	others := [][2]string{{"cache", "GET"}, {"rate-limiter", "ZCARD"}, {"sms-limiter", "ZCARD"}}
	for i := range poolSize {
		others = append(others, [2]string{"pool-" + strconv.Itoa(i+1), "GET"})
	}
	for _, o := range others {
		w, err := l.open(ctx, []string{"CLIENT", "SETNAME", o[0]}, []string{o[1], "simulated:" + o[0]})
		if err != nil {
			return err
		}
		l.others = append(l.others, w)
	}
	return nil
}

// open connects from the application's host and sends the first commands.
func (l *legacy) open(ctx context.Context, first ...[]string) (*wire, error) {
	l.port++
	nc, err := l.dial(net.JoinHostPort(appHost, strconv.Itoa(l.port)))
	if err != nil {
		return nil, err
	}
	w := newWire(nc)
	for _, args := range first {
		if _, err := w.do(ctx, 0, args...); err != nil {
			w.close()
			return nil, err
		}
	}
	return w, nil
}

// run starts a queue's worker and timers as they stand in the middle of the application's life: the
// queues are spread evenly over each period, instead of all beginning together.
func (l *legacy) run(ctx context.Context, i int, q *bullQueue) {
	ctx, stop := context.WithCancel(ctx)
	q.stop = stop
	share := func(period time.Duration, within float64) time.Duration {
		return time.Duration(float64(period) * (float64(i) + within) / float64(len(l.queues)))
	}
	q.done.Go(func() { l.worker(ctx, q, share(l.pace.drainDelay, 0.5)) })
	q.done.Go(func() {
		every(ctx, share(l.pace.guard, 0.5), l.pace.guard, func() error { return q.call(ctx, guardCommand(q)...) }, l.fail)
	})
	q.done.Go(func() {
		// In the demo's window fall three of these, which with all they call is what was measured.
		every(ctx, share(l.pace.stalled, 0.9), l.pace.stalled, func() error { return q.call(ctx, stalledCommand(q, l.pace.stalled)...) }, l.fail)
	})
}

func guardCommand(q *bullQueue) []string {
	now := float64(time.Now().UnixMilli()) * 4096
	return []string{"EVALSHA", sha(guardScript), "1", q.key("delayed"), strconv.FormatFloat(now, 'f', 0, 64)}
}

func stalledCommand(q *bullQueue, interval time.Duration) []string {
	return []string{
		"EVALSHA", sha(stalledScript), "3", q.key("stalled-check"), q.key("stalled"), q.key("active"),
		strconv.FormatInt(time.Now().UnixMilli(), 10), strconv.FormatInt(interval.Milliseconds(), 10),
	}
}

// worker blocks for jobs, the first time for what is left of its period.
func (l *legacy) worker(ctx context.Context, q *bullQueue, first time.Duration) {
	for wait := first; ctx.Err() == nil; wait = l.pace.drainDelay {
		timeout := strconv.FormatFloat(wait.Seconds(), 'f', 3, 64)
		_, err := q.worker.do(ctx, wait, "BRPOPLPUSH", q.waitOn, q.key("active"), timeout)
		if err != nil {
			l.fail(ctx, err)
			return
		}
	}
}

// call runs a command on the queue's ordinary client.
func (q *bullQueue) call(ctx context.Context, args ...string) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	_, err := q.client.do(context.WithoutCancel(ctx), 0, args...)
	return err
}

// every calls f after first, then once per period, until ctx ends or f fails.
func every(ctx context.Context, first, period time.Duration, f func() error, fail func(context.Context, error)) {
	t := time.NewTimer(first)
	defer t.Stop()
	due := time.Now().Add(first)
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if err := f(); err != nil {
			fail(ctx, err)
			return
		}
		due = due.Add(period)
		t.Reset(time.Until(due))
	}
}

// fail keeps the first error of a simulated client that was not told to stop.
func (l *legacy) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = fmt.Errorf("simulated application: %w", err)
	}
}

// problem is the first error that a simulated client met, or nil.
func (l *legacy) problem() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// stopWorker closes a queue's worker, as a process does that is told to finish: its blocking
// connection and its subscriber go, its ordinary client stays for the producer.
func (l *legacy) stopWorker(name string) error {
	q := l.queue(name)
	if q == nil {
		return fmt.Errorf("no simulated queue %q", name)
	}
	q.stop()
	q.done.Wait()
	q.worker.close()
	q.sub.close()
	return l.problem()
}

func (l *legacy) queue(name string) *bullQueue {
	for _, q := range l.queues {
		if q.name == name {
			return q
		}
	}
	return nil
}

// close detaches the application. It returns the first error a simulated client met.
func (l *legacy) close() error {
	l.cancel()
	for _, q := range l.queues {
		q.done.Wait()
		for _, w := range []*wire{q.client, q.sub, q.worker} {
			if w != nil {
				w.close()
			}
		}
	}
	for _, w := range l.others {
		w.close()
	}
	err := l.problem()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func sha(script string) string {
	sum := sha1.Sum([]byte(script)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}
