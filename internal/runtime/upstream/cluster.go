package upstream

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"
)

// A clusterView is the client of one component over a shared cluster client, which cannot be cloned
// with hooks of its own. Its commands come from a client that never dials: the hook that does the
// work hands them to the cluster under the component's tag.
type clusterView struct {
	*redis.Client
	cluster *redis.ClusterClient
	hook    *tagger

	mu    sync.Mutex // guards added, and one change of the front's hooks at a time
	added []redis.Hook
	outer *middle
}

func newClusterView(cluster *redis.ClusterClient, hook *tagger) redis.UniversalClient {
	front := redis.NewClient(&redis.Options{Addr: "cluster", PoolSize: 1, PipelinePoolSize: -1})
	outer := &middle{}
	front.AddHook(hook)
	front.AddHook(outer)
	front.AddHook(diverter{cluster})
	return &clusterView{Client: front, cluster: cluster, hook: hook, outer: outer}
}

// AddHook adds a hook inside those that are there, as every client does; the cluster stays innermost.
// It must not be called while commands are under way.
func (v *clusterView) AddHook(hook redis.Hook) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.added = append(v.added, hook)
	v.outer.hooks = v.added
	// The front builds its chain anew whenever a hook is added; this one passes everything on.
	v.Client.AddHook(&middle{})
}

// A middle stands for the hooks that were added after the chain was made.
type middle struct{ hooks []redis.Hook }

func (m *middle) DialHook(next redis.DialHook) redis.DialHook { return next }

func (m *middle) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	for _, hook := range slices.Backward(m.hooks) {
		if wrapped := hook.ProcessHook(next); wrapped != nil {
			next = wrapped
		}
	}
	return next
}

func (m *middle) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	for _, hook := range slices.Backward(m.hooks) {
		if wrapped := hook.ProcessPipelineHook(next); wrapped != nil {
			next = wrapped
		}
	}
	return next
}

// Watch runs fn with a transaction on the node that holds keys. The commands inside are untagged.
func (v *clusterView) Watch(ctx context.Context, fn func(*redis.Tx) error, keys ...string) error {
	return v.cluster.Watch(v.hook.context(ctx), fn, keys...)
}

func (v *clusterView) Subscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return v.cluster.Subscribe(ctx, channels...)
}

func (v *clusterView) PSubscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return v.cluster.PSubscribe(ctx, channels...)
}

func (v *clusterView) SSubscribe(ctx context.Context, channels ...string) *redis.PubSub {
	return v.cluster.SSubscribe(ctx, channels...)
}

// ForEachShard calls fn for every node, replicas included, concurrently. What fn sends is charged to the
// view's component, and refused as on any other connection.
func (v *clusterView) ForEachShard(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	return unfinal(v.cluster.ForEachShard(v.hook.context(ctx), fn))
}

// ForEachMaster is ForEachShard without the replicas.
func (v *clusterView) ForEachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	return unfinal(v.cluster.ForEachMaster(v.hook.context(ctx), fn))
}

func (v *clusterView) PoolStats() *redis.PoolStats { return v.cluster.PoolStats() }

// Close does nothing: the Upstream closes the cluster client.
func (v *clusterView) Close() error { return nil }

// A diverter ends the chain of hooks at the cluster instead of at its own client's pool.
type diverter struct{ cluster *redis.ClusterClient }

func (d diverter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (d diverter) ProcessHook(redis.ProcessHook) redis.ProcessHook { return d.cluster.Process }

func (d diverter) ProcessPipelineHook(redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		pipe := d.cluster.Pipeline()
		if isTransaction(cmds) {
			pipe, cmds = d.cluster.TxPipeline(), cmds[1:len(cmds)-1]
		}
		for _, c := range cmds {
			if err := pipe.Process(ctx, c); err != nil {
				return err
			}
		}
		_, err := pipe.Exec(ctx)
		return err
	}
}

// isTransaction is whether the client has wrapped cmds in MULTI and EXEC.
func isTransaction(cmds []redis.Cmder) bool {
	return len(cmds) > 2 && cmds[0].Name() == "multi" && cmds[len(cmds)-1].Name() == "exec"
}

// A final error hides a failure of the transport from the library's cluster client, which would
// otherwise send the command again, whatever it is, when the reply does not come or the connection
// breaks. The hook takes it off again. It deliberately has no Unwrap.
type final struct{ err error }

func (f *final) Error() string { return f.err.Error() }

// final keeps err from being acted upon below the hook.
func (u *Upstream) final(err error) error {
	if len(u.opts.Cluster) == 0 {
		return err
	}
	return &final{err}
}

// unfinal is err as it was before final.
func unfinal(err error) error {
	if f, ok := errors.AsType[*final](err); ok {
		return f.err
	}
	return err
}
