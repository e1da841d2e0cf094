package mover

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// An Attachment is one connection that belongs to a queue.
type Attachment struct {
	Addr string `json:"addr"` // host:port of the client; empty for a subscriber known only by its channel
	Name string `json:"name"`
	Role string `json:"role"` // worker, events, subscriber
}

// An AttachedError reports that somebody is connected to a queue that may only be changed alone.
type AttachedError struct {
	Endpoint Endpoint
	Who      []Attachment
}

func (e *AttachedError) Error() string {
	names := make([]string, 0, len(e.Who))
	for _, a := range e.Who {
		names = append(names, strings.TrimSpace(a.Role+" "+a.Addr))
	}
	return fmt.Sprintf("live worker or producer attached to %s: %s", e.Endpoint, strings.Join(names, ", "))
}

// attached lists who is connected to e, as far as connections carry the queue's name. Producers have
// no name and are not seen. known is false where the server does not tell (no CLIENT LIST, or not
// allowed). Price: CLIENT LIST and, for Bull, PUBSUB NUMSUB.
func attached(ctx context.Context, client redis.UniversalClient, e Endpoint) (who []Attachment, known bool, err error) {
	name := e.Prefix + ":" + base64.StdEncoding.EncodeToString([]byte(e.Queue))
	who = []Attachment{}
	subscribers := int64(0)
	err = eachNode(ctx, client, func(ctx context.Context, node redis.Cmdable) error {
		list, err := node.ClientList(ctx).Result()
		if err != nil {
			return fmt.Errorf("list clients: %w", err)
		}
		who = append(who, named(list, name)...)
		if e.Layout != Bull {
			return nil
		}
		subs, err := node.PubSubNumSub(ctx, e.Key("delayed")).Result()
		if err != nil {
			return fmt.Errorf("count subscribers: %w", err)
		}
		subscribers += subs[e.Key("delayed")]
		return nil
	})
	if _, refused := errors.AsType[redis.Error](err); refused {
		return who, false, nil
	}
	if err != nil {
		return nil, false, err
	}
	if subscribers > 0 {
		who = append(who, Attachment{Name: e.Key("delayed"), Role: fmt.Sprintf("%d subscriber(s)", subscribers)})
	}
	return who, true, nil
}

// clustered is what a client of a cluster has and others have not.
type clustered interface {
	ForEachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error
	ForEachShard(ctx context.Context, fn func(context.Context, *redis.Client) error) error
}

// eachMaster calls f for every node that holds keys, one after the other.
func eachMaster(ctx context.Context, client redis.UniversalClient, f func(context.Context, redis.Cmdable) error) error {
	if cluster, ok := client.(clustered); ok {
		return cluster.ForEachMaster(ctx, inTurn(f))
	}
	return f(ctx, client)
}

// eachNode calls f for every node that clients may be connected to, one after the other.
func eachNode(ctx context.Context, client redis.UniversalClient, f func(context.Context, redis.Cmdable) error) error {
	if cluster, ok := client.(clustered); ok {
		return cluster.ForEachShard(ctx, inTurn(f))
	}
	return f(ctx, client)
}

// inTurn keeps the library, which asks all nodes at once, from calling f concurrently.
func inTurn(f func(context.Context, redis.Cmdable) error) func(context.Context, *redis.Client) error {
	var mu sync.Mutex
	return func(ctx context.Context, node *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		return f(ctx, node)
	}
}

// named picks from the text of CLIENT LIST the connections whose name is name, or begins with it and
// a colon.
func named(list, name string) []Attachment {
	var found []Attachment
	for line := range strings.Lines(list) {
		a := Attachment{Role: "worker"}
		for part := range strings.FieldsSeq(line) {
			if v, ok := strings.CutPrefix(part, "name="); ok {
				a.Name = v
			} else if v, ok := strings.CutPrefix(part, "addr="); ok {
				a.Addr = v
			}
		}
		suffix, ok := strings.CutPrefix(a.Name, name)
		if !ok || (suffix != "" && suffix[0] != ':') {
			continue
		}
		if suffix == ":qe" {
			a.Role = "events"
		}
		found = append(found, a)
	}
	return found
}

// unattended says whether active jobs without a lock can have no living owner: nobody who could
// have just taken one is connected, or the operator said so.
func (m *Mover) unattended(ctx context.Context) (bool, error) {
	if m.opts.WorkersStopped || m.opts.From.Layout == Asynq { // the end of a lease says it
		return true, nil
	}
	who, known, err := attached(ctx, m.client, m.opts.From)
	if err != nil || !known {
		return false, err
	}
	for _, a := range who {
		if a.Role != "events" {
			return false, nil
		}
	}
	return true, nil
}

// ignoreReplies keeps only errors that are not an answer of the server to one command of a pipeline.
func ignoreReplies(err error) error {
	var refused redis.Error
	if errors.As(err, &refused) || errors.Is(err, redis.Nil) {
		return nil
	}
	return err
}
