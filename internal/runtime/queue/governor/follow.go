package governor

import (
	"context"
	"sync"
	"time"
)

// manyQueues is from how many queues on the server is asked for all keys of asynq rather than for those
// of each queue: it compares every change with every prefix, and sends a push for each. Measured with 33 queues
// that is 10 us of its time for a job, and as much here; the price is hearing of other queues of asynq there.
const manyQueues = 8

// follow keeps the bell open until ctx ends, and says in heard whenever something may have been missed.
func (g *Governor) follow(ctx context.Context, heard chan<- struct{}) {
	if g.opts.ClientOnly {
		g.mu.Lock()
		g.bell.mode, g.bell.peers = publishes, 1
		g.mu.Unlock()
		return
	}
	for failures := 0; ctx.Err() == nil; {
		began, err := g.listen(ctx, heard)
		if err == nil && time.Since(began) > backoffMax {
			failures = 0
		}
		failures++
		pause(ctx, backoff(failures))
	}
}

// listen follows until a feed ends.
func (g *Governor) listen(ctx context.Context, heard chan<- struct{}) (began time.Time, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()
	mode := publishes
	var pushed Feed
	if g.opts.Track != nil {
		pushed, err = g.opts.Track(ctx, g.prefixes()...)
		switch {
		case err == nil:
			mode = tracks
			defer pushed.close()
		case !refusedByServer(err):
			return began, err
		}
	}
	feed, err := g.opts.Subscribe(ctx, g.channel(), cancelChannel)
	if err != nil {
		return began, err
	}
	defer feed.close()
	g.following(mode, heard)
	if mode == tracks {
		wg.Go(func() {
			defer cancel()
			g.take(ctx, pushed, mode, heard)
		})
	}
	began = time.Now()
	g.take(ctx, feed, mode, heard)
	return began, nil
}

func (f Feed) close() {
	if f.Close != nil {
		f.Close()
	}
}

// following notes that the bell is heard from now on, and says so.
func (g *Governor) following(mode bellMode, heard chan<- struct{}) {
	g.mu.Lock()
	g.bell.mode, g.bell.greet = mode, true
	g.mu.Unlock()
	select {
	case heard <- struct{}{}:
	default:
	}
}

// take hears the messages of one feed until it or ctx ends.
func (g *Governor) take(ctx context.Context, feed Feed, mode bellMode, heard chan<- struct{}) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-feed.Gaps:
			g.mu.Lock()
			g.stats.Gaps++
			g.mu.Unlock()
			g.following(mode, heard)
		case m, ok := <-feed.Messages:
			if !ok {
				return
			}
			switch m.Channel {
			case cancelChannel:
				g.cancel(m.Payload)
			case "":
				g.pushed(m.Keys)
			default:
				g.hear(m.Payload)
			}
		}
	}
}

// prefixes are the beginnings of the keys whose changes matter.
func (g *Governor) prefixes() []string {
	if len(g.names) > manyQueues {
		return []string{queuePrefix}
	}
	all := make([]string, len(g.names))
	for i, name := range g.names {
		all[i] = keyOf(name, "")
	}
	return all
}
