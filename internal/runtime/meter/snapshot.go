package meter

import (
	"cmp"
	"maps"
	"slices"
	"sync/atomic"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// A Snapshot is what a Meter had counted at one moment, ordered by component and command.
type Snapshot struct {
	// Rows has one entry per component and command that was seen; empty, not nil, when none was.
	Rows []Row `json:"rows"`
}

// A Row counts one command of one component.
type Row struct {
	Component Component `json:"component"`
	Command   string    `json:"command"` // as INFO commandstats spells it: "get", "client|list"

	// Sent is the number of commands whose last byte left through the socket: top-level commands.
	Sent int64 `json:"sent"`

	// InScript is the number of commands that scripts started by this command ran on the server, as
	// far as anybody said so.
	InScript int64 `json:"in_script"`

	BytesOut int64 `json:"bytes_out"` // of the commands
	BytesIn  int64 `json:"bytes_in"`  // of their replies

	// Outcomes says how commands ended; those without an entry are still under way. Never nil.
	Outcomes map[Outcome]int64 `json:"outcomes"`

	// Latency is in microseconds, from the last byte sent to the last byte of the reply; nil when
	// there was no reply yet.
	Latency *hdrhistogram.Histogram `json:"-"`
}

// Snapshot copies the counts. Counting goes on meanwhile, so two fields of a row may differ by the
// commands that were just under way; a later Snapshot is never behind an earlier one.
func (m *Meter) Snapshot() Snapshot {
	s := Snapshot{Rows: []Row{}}
	m.series.Range(func(k, v any) bool {
		key, series := k.(seriesKey), v.(*Series)
		row := Row{
			Component: key.component,
			Command:   key.command,
			// Outcomes are read before Sent, so that no more commands ended than were sent.
			Outcomes: series.outcomes(),
			Latency:  series.latency.histogram(),
			BytesIn:  series.bytesIn.Load(),
			InScript: series.inScript.Load(),
		}
		row.BytesOut = series.bytesOut.Load()
		row.Sent = series.sent.Load()
		if row.Sent != 0 || row.InScript != 0 {
			s.Rows = append(s.Rows, row)
		}
		return true
	})
	slices.SortFunc(s.Rows, compareRows)
	return s
}

func (s *Series) outcomes() map[Outcome]int64 {
	all := map[Outcome]int64{}
	if n := s.ok.Load(); n != 0 {
		all[OK] = n
	}
	s.other.Range(func(k, v any) bool {
		all[k.(Outcome)] = v.(*atomic.Int64).Load()
		return true
	})
	return all
}

func compareRows(a, b Row) int {
	return cmp.Or(cmp.Compare(a.Component, b.Component), cmp.Compare(a.Command, b.Command))
}

// Sub is what was counted since the earlier snapshot of the same meter: rows without a difference
// are left out.
func (s Snapshot) Sub(earlier Snapshot) Snapshot {
	return s.combine(earlier, -1)
}

// Add is the sum of both snapshots, of two processes for example. Latency histograms are merged.
func (s Snapshot) Add(other Snapshot) Snapshot {
	return s.combine(other, 1)
}

func (s Snapshot) combine(other Snapshot, sign int64) Snapshot {
	rows := map[seriesKey]Row{}
	for _, r := range s.Rows {
		r.Outcomes = maps.Clone(r.Outcomes)
		if r.Outcomes == nil {
			r.Outcomes = map[Outcome]int64{}
		}
		rows[seriesKey{r.Component, r.Command}] = r
	}
	for _, o := range other.Rows {
		key := seriesKey{o.Component, o.Command}
		r, ok := rows[key]
		if !ok {
			r = Row{Component: o.Component, Command: o.Command, Outcomes: map[Outcome]int64{}}
		}
		r.Sent += sign * o.Sent
		r.InScript += sign * o.InScript
		r.BytesOut += sign * o.BytesOut
		r.BytesIn += sign * o.BytesIn
		for outcome, n := range o.Outcomes {
			if r.Outcomes[outcome] += sign * n; r.Outcomes[outcome] == 0 {
				delete(r.Outcomes, outcome)
			}
		}
		r.Latency = combineLatency(r.Latency, o.Latency, sign)
		rows[key] = r
	}
	out := Snapshot{Rows: []Row{}}
	for _, r := range rows {
		if r.Sent != 0 || r.InScript != 0 || len(r.Outcomes) != 0 {
			out.Rows = append(out.Rows, r)
		}
	}
	slices.SortFunc(out.Rows, compareRows)
	return out
}

func combineLatency(a, b *hdrhistogram.Histogram, sign int64) *hdrhistogram.Histogram {
	if b == nil {
		return a
	}
	sum := NewHistogram().Export()
	add := func(h *hdrhistogram.Histogram, sign int64) {
		if h == nil {
			return
		}
		for i, n := range h.Export().Counts {
			if i < len(sum.Counts) {
				sum.Counts[i] += sign * n
			}
		}
	}
	add(a, 1)
	add(b, sign)
	if slices.Max(sum.Counts) <= 0 {
		return nil
	}
	return hdrhistogram.Import(sum)
}

// Totals are the sums of all rows.
func (s Snapshot) Totals() Row {
	total := Row{Outcomes: map[Outcome]int64{}}
	for _, r := range s.Rows {
		total.Sent += r.Sent
		total.InScript += r.InScript
		total.BytesOut += r.BytesOut
		total.BytesIn += r.BytesIn
		for o, n := range r.Outcomes {
			total.Outcomes[o] += n
		}
		total.Latency = combineLatency(total.Latency, r.Latency, 1)
	}
	return total
}

// Only keeps the rows of one component.
func (s Snapshot) Only(c Component) Snapshot {
	out := Snapshot{Rows: []Row{}}
	for _, r := range s.Rows {
		if r.Component == c {
			out.Rows = append(out.Rows, r)
		}
	}
	return out
}
