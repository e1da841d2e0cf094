package plan

import (
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// Schema is the number of the catalogue format that this program reads.
const Schema = 1

// maxCatalogueBytes bounds what Parse reads.
const maxCatalogueBytes = 1 << 20

//go:embed testdata/catalogue.json
var embedded string

// A Catalogue is what providers sell, with the date of every price. Prices are in US dollars.
type Catalogue struct {
	Schema    int        `json:"schema"`
	AsOf      string     `json:"as_of"` // of plans and add-ons that name no date of their own
	Currency  string     `json:"currency"`
	Providers []Provider `json:"providers"`
	Plans     []Plan     `json:"plans"`
	AddOns    []AddOn    `json:"add_ons"`
}

// A Provider is how one company counts.
type Provider struct {
	Name  string `json:"name"`
	Title string `json:"title"`

	// BillsInScript says that what a script runs is counted besides the script.
	BillsInScript bool `json:"bills_in_script"`

	// FreeCommands are counted by nobody, in lower case.
	FreeCommands []string `json:"free_commands"`

	// WritesPerReadRegion says that a write is counted once more for every read region.
	WritesPerReadRegion bool `json:"writes_per_read_region,omitempty"`

	// StoragePerReadRegion says that stored bytes are charged once more for every read region.
	StoragePerReadRegion bool `json:"storage_per_read_region,omitempty"`

	// Assumptions are what the provider does not say and this arithmetic takes for granted.
	Assumptions []string `json:"assumptions"`
}

// A Plan is one way to pay. A limit of 0 is no limit, a price of 0 no price; a GB is 1024 MB.
type Plan struct {
	Name     string `json:"name"`
	Provider string `json:"provider"`
	Title    string `json:"title"`
	AsOf     string `json:"as_of,omitempty"`
	Source   string `json:"source,omitempty"`

	// RatesFromUser says that the price is the caller's to give.
	RatesFromUser bool `json:"rates_from_user,omitempty"`

	// USDPerMonth is charged for each database; ReadRegionFactor is the part of it for each read region.
	USDPerMonth      float64 `json:"usd_per_month,omitempty"`
	ReadRegionFactor float64 `json:"read_region_factor,omitempty"`

	USDPer100K          float64 `json:"usd_per_100k_commands,omitempty"`
	MaxCommandsPerMonth float64 `json:"max_commands_per_month,omitempty"` // refused above
	MaxPerSecond        float64 `json:"max_commands_per_second,omitempty"`

	MaxStorageBytes      float64 `json:"max_storage_bytes,omitempty"`
	IncludedStorageBytes float64 `json:"included_storage_bytes,omitempty"`
	USDPerGBStorage      float64 `json:"usd_per_gb_month_storage,omitempty"`

	MaxBandwidthBytes      float64 `json:"max_bandwidth_bytes_per_month,omitempty"`
	IncludedBandwidthBytes float64 `json:"included_bandwidth_bytes_per_month,omitempty"`
	USDPerGBBandwidth      float64 `json:"usd_per_gb_bandwidth,omitempty"`

	MaxRequestBytes float64 `json:"max_request_bytes,omitempty"`
	MaxRecordBytes  float64 `json:"max_record_bytes,omitempty"`
	MaxConnections  float64 `json:"max_connections,omitempty"`

	// MaxReadRegions is how many read regions the plan allows; nil is no limit.
	MaxReadRegions *int `json:"max_read_regions,omitempty"`

	MaxDatabases        int     `json:"max_databases,omitempty"`
	IncludedDatabases   int     `json:"included_databases,omitempty"`
	USDPerExtraDatabase float64 `json:"usd_per_extra_database,omitempty"`

	// HasBudget says that the operator can set a budget, beyond which the database is throttled.
	HasBudget bool `json:"has_budget,omitempty"`

	// AddOns are the names of what can be bought besides.
	AddOns []string `json:"add_ons,omitempty"`
}

// An AddOn is bought for a database besides its plan. A limit of 0 changes nothing.
type AddOn struct {
	Name            string  `json:"name"`
	Title           string  `json:"title"`
	AsOf            string  `json:"as_of,omitempty"`
	Source          string  `json:"source,omitempty"`
	USDPerMonth     float64 `json:"usd_per_month"`
	MaxRequestBytes float64 `json:"max_request_bytes,omitempty"`
	MaxRecordBytes  float64 `json:"max_record_bytes,omitempty"`
}

// Embedded is the catalogue that this program was built with.
func Embedded() (*Catalogue, error) { return Parse(strings.NewReader(embedded)) }

// Parse reads a catalogue of at most 1 MiB. A field nobody knows is an error, because a misspelt limit
// would be no limit; a newer schema is refused. The error joins every problem of the content.
func Parse(r io.Reader) (*Catalogue, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxCatalogueBytes+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > maxCatalogueBytes:
		return nil, fmt.Errorf("the catalogue is longer than %d bytes", maxCatalogueBytes)
	}
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return nil, fmt.Errorf("not a catalogue: %w", err)
	}
	if head.Schema != Schema {
		return nil, fmt.Errorf("schema: got %d, want %d", head.Schema, Schema)
	}
	c := &Catalogue{}
	dec := json.NewDecoder(strings.NewReader(string(text)))
	dec.DisallowUnknownFields()
	if err := dec.Decode(c); err != nil {
		return nil, err
	}
	if err := c.validate(); err != nil {
		return nil, err
	}
	c.fill()
	return c, nil
}

