package keys

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A node is one server that holds keys.
type node struct {
	addr string
	rdb  redis.Cmdable
	size int64
}

// mastered is what a client of a cluster has and others have not.
type mastered interface {
	ForEachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error
}

// nodes finds who holds keys, and how many: one DBSIZE for each.
func (a *audit) nodes(ctx context.Context) ([]node, error) {
	all := []node{{rdb: a.rdb}}
	if cluster, ok := a.rdb.(mastered); ok {
		all = nil
		var mu sync.Mutex
		err := cluster.ForEachMaster(ctx, func(_ context.Context, c *redis.Client) error {
			mu.Lock()
			defer mu.Unlock()
			all = append(all, node{addr: c.Options().Addr, rdb: c})
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("find nodes: %w", err)
		}
		slices.SortFunc(all, func(a, b node) int { return cmp.Compare(a.addr, b.addr) })
	}
	for i := range all {
		a.report.Sent++
		n, err := all[i].rdb.DBSize(ctx).Result()
		if err != nil {
			return nil, fmt.Errorf("count keys: %w", err)
		}
		all[i].size = n
		a.report.Keys += n
	}
	return all, nil
}

// names reads names: pages of SCAN from its beginning, or RANDOMKEY where SCAN is refused or goes by name.
// The same name may be there twice only after RANDOMKEY.
func (a *audit) names(ctx context.Context, nodes []node) ([]string, error) {
	r := a.report
	r.NamesFrom = "SCAN"
	names, err := a.scan(ctx, nodes)
	filtered := a.opts.pattern() != ""
	switch {
	case err != nil && (!refused(err) || filtered):
		return nil, fmt.Errorf("read names of keys: %w", err)
	case err != nil:
		r.Notes = append(r.Notes, "SCAN is refused here, so names were drawn with RANDOMKEY")
	case r.Complete || !inOrder(names):
		return names, nil
	case filtered:
		r.Notes = append(r.Notes, "this server scans in the order of names and not all were read, so shares are those of the first names")
		return names, nil
	default:
		r.Notes = append(r.Notes, "this server scans in the order of names, so they were drawn with RANDOMKEY instead")
	}
	return a.draw(ctx)
}

// scan reads pages, from each node in proportion to its size.
func (a *audit) scan(ctx context.Context, nodes []node) ([]string, error) {
	r := a.report
	seen := make(map[string]bool)
	names, complete := []string{}, true
	for _, n := range nodes {
		if n.size == 0 {
			continue
		}
		pages := max(1, int(int64(a.opts.scans())*n.size/max(r.Keys, 1)))
		count := max(minPage, min(2*n.size/int64(pages)+1, maxPage)) // a hash table has up to two places a key
		cursor := uint64(0)
		for range pages {
			r.Sent++
			page, next, err := n.rdb.Scan(ctx, cursor, a.opts.pattern(), count).Result()
			if err != nil {
				return nil, err
			}
			for _, name := range page {
				if !seen[name] && a.opts.wanted(name) {
					seen[name] = true
					names = append(names, name)
				}
			}
			if cursor = next; cursor == 0 {
				break
			}
		}
		complete = complete && cursor == 0
	}
	r.Complete = complete
	return names, nil
}

// draw takes names by lot with a quarter of the budget.
func (a *audit) draw(ctx context.Context) ([]string, error) {
	a.report.NamesFrom, a.report.Complete = "RANDOMKEY", false
	n := max(a.opts.Budget/4, 1)
	cmds := make([]*redis.StringCmd, n)
	a.report.Sent += n
	_, err := a.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range cmds {
			cmds[i] = p.RandomKey(ctx)
		}
		return nil
	})
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, fmt.Errorf("draw names of keys: %w", err)
	}
	var names []string
	for _, c := range cmds {
		if c.Err() == nil {
			names = append(names, c.Val())
		}
	}
	return names, nil
}

// inOrder reports names that come sorted, which those of a hash table do not.
func inOrder(names []string) bool {
	if len(names) < 50 {
		return false
	}
	rising := 0
	for i := 1; i < len(names); i++ {
		if names[i-1] < names[i] {
			rising++
		}
	}
	return rising*100 >= len(names)*95
}

// refused reports an answer that says this user or server has no such command: not observable here.
func refused(err error) bool {
	switch upstream.Classify(err) { //nolint:exhaustive // two of many classes are refusals
	case upstream.Unavailable, upstream.Permission:
		return true
	}
	return false
}
