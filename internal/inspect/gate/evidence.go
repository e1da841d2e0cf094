package gate

import (
	"math"
	"time"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/runtime/budget"
)

// A Span is a number, or the bounds of one that the evidence does not tell exactly.
type Span struct {
	Min float64 `json:"min"`
	Max float64 `json:"max"`

	// Open says that it may be more than Max.
	Open bool `json:"open_above"`
}

// Exactly is the span of one number.
func Exactly(n float64) Span { return Span{Min: n, Max: n} }

// Exact reports that s is one number.
func (s Span) Exact() bool { return s.Min == s.Max && !s.Open }

// most is the upper bound, infinite where there is none.
func (s Span) most() float64 {
	if s.Open {
		return math.Inf(1)
	}
	return s.Max
}

// minus is what s has more than base. Where both are bounded by the same unknown, so is the difference;
// where they are not, it is only known between the extremes.
func (s Span) minus(base Span) Span {
	if base.Exact() || s.Exact() {
		d := Span{Min: s.Min - base.Max, Max: s.Max - base.Min, Open: s.Open}
		if base.Open {
			d.Min = math.Inf(-1)
		}
		return d
	}
	low, high := s.Min-base.Min, s.Max-base.Max
	return Span{Min: min(low, high), Max: max(low, high), Open: s.Open && !base.Open}
}

// A Site is one place in the code that makes something which holds connections or spends commands.
type Site struct {
	Process string `json:"process,omitempty"` // in which it does

	File   string `json:"file"`
	Line   int    `json:"line"`
	Column int    `json:"column"`

	// Anchor is the text of the line, by which a site is found again after it moved.
	Anchor string `json:"anchor,omitempty"`

	// Library and Kind are what is made: bullmq, worker.
	Library string `json:"library"`
	Kind    string `json:"kind"`

	// Shared says that it uses a connection that was made elsewhere.
	Shared bool `json:"shared_connection"`

	// Made is how many, Connections and Idle what they hold and spend a month with nothing to do, in one
	// instance of their process.
	Made        Span `json:"made"`
	Connections Span `json:"connections"`
	Idle        Span `json:"idle_per_month"`
}

// A Process is what one instance of one process holds.
type Process struct {
	Name        string `json:"name"`
	Connections Span   `json:"connections"`
}

// A Finding is one of an audit, with what tells it apart from others of its rule in its file.
type Finding struct {
	inspect.Finding

	// Anchor is the text of the line; empty where there is no line.
	Anchor string `json:"anchor,omitempty"`
}

// Static is what code predicts.
type Static struct {
	Connections   Span
	RollingDeploy Span
	Processes     []Process
	Idle          Span // commands in 30 days, those inside scripts included
	Replicas      int  // of each process
	Sites         []Site
	Cost          *Cost // of idling; nil when not priced
	Findings      []Finding
	Missing       []string

	// Unresolved is what the code does not tell, each with its place and reason: why a number is a range.
	Unresolved []string
}

// Live is what a running Redis shows.
type Live struct {
	Connections *Span // without ours; nil when not observable
	Limit       int   // of connections, as the server says; 0 when not known
	Processes   []Process

	// CommandsPerMonth is the billed commands of 30 days like the window; nil when not observable.
	CommandsPerMonth *Span
	Window           time.Duration
	Cost             *Cost // nil when not priced
	Findings         []Finding
	Missing          []string
}

// A Cost is what a plan charges.
type Cost struct {
	Plan        string `json:"plan"`
	USDPerMonth Span   `json:"usd_per_month"`
	AsOf        string `json:"as_of,omitempty"` // of the prices
}

// Evidence is everything that is known. What is nil is missing.
type Evidence struct {
	Static   *Static
	Live     *Live
	Recorded *Recorded
	Bench    *Bench

	// Absent says why a kind of evidence is missing, and how to get it.
	Absent map[budget.Evidence]string
}

// has reports which kinds there are.
func (e Evidence) has(kind budget.Evidence) bool {
	switch kind {
	case budget.Static:
		return e.Static != nil
	case budget.Live:
		return e.Live != nil
	case budget.Recorded:
		return e.Recorded != nil
	case budget.Bench:
		return e.Bench != nil
	}
	return false
}

// howTo says how to get a kind of evidence, where the caller did not say why it is missing.
func (e Evidence) howTo(kind budget.Evidence) string {
	if why := e.Absent[kind]; why != "" {
		return why
	}
	switch kind {
	case budget.Static:
		return "no code was read: --code PATH"
	case budget.Live:
		return "no Redis was asked"
	case budget.Recorded:
		return "no recorded run was given: --record FILE"
	case budget.Bench:
		return "no benchmark was given: --bench FILE"
	}
	return string(kind) + " is no kind of evidence"
}
