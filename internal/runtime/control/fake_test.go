package control

import (
	"context"
	"errors"
	"strconv"
	"sync"

	"github.com/redis/go-redis/v9"
)

var errDown = errors.New("connection refused")

// A store is an upstream in memory that many replicas share: one key, a bell, and a switch that takes
// it down. Its swap does what the script does; TestTheScript proves that against a real server.
type store struct {
	mu      sync.Mutex
	text    string
	down    bool
	reads   int
	scripts int
	feeds   map[chan []byte]chan struct{}
	swapped func(text string) string // changes what is there before a swap looks at it
}

func newStore() *store { return &store{feeds: map[chan []byte]chan struct{}{}} }

func (s *store) client() redis.UniversalClient { return &fakeClient{store: s} }

func (s *store) cost() (reads, scripts int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.reads, s.scripts
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

func (s *store) put(text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = text
}

func (s *store) get() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text
}

func (s *store) subscribe(context.Context, string) (Feed, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return Feed{}, errDown
	}
	rings, gaps := make(chan []byte, 16), make(chan struct{}, 1)
	s.feeds[rings] = gaps
	return Feed{Rings: rings, Gaps: gaps, Close: func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.feeds, rings)
	}}, nil
}

// drop ends every feed, as the bell does with a subscriber that is too slow.
func (s *store) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for rings := range s.feeds {
		delete(s.feeds, rings)
		close(rings)
	}
}

type fakeClient struct {
	redis.UniversalClient

	store *store
}

func (c *fakeClient) Get(ctx context.Context, _ string) *redis.StringCmd {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := redis.NewStringCmd(ctx)
	switch {
	case s.down:
		cmd.SetErr(errDown)
		return cmd
	case s.text == "":
		cmd.SetErr(redis.Nil)
	default:
		cmd.SetVal(s.text)
	}
	s.reads++
	return cmd
}

func (c *fakeClient) EvalSha(ctx context.Context, _ string, _ []string, args ...any) *redis.Cmd {
	s := c.store
	s.mu.Lock()
	defer s.mu.Unlock()
	cmd := redis.NewCmd(ctx)
	if s.down {
		cmd.SetErr(errDown)
		return cmd
	}
	s.scripts++
	if s.swapped != nil {
		s.text = s.swapped(s.text)
	}
	epoch := absent
	if s.text != "" {
		d, err := parse([]byte(s.text), "store")
		if err != nil {
			cmd.SetVal([]any{int64(-1), s.text})
			return cmd
		}
		epoch = strconv.FormatInt(d.Epoch, 10)
	}
	if args[0] != epoch {
		cmd.SetVal([]any{int64(0), s.text})
		return cmd
	}
	s.text = string(args[1].([]byte))
	for rings := range s.feeds {
		rings <- []byte(strconv.FormatInt(args[2].(int64), 10))
	}
	cmd.SetVal([]any{int64(1), ""})
	return cmd
}
