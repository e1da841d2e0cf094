package commands

import "slices"

// Prices and limits as Upstash published them; every use of them shows the date.
const (
	priceAsOf      = "2026-08-21"
	freeCommands   = 500_000
	usdPer100K     = 0.20
	secondsInMonth = 30 * 24 * 3600
)

// A Provider is how a plan counts and charges commands.
type Provider struct {
	Name string `json:"name"`

	// Included is the number of commands a month that cost nothing; 0 when there is no such number.
	Included int64 `json:"included_commands_per_month,omitempty"`

	// USDPer100K is the price of 100,000 commands; 0 when commands have no price.
	USDPer100K float64 `json:"usd_per_100k"`

	// BillsScripts says that commands run inside a script are billed besides the script.
	BillsScripts bool `json:"bills_in_script"`

	// AsOf is the date of these facts, empty where there are none.
	AsOf string `json:"as_of,omitempty"`

	free []string
}

// Providers lists the profiles by name.
func Providers() []string { return []string{"none", "upstash-free", "upstash-payg", "upstash-fixed"} }

func providerByName(name string) (Provider, bool) {
	// What Upstash does not bill.
	free := []string{"auth", "hello", "select", "command", "config", "info", "ping", "reset", "quit"}
	p := Provider{Name: name, BillsScripts: true, AsOf: priceAsOf, free: free}
	switch name {
	case "none":
		return Provider{Name: name}, true
	case "upstash-free":
		p.Included = freeCommands
	case "upstash-payg":
		p.USDPer100K = usdPer100K
	case "upstash-fixed":
	default:
		return Provider{}, false
	}
	return p, true
}

// bills reports that the plan counts this command; sub is after "|" in commandstats.
func (p Provider) bills(command string) bool {
	return !slices.Contains(p.free, base(command))
}
