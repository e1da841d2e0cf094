package forecast

import "math"

// z is the quantile of the normal distribution for Level: 10% lie above it.
const z = 1.2815515655446004

// A model is the least-squares fit of the past days: level, trend, and weekdays as far as there are enough
// days to tell them.
type model struct {
	name     string
	columns  func(d date) []float64
	beta     []float64
	inverse  [][]float64 // of X'X
	variance float64     // of one day
	free     float64     // degrees of freedom
	repeat   float64     // how much longer noise lasts than a day, at least 1
}

// fit fits days, of which there are at least MinDays.
func fit(days []past, first date) *model {
	m := &model{name: "level", columns: func(date) []float64 { return []float64{1} }}
	middle := float64(first) + float64(days[len(days)-1].date-first)/2
	switch n := len(days); {
	case n >= weeks && everyWeekday(days):
		m.name = "level, trend and weekdays"
		m.columns = func(d date) []float64 {
			x := make([]float64, 8)
			x[0], x[1] = 1, (float64(d)-middle)/7
			if w := d.weekday(); w > 0 {
				x[1+w] = 1
			}
			return x
		}
	case n >= week && weekendAndWeek(days):
		m.name = "level and weekends"
		m.columns = func(d date) []float64 {
			if w := d.weekday(); w == 0 || w == 6 {
				return []float64{1, 1}
			}
			return []float64{1, 0}
		}
	}
	m.solve(days)
	return m
}

func everyWeekday(days []past) bool {
	var n [7]int
	for _, d := range days {
		n[d.date.weekday()]++
	}
	for _, k := range n {
		if k < 2 {
			return false
		}
	}
	return true
}

func weekendAndWeek(days []past) bool {
	weekend := 0
	for _, d := range days {
		if w := d.date.weekday(); w == 0 || w == 6 {
			weekend++
		}
	}
	return weekend >= 1 && len(days)-weekend >= 3
}

// solve is least squares by the normal equations, which are small and well scaled here.
func (m *model) solve(days []past) {
	p := len(m.columns(days[0].date))
	a := make([][]float64, p) // X'X beside the unit matrix
	b := make([]float64, p)
	for i := range a {
		a[i] = make([]float64, 2*p)
		a[i][p+i] = 1
	}
	for _, d := range days {
		x := m.columns(d.date)
		for i := range x {
			b[i] += x[i] * d.spent
			for j := range x {
				a[i][j] += x[i] * x[j]
			}
		}
	}
	invert(a, p)
	m.inverse, m.beta = make([][]float64, p), make([]float64, p)
	for i := range a {
		m.inverse[i] = a[i][p:]
		for j := range b {
			m.beta[i] += m.inverse[i][j] * b[j]
		}
	}
	m.noise(days, p)
}

// invert makes the left half of a the unit matrix, and so the right half its inverse.
func invert(a [][]float64, p int) {
	for i := range p {
		best := i
		for r := i + 1; r < p; r++ {
			if math.Abs(a[r][i]) > math.Abs(a[best][i]) {
				best = r
			}
		}
		a[i], a[best] = a[best], a[i]
		pivot := a[i][i]
		if math.Abs(pivot) < 1e-12 {
			continue // the choice of columns makes that impossible
		}
		for j := range a[i] {
			a[i][j] /= pivot
		}
		for r := range p {
			if factor := a[r][i]; r != i && factor != 0 {
				for j := range a[r] {
					a[r][j] -= factor * a[i][j]
				}
			}
		}
	}
}

// noise is what the fit leaves, and how much of it lasts from one day to the next.
func (m *model) noise(days []past, p int) {
	rest := make([]float64, len(days))
	squares, along := 0.0, 0.0
	for i, d := range days {
		rest[i] = d.spent - m.at(d.date)
		squares += rest[i] * rest[i]
		if i > 0 && d.date == days[i-1].date+1 {
			along += rest[i] * rest[i-1]
		}
	}
	m.free = float64(max(len(days)-p, 1))
	m.variance = squares / m.free
	m.repeat = 1
	if squares <= 0 {
		return
	}
	// What is left of a fit looks less lasting than it is, by about p days in n.
	n := float64(len(days))
	r := along/squares + float64(p)/n/2
	if r > 1.7/math.Sqrt(n) { // else it is chance
		r = min(r, 0.8)
		m.repeat = (1 + r) / (1 - r)
	}
}

// at is what the model says of a day, never less than nothing.
func (m *model) at(d date) float64 {
	y := 0.0
	for i, x := range m.columns(d) {
		y += x * m.beta[i]
	}
	return y
}

// trend is the change from one day to the next.
func (m *model) trend() float64 {
	if len(m.beta) < 8 {
		return 0
	}
	return m.beta[1] / 7
}

// A total is the sum of days, or of parts of them, as the model sees it.
type total struct {
	m       *model
	mean    float64
	columns []float64
	own     float64 // sum of squared shares: each day's own noise
}

func (m *model) total() *total { return &total{m: m, columns: make([]float64, len(m.beta))} }

// add adds a share of a day.
func (t *total) add(d date, share float64) {
	t.mean += share * max(0, t.m.at(d))
	for i, x := range t.m.columns(d) {
		t.columns[i] += share * x
	}
	t.own += share * share
}

// band is half the width of the interval around mean that holds the truth in Level percent.
func (t *total) band() float64 {
	doubt := 0.0 // about the model itself
	for i, x := range t.columns {
		for j, y := range t.columns {
			doubt += x * y * t.m.inverse[i][j]
		}
	}
	return student(t.m.free) * math.Sqrt(t.m.variance*t.m.repeat*(t.own+doubt))
}

// student is the quantile of Student's distribution that z is of the normal one, by its expansion.
func student(free float64) float64 {
	switch {
	case free <= 1:
		return 3.078
	case free <= 2:
		return 1.886
	}
	z3, z5 := z*z*z, z*z*z*z*z
	return z + (z3+z)/(4*free) + (5*z5+16*z3+3*z)/(96*free*free) + (3*z5*z*z+19*z5+17*z3-15*z)/(384*free*free*free)
}
