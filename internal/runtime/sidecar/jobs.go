package sidecar

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/queue/push"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// sameNotice is how long a notice is not repeated: while a Redis is down, each poll has the same to say.
const sameNotice = 30 * time.Second

// jobs are the queues at work.
type jobs struct {
	engine    *queue.Engine
	sender    *push.Sender
	endpoints map[string]*push.Endpoint
}

// openJobs makes the queue engine, where the configuration serves queues.
func (w *world) openJobs(context.Context) error {
	s := w.sidecar
	if len(s.queues) == 0 {
		return nil
	}
	sender, err := push.New(push.Options{MaxConnections: w.conf.Queues.Push.MaxConnections})
	if err != nil {
		return err
	}
	j := &jobs{sender: sender, endpoints: map[string]*push.Endpoint{}}
	w.jobs = j
	notice := notices(s.log)
	run, err := runners(w.conf, sender, func(name string) { j.engine.Admitted(name) }, notice)
	if err != nil {
		return err
	}
	defs := make([]queue.Queue, len(s.queues))
	for i, def := range s.queues {
		def.Runner = run[def.Name]
		if e, ok := def.Runner.(*push.Endpoint); ok {
			j.endpoints[def.Name] = e
		}
		defs[i] = def
	}
	up := w.main
	gov := GovernorOptions(w.conf)
	gov.Subscribe = func(ctx context.Context, channels ...string) (governor.Feed, error) {
		return FeedOf(up.Bell().Subscribe(ctx, channels...))
	}
	gov.Track = func(ctx context.Context, prefixes ...string) (governor.Feed, error) {
		return FeedOf(up.Bell().Track(ctx, prefixes...))
	}
	if s.opts.govern != nil {
		s.opts.govern(&gov)
	}
	j.engine, err = queue.New(queue.Options{
		Client: up.View(meter.Queue), Jobs: up.View(meter.Queue), Cluster: up.cluster, Queues: defs, Governor: gov,
		Concurrency: w.conf.Queues.Concurrency, Replica: s.replica,
		ShutdownTimeout: w.conf.Serve.ShutdownTimeout, Watchdog: w.conf.Queues.Watchdog,
		Paused:  func(name string) bool { return w.control.Current().PausedQueue(name) },
		Changed: w.control.Changed,
		Admit:   w.admitJobs,
		Observe: jobEvents(s.log), Notice: notice,
		InScript: func(command string, n int64) { up.AddInScript(meter.Queue, command, n) },
	})
	return err
}

// admitJobs is whether a job of a queue may be taken now, besides ahead others: not while the application that they
// are sent to is down, but for the one that tries it, nor while the budget has the queue rest. What is not taken stays in
// the Redis, and costs nothing.
func (w *world) admitJobs(name string, ahead int) bool {
	if e := w.jobs.endpoints[name]; e != nil && !e.Admit(ahead) {
		return false
	}
	return w.budget.admits(name, time.Now())
}

// FeedOf hands on what a subscription of the bell says, as the governor of the queues takes it. Close ends
// the subscription.
func FeedOf(sub *upstream.Subscription, err error) (governor.Feed, error) {
	if err != nil {
		return governor.Feed{}, err
	}
	messages, ended := make(chan governor.Message), make(chan struct{})
	var forwarding sync.WaitGroup
	forwarding.Go(func() {
		defer close(messages)
		for {
			select {
			case m, open := <-sub.C():
				if !open {
					return
				}
				select {
				case messages <- governor.Message{Channel: m.Channel, Payload: m.Payload, Keys: m.Keys}:
				case <-ended:
					return
				}
			case <-ended:
				return
			}
		}
	})
	return governor.Feed{Messages: messages, Gaps: sub.Gaps(), Close: sync.OnceFunc(func() {
		close(ended)
		_ = sub.Close()
		forwarding.Wait()
	})}, nil
}

// jobEvents logs how attempts ended.
func jobEvents(log *slog.Logger) func(queue.Event) {
	return func(e queue.Event) {
		level := slog.LevelDebug
		switch e.Kind {
		case queue.Dead:
			level = slog.LevelWarn
		case queue.Failed:
			level = slog.LevelInfo
		case queue.Done, queue.Rescheduled:
		}
		if !log.Enabled(context.Background(), level) {
			return
		}
		attrs := []slog.Attr{
			slog.String("queue", e.Queue), slog.String("job_id", e.ID), slog.String("name", e.Name), slog.Int("attempt", e.Attempt),
			slog.Float64("duration_ms", milliseconds(e.Took)),
		}
		if e.Reason != "" {
			attrs = append(attrs, slog.String("cause", e.Reason))
		}
		if !e.RetryAt.IsZero() {
			attrs = append(attrs, slog.Time("retry_at", e.RetryAt.UTC()))
		}
		log.LogAttrs(context.Background(), level, "job_"+string(e.Kind), attrs...)
	}
}

// notices logs what went wrong aside, each text once in a while, with how often it was not said.
func notices(log *slog.Logger) func(error) {
	type said struct {
		at         time.Time
		suppressed int
	}
	var mu sync.Mutex
	last := map[string]said{}
	return func(err error) {
		text, now := err.Error(), time.Now()
		mu.Lock()
		before := last[text]
		if !before.at.IsZero() && now.Sub(before.at) < sameNotice {
			before.suppressed++
			last[text] = before
			mu.Unlock()
			return
		}
		for other, s := range last {
			if now.Sub(s.at) >= sameNotice {
				delete(last, other)
			}
		}
		last[text] = said{at: now}
		mu.Unlock()
		attrs := []any{"cause", text}
		if before.suppressed > 0 {
			attrs = append(attrs, "suppressed", before.suppressed)
		}
		log.Warn(eventQueueFailed, attrs...)
	}
}
