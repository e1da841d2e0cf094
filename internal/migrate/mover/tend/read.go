package tend

import (
	"context"
	"crypto/sha1" //nolint:gosec // it tells whether fields changed, as redis.sha1hex does; nothing is kept secret by it
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// pageSize is how many ids of a container are read at once.
const pageSize = 200

// A placed is an id as it is in its container.
type placed struct {
	id    string
	score float64
}

// newestFirst says which end of c people look at first: what finished last, and what runs next.
func (c container) newestFirst() bool {
	return !c.list && (c.state == mover.Completed || c.state == mover.Failed)
}

// window reads n ids of c from the given rank. As people look at it: what runs next, or finished last,
// comes first. Otherwise in the order in which a container that others add to and take from shifts
// nothing past the reader: lists from the left, where jobs are added, sets from the lowest score. One
// command.
func (q *Queue) window(ctx context.Context, c container, from, n int64, people bool) ([]placed, error) {
	var (
		ids    []string
		scored []redis.Z
		err    error
	)
	switch {
	case c.list && people:
		ids, err = q.client.LRange(ctx, c.key, -(from + n), -(from + 1)).Result()
		slices.Reverse(ids)
	case c.list:
		ids, err = q.client.LRange(ctx, c.key, from, from+n-1).Result()
	case people && c.newestFirst():
		scored, err = q.client.ZRevRangeWithScores(ctx, c.key, from, from+n-1).Result()
	default:
		scored, err = q.client.ZRangeWithScores(ctx, c.key, from, from+n-1).Result()
	}
	if err != nil {
		return nil, fmt.Errorf("read %q: %w", c.key, wrongType(err, c.key))
	}
	page := make([]placed, 0, max(len(ids), len(scored)))
	for _, id := range ids {
		page = append(page, placed{id: id})
	}
	for _, z := range scored {
		page = append(page, placed{id: fmt.Sprint(z.Member), score: z.Score})
	}
	return page, nil
}

// wrongType names the key where the server only says that it is of another type.
func wrongType(err error, key string) error {
	var refused redis.Error
	if errors.As(err, &refused) && strings.HasPrefix(err.Error(), "WRONGTYPE") {
		return &mover.WrongTypeError{Key: key}
	}
	return err
}

// A found is a job with the fields of its hash, for who must say later that they have not changed.
type found struct {
	Job
	fields map[string]string
}

// read reads the jobs of a page: one command for each, none where n needs nothing of their hashes.
func (q *Queue) read(ctx context.Context, c container, page []placed, n needs) ([]found, error) {
	jobs := make([]found, len(page))
	if !n.hash && !n.data && !n.all {
		for i, p := range page {
			jobs[i].Job = q.decode(p, c, map[string]string{"": ""}, needs{})
			jobs[i].Problem = ""
		}
		return jobs, nil
	}
	names := q.hashFields(n)
	base := q.jobBase(c.band)
	some := make([]*redis.SliceCmd, len(page))
	all := make([]*redis.MapStringStringCmd, len(page))
	_, err := q.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i := range page {
			if n.all {
				all[i] = p.HGetAll(ctx, base+page[i].id)
			} else {
				some[i] = p.HMGet(ctx, base+page[i].id, names...)
			}
		}
		return nil
	})
	if err := onlyReplies(err); err != nil {
		return nil, fmt.Errorf("read jobs of %q: %w", c.key, err)
	}
	for i := range page {
		fields, err := map[string]string{}, error(nil)
		if n.all {
			fields, err = all[i].Result()
		} else {
			var reply []any
			reply, err = some[i].Result()
			for at, v := range reply {
				if s, ok := v.(string); ok {
					fields[names[at]] = s
				}
			}
		}
		if err != nil && !strings.HasPrefix(err.Error(), "WRONGTYPE") {
			return nil, fmt.Errorf("read job %q of %q: %w", page[i].id, c.key, err)
		}
		jobs[i] = found{Job: q.decode(page[i], c, fields, n), fields: fields}
		if err != nil {
			jobs[i].Problem = fmt.Sprintf("%s is no hash", base+page[i].id)
		}
	}
	return jobs, nil
}

// onlyReplies keeps what is not the server's answer to one command of a pipeline.
func onlyReplies(err error) error {
	var refused redis.Error
	if errors.Is(err, redis.Nil) || (errors.As(err, &refused) && strings.HasPrefix(refused.Error(), "WRONGTYPE")) {
		return nil
	}
	return err
}

// seal is a short proof of what the named fields of a hash were; the scripts make the same of what they
// find.
func seal(names []string, fields map[string]string) string {
	h := sha1.New() //nolint:gosec // see the import
	for _, name := range names {
		v, ok := fields[name]
		if !ok {
			h.Write([]byte("-"))
			continue
		}
		h.Write([]byte(strconv.Itoa(len(v)) + ":" + v))
	}
	return hex.EncodeToString(h.Sum(nil))
}
