package demo

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// addScript writes what Bull's add writes for a plain job: the counter, the hash, the id at the left
// of wait (of paused while the queue is paused), and the event. KEYS: id, wait, paused, meta-paused.
// ARGV: job key prefix, name, data, opts, timestamp, channel token.
const addScript = `local id = tostring(redis.call('INCR', KEYS[1]))
redis.call('HMSET', ARGV[1] .. id, 'name', ARGV[2], 'data', ARGV[3], 'opts', ARGV[4], 'timestamp', ARGV[5], 'delay', '0', 'priority', '0')
local list = KEYS[2]
if redis.call('EXISTS', KEYS[4]) == 1 then list = KEYS[3] end
redis.call('LPUSH', list, id)
redis.call('PUBLISH', ARGV[1] .. 'waiting@' .. ARGV[6], id)
return id`

// A producer adds jobs to a Bull queue while it is being moved, as a web process would that nobody
// has told about the migration. It uses the simulated application's ordinary client of the queue.
type producer struct {
	q    *bullQueue
	stop context.CancelFunc
	done sync.WaitGroup

	mu    sync.Mutex
	added []string
	err   error
}

// startProducer adds one job every interval until stopped, at most limit.
func startProducer(ctx context.Context, q *bullQueue, interval time.Duration, limit int) *producer {
	ctx, stop := context.WithCancel(ctx)
	p := &producer{q: q, stop: stop}
	p.done.Go(func() {
		t := time.NewTicker(interval)
		defer t.Stop()
		for n := 1; n <= limit; n++ {
			if err := p.add(ctx, n); err != nil {
				p.mu.Lock()
				p.err = fmt.Errorf("simulated producer: %w", err)
				p.mu.Unlock()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	})
	return p
}

func (p *producer) add(ctx context.Context, n int) error {
	now := strconv.FormatInt(time.Now().UnixMilli(), 10)
	opts := `{"attempts":1,"delay":0,"timestamp":` + now + `}`
	q := p.q
	q.mu.Lock()
	defer q.mu.Unlock()
	reply, err := q.client.do(context.WithoutCancel(ctx), 0, "EVAL", addScript, "4",
		q.key("id"), q.key("wait"), q.key("paused"), q.key("meta-paused"),
		q.key(""), "__default__", fmt.Sprintf(`{"n":"live-%d"}`, n), opts, now, "demo")
	if err != nil {
		return err
	}
	id, ok := reply.(string)
	if !ok {
		return fmt.Errorf("add to %s answered %v, want a job id", q.name, reply)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.added = append(p.added, id)
	return nil
}

// count is how many jobs were added so far.
func (p *producer) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.added)
}

// finish stops the producer and returns the ids it added, in order.
func (p *producer) finish() ([]string, error) {
	p.stop()
	p.done.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.added, p.err
}

// reach waits until the producer has added n jobs, or has failed.
func (p *producer) reach(ctx context.Context, n int) error {
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for p.count() < n {
		p.mu.Lock()
		err := p.err
		p.mu.Unlock()
		if err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return nil
}
