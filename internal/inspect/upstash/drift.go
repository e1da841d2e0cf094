package upstash

import (
	"fmt"
	"math"

	"github.com/redisopt/redisopt/internal/inspect"
)

// driftPercent is the difference from which two counts are said to disagree.
const driftPercent = 10

// A Drift is how far our count and Upstash's lie apart, both as a month of 30 days.
type Drift struct {
	Ours   float64 `json:"ours_per_month"`
	Theirs float64 `json:"theirs_per_month"`

	// Percent is (Ours - Theirs) of Theirs.
	Percent float64 `json:"drift_percent"`

	// Basis says what Theirs was made from. Ours covers another time, so some drift is change of load.
	Basis string `json:"basis"`
}

// Compare sets our billed commands a month against what u says. Nil where u does not know.
func (u *Usage) Compare(billedPerMonth float64) *Drift {
	if u.PerMonth == nil || *u.PerMonth <= 0 {
		return nil
	}
	return &Drift{Ours: billedPerMonth, Theirs: *u.PerMonth, Percent: 100 * (billedPerMonth - *u.PerMonth) / *u.PerMonth, Basis: u.Basis}
}

// Findings is one note where the counts disagree.
func (d *Drift) Findings(database string) []inspect.Finding {
	if d == nil || math.Abs(d.Percent) < driftPercent {
		return nil
	}
	side := "more"
	if d.Percent < 0 {
		side = "fewer"
	}
	return []inspect.Finding{{
		Rule: "count-drift", Severity: inspect.Note, Subject: database,
		Message: fmt.Sprintf("our count is %.0f commands a month, %.0f%% %s than the %.0f that Upstash counted over %s", d.Ours, math.Abs(d.Percent), side, d.Theirs, d.Basis),
		Remedy:  "measure a longer window at a usual time of day; what stays apart was sent by somebody else, or at another time",
	}}
}
