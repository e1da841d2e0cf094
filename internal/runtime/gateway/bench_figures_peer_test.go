package gateway_test

import (
	"fmt"
	"slices"
	"testing"
)

// A measurement is one server under one load for one round.
type measurement struct {
	requests, seconds float64
	p50us, p99us      float64
	cpuUS, redisUS    float64 // processor time per request, of the server and of the Redis behind it
}

func (m measurement) rate() float64 { return m.requests / m.seconds }

func (m measurement) wholeCPU() float64 { return m.cpuUS + m.redisUS }

// A spread is a median and an interval that holds the true one in at least 95 of 100 cases.
type spread struct {
	median, low, high float64
	sure              bool // whether there were rounds enough for that; if not, it is all that was seen
}

func (s spread) String() string {
	word := ""
	if !s.sure {
		word = "?"
	}
	return fmt.Sprintf("%.2f [%.2f, %.2f]%s", s.median, s.low, s.high, word)
}

// ratios compares two servers round by round.
func ratios(us, peer []measurement, figure func(measurement) float64) spread {
	all := make([]float64, 0, len(us))
	for i := range min(len(us), len(peer)) {
		all = append(all, figure(us[i])/figure(peer[i]))
	}
	return spreadOf(all)
}

// spreadOf is the median with the interval of the sign test, which assumes nothing but that the rounds are
// alike: between the k-th smallest and the k-th largest, for the largest k for which a median outside has
// a chance of at most 5 in 100.
func spreadOf(all []float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	k, tail, chance := 0, 0.0, 1.0 // chance is C(n, k) / 2^n
	for range n {
		chance /= 2
	}
	for k < n/2 && 2*(tail+chance) <= 0.05 {
		tail += chance
		chance *= float64(n-k) / float64(k+1)
		k++
	}
	s := spread{median: (all[(n-1)/2] + all[n/2]) / 2, low: all[0], high: all[n-1]}
	if k > 0 {
		s.low, s.high, s.sure = all[k-1], all[n-k], true
	}
	return s
}

func middle(all []measurement, figure func(measurement) float64) float64 {
	figures := make([]float64, len(all))
	for i, m := range all {
		figures[i] = figure(m)
	}
	return spreadOf(figures).median
}

func TestSpread(t *testing.T) {
	t.Parallel()
	upTo := func(n int) []float64 {
		all := make([]float64, n)
		for i := range all {
			all[n-1-i] = float64(i + 1)
		}
		return all
	}
	cases := []struct {
		name string
		in   []float64
		want spread
	}{
		{"nothing", nil, spread{}},
		{"one round is no interval", upTo(1), spread{1, 1, 1, false}},
		{"five rounds are too few", upTo(5), spread{3, 1, 5, false}},
		{"six rounds are just enough", upTo(6), spread{3.5, 1, 6, true}},
		{"of twenty the sixth from either end", upTo(20), spread{10.5, 6, 15, true}},
		{"of thirty the tenth", upTo(30), spread{15.5, 10, 21, true}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got := spreadOf(c.in); got != c.want {
				t.Errorf("spreadOf(%v) = %+v, want %+v", c.in, got, c.want)
			}
		})
	}
}
