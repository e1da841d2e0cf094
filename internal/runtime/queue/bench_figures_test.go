package queue_test

import (
	"fmt"
	"io"
	"math"
	"slices"
	"text/tabwriter"
)

// A measurement is one contender in one round.
type measurement struct {
	enqueued, worked  float64 // jobs a second
	commands          float64 // billed, a job
	clientUS, redisUS float64 // processor time a job
	connections       float64
}

func (m measurement) cpu() float64 { return m.clientUS + m.redisUS }

// A standing is all that was measured of a contender.
type standing struct {
	rounds         []measurement
	addUS, pickUS  []float64 // of single jobs
	idle           float64   // billed commands that were counted while nothing was to be done
	idleSeconds    float64
	registeredIdle float64 // what it says itself of a month; negative where it does not
}

func (s *standing) middle(figure func(measurement) float64) float64 {
	all := make([]float64, len(s.rounds))
	for i, m := range s.rounds {
		all[i] = figure(m)
	}
	return spreadOf(all).median
}

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

// ratios compares two contenders round by round.
func ratios(us, peer []measurement, figure func(measurement) float64) spread {
	all := make([]float64, 0, len(us))
	for i := range min(len(us), len(peer)) {
		all = append(all, figure(us[i])/figure(peer[i]))
	}
	return spreadOf(all)
}

// spreadOf takes the interval from the sign test, which assumes nothing but that the rounds are alike: from the
// k-th smallest to the k-th largest, for the largest k whose median lies outside in at most 5 of 100 cases.
func spreadOf(all []float64) spread {
	if len(all) == 0 {
		return spread{}
	}
	all = slices.Sorted(slices.Values(all))
	n := len(all)
	k, tail, chance := 0, 0.0, math.Pow(0.5, float64(n)) // chance is C(n, k) / 2^n
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

// percentile is by nearest rank; NaN of nothing.
func percentile(all []float64, p int) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(all))
	return sorted[(len(sorted)*p+99)/100-1]
}

const secondsAMonth = 30 * 24 * 3600

// printStandings writes what was measured, medians of rounds.
func printStandings(w io.Writer, names []string, all map[string]*standing) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\tenqueue/s\tprocess/s\tcommands a job\tCPU us a job: client\tRedis\tboth\tconnections\tadd p95 ms\tpicked up p50 ms\tp95 ms\tof jobs\tidle commands a month")
	for _, name := range names {
		s := all[name]
		idle := fmt.Sprintf("%.0f *", s.idle/s.idleSeconds*secondsAMonth)
		if s.registeredIdle >= 0 {
			idle += fmt.Sprintf(" (registered: %.0f)", s.registeredIdle)
		}
		_, _ = fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.2f\t%.1f\t%.1f\t%.1f\t%.0f\t%.2f\t%.2f\t%.2f\t%d\t%s\n", name,
			s.middle(func(m measurement) float64 { return m.enqueued }), s.middle(func(m measurement) float64 { return m.worked }),
			s.middle(func(m measurement) float64 { return m.commands }), s.middle(func(m measurement) float64 { return m.clientUS }),
			s.middle(func(m measurement) float64 { return m.redisUS }), s.middle(measurement.cpu),
			s.middle(func(m measurement) float64 { return m.connections }), percentile(s.addUS, 95)/1000,
			percentile(s.pickUS, 50)/1000, percentile(s.pickUS, 95)/1000, len(s.pickUS), idle)
	}
	_ = t.Flush()
	_, _ = fmt.Fprintf(w, "* extrapolated from %.0f s with nothing to do, workers attached. What comes less often than that is in it too often or not at all.\n", all[names[0]].idleSeconds)
}

// printRatios compares ours with the others.
func printRatios(w io.Writer, names []string, all map[string]*standing) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\nratio, median [95% interval]\tenqueue/s\tprocess/s\tcommands a job\tCPU a job, both\tclient\tRedis")
	us := all[names[0]].rounds
	for _, name := range names[1:] {
		peer := all[name].rounds
		_, _ = fmt.Fprintf(t, "%s / %s\t%s\t%s\t%s\t%s\t%s\t%s\n", names[0], name,
			ratios(us, peer, func(m measurement) float64 { return m.enqueued }), ratios(us, peer, func(m measurement) float64 { return m.worked }),
			ratios(us, peer, func(m measurement) float64 { return m.commands }), ratios(us, peer, measurement.cpu),
			ratios(us, peer, func(m measurement) float64 { return m.clientUS }), ratios(us, peer, func(m measurement) float64 { return m.redisUS }))
	}
	_ = t.Flush()
}

// A goal is a figure beside what it must reach.
type goal struct {
	median float64
	unit   string
	fails  bool // the benchmark, since it was not reached
}

// printGoals writes what must be reached and whether it was: no more commands and processor time for a job than
// in stock asynq by the median, and the design's latency.
func printGoals(w io.Writer, all map[string]*standing) []goal {
	us := all[ours]
	var goals []goal
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "\ngoal\tmeasured\twanted\t")
	row := func(name, unit, measured, wanted string, median float64, reached, strict bool) {
		word := "reached"
		if !reached {
			word = "NOT REACHED"
		}
		_, _ = fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", name, measured, wanted, word)
		goals = append(goals, goal{median, unit, strict && !reached})
	}
	for i, peer := range []string{stock, stockPool3} {
		r := ratios(us.rounds, all[peer].rounds, func(m measurement) float64 { return m.commands })
		row("commands a job x "+peer, fmt.Sprint("x-commands-", i), r.String(), "1.00 or less", r.median, r.median <= 1, r.sure)
		r = ratios(us.rounds, all[peer].rounds, measurement.cpu)
		row("processor time a job, client and Redis, x "+peer, fmt.Sprint("x-cpu-", i), r.String(), "1.00 or less", r.median, r.median <= 1, false)
	}
	p95 := percentile(us.addUS, 95) / 1000
	row("adding a job, p95", "ms-add-p95", fmt.Sprintf("%.2f ms", p95), "< 10 ms", p95, p95 < 10, true)
	p95 = percentile(us.pickUS, 95) / 1000
	row("picking it up, same process, p95", "ms-pickup-p95", fmt.Sprintf("%.2f ms", p95), "< 10 ms", p95, p95 < 10, false)
	_ = t.Flush()
	return goals
}
