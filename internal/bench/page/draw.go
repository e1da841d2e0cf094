package page

import (
	"fmt"
	"html/template"
	"math"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
)

// The size of a drawing, and of the margin that its labels are in.
const (
	width, height = 720.0, 220.0
	left, bottom  = 64.0, 26.0
	top           = 10.0
)

// A drawing is an SVG whose vertical axis is a latency on a logarithmic scale.
type drawing struct {
	b        strings.Builder
	low      float64 // of the axis, log10 of nanoseconds
	high     float64
	describe string
}

// draw begins a drawing for latencies from low to high.
func draw(describe string, low, high time.Duration) *drawing {
	d := &drawing{describe: describe}
	d.low = math.Floor(math.Log10(float64(max(low, time.Microsecond))))
	d.high = math.Ceil(math.Log10(float64(max(high, 2*time.Microsecond))) + 1e-9)
	if d.high <= d.low {
		d.high = d.low + 1
	}
	fmt.Fprintf(&d.b, `<svg viewBox="0 0 %g %g" role="img" aria-label="%s">`, width, height, template.HTMLEscapeString(describe))
	for e := d.low; e <= d.high; e++ {
		y := d.y(time.Duration(math.Pow(10, e)))
		fmt.Fprintf(&d.b, `<line class="grid" x1="%g" x2="%g" y1="%.1f" y2="%.1f"/>`, left, width, y, y)
		fmt.Fprintf(&d.b, `<text class="label" x="%g" y="%.1f" text-anchor="end">%s</text>`, left-6, y+4, short(time.Duration(math.Pow(10, e))))
	}
	return d
}

// y is where a latency is.
func (d *drawing) y(l time.Duration) float64 {
	at := (math.Log10(float64(max(l, 1))) - d.low) / (d.high - d.low)
	return height - bottom - min(max(at, 0), 1)*(height-bottom-top)
}

// x is where a share from 0 to 1 of the horizontal axis is.
func x(share float64) float64 { return left + share*(width-left) }

// below labels the horizontal axis at a share of it.
func (d *drawing) below(share float64, anchor, text string) {
	fmt.Fprintf(&d.b, `<text class="label" x="%.1f" y="%g" text-anchor="%s">%s</text>`, x(share), height-8, anchor, template.HTMLEscapeString(text))
}

// line draws through points; shares are those of the horizontal axis.
func (d *drawing) line(class string, shares []float64, values []time.Duration) {
	points := make([]string, 0, len(values))
	for i, v := range values {
		if v > 0 {
			points = append(points, fmt.Sprintf("%.1f,%.1f", x(shares[i]), d.y(v)))
		}
	}
	fmt.Fprintf(&d.b, `<polyline class="%s" points="%s"/>`, class, strings.Join(points, " "))
}

// end is the drawing. Everything in it was made here or escaped.
func (d *drawing) end() template.HTML {
	d.b.WriteString("</svg>")
	return template.HTML(d.b.String()) //nolint:gosec // see above
}

// overTime draws p50, p95 and the longest latency of each part of a run.
func overTime(l *bench.Latency) template.HTML {
	const most = 120
	middle, p95, longest := l.Over(0.5, most), l.Over(0.95, most), l.Over(1, most)
	if len(middle) < 2 {
		return ""
	}
	var low, high time.Duration = math.MaxInt64, 0
	shares := make([]float64, len(middle))
	for i := range middle {
		shares[i] = float64(i) / float64(len(middle)-1)
		if middle[i] > 0 {
			low = min(low, middle[i])
		}
		high = max(high, longest[i])
	}
	if high == 0 {
		return ""
	}
	d := draw("latency over time: median, 95th percentile and longest", low, high)
	d.line("max", shares, longest)
	d.line("p95", shares, p95)
	d.line("p50", shares, middle)
	d.below(0, "start", "0s")
	d.below(1, "end", (l.Slices[len(l.Slices)-1].At + l.Width()).String())
	return d.end()
}

// percentiles draws the whole distribution: each step to the right is a tenth of the operations before it.
func percentiles(h *bench.Histogram) template.HTML {
	bars, n := h.Bars(), float64(h.Count())
	if n < 2 {
		return ""
	}
	decades := math.Max(1, math.Ceil(math.Log10(n)))
	d := draw("latency by percentile", bars[0].From, h.Max())
	var (
		shares []float64
		values []time.Duration
		below  float64
	)
	for _, b := range bars {
		below += float64(b.Count)
		beyond := math.Max(1-below/n, 1/n)
		shares, values = append(shares, math.Min(1, -math.Log10(beyond)/decades)), append(values, b.To)
	}
	d.line("p95", shares, values)
	for i := range int(decades) + 1 {
		anchor := "middle"
		switch i {
		case 0:
			anchor = "start"
		case int(decades):
			anchor = "end"
		}
		d.below(float64(i)/decades, anchor, fmt.Sprintf("p%.6g", 100-math.Pow(10, float64(2-i))))
	}
	return d.end()
}

// heat draws how many operations took how long, over time: the darker, the more.
func heat(l *bench.Latency) template.HTML {
	const columns, perDecade = 90, 8
	if len(l.Slices) < 2 || l.All.Count() == 0 {
		return ""
	}
	bars := l.All.Bars()
	d := draw("heat map of latencies over time", bars[0].From, l.All.Max())
	rows := int((d.high - d.low) * perDecade)
	each := (len(l.Slices) + columns - 1) / columns
	cells := make([][]int64, (len(l.Slices)+each-1)/each)
	var most int64
	for i := range l.Slices {
		if cells[i/each] == nil {
			cells[i/each] = make([]int64, rows)
		}
		for _, b := range l.Slices[i].Latency.Bars() {
			r := int((math.Log10(float64(max(b.From, 1))) - d.low) * perDecade)
			r = min(max(r, 0), rows-1)
			cells[i/each][r] += b.Count
			most = max(most, cells[i/each][r])
		}
	}
	wide := (width - left) / float64(len(cells))
	tall := (height - bottom - top) / float64(rows)
	for i, column := range cells {
		for r, count := range column {
			if count > 0 {
				fmt.Fprintf(&d.b, `<rect class="cell" x="%.1f" y="%.1f" width="%.2f" height="%.2f" opacity="%.2f"><title>%d</title></rect>`,
					left+float64(i)*wide, height-bottom-float64(r+1)*tall, wide, tall, 0.15+0.85*math.Log1p(float64(count))/math.Log1p(float64(most)), count)
			}
		}
	}
	d.below(0, "start", "0s")
	d.below(1, "end", (l.Slices[len(l.Slices)-1].At + l.Width()).String())
	return d.end()
}