// fill gives plans and add-ons without a date of their own that of the catalogue.
func (c *Catalogue) fill() {
	for i := range c.Plans {
		if c.Plans[i].AsOf == "" && !c.Plans[i].RatesFromUser {
			c.Plans[i].AsOf = c.AsOf
		}
	}
	for i := range c.AddOns {
		if c.AddOns[i].AsOf == "" {
			c.AddOns[i].AsOf = c.AsOf
		}
	}
}

func (c *Catalogue) validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if c.Currency != "USD" {
		bad("currency: got %q, want USD", c.Currency)
	}
	if _, err := date(c.AsOf); err != nil {
		bad("as_of: %w", err)
	}
	if len(c.Plans) == 0 {
		bad("plans: none")
	}
	seen := map[string]bool{}
	name := func(kind, n string) {
		if n == "" || seen[kind+n] {
			bad("%s %q: want a name that no other has", kind, n)
		}
		seen[kind+n] = true
	}
	for _, p := range c.Providers {
		name("provider", p.Name)
	}
	for _, a := range c.AddOns {
		name("add-on", a.Name)
		if err := checkPrices(a.AsOf, a.USDPerMonth, a.MaxRequestBytes, a.MaxRecordBytes); err != nil {
			bad("add-on %q: %w", a.Name, err)
		}
	}
	for _, p := range c.Plans {
		name("plan", p.Name)
		if !slices.ContainsFunc(c.Providers, func(x Provider) bool { return x.Name == p.Provider }) {
			bad("plan %q: no provider is called %q", p.Name, p.Provider)
		}
		for _, a := range p.AddOns {
			if !seen["add-on"+a] {
				bad("plan %q: no add-on is called %q", p.Name, a)
			}
		}
		if err := checkPrices(p.AsOf, p.numbers()...); err != nil {
			bad("plan %q: %w", p.Name, err)
		}
	}
	return errors.Join(errs...)
}

// numbers are all prices and limits, none of which may be negative.
func (p Plan) numbers() []float64 {
	all := []float64{
		p.USDPerMonth, p.ReadRegionFactor, p.USDPer100K, p.MaxCommandsPerMonth, p.MaxPerSecond,
		p.MaxStorageBytes, p.IncludedStorageBytes, p.USDPerGBStorage,
		p.MaxBandwidthBytes, p.IncludedBandwidthBytes, p.USDPerGBBandwidth,
		p.MaxRequestBytes, p.MaxRecordBytes, p.MaxConnections,
		float64(p.MaxDatabases), float64(p.IncludedDatabases), p.USDPerExtraDatabase,
	}
	if p.MaxReadRegions != nil {
		all = append(all, float64(*p.MaxReadRegions))
	}
	return all
}

func checkPrices(asOf string, numbers ...float64) error {
	if slices.ContainsFunc(numbers, func(n float64) bool { return n < 0 }) {
		return errors.New("a price or limit is negative")
	}
	if asOf == "" {
		return nil
	}
	_, err := date(asOf)
	return err
}

func date(s string) (time.Time, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return t, fmt.Errorf("got %q, want a date such as 2026-08-21", s)
	}
	return t, nil
}

// provider is the one called name; validate made sure that there is one for every plan.
func (c *Catalogue) provider(name string) Provider {
	for _, p := range c.Providers {
		if p.Name == name {
			return p
		}
	}
	return Provider{Name: name}
}

// Names lists the plans in the order of the catalogue.
func (c *Catalogue) Names() []string {
	all := make([]string, len(c.Plans))
	for i, p := range c.Plans {
		all[i] = p.Name
	}
	return all
}
