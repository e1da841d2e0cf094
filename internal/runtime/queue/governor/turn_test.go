package governor

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"
)

func TestTurnsAreSharedByWeight(t *testing.T) {
	g, _ := idle(t)
	var turns []turn
	weights := map[string]int{"high": 6, "normal": 3, "low": 1}
	const picks = 20_000
	for name, weight := range weights {
		q := newQueue(name)
		q.weight = weight
		turns = append(turns, turn{q, picks})
	}
	got := map[string]int{}
	for _, q := range g.pick(turns, picks) {
		got[q.name]++
	}
	for name, weight := range weights {
		// Seven standard deviations.
		p := float64(weight) / 10
		if want := picks * p; math.Abs(float64(got[name])-want) > 7*math.Sqrt(picks*p*(1-p)) { // 1 in 10^11
			t.Errorf("%s: %d of %d turns, want about %.0f", name, got[name], picks, want)
		}
	}
}

// As after a start, when of no queue it is known how many jobs wait.
func TestTurnsAreSharedByWeightBeforeAnythingIsKnown(t *testing.T) {
	g, _ := idle(t)
	got := map[string]int{}
	const starts = 20
	for range starts {
		own := &group{}
		for name, weight := range map[string]int{"high": 6, "normal": 3, "low": 1} {
			q := newQueue(name)
			q.weight = weight
			own.queues = append(own.queues, q)
		}
		for jobs := 0; jobs < 200; {
			turns, _ := g.turnsOf(own, time.Now(), 10)
			for _, q := range g.pick(turns, 10) {
				q.row++
				got[q.name]++
				jobs++
			}
		}
	}
	// A start gives 126 turns to high, 6 more or less, and 14 to low, 2 more or less: this is seven times what their
	// mean is off by. In equal parts it would be 67 each.
	if high, low := got["high"]/starts, got["low"]/starts; high < 117 || high > 135 || low > 18 {
		t.Errorf("turns of %d starts %v, want about 126, 60 and 14 of each", starts, got)
	}
}

func TestATurnIsOverWhenNoMoreIsExpected(t *testing.T) {
	g, a := idle(t)
	b := g.queues["b"]
	a.weight = 100
	picked := g.pick([]turn{{a, 2}, {b, 1}}, 10)
	if n := len(slices.DeleteFunc(slices.Clone(picked), func(q *queue) bool { return q != a })); len(picked) != 3 || n != 2 {
		t.Errorf("%d turns, %d of them of a; want 3 and 2", len(picked), n)
	}
}

func TestAdmitIsAskedForEachTurn(t *testing.T) {
	g, a := idle(t)
	b := g.queues["b"]
	// Two of a at a time, none of b.
	g.opts.Admit = func(queue string, ahead []string) bool { return queue == "a" && len(ahead) < 2 }
	for _, q := range []*queue{a, b} {
		q.suspect()
	}
	if got := g.pick([]turn{{a, 5}, {b, 5}}, 5); !slices.Equal(got, []*queue{a, a}) {
		t.Errorf("%d turns, want two of a", len(got))
	}
	if !a.held.IsZero() {
		t.Error("a is held back, and was refused only besides others of its own")
	}
	if got := g.pick([]turn{{b, 5}}, 5); len(got) > 0 || b.held.IsZero() {
		t.Errorf("%d turns of b, held until %v; want none until it is admitted", len(got), b.held)
	}
}

func TestHowManyJobsAreExpected(t *testing.T) {
	now := time.Now()
	some := func(n int) func(*queue) {
		return func(q *queue) {
			for i := range n {
				q.arrived(now, time.Time{}, fmt.Sprint(i))
			}
		}
	}
	for name, c := range map[string]struct {
		do     func(q *queue)
		others bool
		want   int
	}{
		"as many as are known":                         {some(3), false, 3},
		"no more than can begin":                       {some(30), false, 8},
		"not those for which dequeues are under way":   {func(q *queue) { some(5)(q); q.ask(); q.ask() }, false, 3},
		"half of them where others take them too":      {some(10), true, 5},
		"one where that is all":                        {some(1), true, 1},
		"one of a queue of which no number is known":   {func(q *queue) { q.suspect() }, false, 1},
		"more of it when it has given many":            {func(q *queue) { q.suspect(); q.row = 40 }, false, 3},
		"and one again when it has given none":         {func(q *queue) { q.suspect(); q.row = 40; q.none(q.ask()); q.suspect() }, false, 1},
		"not those that another is likely to be given": {func(q *queue) { some(2)(q); q.arrived(now, now.Add(time.Second), "x") }, false, 2},
	} {
		t.Run(name, func(t *testing.T) {
			_, q := idle(t)
			c.do(q)
			if got := q.likely(now, 8, 1, c.others); got != c.want {
				t.Errorf("%d, want %d", got, c.want)
			}
		})
	}
}
