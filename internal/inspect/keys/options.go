package keys

import (
	"errors"
	"fmt"
	"strings"
)

const (
	// DefaultBudget is what an audit may spend when nobody says.
	DefaultBudget = 200

	// RequestLimitBytes is the largest request or reply on most of Upstash's plans, as of RequestLimitAsOf.
	RequestLimitBytes = 10 << 20

	// RequestLimitAsOf is when that limit was published.
	RequestLimitAsOf = "2026-08-21"

	minBudget = 20
	maxBudget = 10_000_000
	maxScans  = 400
	// A page of names holds up the server for about a millisecond, and stays far below a request's limit.
	minPage, maxPage = 100, 5000

	// keyCost is the most commands that one key in detail costs: type, expiry, and two for size and value.
	keyCost = 4
)

// Options of an audit. The zero value works.
type Options struct {
	// Budget is the most commands to send. Default 200; 20 to 10,000,000.
	Budget int

	// Sample is the most keys to look at in detail, about four commands each. Default: what Budget allows.
	Sample int

	// Prefix limits the audit to the key of this name and those that go on with a colon. Default: all keys.
	Prefix string

	// Match limits the audit to names that fit this pattern of SCAN. Default: all keys. Not with Prefix.
	Match string

	// RequestLimit is the largest reply the provider sends, in bytes. Default 10 MiB.
	RequestLimit int64

	// Idle also asks how long each key was not touched: one OBJECT IDLETIME for each key in detail.
	Idle bool

	// Progress, when not nil, is called with the keys looked at so far and how many it will be.
	Progress func(done, total int)
}

func (o Options) withDefaults() Options {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.RequestLimit == 0 {
		o.RequestLimit = RequestLimitBytes
	}
	return o
}

func (o Options) validate() error {
	var errs []error
	if o.Budget < minBudget || o.Budget > maxBudget {
		errs = append(errs, fmt.Errorf("budget: got %d commands, want %d to %d", o.Budget, minBudget, maxBudget))
	}
	if o.Sample < 0 {
		errs = append(errs, fmt.Errorf("sample: got %d, want 0 or more", o.Sample))
	}
	if o.RequestLimit < 1024 {
		errs = append(errs, fmt.Errorf("request limit: got %d bytes, want at least 1024", o.RequestLimit))
	}
	if o.Prefix != "" && o.Match != "" {
		errs = append(errs, errors.New("prefix and match: give one of them"))
	}
	return errors.Join(errs...)
}

// pattern is what SCAN is asked to match; empty for all names.
func (o Options) pattern() string {
	if o.Prefix != "" {
		escape := strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`)
		return escape.Replace(o.Prefix) + "*"
	}
	return o.Match
}

// wanted reports that name is one of those asked for, of which SCAN found it.
func (o Options) wanted(name string) bool {
	if o.Prefix == "" || strings.HasSuffix(o.Prefix, ":") {
		return true
	}
	rest := strings.TrimPrefix(name, o.Prefix)
	return rest == "" || rest[0] == ':'
}

// An Estimate is what an audit will spend at most, said before it begins.
type Estimate struct {
	Commands int `json:"commands"`
	Scans    int `json:"scans"`
	Keys     int `json:"keys_in_detail"` // at least, where there are as many
}

// Plan is the estimate for o, for a server of one node. It sends nothing.
func Plan(o Options) (Estimate, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Estimate{}, err
	}
	e := Estimate{Scans: o.scans(), Keys: o.details(o.Budget - 2 - o.scans())}
	e.Commands = o.Budget // what fewer pages of names leave is spent on more keys
	if o.Sample > 0 {
		e.Commands = 2 + e.Scans + e.Keys*o.keyCost()
	}
	return e, nil
}

func (o Options) keyCost() int {
	if o.Idle {
		return keyCost + 1
	}
	return keyCost
}

// scans is how many pages of names are read: a tenth of the budget.
func (o Options) scans() int { return max(2, min(o.Budget/10, maxScans)) }

// details is how many keys left commands pay for.
func (o Options) details(left int) int {
	n := max(left, 0) / o.keyCost()
	if o.Sample > 0 {
		n = min(n, o.Sample)
	}
	return n
}
