package bench

import (
	"errors"
	"fmt"
	"math"
)

// An Outcome is what came of an assertion.
type Outcome string

// The outcomes.
const (
	Pass         Outcome = "pass"
	Fail         Outcome = "fail"
	Inconclusive Outcome = "inconclusive" // never a pass: Why says what is missing
)

// A Verdict is one assertion applied to one result.
type Verdict struct {
	Scenario  string    `json:"scenario"`
	Assertion Assertion `json:"-"`
	Text      string    `json:"assertion"`
	Outcome   Outcome   `json:"outcome"`

	// Value is what was measured, in nanoseconds for durations; nil when there is no number to show.
	Value *float64 `json:"value"`

	// Why says why it is inconclusive or what failed, as one sentence without a full stop.
	Why string `json:"why"`
}

// lateShare is the part of an asserted limit that this program's own lateness may take.
const lateShare = 0.1

// Judge applies a to r. commands is the number of commands for each operation, negative when nobody
// counted them. A percentile passes when its whole interval is within the limit, fails when all of it is
// beyond, and is inconclusive in between, with too few samples, or when the load was not the one that was
// asked for: because operations were held up here, or because this program was late by itself. A limit from
// above also fails when more operations failed than the percentile leaves out.
func Judge(scenario string, a Assertion, r *Result, commands float64) Verdict {
	v := Verdict{Scenario: scenario, Assertion: a, Text: a.String()}
	decide := func(low, value, high float64) {
		v.Value = &value
		switch {
		case a.holds(low) && a.holds(high):
			v.Outcome = Pass
		case !a.holds(low) && !a.holds(high):
			v.Outcome = Fail
			v.Why = fmt.Sprintf("%s is %s, want %s", a.Metric, a.Show(value), limitText(a))
		default:
			v.Outcome = Inconclusive
			v.Why = fmt.Sprintf("%s is %s, but with 95%% confidence only between %s and %s, which the limit lies in: run longer",
				a.Metric, a.Show(value), a.Show(low), a.Show(high))
		}
	}
	without := func(why string) Verdict {
		v.Outcome, v.Why = Inconclusive, why
		return v
	}
	if r.Started == 0 {
		return without("no operation was started")
	}
	if p, ok := a.percentile(); ok {
		// What failed was not answered within any limit, and the percentile of the others hides it.
		lost, _ := wilson(r.Failed(), r.Started)
		if a.AtMost && lost > 1-p {
			v.Outcome, v.Why = Fail, fmt.Sprintf("more failed than %s leaves out%s", a.Metric, firstError(r))
			return v
		}
		if a.AtMost && r.ErrorShare() > 1-p {
			return without(fmt.Sprintf("about as many failed as %s leaves out%s", a.Metric, firstError(r)))
		}
		q, err := r.Latency.Quantile(p)
		if tooFew, isFew := errors.AsType[*TooFewError](err); isFew {
			if why := unkept(r); why != "" {
				return without(why)
			}
			return without(fewText(tooFew, r))
		}
		if err != nil {
			return without(err.Error())
		}
		decide(float64(q.Low), float64(q.Value), float64(q.High))
		return v.doubted(a, r)
	}
	switch a.Metric {
	case "mean", "max":
		if r.Latency.All.Count() == 0 {
			return without("no operation ended well" + firstError(r))
		}
		value := float64(r.Latency.All.Mean())
		if a.Metric == "max" {
			value = float64(r.Latency.All.Max())
		}
		decide(value, value, value)
		return v.doubted(a, r)
	case "errors":
		low, high := wilson(r.Failed(), r.Started)
		decideShare(&v, a, low, r.ErrorShare(), high, r.Failed(), decide)
		if v.Outcome == Fail {
			v.Why += firstError(r)
		}
	case "limited":
		low, high := wilson(r.Limited, r.Started)
		decideShare(&v, a, low, r.LimitedShare(), high, r.Limited, decide)
	case "rate":
		value := r.AchievedPerSecond()
		decide(value, value, value)
	case "commands":
		if commands < 0 {
			return without("commands were not counted: the target is not reached through this program's own connections")
		}
		decide(commands, commands, commands)
	}
	return v
}

