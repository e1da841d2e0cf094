package gate

import (
	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// A Verdict is the outcome for one budget, or for all.
type Verdict string

// The verdicts.
const (
	Pass         Verdict = "pass"
	Warn         Verdict = "warn" // passes, and is close
	Fail         Verdict = "fail"
	Inconclusive Verdict = "inconclusive" // the evidence does not say
	Waived       Verdict = "waived"       // would not pass, and somebody answers for it
)

// A Place is where something is added or held.
type Place struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`
	What   string `json:"what"`

	// Adds is what the place has more than the baseline; all that it has where there is none.
	Adds Span `json:"adds"`

	times  float64 // in how many instances of processes
	anchor string
	fix    *inspect.Fix
}

// A Judgement is the verdict on one budget by one kind of evidence.
type Judgement struct {
	// Budget is its key in the budgets section: connections.fleet, latency.cache.p95.
	Budget string `json:"budget"`

	// Subject is the process or operation, where the budget is for each of several.
	Subject  string          `json:"subject,omitempty"`
	Evidence budget.Evidence `json:"evidence"`
	Verdict  Verdict         `json:"verdict"`
	Unit     string          `json:"unit"`

	// Measured is nil where nothing was measured.
	Measured *Span   `json:"measured,omitempty"`
	Allowed  float64 `json:"allowed"`

	// Baseline, Increase and IncreasePercent compare with the baseline; nil where it has no such number.
	Baseline        *Span    `json:"baseline,omitempty"`
	Increase        *Span    `json:"increase,omitempty"`
	IncreasePercent *float64 `json:"increase_percent,omitempty"`

	Message string   `json:"message"`
	Remedy  string   `json:"remedy,omitempty"`
	Places  []Place  `json:"places"`
	Missing []string `json:"missing"`

	// Fix is the exact change at the first place, where it is known.
	Fix *inspect.Fix `json:"fix,omitempty"`

	// WaivedBy is the place of the waiver in the list; -1 when there is none.
	WaivedBy int `json:"waived_by"`
}

// Anchor is the text of the line of the first place, empty without one.
func (j Judgement) Anchor() string {
	if len(j.Places) == 0 {
		return ""
	}
	return j.Places[0].anchor
}

// A State says whether a finding counts.
type State string

// The states of findings.
const (
	New         State = "new"   // counts
	Known       State = "known" // the baseline has it too
	StateWaived State = "waived"
)

// A Judged finding is one with what it means here.
type Judged struct {
	Finding

	// Level is off, warn or fail, as the budgets say or else by severity; empty for a note.
	Level    budget.RuleLevel `json:"level"`
	State    State            `json:"state"`
	Evidence budget.Evidence  `json:"evidence"`
	WaivedBy int              `json:"waived_by"` // -1 when there is no waiver
}

// Fails reports that the finding fails the gate.
func (j Judged) Fails() bool { return j.State == New && j.Level == budget.RuleFail }

// A WaiverUse is one waiver and what became of it.
type WaiverUse struct {
	Rule    string  `json:"rule"`
	File    string  `json:"file,omitempty"`
	Subject string  `json:"subject,omitempty"`
	Owner   string  `json:"owner"`
	Reason  string  `json:"reason"`
	Expires string  `json:"expires"`
	Expired bool    `json:"expired"`
	Matches int     `json:"matches"`
	Verdict Verdict `json:"verdict"` // waived; fail when expired; warn when it matches nothing
	Message string  `json:"message"`
}

// A Source is one kind of evidence.
type Source struct {
	Kind     budget.Evidence `json:"kind"`
	Present  bool            `json:"present"`
	Required bool            `json:"required"`

	// Why says why it is missing; empty when it is present.
	Why string `json:"why,omitempty"`

	// Missing names what the evidence does not cover.
	Missing []string `json:"missing"`
}

// A Report is what the gate says.
type Report struct {
	Verdict    Verdict     `json:"verdict"`
	Judgements []Judgement `json:"judgements"`
	Findings   []Judged    `json:"findings"`
	Off        int         `json:"findings_off"` // of rules that are off, which are not listed
	Waivers    []WaiverUse `json:"waivers"`
	Evidence   []Source    `json:"evidence"`
	Baseline   string      `json:"baseline,omitempty"`
	Notes      []string    `json:"notes"`
}

// Unmet names what the evidence is missing for a verdict: required says whether what the budgets
// require is among it.
func (r *Report) Unmet() (why []string, required bool) {
	for _, s := range r.Evidence {
		if s.Required && !s.Present {
			why = append(why, string(s.Kind)+" evidence is required: "+s.Why)
			required = true
		}
	}
	for _, j := range r.Judgements {
		if j.Verdict == Inconclusive {
			why = append(why, j.Name()+": "+j.Message)
		}
	}
	return why, required
}

// Name is the budget with its subject.
func (j Judgement) Name() string {
	if j.Subject == "" {
		return j.Budget
	}
	return j.Budget + " of " + j.Subject
}
