package api

import (
	"context"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/ramp"
)

// RampStats are what the two sides did between two times, as far as this server counted.
type RampStats struct {
	From     time.Time     `json:"from"`
	To       time.Time     `json:"to"`
	Covered  float64       `json:"covered" doc:"The share of the time, 0 to 1, in which this server counted"`
	Routes   []RampCounts  `json:"routes" nullable:"false"`
	Examples []RampExample `json:"examples" nullable:"false" doc:"The last differences, whenever they were, with keys made unreadable"`
	Backlogs *RampBacklogs `json:"backlogs,omitempty" doc:"What still has to be brought to each side"`
}

// RampBacklogs are what still has to be brought to each side.
type RampBacklogs struct {
	Old RampBacklog `json:"old"`
	New RampBacklog `json:"new"`
}

// A RampBacklog is what still has to be brought to one side.
type RampBacklog struct {
	Writes  int  `json:"writes"`
	Bytes   int  `json:"bytes"`
	Failing bool `json:"failing" doc:"The side did not take the last of them"`
}

// RampCounts are what one route did.
type RampCounts struct {
	Name        string           `json:"name"`
	Old         RampSide         `json:"old"`
	New         RampSide         `json:"new"`
	Answers     int64            `json:"answers" doc:"Callers that were answered, whichever side did it"`
	AnswersP95  float64          `json:"answers_p95_ms" doc:"What 95% of them did not have to wait longer for, right within 4%; 0 without any"`
	Compared    map[string]int64 `json:"compared" nullable:"false" doc:"Reads compared, by how they came out: match, late, absent, differs, extra, type, failed, dropped, lost"`
	Differences int64            `json:"differences" doc:"Those of them that speak against the new side: differs, extra, type and lost"`
}

// A RampSide is what one side did of a route.
type RampSide struct {
	Calls    int64   `json:"calls"`
	Errors   int64   `json:"errors" doc:"Of these, those that had no answer"`
	Hits     int64   `json:"hits"`
	Misses   int64   `json:"misses"`
	FellBack int64   `json:"fell_back" doc:"Calls of the new side that the old one answered"`
	Filled   int64   `json:"filled" doc:"Those of them that found nothing on the new side"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms" doc:"Right within 4%; 0 without calls"`
	Samples  int64   `json:"samples" doc:"Calls whose time is known"`
}

// A RampExample is one difference.
type RampExample struct {
	Route string    `json:"route"`
	Class string    `json:"class"`
	Key   string    `json:"key"`
	At    time.Time `json:"at"`
}

// A RampReport is what an application counted that divides its keys itself.
type RampReport struct {
	Route    string              `json:"route" minLength:"1" maxLength:"200" doc:"As in GET /v1/ramp"`
	Compared map[string]int64    `json:"compared,omitempty" nullable:"false" doc:"Reads compared, by class"`
	Old      *RampReportSide     `json:"old,omitempty"`
	New      *RampReportSide     `json:"new,omitempty"`
	Answers  []float64           `json:"answers_ms,omitempty" maxItems:"1000" nullable:"false" doc:"How long some callers waited, in milliseconds"`
	Examples []RampReportExample `json:"examples,omitempty" maxItems:"20" nullable:"false"`
}

// A RampReportSide is what an application saw of one side.
type RampReportSide struct {
	Calls    int64     `json:"calls,omitempty" minimum:"0" maximum:"1000000000"`
	Errors   int64     `json:"errors,omitempty" minimum:"0" maximum:"1000000000"`
	Hits     int64     `json:"hits,omitempty" minimum:"0" maximum:"1000000000"`
	Misses   int64     `json:"misses,omitempty" minimum:"0" maximum:"1000000000"`
	FellBack int64     `json:"fell_back,omitempty" minimum:"0" maximum:"1000000000"`
	Took     []float64 `json:"took_ms,omitempty" maxItems:"1000" nullable:"false" doc:"How long some of the calls took, in milliseconds"`
}

