package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// What a histogram can tell apart: 1 µs at the bottom, three figures everywhere (two in the slices of a
// run, of which there are many), 10 minutes at the top.
const (
	finest        = time.Microsecond
	longest       = 10 * time.Minute
	figures       = 3
	coarseFigures = 2
)

// A Histogram counts durations, from 1 µs to 10 minutes with three significant figures; what is shorter
// or longer counts as the shortest or the longest. Histograms of several runs and machines add up without
// loss. It is for one goroutine; the zero value is empty and ready.
type Histogram struct {
	h      *hdrhistogram.Histogram
	coarse bool // two figures, a tenth of the memory
}

func (h *Histogram) grow() {
	if h.h != nil {
		return
	}
	digits := figures
	if h.coarse {
		digits = coarseFigures
	}
	h.h = hdrhistogram.New(int64(finest), int64(longest), digits)
}

// Record counts d once.
func (h *Histogram) Record(d time.Duration) { h.RecordN(d, 1) }

// RecordN counts d n times.
func (h *Histogram) RecordN(d time.Duration, n int64) {
	if n <= 0 {
		return
	}
	h.grow()
	_ = h.h.RecordValues(int64(min(max(d, 0), longest)), n) // cannot be out of range
}

// Add adds what other counted.
func (h *Histogram) Add(other *Histogram) {
	if other.Count() == 0 {
		return
	}
	h.grow()
	h.h.Merge(other.h)
}

// Count is how many durations were recorded.
func (h *Histogram) Count() int64 {
	if h == nil || h.h == nil {
		return 0
	}
	return h.h.TotalCount()
}

// Max is the longest duration; 0 when there is none.
func (h *Histogram) Max() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.Max())
}

// Mean is the mean; 0 when there is none.
func (h *Histogram) Mean() time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.Mean())
}

// rank is the duration with share p of the others at or below it; p from 0 to 1.
func (h *Histogram) rank(p float64) time.Duration {
	if h.Count() == 0 {
		return 0
	}
	return time.Duration(h.h.ValueAtPercentile(min(max(p, 0), 1) * 100))
}

// above is how many durations were longer than d, as far as the histogram tells them apart.
func (h *Histogram) above(d time.Duration) int64 {
	var n int64
	for _, bar := range h.Bars() {
		if bar.From > d {
			n += bar.Count
		}
	}
	return n
}

// A Bar is how many durations lay between two bounds, both inclusive.
type Bar struct {
	From, To time.Duration
	Count    int64
}

// Bars are the parts of the histogram that counted something, shortest first.
func (h *Histogram) Bars() []Bar {
	if h.Count() == 0 {
		return nil
	}
	var out []Bar
	for _, b := range h.h.Distribution() {
		if b.Count > 0 {
			out = append(out, Bar{From: time.Duration(b.From), To: time.Duration(b.To), Count: b.Count})
		}
	}
	return out
}

// encoded is a histogram as a result file keeps it: HdrHistogram's own compressed form, version 2, in
// base64, which other programs read too. Its values are nanoseconds.
type encoded struct {
	Unit  string `json:"unit"`
	Count int64  `json:"count"`
	HDR   string `json:"hdr,omitempty"`
}

// MarshalJSON writes the whole histogram.
func (h Histogram) MarshalJSON() ([]byte, error) {
	e := encoded{Unit: "ns", Count: h.Count()}
	if e.Count > 0 {
		raw, err := h.h.EncodeV2()
		if err != nil {
			return nil, fmt.Errorf("encode a histogram: %w", err)
		}
		e.HDR = string(raw)
	}
	return json.Marshal(e)
}

// UnmarshalJSON reads what MarshalJSON wrote, here or on another machine.
func (h *Histogram) UnmarshalJSON(text []byte) error {
	var e encoded
	if err := json.Unmarshal(text, &e); err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	*h = Histogram{}
	if e.Unit != "ns" {
		return fmt.Errorf("histogram: unit %q, want ns", e.Unit)
	}
	if e.HDR == "" {
		if e.Count != 0 {
			return errors.New("histogram: it has a count and no content")
		}
		return nil
	}
	const most = 1 << 20 // twenty times the largest of ours
	if len(e.HDR) > most {
		return fmt.Errorf("histogram: %d bytes, want at most %d", len(e.HDR), most)
	}
	decoded, err := hdrhistogram.Decode([]byte(e.HDR))
	if err != nil {
		return fmt.Errorf("histogram: %w", err)
	}
	own := Histogram{coarse: decoded.SignificantFigures() < figures}
	own.grow()
	if dropped := own.h.Merge(decoded); dropped != 0 || own.Count() != e.Count {
		return fmt.Errorf("histogram: %d durations in its content, want the %d that it says", own.Count(), e.Count)
	}
	*h = own
	return nil
}
