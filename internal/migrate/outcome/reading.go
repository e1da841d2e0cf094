package outcome

import (
	"maps"
	"time"
)

// A Reading is what one source said at one moment.
type Reading struct {
	At     time.Time `json:"at"`
	Source string    `json:"source"`

	// Counts are what has been counted since some moment that does not change between two readings of one
	// source: jobs that ended well (done) and for good badly (failed), errors.
	Counts map[string]float64 `json:"counts,omitempty"`

	// Levels are what is so now: jobs that wait (waiting), the 95th percentile in milliseconds (p95_ms).
	Levels map[string]float64 `json:"levels,omitempty"`

	// Life is true when p95_ms is of all the time since the application began, as nothing was read before: it
	// says how it was until then, and is no evidence of the time between two readings.
	Life bool `json:"life,omitempty"`

	// Cursor is where a source goes on: of a queue the last event that was counted, of a counter or histogram
	// what it had come to.
	Cursor map[string]string `json:"cursor,omitempty"`

	// Gap is why the time since the reading before is not covered, empty when it is.
	Gap string `json:"gap,omitempty"`

	// How says how the counts came about, for people.
	How string `json:"how,omitempty"`
}

// The names of counts and levels.
const (
	Done    = "done"
	Failed  = "failed"
	Errors  = "errors"
	Waiting = "waiting"
	P95     = "p95_ms"
)

// Known are the names that a metrics page can be asked for.
func Known() []string { return []string{Done, Failed, Errors, Waiting, P95} }

// clone is r with maps of its own.
func (r Reading) clone() Reading {
	r.Counts, r.Levels, r.Cursor = maps.Clone(r.Counts), maps.Clone(r.Levels), maps.Clone(r.Cursor)
	return r
}

// next is the beginning of the reading after r, at now: counts and cursors go on, levels do not.
func (r Reading) next(source string, now time.Time) Reading {
	out := r.clone()
	out.At, out.Source, out.Gap, out.How, out.Life, out.Levels = now, source, "", "", false, map[string]float64{}
	if out.Counts == nil {
		out.Counts = map[string]float64{}
	}
	if out.Cursor == nil {
		out.Cursor = map[string]string{}
	}
	return out
}
