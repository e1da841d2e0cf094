// Package inspect holds what every audit returns: measures, which are numbers with their evidence,
// and findings, which are things a person should act on. An audit never prints and never decides an
// exit code; a command turns what it returned into a document, and a gate turns it into a verdict.
package inspect

import "time"

// A Severity says what a finding means for a gate.
type Severity string

// The severities, from the one that fails a gate to the one that is only told.
const (
	Critical Severity = "critical" // fails a gate; something is broken or about to be
	Warning  Severity = "warning"  // fails a gate only under --fail-on warn
	Note     Severity = "note"     // never fails a gate
)

// Evidence says where a number came from, so that a gate can refuse to judge on too little.
type Evidence struct {
	// Source names the instrument: "CLIENT LIST", "INFO commandstats", "static scan".
	Source string `json:"source"`

	// Window is the time the measurement covers; zero for a snapshot.
	Window time.Duration `json:"-"`

	// Samples is how many observations went in; a snapshot has one.
	Samples int `json:"samples"`

	// Missing names what could not be observed, and is empty when nothing is missing.
	Missing []string `json:"missing,omitempty"`
}

// A Measure is one number with its unit, its labels and its evidence.
type Measure struct {
	// Name is stable and dotted: "connections.total", "commands.per_month".
	Name string `json:"name"`

	// Value is in Unit. An unobservable measure is absent, never zero.
	Value float64 `json:"value"`

	// Unit is singular: "connection", "command", "command/month", "usd/month".
	Unit string `json:"unit"`

	// Labels tell measures of one name apart: queue, role, library, component. May be nil.
	Labels map[string]string `json:"labels,omitempty"`

	// Evidence is where the value came from.
	Evidence Evidence `json:"evidence"`
}

// A Finding is something a person should act on.
type Finding struct {
	// Rule is the stable identifier, such as "idle-polling" or "connection-limit-near".
	Rule string `json:"rule"`

	// Severity says what the finding means for a gate.
	Severity Severity `json:"severity"`

	// Subject is what it is about: a queue, a key prefix, a host, a file.
	Subject string `json:"subject"`

	// Message is one sentence without a full stop: what is so, with its numbers.
	Message string `json:"message"`

	// Remedy is what to change, as exactly as possible; may be empty.
	Remedy string `json:"remedy,omitempty"`

	// SavingCommandsPerMonth is what the remedy saves, in commands per 30 days; 0 when unknown.
	SavingCommandsPerMonth float64 `json:"saving_commands_per_month,omitempty"`

	// SavingUSDPerMonth is what those commands cost on a plan that charges for each, at the price the
	// audit names; 0 when unknown.
	SavingUSDPerMonth float64 `json:"saving_usd_per_month,omitempty"`

	// File, Line and Column locate a finding in source code; Line and Column count from 1, 0 means none.
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
	Column int    `json:"column,omitempty"`

	// Fix is the exact change, where it is known exactly. Nil: only Remedy says what to do.
	Fix *Fix `json:"fix,omitempty"`
}

// A Fix is a change of source code that a tool can apply.
type Fix struct {
	// Description says in a few words what the edits do.
	Description string `json:"description"`

	// Edits belong together and do not overlap. All positions are those before any of them.
	Edits []Edit `json:"edits"`
}

// An Edit replaces a range of a file. A range that ends where it begins is an insertion.
type Edit struct {
	// File is the path relative to the root that was scanned, with forward slashes.
	File string `json:"file"`

	// Line and Column are the first character replaced, from 1, columns in characters.
	Line   int `json:"line"`
	Column int `json:"column"`

	// EndLine and EndColumn are the first character that is kept.
	EndLine   int `json:"end_line"`
	EndColumn int `json:"end_column"`

	// Text is what is put there.
	Text string `json:"text"`
}
