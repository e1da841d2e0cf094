package mover

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	scanCount       = 1000
	defaultScanKeys = 1000000
)

// ErrTooManyKeys reports that a search gave up before it had seen every key.
var ErrTooManyKeys = errors.New("the database has more keys than the search may look at: name a prefix, or raise the limit")

// DetectQueues finds the queues under opts.Prefix without counting their jobs, sorted. A queue is
// told by its containers, and BullMQ from Bull by what only BullMQ writes. Price: a SCAN over the
// whole database by 1,000 keys, and sixteen commands for each name that may be a queue.
func DetectQueues(ctx context.Context, client redis.UniversalClient, opts ListOptions) ([]Endpoint, error) {
	bases, err := queueNames(ctx, client, opts)
	if err != nil {
		return nil, err
	}
	found := []Endpoint{}
	for _, base := range bases {
		at := strings.LastIndexByte(base, ':')
		prefix, queue := base[:at], base[at+1:]
		if opts.Prefix != "" {
			prefix, queue = opts.Prefix, strings.TrimPrefix(base, opts.Prefix+":")
		}
		e, ok, err := detect(ctx, client, prefix, queue)
		if err != nil {
			return nil, err
		}
		if ok {
			found = append(found, e)
		}
	}
	return found, nil
}

// queueNames scans for keys that end like a queue's containers and returns prefix:queue of each.
func queueNames(ctx context.Context, client redis.UniversalClient, opts ListOptions) ([]string, error) {
	most := opts.MaxKeys
	if most <= 0 {
		most = defaultScanKeys
	}
	match := "*"
	if opts.Prefix != "" {
		match = globEscape(opts.Prefix) + ":*"
	}
	suffixes := map[string]bool{}
	for _, c := range containers(BullMQ) {
		suffixes[c[0]] = true
	}
	names := map[string]bool{}
	looked := int64(0)
	err := eachMaster(ctx, client, func(ctx context.Context, node redis.Cmdable) error {
		var cursor uint64
		for {
			keys, next, err := node.Scan(ctx, cursor, match, scanCount).Result()
			if err != nil {
				return fmt.Errorf("scan %q: %w", match, err)
			}
			for _, key := range keys {
				at := strings.LastIndexByte(key, ':')
				if at <= 0 || !suffixes[key[at+1:]] || strings.IndexByte(key[:at], ':') < 0 {
					continue
				}
				if strings.HasPrefix(key, "asynq:{") { // some of its containers are called the same
					continue
				}
				names[key[:at]] = true
			}
			if cursor = next; cursor == 0 {
				return nil
			}
			if looked += scanCount; looked >= most {
				return ErrTooManyKeys
			}
		}
	})
	if err != nil {
		return nil, err
	}
	bases := make([]string, 0, len(names))
	for name := range names {
		bases = append(bases, name)
	}
	slices.Sort(bases)
	return bases, nil
}

// Detect looks at one name and says in which layout a queue is kept there. ok is false when it is no
// queue. Price: sixteen commands, and two more where there is a counter or a note of the library's.
func Detect(ctx context.Context, client redis.UniversalClient, prefix, queue string) (e Endpoint, ok bool, err error) {
	return detect(ctx, client, prefix, queue)
}

// detect looks at one name. ok is false when it is no queue.
func detect(ctx context.Context, client redis.UniversalClient, prefix, queue string) (e Endpoint, ok bool, err error) {
	if prefix == asynqPrefix {
		if e, ok, err = detectAsynq(ctx, client, queue); ok || err != nil {
			return e, ok, err
		}
	}
	e = Endpoint{Layout: Bull, Major: 4, Prefix: prefix, Queue: queue}
	all := append(containers(BullMQ), [2]string{"priority", "zset"}, [2]string{"meta-paused", "string"})
	types := make([]*redis.StatusCmd, len(all))
	_, err = client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, c := range all {
			types[i] = p.Type(ctx, e.Key(c[0]))
		}
		return nil
	})
	if err != nil {
		return e, false, fmt.Errorf("read types of %s: %w", e.Key("*"), err)
	}
	is := map[string]bool{}
	for i, c := range all {
		is[c[0]] = types[i].Val() == c[1]
	}
	jobs := is["wait"] || is["paused"] || is["active"] || is["delayed"] || is["completed"] || is["failed"] ||
		is["repeat"] || is["prioritized"] || is["waiting-children"] || is["marker"] || is["events"]
	counter := is["id"]
	if counter {
		raw, err := client.Get(ctx, e.Key("id")).Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return e, false, fmt.Errorf("read %q: %w", e.Key("id"), err)
		}
		_, err = strconv.ParseInt(raw, 10, 64)
		counter = err == nil
	}
	var meta []any
	if is["meta"] {
		if meta, err = client.HMGet(ctx, e.Key("meta"), "version", "opts.maxLenEvents", "paused").Result(); err != nil {
			return e, false, fmt.Errorf("read %q: %w", e.Key("meta"), err)
		}
	}
	own := is["marker"] || is["events"] || is["prioritized"] || is["pc"] || is["waiting-children"]
	noted := len(meta) == 3 && (meta[0] != nil || meta[1] != nil)
	if !jobs && !counter && !noted && !is["meta-paused"] {
		return e, false, nil
	}
	if own || noted {
		e.Layout, e.Major = BullMQ, 5
		version := ""
		if len(meta) == 3 {
			version, _ = meta[0].(string)
		}
		if number, ok := strings.CutPrefix(version, "bullmq:"); ok {
			major, _, _ := strings.Cut(number, ".")
			if n, err := strconv.Atoi(major); err == nil && n >= 6 {
				e.Major = 6
			}
		}
	}
	return e, true, nil
}
