package upstream

import (
	"context"
	"fmt"
	"strings"
)

// trackBuffer is how many pushes a Subscription to changes may be behind before it is dropped: each job
// makes several.
const trackBuffer = 1 << 16

// A NoTrackingError reports that the server does not push changes of keys. It is a redis.Error, as a
// refusal of the server is.
type NoTrackingError struct{ Why string }

func (e *NoTrackingError) Error() string { return "changes of keys cannot be followed: " + e.Why }

// RedisError marks it as a refusal.
func (e *NoTrackingError) RedisError() {}

// Track follows every change of the keys that begin with one of prefixes, by whomever, until the
// Subscription is closed: a Message for each time the server has changed some, with all of them. Prefixes
// must not be the beginning of one another. It needs a server with CLIENT TRACKING, and none of a Cluster
// and not REST; otherwise it fails with a redis.Error. After a loss of the connection it follows again and
// says that there was a gap.
//
// It costs one CLIENT TRACKING, and a connection when nothing else is subscribed to. Databases are not told
// apart by the server.
func (b *Bell) Track(ctx context.Context, prefixes ...string) (*Subscription, error) {
	if _, ok := b.feed.(*socketFeed); !ok {
		return nil, &NoTrackingError{Why: "not over this transport"}
	}
	ts := channelsOf(prefixes)
	for i := range ts {
		ts[i].keys = true
	}
	return b.follow(ctx, ts, trackBuffer)
}

// changed hands a push of the server to those who follow the keys.
func (b *Bell) changed(keys []string) {
	b.mu.Lock()
	slow := false
	for t, f := range b.topics {
		if !t.keys {
			continue
		}
		m := Message{Keys: keysOf(t, keys)}
		if len(keys) > 0 && len(m.Keys) == 0 {
			continue
		}
		for s := range f.subs {
			select {
			case s.c <- m:
			default:
				slow = true
				b.dropLocked(s, ErrSlowSubscriber)
			}
		}
	}
	b.mu.Unlock()
	if slow {
		b.wg.Go(b.sweep)
	}
}

// keysOf are those of keys that belong to t. The server tells those of one prefix at a time.
func keysOf(t topic, keys []string) []string {
	for i, k := range keys {
		if strings.HasPrefix(k, t.name) {
			continue
		}
		var own []string
		for j, k := range keys {
			if j < i || strings.HasPrefix(k, t.name) {
				own = append(own, k)
			}
		}
		return own
	}
	return keys
}

// untracked ends the Subscriptions to changes: the server does not know how.
func (b *Bell) untracked(why error) {
	b.mu.Lock()
	for t, f := range b.topics {
		if !t.keys {
			continue
		}
		f.fail(why)
		for s := range f.subs {
			b.dropLocked(s, why)
		}
	}
	b.mu.Unlock()
	b.wg.Go(b.sweep)
}

// trackCommand asks for the changes of keys; more prefixes may be asked for later.
func trackCommand(ts []topic) []string {
	words := []string{"client", "tracking", "on", "bcast"}
	for _, t := range ts {
		words = append(words, "prefix", t.name)
	}
	return words
}

func noTracking(reply string) error {
	return &NoTrackingError{Why: fmt.Sprintf("the server says %q", reply)}
}
