package bench

import (
	"errors"
	"math"
	"time"
)

// A Change is what became of one percentile between two results.
type Change struct {
	P float64 // its share, 0 to 1

	Old, New time.Duration

	// Ratio is New over Old, and Low to High its 95% interval.
	Ratio, Low, High float64

	// Significant is whether chance alone would show so much in less than one of 200 comparisons, all
	// percentiles that are compared together.
	Significant bool

	// Worse is Significant, and slower by more than what was allowed.
	Worse bool
}

// false alarm: one comparison in 200, both sides together and over all percentiles.
const alarm = 0.005

// Compare compares percentiles of two results. maxRegress is the increase that is allowed, 0.1 for 10%:
// a percentile is Worse when it grew by more, and chance does not explain that it grew. It returns a
// *TooFewError, joined from both, when a percentile is not in both results; the Changes are those that are.
//
// What is tested is whether as many operations of one result as of the other are slower than the percentile
// of both together, with bursts taken into account; the interval of the ratio is that of the logarithms.
func Compare(old, now *Latency, percentiles []float64, maxRegress float64) ([]Change, error) {
	var (
		out  []Change
		errs []error
	)
	level := 1 - alarm/float64(max(1, len(percentiles))) // Bonferroni
	for _, p := range percentiles {
		a, errOld := old.Quantile(p)
		b, errNew := now.Quantile(p)
		if errOld != nil || errNew != nil {
			errs = append(errs, errOld, errNew)
			continue
		}
		c := Change{P: p, Old: a.Value, New: b.Value}
		shift := logRatio(b.Value, a.Value)
		spread := math.Hypot(a.logError(), b.logError())
		c.Ratio = math.Exp(shift)
		c.Low = math.Exp(shift - normalQuantile(confidence)*spread)
		c.High = math.Exp(shift + normalQuantile(confidence)*spread)
		c.Significant = differ(old, now, p, level) && shift != 0
		c.Worse = c.Significant && c.Ratio > 1+maxRegress
		out = append(out, c)
	}
	return out, errors.Join(errs...)
}

// logError is the standard error of the logarithm of q. It is at least what a histogram cannot tell apart.
func (q Quantile) logError() float64 {
	const grain = 0.001
	return max(grain, logRatio(q.High, q.Low)/(2*normalQuantile(confidence)))
}

func logRatio(a, b time.Duration) float64 {
	return math.Log(float64(max(a, finest)) / float64(max(b, finest)))
}

// differ is whether the shares of both that are above their common percentile differ by more than chance
// explains at the confidence level.
func differ(a, b *Latency, p, level float64) bool {
	var both Histogram
	both.Add(&a.All)
	both.Add(&b.All)
	value := both.rank(p)
	shareA, varianceA, _ := a.shareAbove(value)
	shareB, varianceB, _ := b.shareAbove(value)
	spread := math.Sqrt(varianceA + varianceB)
	if spread == 0 {
		return shareA != shareB
	}
	return math.Abs(shareA-shareB) > normalQuantile(level)*spread
}
