package meter

import (
	"slices"
	"strings"
)

// A Profile says what a provider bills.
type Profile struct {
	// Name is how people call the provider.
	Name string `json:"name"`

	// ByCommand is true when commands have a price at all.
	ByCommand bool `json:"by_command"`

	// Free are the commands that cost nothing, lower case, sorted; a name covers its subcommands.
	Free []string `json:"free"`

	// BillsInScript is true when the commands that a script runs are billed besides the script.
	BillsInScript bool `json:"bills_in_script"`
}

// UpstashProfile is what Upstash bills on its plans with a price per command: every command, also
// those inside scripts and transactions, except a few that manage the connection. What its pages do
// not list as free counts as billed.
func UpstashProfile() Profile {
	return Profile{
		Name:          "upstash",
		ByCommand:     true,
		Free:          []string{"auth", "command", "config", "hello", "info", "ping", "quit", "reset", "select"},
		BillsInScript: true,
	}
}

// UnmeteredProfile is a Redis without a price per command: self-hosted, or a plan of fixed size.
func UnmeteredProfile() Profile { return Profile{Name: "unmetered", Free: []string{}} }

// Billed is whether one call of command costs something. Case does not matter; a subcommand follows
// after a bar: "config|get".
func (p Profile) Billed(command string) bool {
	if !p.ByCommand {
		return false
	}
	name, _, _ := strings.Cut(strings.ToLower(command), "|")
	return !slices.Contains(p.Free, name)
}

// A Price is a number of commands, by how they are billed.
type Price struct {
	TopLevel int64 `json:"top_level"` // commands sent
	Free     int64 `json:"free"`      // those of TopLevel that the provider does not bill
	InScript int64 `json:"in_script"` // run inside scripts, as far as known
	Billed   int64 `json:"billed"`    // what the provider counts
}

// Price is what the snapshot's commands cost under p. In-script commands that nobody reported are
// not in it, so on a provider that bills them it is a lower bound.
func (s Snapshot) Price(p Profile) Price {
	var price Price
	for _, r := range s.Rows {
		price.TopLevel += r.Sent
		price.InScript += r.InScript
		if p.Billed(r.Command) {
			price.Billed += r.Sent
		} else {
			price.Free += r.Sent
		}
		if p.ByCommand && p.BillsInScript {
			price.Billed += r.InScript
		}
	}
	return price
}
