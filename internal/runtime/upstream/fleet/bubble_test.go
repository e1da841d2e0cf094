package fleet

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A world is a real Redis whose clock is that of a synctest bubble. Commands are carried by a goroutine
// outside, so that the bubble's time stands still while one is under way.
type world struct {
	real *redis.Client
	jobs chan func()
	done chan struct{}
	one  sync.Mutex

	skew    atomic.Int64 // of the server's clock, in ns
	down    bool
	scripts int64
	inside  int64 // commands run in scripts
	plain   int64
}

// newWorld must be called outside the bubble.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{real: redistest.Start(t).Client(t), jobs: make(chan func()), done: make(chan struct{})}
	var carrier sync.WaitGroup
	carrier.Go(func() {
		for job := range w.jobs {
			job()
			w.done <- struct{}{}
		}
	})
	t.Cleanup(func() {
		close(w.jobs)
		carrier.Wait()
	})
	return w
}

// outside runs f there and waits for it.
func (w *world) outside(f func()) {
	w.one.Lock()
	defer w.one.Unlock()
	w.jobs <- f
	<-w.done
}

// now is the server's time.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.skew.Load())) }

// client is a client of its own. When hold is not nil it is called before every command, in the bubble.
func (w *world) client(hold func()) redis.UniversalClient {
	c := redis.NewClient(w.real.Options())
	c.AddHook(&carried{w, hold})
	return c
}

// fields are those of the hash.
func (w *world) fields() (all map[string]string) {
	w.outside(func() { all = w.real.HGetAll(context.Background(), DefaultKey).Val() })
	return all
}

// listing is who holds and who waits.
func (w *world) listing(t *testing.T) Listing {
	t.Helper()
	l, err := parse(w.fields(), w.now(), DefaultKey, 99)
	if err != nil {
		t.Error(err)
	}
	return l
}

type carried struct {
	*world
	hold func()
}

func (c *carried) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *carried) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (c *carried) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) (err error) {
		if c.hold != nil {
			c.hold()
		}
		now := c.now()
		c.outside(func() { err = c.carry(cmd, now) })
		return err
	}
}

// carry sends cmd, a script with the time as its last argument.
func (c *carried) carry(cmd redis.Cmder, now time.Time) error {
	if c.down {
		cmd.SetErr(context.DeadlineExceeded)
		return cmd.Err()
	}
	args := cmd.Args()
	if name := fmt.Sprint(args[0]); name == "eval" || name == "evalsha" {
		c.scripts++
		args = append([]any{"eval", timed()}, args[2:]...)
		args = append(args, strconv.FormatInt(now.UnixMilli(), 10))
	} else {
		c.plain++
	}
	reply := c.real.Do(context.Background(), args...)
	cmd.SetErr(reply.Err())
	switch cmd := cmd.(type) {
	case *redis.Cmd:
		cmd.SetVal(reply.Val())
		if all, ok := reply.Val().([]any); ok && len(all) > 0 {
			n, _ := all[0].(int64)
			c.inside += n
		}
	case *redis.IntCmd:
		n, _ := reply.Int64()
		cmd.SetVal(n)
	}
	return reply.Err()
}

// timed is the script with the time as its last argument.
func timed() string {
	return strings.Replace(decideScript, "redis.call('TIME')",
		"{math.floor(tonumber(ARGV[#ARGV]) / 1000), (tonumber(ARGV[#ARGV]) % 1000) * 1000}", 1)
}

// A told collects events.
type told struct {
	mu  sync.Mutex
	all []Event
}

func (e *told) add(event Event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, event)
}

func (e *told) kinds() (kinds []Kind) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, event := range e.all {
		kinds = append(kinds, event.Kind)
	}
	return kinds
}

func (w *world) replica(t *testing.T, name, instance string, n, capacity int, change ...func(*Options)) (*Fleet, *told) {
	t.Helper()
	events := &told{}
	o := Options{
		Client: w.client(nil), Replica: name, Instance: instance, Host: "host-" + name, Version: "1.0.0",
		Connections: n, Cap: capacity, Event: events.add,
	}
	for _, c := range change {
		c(&o)
	}
	f, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return f, events
}
