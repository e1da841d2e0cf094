package plan

import (
	"fmt"
	"math"
	"slices"
)

const gb = 1 << 30

// A Line is one item of a bill.
type Line struct {
	What string  `json:"what"`
	USD  float64 `json:"usd_per_month"`
}

// A Quote is what a load costs on one plan.
type Quote struct {
	Plan     string `json:"plan"`
	Provider string `json:"provider"`
	Title    string `json:"title"`
	AsOf     string `json:"as_of,omitempty"`
	Source   string `json:"source,omitempty"`

	// Fits says that nothing in Blockers keeps the plan from carrying the load.
	Fits     bool     `json:"fits"`
	Blockers []string `json:"blockers"`

	// NotJudged are limits of the plan to which the load gives no number.
	NotJudged []string `json:"not_judged"`

	BilledPerMonth float64 `json:"billed_commands_per_month"`
	USDPerMonth    float64 `json:"usd_per_month"`
	Lines          []Line  `json:"lines"`

	// fixed is the part of the price that no command changes, perSent the price of one command sent of
	// the sent a month that were priced; ceiling is how many commands sent a month
	// the plan can carry, and other that something else than commands is too much for it.
	fixed, perSent, ceiling float64
	sent                    float64
	other                   bool
}

// A Rate is what the caller pays for a plan that has no price in the catalogue.
type Rate struct {
	// USDPerMonth is the price of one node in a month of 30 days.
	USDPerMonth float64 `json:"usd_per_month"`

	// Nodes is how many are paid for, of every copy. Default 1.
	Nodes int `json:"nodes"`

	// MemoryBytes and MaxConnections are the limits of one node; 0 is not known.
	MemoryBytes    float64 `json:"memory_bytes,omitempty"`
	MaxConnections float64 `json:"max_connections,omitempty"`
}

// quote prices load on p.
func (c *Catalogue) quote(p Plan, load Load, rate *Rate) Quote {
	provider := c.provider(p.Provider)
	q := Quote{
		Plan: p.Name, Provider: p.Provider, Title: p.Title, AsOf: p.AsOf, Source: p.Source,
		Blockers: []string{}, NotJudged: []string{}, Lines: []Line{},
		BilledPerMonth: load.billed(provider), ceiling: math.Inf(1), sent: load.sent(),
	}
	if rate != nil {
		p.USDPerMonth = rate.USDPerMonth * float64(max(rate.Nodes, 1))
		p.ReadRegionFactor = 1
		p.MaxStorageBytes, p.MaxConnections = rate.MemoryBytes, rate.MaxConnections
	}
	q.addOns(c, &p, load)
	q.flat(p, load)
	q.perUse(p, provider, load)
	q.limits(p, load)
	q.USDPerMonth = q.fixed + q.BilledPerMonth*p.USDPer100K/100_000
	q.perSent = q.BilledPerMonth / load.sent() * p.USDPer100K / 100_000
	q.commandLimits(p, load)
	q.Fits = len(q.Blockers) == 0
	return q
}

func (q *Quote) charge(usd float64, format string, args ...any) {
	if usd > 0 {
		q.Lines = append(q.Lines, Line{fmt.Sprintf(format, args...), usd})
	}
}

func (q *Quote) block(format string, args ...any) {
	q.Blockers = append(q.Blockers, fmt.Sprintf(format, args...))
}

// addOns buys what the load asks for and raises the limits of p.
func (q *Quote) addOns(c *Catalogue, p *Plan, load Load) {
	for _, name := range load.AddOns {
		if !slices.Contains(p.AddOns, name) {
			q.block("%s is not sold with it", name)
			q.other = true
			continue
		}
		i := slices.IndexFunc(c.AddOns, func(a AddOn) bool { return a.Name == name })
		a := c.AddOns[i]
		usd := a.USDPerMonth * float64(load.Databases)
		q.fixed += usd
		q.charge(usd, "%s", a.Title)
		p.MaxRequestBytes = max(p.MaxRequestBytes, a.MaxRequestBytes)
		p.MaxRecordBytes = max(p.MaxRecordBytes, a.MaxRecordBytes)
	}
}

// flat charges what does not depend on use.
func (q *Quote) flat(p Plan, load Load) {
	base := p.USDPerMonth * float64(load.Databases)
	regions := base * p.ReadRegionFactor * float64(load.ReadRegions)
	extra := float64(max(0, load.Databases-p.IncludedDatabases)) * p.USDPerExtraDatabase
	q.fixed += base + regions + extra
	q.charge(base, "the plan")
	q.charge(regions, "read regions (%d) at %.0f%% of the plan", load.ReadRegions, 100*p.ReadRegionFactor)
	q.charge(extra, "databases beyond %d", p.IncludedDatabases)
}

