package plan

import (
	"encoding/json"
	"math"
	"slices"
)

// A Step is a range of commands a month in which one plan is the cheapest that fits, the mix of commands
// and the rest of the load as they are.
type Step struct {
	From float64 `json:"from_commands_per_month"`

	// To is where another plan takes over; infinite, and absent in JSON, where none does.
	To float64 `json:"-"`

	// Plan is empty where no plan carries so much.
	Plan string `json:"plan"`
}

// MarshalJSON leaves out an infinite end.
func (s Step) MarshalJSON() ([]byte, error) {
	type step Step
	out := struct {
		step
		To *float64 `json:"to_commands_per_month,omitempty"`
	}{step: step(s)}
	if !math.IsInf(s.To, 1) {
		out.To = &s.To
	}
	return json.Marshal(out)
}

// A BreakEven is where two plans cost the same.
type BreakEven struct {
	// PerCommand is charged by the command, Flat is not.
	PerCommand string `json:"per_command_plan"`
	Flat       string `json:"flat_plan"`

	// SentPerMonth is the commands a month, those in scripts included, above which Flat is cheaper;
	// BilledPerMonth is how many the provider counts of them.
	SentPerMonth   float64 `json:"sent_commands_per_month"`
	BilledPerMonth float64 `json:"billed_commands_per_month"`
}

// steps is the lower envelope of the prices of quotes over the number of commands. Plans for which
// something else than commands is too much are left out.
func steps(quotes []Quote) []Step {
	var able []Quote
	points := []float64{0}
	for _, q := range quotes {
		if q.other {
			continue
		}
		able = append(able, q)
		if !math.IsInf(q.ceiling, 1) {
			points = append(points, q.ceiling)
		}
	}
	for i, a := range able {
		for _, b := range able[i+1:] {
			if a.perSent == b.perSent {
				continue
			}
			if x := (b.fixed - a.fixed) / (a.perSent - b.perSent); x > 0 {
				points = append(points, x)
			}
		}
	}
	slices.Sort(points)
	out := []Step{}
	for i, from := range points {
		to := math.Inf(1)
		middle := from + 1e9
		if i+1 < len(points) {
			to = points[i+1]
			middle = (from + to) / 2
		}
		if to-from < 1 {
			continue // two crossings at one place
		}
		best := cheapestAt(able, middle)
		if n := len(out); n > 0 && out[n-1].Plan == best {
			out[n-1].To = to
			continue
		}
		out = append(out, Step{From: math.Round(from), To: math.Round(to), Plan: best})
	}
	return out
}

func cheapestAt(quotes []Quote, sent float64) string {
	best, price := "", math.Inf(1)
	for _, q := range quotes {
		if usd := q.fixed + q.perSent*sent; sent <= q.ceiling && usd < price {
			best, price = q.Plan, usd
		}
	}
	return best
}

// breakEvens pairs every plan charged by the command with every flat one that costs something.
func breakEvens(quotes []Quote) []BreakEven {
	out := []BreakEven{}
	for _, a := range quotes {
		if a.other || a.perSent == 0 {
			continue
		}
		for _, b := range quotes {
			if b.other || b.perSent > 0 || b.fixed <= a.fixed {
				continue
			}
			sent := (b.fixed - a.fixed) / a.perSent
			if sent > b.ceiling {
				continue
			}
			out = append(out, BreakEven{a.Plan, b.Plan, math.Round(sent), math.Round(sent * a.billedPerSent())})
		}
	}
	slices.SortStableFunc(out, func(a, b BreakEven) int {
		switch {
		case a.SentPerMonth < b.SentPerMonth:
			return -1
		case a.SentPerMonth > b.SentPerMonth:
			return 1
		}
		return 0
	})
	return out
}
