package upstream_test

import (
	"context"
	"net"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A lookout is a hook that notes the commands that pass.
type lookout struct{ saw []string }

func (l *lookout) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (l *lookout) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		l.saw = append(l.saw, cmd.Name())
		return next(ctx, cmd)
	}
}

func (l *lookout) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, c := range cmds {
			l.saw = append(l.saw, c.Name())
		}
		return next(ctx, cmds)
	}
}

func TestAHookOnAViewSeesWhatTheViewSendsAndNothingElse(t *testing.T) {
	single := redistest.Start(t)
	node := redistest.Start(t, "--cluster-enabled", "yes")
	look := node.Client(t)
	if err := look.Do(t.Context(), "cluster", "addslotsrange", 0, 16383).Err(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the cluster is complete", func() bool {
		return look.Do(t.Context(), "set", "ready", "1").Err() == nil
	})
	for name, o := range map[string]upstream.Options{
		"with a pool":                {URL: single.URL()},
		"with one shared connection": {URL: single.URL(), Shared: true},
		"on a cluster":               {Cluster: []string{node.Addr}},
	} {
		t.Run(name, func(t *testing.T) {
			u, ctx := open(t, o), t.Context()
			first, second := &lookout{}, &lookout{}
			view := u.View(meter.Queue)
			view.AddHook(first)
			view.AddHook(second)
			before := u.Meter().Snapshot()

			if err := view.Set(ctx, "a", "1", 0).Err(); err != nil {
				t.Fatal(err)
			}
			if _, err := view.Pipelined(ctx, func(p redis.Pipeliner) error {
				p.Get(ctx, "a")
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := u.As(meter.Queue).Get(ctx, "a").Err(); err != nil {
				t.Fatal(err)
			}
			if err := u.View(meter.Queue).Get(ctx, "a").Err(); err != nil {
				t.Fatal(err)
			}
			want := []string{"set", "get"}
			for i, l := range []*lookout{first, second} {
				// The set-up of a pool's connection passes the hooks too.
				saw := slices.DeleteFunc(slices.Clone(l.saw), func(s string) bool { return s != "set" && s != "get" })
				if !slices.Equal(saw, want) {
					t.Errorf("hook %d saw %v, want %v", i, l.saw, want)
				}
			}
			charged := 0
			for _, r := range u.Meter().Snapshot().Sub(before).Rows {
				if r.Component == meter.Queue && (r.Command == "set" || r.Command == "get") {
					charged += int(r.Sent)
				}
			}
			if charged != 4 {
				t.Errorf("%d commands charged to the queue, want 4", charged)
			}
		})
	}
}
