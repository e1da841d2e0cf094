package demo

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/queue/governor"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// ourQueues is how many queues the engine is given: as many as the simulated application has.
const ourQueues = 11

// enginePatience is how long the engine may take to be ready, on a machine however busy.
const enginePatience = time.Minute

// ours runs redisopt's own engine with eleven queues on a Redis of its own, the way redisopt serve does, and
// adds a row to the table: the connections as that Redis lists them, and the commands as the engine
// registers everything that it sends while there is nothing to do. Tests hold that list against what a
// real server counts.
func (j *journey) ours(ctx context.Context) (err error) {
	server, err := embedded.Start(ctx, embedded.Options{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, server.Close()) }()
	up, err := upstream.Open(ctx, upstream.Options{URL: server.URL(), Component: meter.Queue, Shared: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, up.Close()) }()

	var queues []queue.Queue
	for i := range ourQueues {
		queues = append(queues, queue.Queue{Name: fmt.Sprintf("queue-%02d", i+1), Mode: queue.Lease})
	}
	engine, err := queue.New(queue.Options{
		Client: up.View(meter.Queue), Jobs: up.View(meter.Queue), Queues: queues,
		Governor: governor.Options{Subscribe: func(ctx context.Context, channels ...string) (governor.Feed, error) {
			return sidecar.FeedOf(up.Bell().Subscribe(ctx, channels...))
		}},
	})
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- engine.Run(running) }()
	defer func() {
		stop()
		err = errors.Join(err, <-ended)
	}()

	// A job there and back shows that it works, and opens whatever is opened by working.
	if _, err := engine.Enqueue(ctx, queue.EnqueueRequest{Queue: queues[0].Name, ID: "demo"}); err != nil {
		return err
	}
	leased, err := engine.Lease(ctx, queues[0].Name, 1, enginePatience)
	if err != nil {
		return err
	}
	if len(leased) != 1 {
		return fmt.Errorf("its job was not there after %s", enginePatience)
	}
	if err := engine.Complete(ctx, leased[0].Token, nil); err != nil {
		return err
	}
	list, err := up.Client().ClientList(ctx).Result()
	if err != nil {
		return err
	}
	month := engine.MonthlyCost()
	j.result.Table = append(j.result.Table, Setup{
		Name: "redisopt serve, its own queues", Connections: strings.Count(list, "\n"), TopPerMonth: month, AllPerMonth: month,
		Source: "run here, priced",
	})
	return nil
}
