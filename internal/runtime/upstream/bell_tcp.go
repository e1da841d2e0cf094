package upstream

import (
	"context"
	"errors"

	"github.com/redis/go-redis/v9"
)

// A pubSubFeed is the one connection to a Cluster, where the client library knows the nodes.
type pubSubFeed struct {
	bell   *Bell
	client redis.UniversalClient // never sends a command, so it has no connection of its own
	pubsub *redis.PubSub
	done   chan struct{} // closed when its reader has ended
}

func (p *pubSubFeed) add(ctx context.Context, ts []topic) error {
	if p.pubsub == nil {
		if p.client == nil {
			p.client = p.bell.up.newBellClient()
		}
		p.pubsub = p.client.Subscribe(p.bell.ctx)
		p.done = make(chan struct{})
		if err := p.subscribe(ctx, ts); err != nil {
			close(p.done)
			p.close()
			return err
		}
		go p.bell.listen(p.pubsub, p.done)
		return nil
	}
	// When it cannot be sent the connection is gone, and the reader subscribes to everything anew.
	_ = p.subscribe(ctx, ts)
	return nil
}

func (p *pubSubFeed) subscribe(ctx context.Context, ts []topic) error {
	channels, patterns := split(ts)
	if len(channels) > 0 {
		if err := p.pubsub.Subscribe(ctx, channels...); err != nil {
			return err
		}
	}
	if len(patterns) > 0 {
		return p.pubsub.PSubscribe(ctx, patterns...)
	}
	return nil
}

func split(ts []topic) (channels, patterns []string) {
	for _, t := range ts {
		if t.pattern {
			patterns = append(patterns, t.name)
		} else {
			channels = append(channels, t.name)
		}
	}
	return channels, patterns
}

func (p *pubSubFeed) remove(ts []topic) {
	if p.pubsub == nil {
		return
	}
	channels, patterns := split(ts)
	ctx, cancel := context.WithTimeout(p.bell.ctx, p.bell.up.opts.Timeout)
	defer cancel()
	// What cannot be sent has no need to be: the connection is gone.
	if len(channels) > 0 {
		_ = p.pubsub.Unsubscribe(ctx, channels...)
	}
	if len(patterns) > 0 {
		_ = p.pubsub.PUnsubscribe(ctx, patterns...)
	}
}

func (p *pubSubFeed) close() {
	if p.pubsub != nil {
		_ = p.pubsub.Close()
		<-p.done
		p.pubsub = nil
	}
	if p.client != nil {
		_ = p.client.Close()
		p.client = nil
	}
}

// listen reads one connection after another until ps is closed.
func (b *Bell) listen(ps *redis.PubSub, done chan struct{}) {
	defer close(done)
	for failed := 0; ; {
		m, err := ps.Receive(b.ctx)
		switch m := m.(type) {
		case *redis.Subscription:
			failed = 0
			if m.Kind == "subscribe" || m.Kind == "psubscribe" {
				b.confirmed(topic{name: m.Channel, pattern: m.Kind == "psubscribe"})
			}
		case *redis.Message:
			failed = 0
			t := topic{name: m.Channel}
			if m.Pattern != "" {
				t = topic{name: m.Pattern, pattern: true}
			}
			b.deliver(t, Message{Pattern: m.Pattern, Channel: m.Channel, Payload: []byte(m.Payload)})
		}
		if err == nil {
			continue
		}
		if errors.Is(err, redis.ErrClosed) || b.ctx.Err() != nil {
			return
		}
		if server, ok := errors.AsType[redis.Error](err); ok {
			b.refused(server)
			continue
		}
		b.lost()
		if !b.pause(failed) {
			return
		}
		failed++
	}
}

// newBellClient makes a client for subscriptions only, which dials for itself.
func (u *Upstream) newBellClient() redis.UniversalClient {
	c := u.newClient(u.dial, false)
	if single, ok := c.(*redis.Client); ok {
		single.Options().Network = networkPrefix + string(u.opts.Component)
	}
	return c
}
