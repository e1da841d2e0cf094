package bench

import (
	"maps"
	"time"
)

// A Loop says who decides when the next operation starts.
type Loop string

// The loops.
const (
	Open   Loop = "open"   // a schedule that was fixed before
	Closed Loop = "closed" // the end of the one before: leaves out what a slow target kept from starting
)

// A Result is what one run of one operation measured. Durations in JSON are nanoseconds.
type Result struct {
	Loop Loop `json:"loop"`

	// RatePerSecond is the rate that was asked for at the beginning, and RampToPerSecond at the end; both
	// 0 in a closed loop, which has Callers instead.
	RatePerSecond   float64 `json:"rate_per_second"`
	RampToPerSecond float64 `json:"ramp_to_per_second"`
	Callers         int     `json:"callers"`

	// Began is when recording began, and Took how long it went on, until the last answer.
	Began time.Time     `json:"began"`
	Took  time.Duration `json:"took_ns"`

	// Planned is how many operations should have started in the time that the run had, Started how many did,
	// and Waited how many of those were held up because InFlight were under way.
	Planned int64 `json:"planned"`
	Started int64 `json:"started"`
	Waited  int64 `json:"waited"`

	// Done is how many ended well, Limited how many were refused for coming too often, and Errors how many
	// failed, by class. The three add up to Started.
	Done    int64            `json:"done"`
	Limited int64            `json:"limited"`
	Errors  map[string]int64 `json:"errors"`

	// FirstError is the text of the first one; empty when there was none.
	FirstError string `json:"first_error,omitempty"`

	// Latency is from the intended start to the end of what ended well (from the actual start in a closed
	// loop), by the time of the intended start.
	Latency Latency `json:"latency"`

	// Service is from the actual start to the end: what a closed loop of as many callers would report.
	Service Histogram `json:"service"`

	// Queueing is from the intended to the actual start, whatever the reason.
	Queueing Histogram `json:"queueing"`

	// Lateness is how much later than intended this program looked after an operation, when nothing but
	// itself and its machine held it up.
	Lateness Histogram `json:"lateness"`

	// Connect, TLS and Server are the parts that operations told; empty when they cannot tell. Connect and TLS
	// are of each connection that was made, while preparing and warming up too: the operations go over it.
	// Server is of each command over TCP and of each request over HTTP, of which an operation may have several.
	Connect Histogram `json:"connect"`
	TLS     Histogram `json:"tls"`
	Server  Histogram `json:"server"`

	// Stopped is why the run ended before its time; empty when it did not.
	Stopped string `json:"stopped,omitempty"`
}

// Failed is how many operations failed, whatever the class.
func (r *Result) Failed() int64 {
	var n int64
	for _, count := range r.Errors {
		n += count
	}
	return n
}

// ErrorShare is the share of the started operations that failed, 0 to 1.
func (r *Result) ErrorShare() float64 {
	if r.Started == 0 {
		return 0
	}
	return float64(r.Failed()) / float64(r.Started)
}

// LimitedShare is the share of the started operations that were refused for coming too often, 0 to 1.
func (r *Result) LimitedShare() float64 {
	if r.Started == 0 {
		return 0
	}
	return float64(r.Limited) / float64(r.Started)
}

// AchievedPerSecond is the rate at which operations ended, well or not.
func (r *Result) AchievedPerSecond() float64 {
	if r.Took <= 0 {
		return 0
	}
	return float64(r.Done+r.Limited+r.Failed()) / r.Took.Seconds()
}

// Add makes r the result of both runs, of two machines or one after the other. The intended rates add up
// when the runs overlap in time, and are those of the faster one otherwise. Slices of runs with the same
// beginnings are added; other runs are appended behind each other.
func (r *Result) Add(other *Result) {
	overlap := r.Began.Before(other.Began.Add(other.Took)) && other.Began.Before(r.Began.Add(r.Took))
	if overlap {
		r.RatePerSecond += other.RatePerSecond
		r.RampToPerSecond += other.RampToPerSecond
		r.Callers += other.Callers
		r.Took = max(r.Took, other.Took)
	} else {
		r.RatePerSecond = max(r.RatePerSecond, other.RatePerSecond)
		r.RampToPerSecond = max(r.RampToPerSecond, other.RampToPerSecond)
		r.Callers = max(r.Callers, other.Callers)
		r.Took += other.Took
	}
	if other.Began.Before(r.Began) {
		r.Began = other.Began
	}
	r.Planned += other.Planned
	r.Started += other.Started
	r.Waited += other.Waited
	r.Done += other.Done
	r.Limited += other.Limited
	r.Errors = maps.Clone(r.Errors)
	if r.Errors == nil {
		r.Errors = map[string]int64{}
	}
	for class, n := range other.Errors {
		r.Errors[class] += n
	}
	if r.FirstError == "" {
		r.FirstError = other.FirstError
	}
	if r.Stopped == "" {
		r.Stopped = other.Stopped
	}
	r.Latency.add(&other.Latency, overlap)
	for own, theirs := range map[*Histogram]*Histogram{
		&r.Service: &other.Service, &r.Queueing: &other.Queueing, &r.Lateness: &other.Lateness,
		&r.Connect: &other.Connect, &r.TLS: &other.TLS, &r.Server: &other.Server,
	} {
		own.Add(theirs)
	}
}

// add adds other: slice by slice, or behind.
func (l *Latency) add(other *Latency, overlap bool) {
	l.All.Add(&other.All)
	var last time.Duration
	if n := len(l.Slices); n > 0 {
		last = l.Slices[n-1].At + l.Width()
	}
	for i := range other.Slices {
		s := &other.Slices[i]
		if overlap {
			if own := l.at(s.At); own != nil {
				own.Latency.Add(&s.Latency)
				own.Errors += s.Errors
				continue
			}
		}
		moved := Slice{At: s.At, Errors: s.Errors, Latency: Histogram{coarse: true}}
		if !overlap {
			moved.At += last
		}
		moved.Latency.Add(&s.Latency)
		l.Slices = append(l.Slices, moved)
	}
}

// at is the slice that begins at t, or nil.
func (l *Latency) at(t time.Duration) *Slice {
	for i := range l.Slices {
		if l.Slices[i].At == t {
			return &l.Slices[i]
		}
	}
	return nil
}

// Width is the length of the slices.
func (l *Latency) Width() time.Duration {
	if len(l.Slices) < 2 {
		return time.Second
	}
	return l.Slices[1].At - l.Slices[0].At
}
