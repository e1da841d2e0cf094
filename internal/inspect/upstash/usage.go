package upstash

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
)

const daysInMonth = 30

// A Usage is what Upstash says that a database uses, as a month of 30 days. A number is nil where the API
// does not tell it.
type Usage struct {
	At       time.Time `json:"at"`
	Database string    `json:"database"` // name, or id without one
	ID       string    `json:"database_id"`
	Type     Type      `json:"type"`

	// MonthToDate is the requests since the calendar month began, in UTC.
	MonthToDate *float64 `json:"month_to_date_requests,omitempty"`

	// PerMonth is the requests of 30 days at the rate of Basis.
	PerMonth *float64 `json:"requests_per_month,omitempty"`

	// Basis says what PerMonth was made from.
	Basis string `json:"basis,omitempty"`

	// ScriptShare and WriteShare are parts of MonthToDate, 0 to 1.
	ScriptShare *float64 `json:"script_share,omitempty"`
	WriteShare  *float64 `json:"write_share,omitempty"`

	StorageBytes      *float64 `json:"storage_bytes,omitempty"`
	BandwidthPerMonth *float64 `json:"bandwidth_bytes_per_month,omitempty"`
	Connections       *float64 `json:"connections_peak,omitempty"`
	PeakPerSecond     *float64 `json:"peak_commands_per_second,omitempty"`
	USDToDate         *float64 `json:"month_to_date_usd,omitempty"`

	ReadRegions int     `json:"read_regions"`
	BudgetUSD   float64 `json:"budget_usd_per_month,omitempty"`
	ProdPack    bool    `json:"prod_pack"`

	// MaxStorageBytes is the limit of the plan, which tells fixed ones apart; 0 is not known.
	MaxStorageBytes float64 `json:"max_storage_bytes,omitempty"`

	// Commands are the parts that commands have of all that the API counted by name, largest first.
	Commands []Share `json:"commands"`

	// Missing names what the API did not tell.
	Missing []string `json:"missing"`
}

// A Share is the part of one command, 0 to 1, in lower case.
type Share struct {
	Name  string  `json:"name"`
	Share float64 `json:"share"`
}

// shares adds up the points of each command. Over which time they go the API does not say, so only their
// proportions mean something.
func shares(counts map[string]Series) []Share {
	total, out := 0.0, []Share{}
	for name, series := range counts {
		sum := 0.0
		for _, p := range series {
			sum += max(0, p.Value)
		}
		if sum > 0 {
			out = append(out, Share{strings.ToLower(name), sum})
			total += sum
		}
	}
	for i := range out {
		out[i].Share /= total
	}
	slices.SortFunc(out, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Share, a.Share), strings.Compare(a.Name, b.Name))
	})
	return out
}

// Read asks for one database and what was counted for it: two requests, no command. want is its id or
// name; empty is the one at address, or the only one there is, at the price of one request more.
func (c *Client) Read(ctx context.Context, want, address string, now time.Time) (*Usage, error) {
	id, err := c.find(ctx, want, address)
	if err != nil {
		return nil, err
	}
	d, err := c.Database(ctx, id)
	if err != nil {
		return nil, err
	}
	s, err := c.Stats(ctx, id)
	if err != nil {
		return nil, err
	}
	return usageOf(d, s, now), nil
}

// A ChoiceError says that it is not clear which database is meant.
type ChoiceError struct {
	Want  string // id or name that was asked for; empty when none was
	Names []string
}

func (e *ChoiceError) Error() string {
	switch {
	case len(e.Names) == 0:
		return "the account has no database"
	case e.Want == "":
		return fmt.Sprintf("the account has %d databases, and none was named: %s", len(e.Names), strings.Join(e.Names, ", "))
	}
	return fmt.Sprintf("the account has no database, or several, called %q; there are %s", e.Want, strings.Join(e.Names, ", "))
}

// find is the id of the database that is meant.
func (c *Client) find(ctx context.Context, want, address string) (string, error) {
	all, err := c.Databases(ctx)
	if err != nil {
		return "", err
	}
	fits := func(d Database) bool { return d.ID == want || strings.EqualFold(d.Name, want) }
	if want == "" {
		fits = func(d Database) bool { return len(all) == 1 && address == "" || d.Serves(address) }
	}
	var found []string
	names := []string{}
	for _, d := range all {
		names = append(names, d.label())
		if fits(d) {
			found = append(found, d.ID)
		}
	}
	if len(found) != 1 {
		slices.Sort(names)
		return "", &ChoiceError{want, names}
	}
	return found[0], nil
}

