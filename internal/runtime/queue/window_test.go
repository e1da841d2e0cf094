package queue_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/queue"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// syncWindow is how much appendfsync everysec may not have on disk.
const syncWindow = time.Second

// A written is how long the append-only file was at a time, and how many jobs were acknowledged then.
type written struct {
	at           time.Time
	size         int64
	acknowledged int64
}

// An acknowledgement is a job that was said to be added, and when.
type acknowledgement struct {
	id string
	at time.Time
}

// With appendfsync everysec a killed Redis loses what it had not handed to the system, which is next to nothing;
// a machine that loses power loses besides what the system had not put on disk, for which the file is cut here
// to what it was a second before. What is lost are the last acknowledgements of that time and none before them,
// and no job is there by half or twice. With appendfsync always nothing is lost, as TestAKilledRedisThatSyncsAlwaysLosesNothingAcknowledged shows.
func TestAKilledRedisThatSyncsEverySecondLosesASecondAtMost(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "everysec")
	r := open(t, s.URL(), []queue.Queue{waits("q")}, nil)
	files, err := filepath.Glob(filepath.Join(s.Dir, "appendonlydir", "*.incr.aof"))
	if err == nil && len(files) == 0 { // before Redis 7
		files, err = filepath.Glob(filepath.Join(s.Dir, "*.aof"))
	}
	if err != nil || len(files) != 1 {
		t.Fatalf("append-only files: %v, %v, want one", files, err)
	}
	const workers = 4
	acknowledged := make([][]acknowledgement, workers)
	adding, stop := context.WithCancel(t.Context())
	defer stop()
	var all sync.WaitGroup
	var number atomic.Int64 // of acknowledgements
	for w := range workers {
		all.Go(func() {
			for i := 0; adding.Err() == nil; i++ {
				id := fmt.Sprintf("%d-%d", w, i)
				if _, err := r.Enqueue(adding, queue.EnqueueRequest{Queue: "q", ID: id}); err != nil {
					return
				}
				acknowledged[w] = append(acknowledged[w], acknowledgement{id, time.Now()})
				number.Add(1)
			}
		})
	}
	var sizes []written
	var synced written // the last that was longer ago than what is not synced
	var killed time.Time
	begin := time.Now()
	eventually(t, func() error {
		info, err := os.Stat(files[0])
		if err != nil {
			return err
		}
		killed = time.Now()
		sizes = append(sizes, written{killed, info.Size(), number.Load()})
		i := slices.IndexFunc(sizes, func(w written) bool { return killed.Sub(w.at) < syncWindow })
		synced = sizes[max(0, i-1)]
		// Each worker may have had one on its way when the file was looked at.
		if since := time.Since(begin); since < 3*syncWindow/2 || number.Load() <= synced.acknowledged+workers {
			return errors.New("too little was added")
		}
		return nil
	})
	s.Kill(t)
	stop()
	all.Wait()

	s.Restart(t)
	missing, window := survivors(t, s, acknowledged, killed)
	t.Logf("kill -9: %d of %d acknowledged jobs are lost, from the last %s", missing, count(acknowledged), window)
	// The server puts off its writing for up to two seconds while the disk is busy.
	if window > 5*syncWindow {
		t.Errorf("a job of %s before the end is lost, want %s at most", window, syncWindow)
	}

	s.Kill(t)
	if err := os.Truncate(files[0], synced.size); err != nil {
		t.Fatal(err)
	}
	s.Restart(t)
	missing, window = survivors(t, s, acknowledged, killed)
	t.Logf("without what was not synced for %s: %d of %d acknowledged jobs are lost, from the last %s",
		killed.Sub(synced.at).Round(time.Millisecond), missing, count(acknowledged), window)
	if missing == 0 || window > 5*syncWindow {
		t.Errorf("%d jobs of the last %s are lost, want some of the last %s", missing, window, syncWindow)
	}
}

func count(all [][]acknowledgement) int {
	n := 0
	for _, own := range all {
		n += len(own)
	}
	return n
}

// survivors looks for what was acknowledged: how many jobs are missing, and how long before the end the first
// of them was acknowledged. Of each worker only the last may be missing.
func survivors(t *testing.T, s *redistest.Server, all [][]acknowledgement, end time.Time) (missing int, window time.Duration) {
	t.Helper()
	c := s.Client(t)
	ids, err := c.LRange(t.Context(), "asynq:{q}:pending", 0, -1).Result()
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	messages := make([]*redis.BoolCmd, len(ids))
	pipe := c.Pipeline()
	for i, id := range ids {
		times[id]++
		messages[i] = pipe.HExists(t.Context(), "asynq:{q}:t:"+id, "msg")
	}
	if _, err := pipe.Exec(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i, id := range ids {
		if times[id] != 1 || !messages[i].Val() {
			t.Errorf("job %s is there %d times, with a message: %t", id, times[id], messages[i].Val())
		}
	}
	for _, own := range all {
		lost := false
		for _, a := range own {
			switch {
			case times[a.id] == 0:
				lost, missing = true, missing+1
				window = max(window, end.Sub(a.at))
			case lost:
				t.Errorf("job %s is there, and one before it is not", a.id)
			}
		}
	}
	return missing, window.Round(time.Millisecond)
}