// decideShare decides a share. When nothing was counted at all, a limit that is not 0 is kept as soon as
// the samples could have shown one: an interval alone would ask for thousands.
func decideShare(v *Verdict, a Assertion, low, value, high float64, count int64, decide func(low, value, high float64)) {
	if count == 0 && a.AtMost {
		decide(0, 0, 0)
		if a.Limit == 0 && a.Strict {
			v.Why = "a share cannot be less than 0%, want <=0%"
		}
		return
	}
	if a.AtMost && a.Limit == 0 {
		decide(value, value, value) // one is too many, however few samples there are
		return
	}
	decide(low, value, high)
}

// doubted makes a verdict inconclusive when it could be about this program instead of the target: a pass, when
// the load was not what was asked for; either, when this program was late by itself. A target that is too
// slow even when only its own time counts has failed all the same.
func (v Verdict) doubted(a Assertion, r *Result) Verdict {
	if v.Outcome == Inconclusive || r.Loop == Closed {
		return v
	}
	if why := unkept(r); why != "" && v.Outcome == Pass {
		v.Outcome, v.Why = Inconclusive, why
		return v
	}
	late, isLate := GeneratorLimited(r, a.Limit)
	if !isLate || (v.Outcome == Fail && a.failsByService(r)) {
		return v
	}
	v.Outcome = Inconclusive
	v.Why = fmt.Sprintf("generator-limited: this program was itself %s late at p99, more than a tenth of the limit: ask for a lower rate, or run it on a quieter machine",
		a.Show(late))
	return v
}

// failsByService is whether a percentile fails when latencies count from the actual start.
func (a Assertion) failsByService(r *Result) bool {
	p, ok := a.percentile()
	if !ok {
		return false
	}
	q, err := (&Latency{All: r.Service}).Quantile(p)
	return err == nil && !a.holds(float64(q.Low)) && !a.holds(float64(q.High))
}

// unkept says how far the rate that was asked for was missed; empty when it was kept.
func unkept(r *Result) string {
	missing := r.Planned - r.Started
	if missing <= 0 || r.Stopped != "" || r.Loop == Closed {
		return ""
	}
	return fmt.Sprintf("the rate could not be kept: %d of %d operations were never started, and those would have been the slowest (%.4g a second achieved)",
		missing, r.Planned, r.AchievedPerSecond())
}

// GeneratorLimited is whether this program's own lateness, at p99 and in nanoseconds, exceeds a tenth of
// limitNS, so that a result within the limit says nothing about the target.
func GeneratorLimited(r *Result, limitNS float64) (lateNS float64, limited bool) {
	lateNS = float64(r.Lateness.rank(0.99))
	return lateNS, r.Lateness.Count() > 0 && lateNS > lateShare*limitNS
}

func limitText(a Assertion) string {
	words := map[[2]bool]string{
		{true, true}: "less than ", {true, false}: "at most ", {false, true}: "more than ", {false, false}: "at least ",
	}
	return words[[2]bool{a.AtMost, a.Strict}] + a.Show(a.Limit)
}

func fewText(e *TooFewError, r *Result) string {
	switch {
	case r.Failed() > 0:
		return e.Error() + firstError(r)
	case r.Stopped != "":
		return e.Error() + ": the run ended early: " + r.Stopped
	}
	return e.Error() + ": run longer, or at a higher rate"
}

func firstError(r *Result) string {
	if r.FirstError == "" {
		return ""
	}
	return fmt.Sprintf(" (%d of %d failed, first: %s)", r.Failed(), r.Started, r.FirstError)
}

// wilson is the 95% interval of a share of which k of n were seen.
func wilson(k, n int64) (low, high float64) {
	if n == 0 {
		return 0, 1
	}
	z := normalQuantile(confidence)
	p, count := float64(k)/float64(n), float64(n)
	middle := (p + z*z/(2*count)) / (1 + z*z/count)
	half := z / (1 + z*z/count) * math.Sqrt(p*(1-p)/count+z*z/(4*count*count))
	return max(0, middle-half), min(1, middle+half)
}
