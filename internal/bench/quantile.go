package bench

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// confidence is that of every interval: 95%, two-sided.
const confidence = 0.95

// beyond is how many samples have to lie above a percentile before it is one: with 10, a 95th percentile
// takes 200 samples and a 99th 1,000.
const beyond = 10

// A TooFewError means that a percentile would say more than its samples do.
type TooFewError struct {
	P    float64 // the percentile's share, 0 to 1
	Got  int64
	Want int64
}

func (e *TooFewError) Error() string {
	return fmt.Sprintf("insufficient samples for %s: %d, want %d", percentileName(e.P), e.Got, e.Want)
}

// percentileName is p as people write it: p95, p99.9.
func percentileName(p float64) string { return fmt.Sprintf("p%.6g", p*100) }

// Needed is how many samples the percentile with share p takes, p from 0 to below 1.
func Needed(p float64) int64 {
	if p <= 0.5 {
		return 2 * beyond
	}
	return int64(math.Ceil(beyond/(1-p) - 1e-6))
}

// A Quantile is one percentile with its 95% interval.
type Quantile struct {
	P         float64
	Value     time.Duration
	Low, High time.Duration

	// Effect is by how much the samples are worth less than as many independent ones, 1 or more: slow
	// answers come in bursts, and a burst is one event.
	Effect float64
}

// A Latency is the durations of a run, all together and by time.
type Latency struct {
	All Histogram

	// Slices are the same durations by when they were meant to start. The interval of a percentile is
	// taken from how much they differ.
	Slices []Slice
}

// A Slice is what started within one part of a run.
type Slice struct {
	At      time.Duration `json:"at_ns"` // its beginning, after the beginning of the run
	Latency Histogram     `json:"latency"`
	Errors  int64         `json:"errors"`
}

// Quantile is the percentile with share p, 0 < p < 1. It returns a *TooFewError when there are fewer than
// Needed(p) samples.
//
// The interval is Woodruff's: the share of samples above the percentile is estimated with its own error,
// and the interval is where the distribution crosses both ends of that. The error is the binomial one, or
// the one that the slices show when it is larger.
func (l *Latency) Quantile(p float64) (Quantile, error) {
	if !(p > 0 && p < 1) {
		return Quantile{}, errors.New("percentile: want more than 0 and less than 100")
	}
	n := l.All.Count()
	if n < Needed(p) {
		return Quantile{}, &TooFewError{P: p, Got: n, Want: Needed(p)}
	}
	q := Quantile{P: p, Value: l.All.rank(p)}
	_, variance, effect := l.shareAbove(q.Value)
	q.Effect = effect
	half := normalQuantile(confidence) * math.Sqrt(max(variance, p*(1-p)/float64(n)*effect))
	q.Low, q.High = l.All.rank(p-half), l.All.rank(p+half)
	if p+half >= 1 {
		q.High = l.All.Max()
	}
	return q, nil
}

// shareAbove is the share of the durations above value, with its variance: the binomial one, times the
// design effect of the slices where that is more than 1. Fewer than eight slices tell nothing of it.
func (l *Latency) shareAbove(value time.Duration) (share, variance, effect float64) {
	n := float64(l.All.Count())
	share = float64(l.All.above(value)) / n
	binomial := share * (1 - share) / n
	if binomial == 0 {
		return share, 0, 1
	}
	const fewest = 8
	var above, size []float64
	for i := range l.Slices {
		if of := float64(l.Slices[i].Latency.Count()); of > 0 {
			above, size = append(above, float64(l.Slices[i].Latency.above(value))), append(size, of)
		}
	}
	if len(size) < fewest {
		return share, binomial, 1
	}
	// The ratio estimator of a cluster sample.
	var total, over, sum float64
	for i := range size {
		total, over = total+size[i], over+above[i]
	}
	for i := range size {
		d := above[i] - over/total*size[i]
		sum += d * d
	}
	k := float64(len(size))
	effect = max(1, k/(k-1)*sum/(total*total)/binomial)
	return share, binomial * effect, effect
}

// normalQuantile is how many standard deviations hold the share c of a normal distribution, both sides.
func normalQuantile(c float64) float64 { return math.Sqrt2 * math.Erfinv(c) }

// Over is the percentile with share p of each part of the run, in order, for drawing; parts are put together
// until there are at most most. One without an operation that ended well is 0.
func (l *Latency) Over(p float64, most int) []time.Duration {
	if len(l.Slices) == 0 || most < 1 {
		return nil
	}
	each := (len(l.Slices) + most - 1) / most
	var out []time.Duration
	for i := 0; i < len(l.Slices); i += each {
		var part Histogram
		for j := i; j < min(i+each, len(l.Slices)); j++ {
			part.Add(&l.Slices[j].Latency)
		}
		out = append(out, part.rank(p))
	}
	return out
}
