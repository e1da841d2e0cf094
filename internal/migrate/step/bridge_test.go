package step_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/step"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// toAsynq is the route of an empty queue to redisopt's own.
func toAsynq() step.Route {
	return step.Route{
		From: mover.Endpoint{Layout: mover.Bull, Major: 4, Prefix: "bull", Queue: "mail"},
		To:   mover.Endpoint{Layout: mover.Asynq, Prefix: "asynq", Queue: "mail"},
	}
}

// addBull adds a job as Bull does.
func addBull(t *testing.T, client *redis.Client, e mover.Endpoint, id int) {
	t.Helper()
	_, err := client.TxPipelined(t.Context(), func(p redis.Pipeliner) error {
		stamp := 1795380456000 + id
		p.HSet(t.Context(), e.Key(fmt.Sprint(id)), "name", "__default__", "data", fmt.Sprintf(`{"n":%d}`, id), "timestamp", stamp,
			"opts", fmt.Sprintf(`{"attempts":1,"delay":0,"timestamp":%d}`, stamp), "delay", 0, "priority", 0)
		p.LPush(t.Context(), e.Key("wait"), id)
		p.Set(t.Context(), e.Key("id"), id, 0)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestABridgeTakesOverWhatAStragglingProducerAdds(t *testing.T) {
	for name, to := range map[string]mover.Endpoint{
		"asynq":  {Layout: mover.Asynq, Prefix: "asynq", Queue: "mail"},
		"bullmq": {Layout: mover.BullMQ, Major: 6, Prefix: "bullmq", Queue: "mail"},
	} {
		t.Run(name, func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			route := toAsynq()
			route.To = to
			rings := make(chan struct{}, 1)
			moved := make(chan step.Bridged, 10)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			ended := make(chan error, 1)
			var sum step.Bridged
			addBull(t, client, route.From, 1)
			go func() {
				var err error
				sum, err = step.Bridge(ctx, client, route, step.BridgeOptions{
					Every: time.Hour, WorkersStopped: true,
					Track: func(_ context.Context, prefixes ...string) (migrate.Rings, error) {
						if len(prefixes) == 0 {
							return migrate.Rings{}, errors.New("no prefixes")
						}
						return migrate.Rings{C: rings, Close: func() {}}, nil
					},
					OnMoved: func(b step.Bridged) { moved <- b },
				})
				ended <- err
			}()
			next := func() step.Bridged {
				select {
				case b := <-moved:
					return b
				case <-time.After(soon):
					t.Fatal("nothing was moved")
					return step.Bridged{}
				}
			}
			if first := next(); first.Moved[mover.Waiting] != 1 {
				t.Errorf("the first pass moved %v, want the job that was there", first.Moved)
			}
			addBull(t, client, route.From, 2)
			rings <- struct{}{}
			if second := next(); second.Moved[mover.Waiting] != 2 {
				t.Errorf("after the bell %v were moved in all, want 2", second.Moved)
			}
			stop()
			if err := <-ended; err != nil {
				t.Errorf("a bridge whose time is over: %v, want nil", err)
			}
			if sum.Moved[mover.Waiting] != 2 || sum.Passes != 2 {
				t.Errorf("it says it did %+v, want 2 jobs in 2 passes", sum)
			}
			if n, err := mover.Counts(t.Context(), client, to); err != nil || n[mover.Waiting] != 2 {
				t.Errorf("the target has %v, %v, want 2 waiting", n, err)
			}
			if to.Layout == mover.Asynq && client.Exists(t.Context(), to.Key("paused")).Val() != 0 {
				t.Error("the target is paused, although its workers run")
			}
		})
	}
}

// The pass has read the queue already, and counts only afterwards what it has left behind.
func TestABridgeTakesOverWhatIsAddedBehindAPass(t *testing.T) {
	client := redistest.Start(t).Client(t)
	route := toAsynq()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	addBull(t, client, route.From, 1)
	added := false
	sum, err := step.Bridge(ctx, client, route, step.BridgeOptions{
		Every: time.Hour, WorkersStopped: true,
		OnMoved: func(step.Bridged) {
			if !added {
				addBull(t, client, route.From, 2)
				added = true
				return
			}
			cancel()
		},
	})
	if err != nil || sum.Moved[mover.Waiting] != 2 {
		t.Errorf("it moved %v, %v, want both jobs", sum.Moved, err)
	}
}

// A worker that ends can leave a job in the active list that it had taken and not begun.
func TestABridgeTakesOverWhatAWorkerLeavesInTheActiveList(t *testing.T) {
	for name, lock := range map[string]bool{"locked when it is seen first": true, "taken before it was seen at all": false} {
		t.Run(name, func(t *testing.T) {
			client := redistest.Start(t).Client(t)
			route := toAsynq()
			looks, holds := make(chan struct{}, 1), make(chan struct{}, 1)
			note := func(seen chan struct{}) func() {
				return func() {
					select {
					case seen <- struct{}{}:
					default:
					}
				}
			}
			client.AddHook(countHook{"exists " + route.From.Key("wait"), note(looks)})
			client.AddHook(countHook{"lrange " + route.From.Key("active"), note(holds)})
			moved, ended := make(chan step.Bridged, 1), make(chan error, 1)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			addBull(t, client, route.From, 1)
			if lock {
				client.Set(ctx, route.From.Key("1:lock"), "token", 0)
				client.LMove(ctx, route.From.Key("wait"), route.From.Key("active"), "RIGHT", "LEFT")
			}
			go func() {
				_, err := step.Bridge(ctx, client, route, step.BridgeOptions{
					Every: 10 * time.Millisecond, WorkersStopped: true, OnMoved: func(b step.Bridged) { moved <- b },
				})
				ended <- err
			}()
			if lock {
				<-holds
				client.Del(ctx, route.From.Key("1:lock"))
			} else {
				<-moved
				<-looks
				addBull(t, client, mover.Endpoint{Layout: mover.Bull, Prefix: "bull", Queue: "elsewhere"}, 2)
				client.Rename(ctx, "bull:elsewhere:2", route.From.Key("2"))
				client.LPush(ctx, route.From.Key("active"), 2)
			}
			select {
			case <-moved:
			case <-time.After(soon):
				t.Error("the job is still in the active list")
			}
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
}

func TestAnIdleBridgeCostsOneCommandALook(t *testing.T) {
	client := redistest.Start(t).Client(t)
	route := toAsynq()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	looks := make(chan struct{})
	client.AddHook(countHook{"exists " + route.From.Key("wait"), func() { looks <- struct{}{} }})
	ended := make(chan step.Bridged, 1)
	go func() {
		sum, _ := step.Bridge(ctx, client, route, step.BridgeOptions{Every: 10 * time.Millisecond, WorkersStopped: true})
		ended <- sum
	}()
	for range 5 {
		<-looks
	}
	stop()
	for {
		select {
		case <-looks:
			continue
		case sum := <-ended:
			if sum.Passes != 1 || sum.Looks < 6 {
				t.Errorf("%d passes and %d looks, want 1 and at least 6", sum.Passes, sum.Looks)
			}
			return
		}
	}
}

func TestABridgeEndsWithTheLease(t *testing.T) {
	client := redistest.Start(t).Client(t)
	route := toAsynq()
	addBull(t, client, route.From, 1)
	_, err := step.Bridge(t.Context(), client, route, step.BridgeOptions{Fence: mover.Fence{Key: "lease", Token: "mine"}})
	if !errors.Is(err, migrate.ErrLeaseLost) {
		t.Errorf("without the lease: %v, want ErrLeaseLost", err)
	}
	route.To = mover.Endpoint{Layout: mover.BullMQ, Major: 6, Prefix: "bull", Queue: "mail"}
	if _, err := step.Bridge(t.Context(), client, route, step.BridgeOptions{}); !errors.Is(err, step.ErrNoBridge) {
		t.Errorf("in place: %v, want ErrNoBridge", err)
	}
	if _, err := step.Bridge(t.Context(), client, toAsynq(), step.BridgeOptions{Every: 1}); err == nil {
		t.Error("a look each nanosecond was accepted")
	}
}

// countHook calls f after each command that begins so.
type countHook struct {
	name string
	f    func()
}

func (h countHook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h countHook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (h countHook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		if args := cmd.Args(); len(args) > 1 && fmt.Sprint(args[0], " ", args[1]) == h.name {
			h.f()
		}
		return err
	}
}

func TestAQueueOfBullMQGoesToTheOtherVersionWhenThatIsSaid(t *testing.T) {
	client := redistest.Start(t).Client(t)
	from := mover.Endpoint{Layout: mover.BullMQ, Major: 5, Prefix: "bull", Queue: "mail"}
	client.HSet(t.Context(), from.Key("meta"), "version", "bullmq:5.81.5")
	r := step.Request{Queue: "mail", Prefix: "bull", ToPrefix: "mq6", Major: 6}
	route, err := r.Find(t.Context(), client, migrate.State{Stage: migrate.NotStarted})
	if err != nil || route.From != from || route.To.Major != 6 || route.To.Prefix != "mq6" {
		t.Errorf("to 6: %+v, %v", route, err)
	}
	r.Major = 0
	var layout *step.LayoutError
	if _, err := r.Find(t.Context(), client, migrate.State{Stage: migrate.NotStarted}); !errors.As(err, &layout) {
		t.Errorf("without saying so: %v, want a LayoutError", err)
	}
}
