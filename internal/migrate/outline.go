package migrate

import (
	"fmt"
	"slices"
	"strings"
)

// An Outline is everything an operator should know before a phase is applied, or taken back. Every list
// is in a stable order and never nil once Normal was called.
type Outline struct {
	Target Target `json:"target"`

	// Engine and the like: what the phase was asked for, as people read it: "from" "bull:mail".
	Settings []Setting `json:"settings"`

	Steps []OutlineStep `json:"steps"`

	// Losses are what the target cannot express. LossesTotal counts all, where Losses lists only some.
	Losses      []Loss `json:"losses"`
	LossesTotal int64  `json:"losses_total"`

	// Problems keep something from being done; a blocking one keeps the whole phase from beginning.
	Problems []Problem `json:"problems"`

	// PointOfNoReturn says in one sentence from when on only a new plan leads back; empty: never.
	PointOfNoReturn string `json:"point_of_no_return"`

	// Claims say which goals this phase can reach and which it cannot, whatever is done.
	Claims []Claim `json:"claims"`

	// Code is what the application's people must change, where it is known to the line; Application
	// is what they must change anyhow, one sentence each.
	Code        []CodeChange `json:"code"`
	Application []string     `json:"application"`

	// KPIs are the numbers of the design that the phase is about, now and after.
	KPIs []KPI `json:"kpis"`
}

// A Setting is one choice that the phase was asked for.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// An OutlineStep is one step of the plan.
type OutlineStep struct {
	// Name is the step's key in the journal.
	Name string `json:"name"`

	// Summary says in a few words, without a full stop, what the step does.
	Summary string `json:"summary"`

	// Commands and InScript are what it is expected to cost: top-level commands, and those that run
	// inside scripts. Whether the provider bills the latter is for the plan catalogue to say.
	Commands int64 `json:"commands"`
	InScript int64 `json:"in_script"`

	// Writes is true when the step changes something in Redis or in the sidecar.
	Writes bool `json:"writes"`
}

// A Loss is something that the target cannot express, or that ends up different there.
type Loss struct {
	Subject    string `json:"subject"`           // a job, a key, a queue; empty: the whole target
	Field      string `json:"field"`             // "opts.timeout"
	Was        string `json:"was,omitempty"`     // the value before
	Becomes    string `json:"becomes,omitempty"` // the value after; empty: it is dropped
	Why        string `json:"why"`               // what the target does instead
	Reversible bool   `json:"reversible"`        // the way back restores it
}

// A Problem is something that keeps a part of the phase, or all of it, from being done.
type Problem struct {
	// Rule is the stable identifier: "live-worker", "collision", "quota".
	Rule string `json:"rule"`

	// Subject is the job, key, queue or client that it is about; empty: the whole target.
	Subject string `json:"subject,omitempty"`

	// Message is one sentence without a full stop: what is so, with its numbers. Fix is what to do
	// about it, in the imperative; it may be empty.
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`

	// Blocking is true when nothing may begin until it is solved.
	Blocking bool `json:"blocking"`
}

// A Claim says whether a goal can be reached by this phase at all.
type Claim struct {
	// Target is the goal: "33 to 9 connections", "30-40% fewer commands".
	Target string `json:"target"`

	// Reachable is whether the phase can reach it as planned. One that depends on somebody else's
	// doing is reachable, and Why says so: "needs a restart of these 4 processes: …".
	Reachable bool `json:"reachable"`

	// Why is the reason with its numbers, in one sentence.
	Why string `json:"why"`
}

// A CodeChange is one place in the application that has to be changed.
type CodeChange struct {
	File   string `json:"file"` // relative to the root that was scanned, with forward slashes
	Line   int    `json:"line"` // from 1
	Change string `json:"change"`
}

// A KPI is one number before a phase and after it.
type KPI struct {
	// Name is that of the profile's gate or report row: "connections", "commands_per_day".
	Name string `json:"name"`
	Unit string `json:"unit"` // "connections", "commands/day", "ms", "%"

	// Before was measured and After is expected; nil where that is not known.
	Before *float64 `json:"before"`
	After  *float64 `json:"after"`

	// Method says how Before was measured and After was worked out.
	Method string `json:"method"`
}

// Normal gives o empty lists in the place of nil ones, so that its JSON has [] and not null.
func (o Outline) Normal() Outline {
	o.Settings = append([]Setting{}, o.Settings...)
	o.Steps = append([]OutlineStep{}, o.Steps...)
	o.Losses = append([]Loss{}, o.Losses...)
	o.Problems = append([]Problem{}, o.Problems...)
	o.Claims = append([]Claim{}, o.Claims...)
	o.Code = append([]CodeChange{}, o.Code...)
	o.Application = append([]string{}, o.Application...)
	o.KPIs = append([]KPI{}, o.KPIs...)
	return o
}

// Commands is what all steps are expected to cost: top-level commands, and those inside scripts.
func (o Outline) Commands() (topLevel, inScript int64) {
	for _, s := range o.Steps {
		topLevel += s.Commands
		inScript += s.InScript
	}
	return topLevel, inScript
}

// Refused returns a *RefusedError when o has problems that must be solved first, and nil otherwise.
func (o Outline) Refused() error {
	blocking := slices.DeleteFunc(slices.Clone(o.Problems), func(p Problem) bool { return !p.Blocking })
	if len(blocking) == 0 {
		return nil
	}
	return &RefusedError{Target: o.Target, Problems: blocking}
}

// A RefusedError reports what must be solved before a phase may begin.
type RefusedError struct {
	Target   Target
	Problems []Problem // all of them blocking
}

func (e *RefusedError) Error() string {
	messages := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		messages[i] = p.Message
	}
	return fmt.Sprintf("%s cannot begin: %s", e.Target, strings.Join(messages, "; "))
}