// perUse charges commands, storage and traffic. Commands are no part of fixed.
func (q *Quote) perUse(p Plan, provider Provider, load Load) {
	q.charge(q.BilledPerMonth*p.USDPer100K/100_000, "%s commands at %.2f for 100,000", amount(q.BilledPerMonth), p.USDPer100K)
	stored := load.StorageBytes
	if provider.StoragePerReadRegion {
		stored *= float64(1 + load.ReadRegions)
	}
	storage := max(0, stored-p.IncludedStorageBytes) / gb * p.USDPerGBStorage
	traffic := max(0, load.BandwidthBytesPerMonth-p.IncludedBandwidthBytes) / gb * p.USDPerGBBandwidth
	q.fixed += storage + traffic
	q.charge(storage, "%s stored beyond %s at %.2f a GB", bytesText(stored), bytesText(p.IncludedStorageBytes), p.USDPerGBStorage)
	q.charge(traffic, "%s of traffic beyond %s at %.2f a GB", bytesText(load.BandwidthBytesPerMonth), bytesText(p.IncludedBandwidthBytes), p.USDPerGBBandwidth)
}

// limits judges everything but commands.
func (q *Quote) limits(p Plan, load Load) {
	before := len(q.Blockers)
	for _, l := range []struct {
		name       string
		limit, got float64
		text       func(float64) string
	}{
		{"storage", p.MaxStorageBytes, load.StorageBytes / float64(load.Databases), bytesText},
		{"traffic", p.MaxBandwidthBytes, load.BandwidthBytesPerMonth / float64(load.Databases), bytesText},
		{"connections", p.MaxConnections, load.Connections / float64(load.Databases), amount},
		{"request size", p.MaxRequestBytes, load.RequestBytes, bytesText},
		{"record size", p.MaxRecordBytes, load.RecordBytes, bytesText},
	} {
		switch {
		case l.limit == 0:
		case l.got == 0:
			q.NotJudged = append(q.NotJudged, l.name)
		case l.got > l.limit:
			q.block("%s: %s of %s", l.name, l.text(l.got), l.text(l.limit))
		}
	}
	if p.MaxReadRegions != nil && load.ReadRegions > *p.MaxReadRegions {
		q.block("read regions: %d of %d", load.ReadRegions, *p.MaxReadRegions)
	}
	if p.MaxDatabases > 0 && load.Databases > p.MaxDatabases {
		q.block("databases: %d of %d", load.Databases, p.MaxDatabases)
	}
	q.other = q.other || len(q.Blockers) > before
}

// commandLimits judges commands, and finds out how many the plan could carry.
func (q *Quote) commandLimits(p Plan, load Load) {
	sent := load.sent()
	if most := p.MaxCommandsPerMonth; most > 0 {
		q.ceiling = most * sent / max(q.BilledPerMonth, 1)
		if q.BilledPerMonth > most {
			q.block("commands a month: %s of %s", amount(q.BilledPerMonth), amount(most))
		}
	}
	if most := p.MaxPerSecond * float64(load.Databases); most > 0 {
		q.ceiling = min(q.ceiling, most*secondsInMonth)
		peak := load.PeakPerSecond
		if peak == 0 {
			peak = sent / secondsInMonth
			q.NotJudged = append(q.NotJudged, "peak commands per second")
		} else {
			q.ceiling = min(q.ceiling, most*sent/peak)
		}
		if peak > most {
			q.block("commands per second: %s of %s", amount(math.Ceil(peak)), amount(most))
		}
	}
	if load.BudgetUSDPerMonth > 0 && p.HasBudget && q.USDPerMonth > load.BudgetUSDPerMonth {
		q.block("budget: %.2f of %.2f dollars, beyond which the provider throttles", q.USDPerMonth, load.BudgetUSDPerMonth)
		if q.perSent > 0 {
			q.ceiling = min(q.ceiling, max(0, load.BudgetUSDPerMonth-q.fixed)/q.perSent)
		}
	}
}

// billedPerSent is how many commands are billed for one that is sent or runs in a script.
func (q Quote) billedPerSent() float64 { return q.BilledPerMonth / q.sent }
