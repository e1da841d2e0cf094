package upstream

import (
	"context"

	"github.com/redisopt/redisopt/internal/runtime/upstream/rest"
)

// A streamFeed is one stream over HTTP for each topic.
type streamFeed struct {
	bell *Bell
	open map[topic]*stream
}

type stream struct {
	sub  *rest.Subscription
	done chan struct{}
}

func (f *streamFeed) add(ctx context.Context, ts []topic) error {
	for _, t := range ts {
		if f.open[t] != nil {
			f.bell.confirmed(t)
			continue
		}
		channels, patterns := split([]topic{t})
		sub, err := f.bell.up.rest.Subscribe(ctx, f.bell.up.opts.Component, channels, patterns)
		if err != nil {
			return err
		}
		s := &stream{sub, make(chan struct{})}
		f.open[t] = s
		f.bell.confirmed(t)
		go f.listen(t, s)
	}
	return nil
}

func (f *streamFeed) listen(t topic, s *stream) {
	defer close(s.done)
	for {
		select {
		case m, ok := <-s.sub.C():
			if !ok {
				return
			}
			f.bell.deliver(t, Message{Pattern: m.Pattern, Channel: m.Channel, Payload: m.Payload})
		case <-s.sub.Gaps():
			f.bell.lost(t)
			f.bell.confirmed(t)
		}
	}
}

func (f *streamFeed) remove(ts []topic) {
	for _, t := range ts {
		if s := f.open[t]; s != nil {
			_ = s.sub.Close()
			<-s.done
			delete(f.open, t)
		}
	}
}

func (f *streamFeed) close() {
	for t := range f.open {
		f.remove([]topic{t})
	}
}
