package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redisopt/redisopt/internal/migrate/livetest"
)

// A jobMark names a job of the eleven queues: which queue, who added it, and as which.
type jobMark struct {
	queue int
	side  string
	n     int
}

// A jobStart is a job that a worker began.
type jobStart struct {
	jobMark
	kind    string // p, h1 to h3 or d
	due, at int64  // milliseconds
}

// A jobBook is what both sides of a migration did: which jobs were added, and which were begun when.
type jobBook struct {
	t *testing.T

	mu      sync.Mutex
	changed chan struct{}
	heard   time.Time
	starts  map[string][]jobStart             // by the side whose worker began it, in order
	ticks   map[int]map[int64][]int64         // by queue and scheduled time: when it was begun
	stopped map[string]map[int]int            // by side and queue: the number of the last job
	answers map[string]map[int]map[string]int // by side and queue: how often a verb was answered
}

func newJobBook(t *testing.T) *jobBook {
	return &jobBook{
		t: t, changed: make(chan struct{}), heard: time.Now(), starts: map[string][]jobStart{}, ticks: map[int]map[int64][]int64{},
		stopped: map[string]map[int]int{"a": {}, "b": {}}, answers: map[string]map[int]map[string]int{"a": {}, "b": {}},
	}
}

// hear takes one line of a side; testdata/peers/many-peer.js says what there is.
func (b *jobBook) hear(side, line string) {
	words := strings.Fields(line)
	if len(words) < 2 {
		return
	}
	numbers := make([]int64, len(words))
	for i, w := range words {
		numbers[i], _ = strconv.ParseInt(w, 10, 64)
	}
	q := int(numbers[1])
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case words[0] == "start" && len(words) == 7:
		b.starts[side] = append(b.starts[side], jobStart{jobMark{q, words[2], int(numbers[3])}, words[4], numbers[5], numbers[6]})
	case words[0] == "tick" && len(words) == 4:
		due := numbers[2]
		if due < 1e11 { // seconds
			due *= 1000
		}
		if b.ticks[q] == nil {
			b.ticks[q] = map[int64][]int64{}
		}
		b.ticks[q][due] = append(b.ticks[q][due], numbers[3])
	case words[0] == "stopped":
		b.stopped[side][q] = int(numbers[2])
		fallthrough
	default:
		if b.answers[side][q] == nil {
			b.answers[side][q] = map[string]int{}
		}
		b.answers[side][q][words[0]]++
	}
	b.heard = time.Now()
	close(b.changed)
	b.changed = make(chan struct{})
}

// await waits until holds, which is called with the book locked. Some queue always has something to tell, so what never
// happens is told by a limit.
func (b *jobBook) await(what string, holds func() bool) {
	b.t.Helper()
	for began := time.Now(); ; {
		b.mu.Lock()
		ok, changed, heard := holds(), b.changed, b.heard
		b.mu.Unlock()
		if ok {
			return
		}
		if time.Since(heard) > livetest.Patience || time.Since(began) > 2*livetest.Patience {
			b.t.Fatalf("not yet %s after %s; what was heard last is %s old", what, time.Since(began), time.Since(heard))
		}
		select {
		case <-changed:
		case <-time.After(time.Second):
		case <-b.t.Context().Done():
			b.t.Fatalf("not yet %s: %v", what, b.t.Context().Err())
		}
	}
}

// ran is how many jobs of one side's adding were begun in a queue, whoever began them.
func (b *jobBook) ran(side string, queue int) int {
	seen := map[int]bool{}
	for _, all := range b.starts {
		for _, s := range all {
			if s.queue == queue && s.side == side {
				seen[s.n] = true
			}
		}
	}
	return len(seen)
}

// A tally is what came of jobs.
type tally struct{ jobs, lost, doubled int }

// count compares what was begun with what was added, once nothing is under way any more.
func (b *jobBook) count(queues int) (tally, []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var (
		t    tally
		told []string
	)
	tell := func(format string, args ...any) {
		if len(told) < 20 {
			told = append(told, fmt.Sprintf(format, args...))
		}
	}
	seen := map[jobMark][]string{}
	for side, all := range b.starts {
		for _, s := range all {
			seen[s.jobMark] = append(seen[s.jobMark], fmt.Sprintf("%s %s %d", side, s.kind, s.at))
		}
	}
	for side, last := range b.stopped {
		for q := range queues {
			for n := 1; n <= last[q]; n++ {
				t.jobs++
				switch at := seen[jobMark{q, side, n}]; {
				case len(at) == 0:
					t.lost++
					tell("job %d of %s in queue %d is lost", n, side, q)
				case len(at) > 1:
					t.doubled++
					tell("job %d of %s in queue %d was begun %v", n, side, q, at)
				}
			}
		}
	}
	return t, told
}

// order counts, of what one side's workers began and the other side had added, how many jobs began before one of
// their kind and queue that had been added before them. Delayed jobs have an order of their own, and those in left had been taken
// by a worker that ended without beginning them.
func (b *jobBook) order(worker, adder string, queues int, left map[jobMark]bool) (all int, wrong []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	highest := map[string]int{}
	for _, s := range b.starts[worker] {
		if s.side != adder || s.kind == "d" || s.queue >= queues || left[s.jobMark] {
			continue
		}
		all++
		class := fmt.Sprint(s.queue, s.kind)
		if s.n < highest[class] {
			wrong = append(wrong, fmt.Sprintf("queue %d, kind %s: %d after %d", s.queue, s.kind, s.n, highest[class]))
		}
		highest[class] = max(highest[class], s.n)
	}
	return all, wrong
}

// lateness is, in milliseconds and ascending, how late delayed jobs began, of the queues and workers that are asked for.
// At an engine that knows whole seconds a job is due at the end of its second.
func (b *jobBook) lateness(wholeSeconds bool, is func(worker string, s jobStart) bool) []int64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	var late []int64
	for worker, all := range b.starts {
		for _, s := range all {
			if s.kind != "d" || !is(worker, s) {
				continue
			}
			due := s.due
			if wholeSeconds {
				due = (due + 999) / 1000 * 1000
			}
			late = append(late, s.at-due)
		}
	}
	slices.Sort(late)
	return late
}

// tickCounts are the ticks of a schedule that runs each so many milliseconds: all, those that never began, those that were
// never made because the one before began later than they were due, and those that began more than once.
func (b *jobBook) tickCounts(queues int, every int64) (all, missed, late, doubled int, told []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for q := range queues {
		due := slices.Sorted(maps.Keys(b.ticks[q]))
		if len(due) == 0 {
			missed++
			told = append(told, fmt.Sprintf("queue %d: no tick at all", q))
			continue
		}
		for i, at := range due {
			all++
			if n := len(b.ticks[q][at]); n > 1 {
				doubled++
				told = append(told, fmt.Sprintf("queue %d: tick %d began %v", q, at, b.ticks[q][at]))
			}
			if i == 0 || at-due[i-1] <= every { // less: once, where an interval gets the phase of its new engine
				continue
			}
			// Each tick is made when the one before begins. One that began so late had no next one in between.
			began := b.ticks[q][due[i-1]][0]
			if began >= at-every {
				late++
				continue
			}
			missed += int(max(1, (at-due[i-1])/every-1))
			told = append(told, fmt.Sprintf("queue %d: tick %d came after %d, which began %d ms late", q, at, due[i-1], began-due[i-1]))
		}
	}
	return all, missed, late, doubled, told
}

// percentile is the value below which p percent of sorted values are; 0 of none.
func percentile(sorted []int64, p int) int64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(len(sorted)-1, len(sorted)*p/100)]
}
