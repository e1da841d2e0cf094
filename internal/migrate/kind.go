package migrate

import "strings"

// A StepKind is what a step is for, as its name says.
type StepKind string

// The kinds of steps.
const (
	ForPreflight StepKind = "preflight"
	ForShadow    StepKind = "shadow"
	ForRamp      StepKind = "ramp" // changes who does the work; moves; pauses
	ForSoak      StepKind = "soak" // waits for evidence
	ForVerify    StepKind = "verify"
)

// KindOf tells from a step's name, "phase1.ramp-5", what the step is for: what follows the first dot, up
// to the next hyphen, is "preflight", "shadow", "soak" or "hold" (a soak between two ramps), "verify";
// anything else changes something and counts as a ramp. Names are all that a journal keeps of steps, so
// this is how a status is told without making the phase again.
func KindOf(step string) StepKind {
	_, name, _ := strings.Cut(step, ".")
	word, _, _ := strings.Cut(name, "-")
	switch word {
	case "preflight":
		return ForPreflight
	case "shadow":
		return ForShadow
	case "soak", "hold":
		return ForSoak
	case "verify":
		return ForVerify
	}
	return ForRamp
}
