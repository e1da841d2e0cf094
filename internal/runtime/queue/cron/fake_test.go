package cron

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

var errDown = errors.New("connection refused")

// A store is a Redis in memory that replicas share: one hash, a bell, ids that are taken, and a switch
// that takes it down. Its script does what change does; TestAgainstARealServer proves that.
type store struct {
	mu       sync.Mutex
	hash     map[string]string
	down     bool
	commands map[string]int
	feeds    map[chan []byte]chan struct{}
	ids      map[string]time.Time // when they are free again
	runs     map[string]int       // of each id
	order    []string             // ids as they ran
	lag      func() time.Duration // of an enqueueing
}

func newStore() *store {
	return &store{
		hash: map[string]string{}, commands: map[string]int{}, feeds: map[chan []byte]chan struct{}{},
		ids: map[string]time.Time{}, runs: map[string]int{}, lag: func() time.Duration { return 0 },
	}
}

func (s *store) cost() map[string]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.commands)
}

// field reads one field of the hash.
func (s *store) field(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.hash[name]
}

// setDown takes the store down; when it comes back every feed reports a gap.
func (s *store) setDown(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down && !down {
		for _, gap := range s.feeds {
			select {
			case gap <- struct{}{}:
			default:
			}
		}
	}
	s.down = down
}

func (s *store) subscribe(context.Context, string) (Feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return Feed{}, errDown
	}
	rings, gaps := make(chan []byte, 64), make(chan struct{}, 1)
	s.feeds[rings] = gaps
	return Feed{Rings: rings, Gaps: gaps, Close: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.feeds, rings)
	}}, nil
}

// enqueue takes a job under its id; the job ends at once.
func (s *store) enqueue(ctx context.Context, tick Tick) error {
	time.Sleep(s.lag())
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case s.down:
		return errDown
	case time.Now().Before(s.ids[tick.ID]):
		return ErrDuplicate
	}
	s.ids[tick.ID] = time.Now().Add(tick.Retain)
	s.runs[tick.ID]++
	s.order = append(s.order, tick.ID)
	return nil
}

// ran lists how often each tick of a schedule ran, by Unix time.
func (s *store) ran(name string) map[int64]int {
	s.mu.Lock()
	defer s.mu.Unlock()
	ran := map[int64]int{}
	for id, n := range s.runs {
		if text, ok := strings.CutPrefix(id, idPrefix+name+":"); ok {
			unix, _ := strconv.ParseInt(text, 10, 64)
			ran[unix] = n
		}
	}
	return ran
}

// client is one process's connection, which dies with it.
func (s *store) client(dead *bool) redis.UniversalClient { return &fakeClient{store: s, dead: dead} }

type fakeClient struct {
	redis.UniversalClient

	store *store
	dead  *bool // under the store's lock
}

// begin locks the store and counts.
func (c *fakeClient) begin(command string) error {
	c.store.mu.Lock()
	if c.store.down || c.dead != nil && *c.dead {
		return errDown
	}
	c.store.commands[command]++
	return nil
}

func (c *fakeClient) HGetAll(ctx context.Context, _ string) *redis.MapStringStringCmd {
	cmd := redis.NewMapStringStringCmd(ctx)
	err := c.begin("hgetall")
	defer c.store.mu.Unlock()
	if err != nil {
		cmd.SetErr(err)
		return cmd
	}
	cmd.SetVal(maps.Clone(c.store.hash))
	return cmd
}

func (c *fakeClient) HMGet(ctx context.Context, _ string, fields ...string) *redis.SliceCmd {
	cmd := redis.NewSliceCmd(ctx)
	err := c.begin("hmget")
	defer c.store.mu.Unlock()
	if err != nil {
		cmd.SetErr(err)
		return cmd
	}
	var values []any
	for _, f := range fields {
		if v, ok := c.store.hash[f]; ok {
			values = append(values, v)
		} else {
			values = append(values, nil)
		}
	}
	cmd.SetVal(values)
	return cmd
}

func (c *fakeClient) HSet(ctx context.Context, _ string, values ...any) *redis.IntCmd {
	cmd := redis.NewIntCmd(ctx)
	err := c.begin("hset")
	defer c.store.mu.Unlock()
	if err != nil {
		cmd.SetErr(err)
		return cmd
	}
	for i := 0; i < len(values); i += 2 {
		c.store.hash[values[i].(string)] = strconv.FormatInt(values[i+1].(int64), 10)
	}
	return cmd
}

func (c *fakeClient) EvalSha(ctx context.Context, sha string, _ []string, args ...any) *redis.Cmd {
	cmd := redis.NewCmd(ctx)
	err := c.begin("evalsha")
	s := c.store
	defer s.mu.Unlock()
	if err != nil {
		cmd.SetErr(err)
		return cmd
	}
	if sha == redis.NewScript(forward).Hash() {
		n := int64(0)
		for i := 0; i < len(args); i += 2 {
			n++
			if there, _ := strconv.ParseInt(s.hash[args[i].(string)], 10, 64); there < args[i+1].(int64) {
				s.hash[args[i].(string)] = strconv.FormatInt(args[i+1].(int64), 10)
				n++
			}
		}
		cmd.SetVal(n)
		return cmd
	}
	revision, _ := strconv.ParseInt(s.hash[revisionField], 10, 64)
	if schema, _ := strconv.ParseInt(s.hash[schemaField], 10, 64); schema > Schema {
		cmd.SetVal([]any{int64(-1), schema})
		return cmd
	}
	if args[0].(string) != strconv.FormatInt(revision, 10) {
		cmd.SetVal([]any{int64(0), revision})
		return cmd
	}
	words := args[3].(int)
	s.hash[schemaField] = strconv.Itoa(args[1].(int))
	for i := 4; i < 4+words; i += 2 {
		s.hash[args[i].(string)] = args[i+1].(string)
	}
	for _, field := range args[4+words:] {
		delete(s.hash, field.(string))
	}
	revision++
	s.hash[revisionField] = strconv.FormatInt(revision, 10)
	for rings := range s.feeds {
		select {
		case rings <- []byte(s.hash[revisionField]):
		default:
		}
	}
	cmd.SetVal([]any{int64(1), revision})
	return cmd
}
