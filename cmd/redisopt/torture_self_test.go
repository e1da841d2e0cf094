package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// The campaign proves nothing unless its reader finds what it looks for.
func TestTheCampaignFindsWhatItLooksFor(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	ctx := t.Context()
	jobs := makeJobs(rand.New(rand.NewPCG(1, 1)), 60, false) //nolint:gosec // reproducible on purpose
	one := map[string]string{}
	for _, j := range jobs {
		if j.priority == 0 {
			one[j.state] = j.id
		}
	}
	cases := []struct {
		name          string
		harm          [][]any
		lost, doubled int
		says          string
	}{
		{name: "nothing, where nothing is wrong"},
		{"a job that is gone", [][]any{{"LREM", "bull:mail:wait", 0, one[isWaiting]}, {"DEL", "bull:mail:" + one[isWaiting]}}, 1, 0, "is lost"},
		{"a job that is in no container", [][]any{{"ZREM", "bull:mail:delayed", one[isDelayed]}}, 1, 0, "is in no container"},
		{"a job that is in two containers", [][]any{{"ZADD", "bull:mail:completed", 1, one[isWaiting]}}, 0, 1, "is in 2 places"},
		{"a job that is twice in one", [][]any{{"LPUSH", "bull:mail:wait", one[isWaiting]}}, 0, 1, "is in 2 places"},
		{"a job that is at the target too", [][]any{
			{"HSET", "bullmq:mail:" + one[isFailed], "data", "x"}, {"ZADD", "bullmq:mail:failed", 1, one[isFailed]},
		}, 0, 1, "bullmq:mail:failed"},
		{"another payload", [][]any{{"HSET", "bull:mail:" + one[isWaiting], "data", "{}"}}, 0, 0, "has the data"},
		{"another number of attempts", [][]any{{"HSET", "bull:mail:" + one[isFailed], "attemptsMade", 9}}, 0, 0, "has made 9 of"},
		{"another due time", [][]any{{"ZADD", "bull:mail:delayed", 4096, one[isDelayed]}}, 0, 0, "is due at 1"},
		{"another state", [][]any{{"ZREM", "bull:mail:failed", one[isFailed]}, {"LPUSH", "bull:mail:wait", one[isFailed]}}, 0, 0, "was failed and is in bull:mail:wait"},
		{"an id without a job", [][]any{{"LPUSH", "bull:mail:wait", "ghost"}}, 0, 0, "without a job"},
		{"a job that nobody added", [][]any{{"HSET", "asynq:{mail}:t:ghost", "msg", "x"}}, 0, 0, "is in no container"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if err := client.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			if err := putBull(ctx, client, "mail", jobs, false); err != nil {
				t.Fatal(err)
			}
			for _, command := range c.harm {
				if err := client.Do(ctx, command...).Err(); err != nil {
					t.Fatal(err)
				}
			}
			seen, odd, err := lookAt(ctx, client, server.Addr, "mail", "bull", "bullmq")
			if err != nil {
				t.Fatal(err)
			}
			r := reckon(jobs, seen, func(j madeJob, s sighting) bool { return s.state == j.state })
			r.wrong = append(r.wrong, odd...)
			if r.lost != c.lost || r.doubled != c.doubled {
				t.Errorf("found %s, want %d lost and %d doubled", r, c.lost, c.doubled)
			}
			if c.says == "" && len(r.wrong) > 0 || !strings.Contains(strings.Join(r.wrong, "\n"), c.says) {
				t.Errorf("found %s, want %q", r, c.says)
			}
		})
	}
}

func TestTheReadersOfTheCampaignAgreeWithItsWriters(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	client := server.Client(t)
	jobs := makeJobs(rand.New(rand.NewPCG(2, 2)), 80, false) //nolint:gosec // reproducible on purpose
	if err := putBullMQ(t.Context(), client, "mail", jobs); err != nil {
		t.Fatal(err)
	}
	seen, odd, err := lookAt(t.Context(), client, server.Addr, "mail", "bullmq")
	if err != nil {
		t.Fatal(err)
	}
	r := reckon(jobs, seen, func(j madeJob, s sighting) bool { return s.state == j.state })
	if len(r.wrong) > 0 || len(odd) > 0 {
		t.Errorf("found %s, %v, want nothing wrong", r, odd)
	}
}

// TestTheReadersOfTheRampKnowWhatWasAcknowledged has them write to a cache that keeps the first value of each key,
// with a word about it or without.
func TestTheReadersOfTheRampKnowWhatWasAcknowledged(t *testing.T) {
	t.Parallel()
	for _, honest := range []bool{true, false} {
		t.Run(fmt.Sprintf("honest %v", honest), func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			kept, reads := map[string]string{}, 0
			enough := make(chan struct{})
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				before, there := kept[r.URL.Path]
				switch r.Method {
				case http.MethodPut:
					if !there {
						body, _ := io.ReadAll(r.Body)
						kept[r.URL.Path] = string(body)
					}
					_, _ = fmt.Fprintf(w, `{"stored":%v}`, !there || !honest)
				case http.MethodGet:
					if reads++; reads == 200 { // every key of every reader several times
						close(enough)
					}
					_, _ = io.WriteString(w, before)
				}
			}))
			t.Cleanup(server.Close)
			r := &readers{api: server.URL, stop: make(chan struct{})}
			r.begin(t.Context())
			<-enough
			r.end()
			if got := r.account(); (len(got.wrong) == 0) != honest {
				t.Errorf("wrong = %v, want some only where a write was said to be stored and was not", got.wrong)
			}
		})
	}
}
