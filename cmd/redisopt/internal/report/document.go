// Package report prints what a command found out. A command builds one Document and Write renders it
// in the format the user asked for: a table for people, JSON for scripts, the others for CI systems.
// JSON is the contract; every other format is a reader of the same document.
//
// The package has no state, writes only to the io.Writer it is given and imports nothing else of
// this module.
package report

// A Document is the one answer of one command.
type Document struct {
	// Kind names the JSON contract and its version: "audit.connections/v1". Required. Within a
	// version fields are only added.
	Kind string

	// Data is the JSON contract: a struct or map whose JSON keys are snake_case and carry units.
	// Nil slices are printed as [], times in UTC. Nil prints as {}.
	Data any

	// Title is the heading shown to people, one line. Empty: none.
	Title string

	// Sections are what people read, in order. They repeat Data, they never add to it.
	Sections []Section

	// Findings are what a person should act on. CI formats are made of them.
	Findings []Finding

	// Checks are things that were verified, for junit and for people.
	Checks []Check

	// Notes are sentences that belong to the answer, such as the assumptions behind a projection.
	Notes []string

	// Verdicts says that the checks are the answer: people see them before the findings, worst first.
	Verdicts bool

	// Marker makes the markdown format the body of a comment that a bot keeps up to date: its first line
	// is a comment with this text, which readers do not see, and it is short. Empty: a whole document.
	Marker string
}

// A Section is one block of the table and markdown formats. Of Text, Fields and Table any may be
// empty; they are shown in this order.
type Section struct {
	// Title is the heading of the block. Empty: none.
	Title string

	// Text is prose; it is wrapped to the width. A newline is kept.
	Text string

	// Fields are key and value pairs, shown one to a line with the values aligned.
	Fields []Field

	// Table has columns. Nil: none.
	Table *Table
}

// A Field is one line of key and value.
type Field struct {
	Name  string
	Value string
}

// A Table is rows under columns. A row may be shorter than Columns, never longer: cells without a
// column are not shown.
type Table struct {
	Columns []Column
	Rows    [][]string

	// Total is a last row, set apart from the others. Nil: none.
	Total []string
}

// A Column is one column of a Table.
type Column struct {
	// Name is the heading.
	Name string

	// Right aligns the column to the right, as numbers are.
	Right bool

	// Elastic marks a column of prose. When the table is too wide, elastic columns are wrapped
	// first; without any, the widest column is shortened with "…".
	Elastic bool
}

// A Severity says what a finding means for a gate.
type Severity string

// The severities, worst first. Any other value counts as SeverityNote.
const (
	SeverityCritical Severity = "critical"
	SeverityWarning  Severity = "warning"
	SeverityNote     Severity = "note"
)

// A Finding is something a person should act on.
type Finding struct {
	// Rule is the stable identifier, such as "idle-polling".
	Rule string

	// Severity says what the finding means for a gate.
	Severity Severity

	// Subject is what it is about: a queue, a key prefix, a host. May be empty.
	Subject string

	// Message is one sentence without a full stop: what is so, with its numbers.
	Message string

	// Remedy is what to change or to type next. May be empty.
	Remedy string

	// File, Line and Column locate the finding in a file, relative to the repository's root with
	// forward slashes. Line and Column count from 1; 0 means unknown.
	File   string
	Line   int
	Column int

	// Anchor is the text of the line, or whatever else outlives moving it, to tell findings of one rule
	// about one subject in one file apart from run to run. May be empty.
	Anchor string

	// Fix is the exact change, when it is known exactly. Nil: unknown.
	Fix *Fix
}

// A Fix is a change that a tool can apply.
type Fix struct {
	// Description says in a few words what the edits do. May be empty.
	Description string

	// Edits belong together and do not overlap. All positions are those before any of them.
	Edits []Edit
}

// An Edit replaces a range of a file. A range that ends where it begins is an insertion.
type Edit struct {
	// File is relative to the repository's root with forward slashes.
	File string

	// Line and Column are the first character replaced, from 1, columns in characters.
	Line   int
	Column int

	// EndLine and EndColumn are the first character that is kept.
	EndLine   int
	EndColumn int

	// Text is what is put there. Empty deletes.
	Text string
}

// A Verdict is the outcome of a Check.
type Verdict string

// The verdicts. Any other value counts as Inconclusive.
const (
	Pass         Verdict = "pass"
	Warn         Verdict = "warn" // passes, and says that it is close
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive"
	Waived       Verdict = "waived" // would not pass, and somebody answers for it
)

// A Check is one thing that was verified or judged.
type Check struct {
	// Group gathers checks, as a test suite does: "connections", "queue mail". May be empty.
	Group string

	// Name says what was checked.
	Name string

	// Verdict is the outcome.
	Verdict Verdict

	// Message says why, with its numbers: what was measured and what was allowed. May be empty.
	Message string

	// Rule is what a check that did not pass is called in formats that only know findings. Default
	// "check-failed", "check-warned" or "check-inconclusive".
	Rule string

	// Remedy, File, Line, Column, Anchor and Fix are as those of a Finding.
	Remedy string
	File   string
	Line   int
	Column int
	Anchor string
	Fix    *Fix
}
