package plan

import (
	"fmt"
	"math"
)

// Counted is what a provider says that it counted for one database, as a month of 30 days. Nil is not
// known.
type Counted struct {
	Provider string // of the catalogue
	Source   string // who said so
	Basis    string // the time that PerMonth was made from

	PerMonth      *float64 // billed commands, those in scripts included
	ScriptShare   *float64 // of PerMonth, 0 to 1
	WriteShare    *float64 // of PerMonth, 0 to 1
	StorageBytes  *float64
	Bandwidth     *float64 // bytes a month
	Connections   *float64 // at most, at a time
	PeakPerSecond *float64
	ReadRegions   int
	BudgetUSD     float64
	AddOns        []string

	// Free and PerCommand say what kind of plan is paid for; neither is a flat one, which MaxStorageBytes
	// tells from the others.
	Free, PerCommand bool
	MaxStorageBytes  float64
}

// Load is the load that n describes, the plan that is paid for as far as the catalogue has it, and what
// is taken for granted.
func (c *Catalogue) Load(n Counted) (load Load, current string, assumed []string) {
	value := func(p *float64) float64 {
		if p == nil {
			return 0
		}
		return *p
	}
	load = Load{
		WriteShare: n.WriteShare, StorageBytes: value(n.StorageBytes), BandwidthBytesPerMonth: value(n.Bandwidth),
		Connections: value(n.Connections), PeakPerSecond: value(n.PeakPerSecond),
		ReadRegions: n.ReadRegions, BudgetUSDPerMonth: n.BudgetUSD, AddOns: n.AddOns, Sources: []string{},
	}
	all := value(n.PerMonth)
	load.InScript = all * value(n.ScriptShare)
	load.Top = all - load.InScript
	if load.PeakPerSecond < all/secondsInMonth {
		load.PeakPerSecond = 0 // of a quiet hour, and not the peak of the month
	}
	if all > 0 {
		load.Sources = append(load.Sources, n.Source)
		assumed = append(assumed, fmt.Sprintf("commands are those that %s counted over %s, taken as counted once whatever the read regions", n.Source, n.Basis))
	}
	return load, c.paidFor(n), assumed
}

// paidFor is the plan that fits the description, empty where none or several do.
func (c *Catalogue) paidFor(n Counted) string {
	found := ""
	for _, p := range c.Plans {
		flat := p.MaxCommandsPerMonth == 0 && p.USDPer100K == 0
		same := n.Free && p.MaxCommandsPerMonth > 0 && p.USDPerMonth == 0 ||
			n.PerCommand && p.USDPer100K > 0 ||
			!n.Free && !n.PerCommand && flat && p.MaxStorageBytes > 0 && math.Abs(p.MaxStorageBytes-n.MaxStorageBytes) < 0.08*p.MaxStorageBytes
		if p.Provider != n.Provider || !same {
			continue
		}
		if found != "" {
			return ""
		}
		found = p.Name
	}
	return found
}

// Counts is how many commands of the load a provider of the comparison counts, before read regions
// multiply writes.
func (c *Catalogue) Counts(provider string, load Load) float64 {
	load.ReadRegions = 0
	return load.billed(c.provider(provider))
}

// Or is l, with what it does not know taken from other. Commands are taken together or not at all.
func (l Load) Or(other Load) Load {
	if l.sent() == 0 {
		l.Top, l.InScript, l.ByCommand = other.Top, other.InScript, other.ByCommand
		l.Sources = append(l.Sources, other.Sources...)
	}
	if l.WriteShare == nil {
		l.WriteShare = other.WriteShare
	}
	for _, x := range []struct{ into, from *float64 }{
		{&l.PeakPerSecond, &other.PeakPerSecond},
		{&l.StorageBytes, &other.StorageBytes},
		{&l.BandwidthBytesPerMonth, &other.BandwidthBytesPerMonth},
		{&l.Connections, &other.Connections},
		{&l.RequestBytes, &other.RequestBytes},
		{&l.RecordBytes, &other.RecordBytes},
		{&l.BudgetUSDPerMonth, &other.BudgetUSDPerMonth},
	} {
		if *x.into == 0 {
			*x.into = *x.from
		}
	}
	if l.ReadRegions == 0 {
		l.ReadRegions = other.ReadRegions
	}
	if len(l.AddOns) == 0 {
		l.AddOns = other.AddOns
	}
	return l
}