// A RampReportExample is a difference; the key must be unreadable already.
type RampReportExample struct {
	Class string `json:"class"`
	Key   string `json:"key" maxLength:"100" pattern:"^[A-Za-z0-9_.-]{0,32}[^#]{0,10}#[0-9a-f]{8}$" doc:"The key's first part and eight digits of its SHA-256: user:…#1a2b3c4d"`
}

type rampStatsInput struct {
	From time.Time `query:"from" doc:"Default an hour before to"`
	To   time.Time `query:"to" doc:"Default now"`
}

type rampStatsOutput struct{ Body RampStats }

type rampReportInput struct{ Body RampReport }

type rampReportOutput struct {
	Body struct {
		Taken bool `json:"taken"`
	}
}

func (a *API) rampStatsRoutes(h huma.API) {
	huma.Register(h, withErrors(a.operation("ramp-stats", http.MethodGet, "/v1/ramp/stats", "control", "What the two sides did", ScopeControlRead,
		"Counted in this process, in slots of 10 seconds and, after half an hour, of a minute, for 26 hours. Costs no command."),
		http.StatusNotFound, http.StatusUnprocessableEntity), a.rampStats)
	huma.Register(h, withErrors(takesJSON(a.operation("ramp-report", http.MethodPost, "/v1/ramp/report", "control", "Report what an application saw", ScopeCacheWrite,
		"Adds to what GET /v1/ramp/stats answers, from which a migration judges whether to go on. Costs no command.")), http.StatusNotFound), a.rampReport)
}

func (a *API) rampStats(_ context.Context, in *rampStatsInput) (*rampStatsOutput, error) {
	if a.opts.Control == nil || a.opts.Ramp == nil {
		return nil, notEnabled("the ramp")
	}
	if in.To.IsZero() {
		in.To = time.Now()
	}
	if in.From.IsZero() {
		in.From = in.To.Add(-time.Hour)
	}
	if !in.From.Before(in.To) {
		return nil, invalid("query.from", "is not before to")
	}
	s := a.opts.Ramp.Ledger.Summary(in.From, in.To)
	out := &rampStatsOutput{RampStats{
		From: in.From.UTC(), To: in.To.UTC(), Covered: s.Covered, Routes: []RampCounts{}, Examples: []RampExample{},
	}}
	for _, name := range slices.Sorted(maps.Keys(s.Routes)) {
		out.Body.Routes = append(out.Body.Routes, rampCounts(name, s.Routes[name]))
	}
	for _, e := range s.Examples {
		out.Body.Examples = append(out.Body.Examples, RampExample{e.Route, string(e.Class), e.Key, e.At})
	}
	if a.opts.Ramp.Backlogs != nil {
		old, next := a.opts.Ramp.Backlogs()
		of := func(b ramp.Backlog) RampBacklog { return RampBacklog{b.Writes, b.Bytes, b.Err != nil} }
		out.Body.Backlogs = &RampBacklogs{of(old), of(next)}
	}
	return out, nil
}

func rampCounts(name string, c *ramp.Counts) RampCounts {
	ms := func(d time.Duration) float64 { return math.Round(float64(d.Microseconds())) / 1000 }
	side := func(s ramp.SideCounts) RampSide {
		p50, _ := s.Percentile(0.5)
		p95, n := s.Percentile(0.95)
		return RampSide{
			Calls: s.Calls, Errors: s.Errors, Hits: s.Hits, Misses: s.Misses, FellBack: s.FellBack, Filled: s.Filled,
			P50: ms(p50), P95: ms(p95), Samples: n,
		}
	}
	p95, n := c.Answers.Percentile(0.95)
	out := RampCounts{Name: name, Old: side(c.Old), New: side(c.New), Answers: n, AnswersP95: ms(p95), Compared: map[string]int64{}}
	for class, n := range c.Compared {
		out.Compared[string(class)] = n
		if class.Counts() {
			out.Differences += n
		}
	}
	return out
}

