package plan

import (
	"errors"
	"fmt"
	"math"
)

// secondsInMonth is a month of 30 days, the length that every rate a month has here.
const secondsInMonth = 30 * 24 * 3600

// A Load is what an application asks of its Redis in a month of 30 days. 0 is not known, except where a
// field says otherwise; Top and InScript must not both be 0.
type Load struct {
	// Top is the commands a month that clients send, free ones included.
	Top float64 `json:"top_level_per_month"`

	// InScript is the commands a month that scripts run, the scripts themselves not counted.
	InScript float64 `json:"in_script_per_month"`

	// ByCommand is how many of all of them have a name, in lower case and without a subcommand. It
	// only serves to leave out what a provider does not bill. Nil: every command is taken as billed.
	ByCommand map[string]float64 `json:"-"`

	// WriteShare is the part of the commands that write, 0 to 1. Nil: not known, and taken as 1 where it
	// matters.
	WriteShare *float64 `json:"write_share,omitempty"`

	PeakPerSecond          float64 `json:"peak_commands_per_second,omitempty"`
	StorageBytes           float64 `json:"storage_bytes,omitempty"` // one copy
	BandwidthBytesPerMonth float64 `json:"bandwidth_bytes_per_month,omitempty"`
	Connections            float64 `json:"connections,omitempty"`
	RequestBytes           float64 `json:"request_bytes,omitempty"` // the largest request or reply
	RecordBytes            float64 `json:"record_bytes,omitempty"`  // the largest key with its value

	// ReadRegions is how many regions besides the primary one hold a copy. 0 is none.
	ReadRegions int `json:"read_regions"`

	// Databases share the load evenly. Default 1.
	Databases int `json:"databases"`

	// AddOns are bought on every plan that sells them; a plan that does not cannot carry the load.
	AddOns []string `json:"add_ons,omitempty"`

	// BudgetUSDPerMonth is what may be spent. 0 is no budget.
	BudgetUSDPerMonth float64 `json:"budget_usd_per_month,omitempty"`

	// Sources say where the numbers came from: "flags", "audit.commands/v1".
	Sources []string `json:"sources"`
}

func (l Load) withDefaults() Load {
	if l.Databases == 0 {
		l.Databases = 1
	}
	if l.Sources == nil {
		l.Sources = []string{}
	}
	return l
}

// sent is all commands a month.
func (l Load) sent() float64 { return l.Top + l.InScript }

func (l Load) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	for _, n := range []struct {
		name  string
		value float64
	}{
		{"commands a month", l.Top},
		{"commands in scripts", l.InScript},
		{"peak commands per second", l.PeakPerSecond},
		{"storage", l.StorageBytes},
		{"bandwidth", l.BandwidthBytesPerMonth},
		{"connections", l.Connections},
		{"request size", l.RequestBytes},
		{"record size", l.RecordBytes},
		{"read regions", float64(l.ReadRegions)},
		{"databases", float64(l.Databases)},
		{"budget", l.BudgetUSDPerMonth},
	} {
		if n.value < 0 || math.IsNaN(n.value) || math.IsInf(n.value, 0) {
			bad("%s: got %v, want 0 or more", n.name, n.value)
		}
	}
	if l.sent() <= 0 {
		bad("commands a month: not known, and nothing can be priced without")
	}
	if l.Top <= 0 && l.InScript > 0 {
		bad("commands in scripts: got %.0f a month, but none that clients send; a script is sent by a client", l.InScript)
	}
	if w := l.WriteShare; w != nil && (math.IsNaN(*w) || *w < 0 || *w > 1) {
		bad("share of writes: got %v, want 0 to 1", *w)
	}
	if average := l.sent() / secondsInMonth; l.PeakPerSecond > 0 && l.PeakPerSecond < average*0.999 {
		bad("peak commands per second: got %.1f, which is less than the average of %.1f that the month makes", l.PeakPerSecond, average)
	}
	if l.RecordBytes > 0 && l.StorageBytes > 0 && l.RecordBytes > l.StorageBytes {
		bad("record size: got %.0f bytes, which is more than the %.0f bytes stored", l.RecordBytes, l.StorageBytes)
	}
	return errors.Join(errs...)
}

// billed is how many commands of a month the provider counts.
func (l Load) billed(p Provider) float64 {
	n := l.Top
	if p.BillsInScript {
		n += l.InScript
	}
	free := 0.0
	for _, name := range p.FreeCommands {
		free += l.ByCommand[name]
	}
	n -= min(free, l.Top)
	if p.WritesPerReadRegion && l.ReadRegions > 0 {
		n *= 1 + float64(l.ReadRegions)*l.writes()
	}
	return n
}

// writes is the share of commands that write; not known is the worst case.
func (l Load) writes() float64 {
	if l.WriteShare == nil {
		return 1
	}
	return *l.WriteShare
}
