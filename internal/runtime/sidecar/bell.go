package sidecar

import (
	"context"
	"sync"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// payloads follows one channel of the bell and hands on what was said there, without its wrapping. The
// channel is closed when the subscription is over. Close waits until nothing is left.
func payloads(ctx context.Context, bell *upstream.Bell, channel string) (messages chan []byte, gaps <-chan struct{}, done func(), err error) {
	sub, err := bell.Subscribe(ctx, channel)
	if err != nil {
		return nil, nil, nil, err
	}
	messages = make(chan []byte)
	ended := make(chan struct{})
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
				case messages <- m.Payload:
				case <-ended:
					return
				}
			case <-ended:
				return
			}
		}
	})
	var once sync.Once
	return messages, sub.Gaps(), func() {
		once.Do(func() {
			close(ended)
			_ = sub.Close()
			forwarding.Wait()
		})
	}, nil
}