func (a *API) rampReport(_ context.Context, in *rampReportInput) (*rampReportOutput, error) {
	if a.opts.Control == nil || a.opts.Ramp == nil {
		return nil, notEnabled("the ramp")
	}
	r := in.Body
	if !slices.ContainsFunc(a.rampState().Routes, func(known RampRoute) bool { return known.Name == r.Route }) {
		return nil, invalid("body.route", "the control document has no ramp of this name")
	}
	for class, n := range r.Compared {
		if !slices.Contains(ramp.Classes(), ramp.Class(class)) || n < 0 || n > 1e9 {
			return nil, invalid("body.compared", "want counts of match, late, absent, differs, extra, type, failed, dropped and lost")
		}
	}
	l := a.opts.Ramp.Ledger
	for class, n := range r.Compared {
		l.Compared(r.Route, ramp.Class(class), n, "")
	}
	for _, e := range r.Examples {
		if ramp.Class(e.Class).Counts() {
			l.Compared(r.Route, ramp.Class(e.Class), 0, e.Key)
		}
	}
	for side, s := range map[ramp.Side]*RampReportSide{ramp.Old: r.Old, ramp.New: r.New} {
		if s != nil {
			s.add(l, r.Route, side)
		}
	}
	for _, took := range r.Answers {
		if d, ok := latency(took); ok {
			l.Answered(r.Route, d)
		}
	}
	out := &rampReportOutput{}
	out.Body.Taken = true
	return out, nil
}

// add counts what an application saw of one side.
func (s *RampReportSide) add(l *ramp.Ledger, route string, side ramp.Side) {
	l.Called(ramp.Call{Route: route, Side: side}, s.Calls-min(s.Calls, s.Errors+s.Hits+s.Misses))
	l.Called(ramp.Call{Route: route, Side: side, Failed: true}, s.Errors)
	l.Called(ramp.Call{Route: route, Side: side, Hit: true}, s.Hits)
	l.Called(ramp.Call{Route: route, Side: side, Miss: true}, s.Misses)
	if side == ramp.New {
		l.FellBack(route, s.FellBack, 0)
	}
	for _, took := range s.Took {
		if d, ok := latency(took); ok {
			l.Took(route, side, d)
		}
	}
}

// latency is milliseconds as a duration, if they can be one.
func latency(ms float64) (time.Duration, bool) {
	if math.IsNaN(ms) || ms <= 0 || ms > float64(time.Hour.Milliseconds()) {
		return 0, false
	}
	return time.Duration(ms * float64(time.Millisecond)), true
}

// ramp shows where keys are and what the sides did: reading metrics sends no command.
func (e emitter) ramp(s RampState, v RampView) {
	for _, r := range s.Routes {
		route := label{"route", r.Name}
		e.gauge("redisopt_ramp_new_ratio", "Keys of a route on the new side, 0 to 1.", r.Percent/100, route)
		e.gauge("redisopt_ramp_mirror_ratio", "Keys of a route that are written on both sides, 0 to 1.", r.Mirror/100, route)
		e.gauge("redisopt_ramp_shadow_ratio", "Reads of the old side that are compared, 0 to 1.", r.Shadow/100, route)
	}
	totals := v.Ledger.Totals()
	for _, name := range slices.Sorted(maps.Keys(totals)) {
		c := totals[name]
		route := label{"route", name}
		for side, n := range map[string]ramp.SideCounts{"old": c.Old, "new": c.New} {
			e.counter("redisopt_ramp_calls_total", "Calls of a side, and those that applications reported.", float64(n.Calls), route, label{"side", side})
			e.counter("redisopt_ramp_errors_total", "Calls of a side that had no answer.", float64(n.Errors), route, label{"side", side})
		}
		e.counter("redisopt_ramp_fell_back_total", "Calls of the new side that the old one answered.", float64(c.New.FellBack), route)
		for _, class := range ramp.Classes() {
			e.counter("redisopt_ramp_compared_total", "Reads compared, by how they came out.", float64(c.Compared[class]), route, label{"class", string(class)})
		}
	}
	if v.Backlogs != nil {
		old, next := v.Backlogs()
		for side, b := range map[string]ramp.Backlog{"old": old, "new": next} {
			e.gauge("redisopt_ramp_backlog_writes", "Writes that still have to be brought to a side.", float64(b.Writes), label{"side", side})
		}
	}
}
