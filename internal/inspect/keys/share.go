package keys

import "math"

const (
	// minSamples is the smallest sample that gets a share.
	minSamples = 10
	z95        = 1.96
)

// A Share is how many of a sample have a property, and what that says of all. Value, Low and High are nil
// where the sample is too small to say anything.
type Share struct {
	Hits    int `json:"hits"`
	Samples int `json:"samples"`

	// Value is Hits of Samples, Low and High its 95% interval by Wilson; 0 to 1.
	Value *float64 `json:"share,omitempty"`
	Low   *float64 `json:"low,omitempty"`
	High  *float64 `json:"high,omitempty"`

	// Exact says that the sample is everything there is.
	Exact bool `json:"exact,omitempty"`

	// Insufficient says that there are too few samples for a share.
	Insufficient bool `json:"insufficient_samples,omitempty"`
}

// shareOf makes a Share; exact says that the samples are everything.
func shareOf(hits, samples int, exact bool) Share {
	s := Share{Hits: hits, Samples: samples, Exact: exact && samples > 0}
	if !s.Exact && samples < minSamples {
		s.Insufficient = true
		return s
	}
	p := float64(hits) / float64(samples)
	low, high := p, p
	if !s.Exact {
		low, high = wilson(hits, samples)
	}
	s.Value, s.Low, s.High = &p, &low, &high
	return s
}

// wilson is the 95% score interval of a share.
func wilson(hits, samples int) (low, high float64) {
	n := float64(samples)
	p := float64(hits) / n
	d := 1 + z95*z95/n
	middle := (p + z95*z95/(2*n)) / d
	half := z95 / d * math.Sqrt(p*(1-p)/n+z95*z95/(4*n*n))
	low, high = max(middle-half, 0), min(middle+half, 1)
	if hits == 0 {
		low = 0 // and not what rounding leaves
	}
	if hits == samples {
		high = 1
	}
	return low, high
}