func (d *Database) label() string {
	if d.Name == "" {
		return d.ID
	}
	return d.Name
}

func usageOf(d *Database, s *Stats, now time.Time) *Usage {
	now = now.UTC()
	u := &Usage{
		At: now, Database: d.label(), ID: d.ID, Type: d.Type, MonthToDate: s.MonthRequests, StorageBytes: s.StorageBytes,
		USDToDate: s.MonthUSD, ReadRegions: len(d.ReadRegions), BudgetUSD: d.BudgetUSD, ProdPack: d.ProdPack,
		MaxStorageBytes: d.MaxStorageBytes, Commands: shares(s.CommandCount), Missing: []string{},
	}
	begin := time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	days := now.Sub(begin).Hours() / 24
	u.rate(s, now, days)
	if s.MonthBandwidthBytes != nil && days >= 1 {
		b := *s.MonthBandwidthBytes / days * daysInMonth
		u.BandwidthPerMonth = &b
	}
	u.ScriptShare = share(s.MonthScriptRequests, s.MonthRequests)
	if s.MonthReads != nil && s.MonthWrites != nil {
		both := *s.MonthReads + *s.MonthWrites
		u.WriteShare = share(s.MonthWrites, &both)
	}
	if n, ok := s.Connections.Max(); ok {
		u.Connections = &n
	}
	if n, ok := s.Throughput.Max(); ok {
		u.PeakPerSecond = &n
	}
	for _, m := range []struct {
		what string
		is   *float64
	}{{"requests", u.PerMonth}, {"reads and writes apart", u.WriteShare}, {"storage", u.StorageBytes}, {"traffic", u.BandwidthPerMonth}, {"connections", u.Connections}, {"throughput", u.PeakPerSecond}} {
		if m.is == nil {
			u.Missing = append(u.Missing, m.what)
		}
	}
	return u
}

// share is part of whole, nil where either is not known or they do not fit each other.
func share(part, whole *float64) *float64 {
	if part == nil || whole == nil || *whole <= 0 || *part < 0 || *part > *whole {
		return nil
	}
	v := *part / *whole
	return &v
}

// rate extrapolates the month so far, or in its first day the last full day.
func (u *Usage) rate(s *Stats, now time.Time, days float64) {
	var perMonth float64
	switch {
	case s.MonthRequests != nil && days >= 1:
		perMonth = *s.MonthRequests / days * daysInMonth
		u.Basis = fmt.Sprintf("the %.1f days since the month began", days)
	default:
		today := now.Truncate(24 * time.Hour)
		var last *Point
		for i, p := range s.DayRequests {
			if p.At.Before(today) && (last == nil || p.At.After(last.At)) {
				last = &s.DayRequests[i]
			}
		}
		if last == nil {
			return
		}
		perMonth = last.Value * daysInMonth
		u.Basis = "the day of " + last.At.Format(time.DateOnly)
	}
	u.PerMonth = &perMonth
}

// Measures are the numbers of u that are known.
func (u *Usage) Measures() []inspect.Measure {
	out := []inspect.Measure{}
	add := func(name, unit string, v *float64) {
		if v != nil {
			out = append(out, inspect.Measure{
				Name: name, Value: *v, Unit: unit, Labels: map[string]string{"database": u.Database},
				Evidence: inspect.Evidence{Source: "Upstash Developer API", Samples: 1, Missing: u.Missing},
			})
		}
	}
	add("upstash.requests_per_month", "command/month", u.PerMonth)
	add("upstash.month_to_date_requests", "command", u.MonthToDate)
	add("upstash.storage", "byte", u.StorageBytes)
	add("upstash.bandwidth_per_month", "byte/month", u.BandwidthPerMonth)
	add("upstash.connections_peak", "connection", u.Connections)
	add("upstash.peak_commands_per_second", "command/second", u.PeakPerSecond)
	add("upstash.month_to_date_cost", "usd", u.USDToDate)
	return out
}
