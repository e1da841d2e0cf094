package report

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// The rules under which checks that did not pass appear in formats that only know findings.
const (
	ruleFailed       = "check-failed"
	ruleWarned       = "check-warned"
	ruleInconclusive = "check-inconclusive"
)

// issues returns what CI formats annotate, worst first and otherwise in the order given: the
// findings, and the checks that did not pass, which come first where they are the answer.
func issues(doc Document) []Finding {
	all := slices.Clone(doc.Findings)
	var judged []Finding
	for _, c := range doc.Checks {
		f := Finding{
			Subject: c.title(), Message: c.Message, Remedy: c.Remedy,
			File: c.File, Line: c.Line, Column: c.Column, Anchor: c.Anchor, Fix: c.Fix,
		}
		switch c.Verdict {
		case Pass, Waived:
			continue
		case Fail:
			f.Rule, f.Severity = orElse(c.Rule, ruleFailed), SeverityCritical
		case Warn:
			f.Rule, f.Severity = orElse(c.Rule, ruleWarned), SeverityWarning
		case Inconclusive:
			f.Rule, f.Severity = orElse(c.Rule, ruleInconclusive), SeverityWarning
		default:
			f.Rule, f.Severity = orElse(c.Rule, ruleInconclusive), SeverityWarning
		}
		judged = append(judged, f)
	}
	if doc.Verdicts {
		all = append(judged, all...)
	} else {
		all = append(all, judged...)
	}
	slices.SortStableFunc(all, func(a, b Finding) int { return a.Severity.rank() - b.Severity.rank() })
	return all
}

func (s Severity) rank() int {
	switch s {
	case SeverityCritical:
		return 0
	case SeverityWarning:
		return 1
	case SeverityNote:
		return 2
	}
	return 2
}

// word is s, or note where s is no severity.
func (s Severity) word() string { return [...]string{"critical", "warning", "note"}[s.rank()] }

func (c Check) title() string {
	if c.Group == "" {
		return c.Name
	}
	return c.Group + ": " + c.Name
}

// text is a finding in one line: "mail: 12 clients poll an empty queue".
func (f Finding) text() string {
	switch {
	case f.Subject == "":
		return f.Message
	case f.Message == "":
		return f.Subject
	}
	return f.Subject + ": " + f.Message
}

// full is text and remedy, for formats that have no place of their own for a remedy.
func (f Finding) full() string {
	if f.Remedy == "" {
		return f.text()
	}
	return f.text() + ". Remedy: " + f.Remedy
}

// fingerprints returns one identifier per finding that stays the same from run to run: it leaves out
// the message, whose numbers change, and the line, which moves; the line's text is in it where it is
// known. Findings that would share one are numbered.
func fingerprints(kind string, findings []Finding) []string {
	prints := make([]string, len(findings))
	seen := map[string]int{}
	for i, f := range findings {
		identity := strings.Join([]string{kind, f.Rule, f.Subject, f.File}, "\x00")
		if f.Anchor != "" {
			identity += "\x00" + f.Anchor
		}
		if n := seen[identity]; n > 0 {
			prints[i] = fingerprint(fmt.Sprintf("%s\x00%d", identity, n))
		} else {
			prints[i] = fingerprint(identity)
		}
		seen[identity]++
	}
	return prints
}

func fingerprint(identity string) string {
	sum := sha256.Sum256([]byte(identity))
	return hex.EncodeToString(sum[:16])
}

// tally counts findings by severity in words: "1 critical, 2 warnings, 3 notes".
func tally(findings []Finding) string {
	var counts [3]int
	for _, f := range findings {
		counts[f.Severity.rank()]++
	}
	var parts []string
	if counts[0] > 0 {
		parts = append(parts, fmt.Sprintf("%d critical", counts[0]))
	}
	for i, word := range []string{"warning", "note"} {
		if n := counts[i+1]; n == 1 {
			parts = append(parts, "1 "+word)
		} else if n > 1 {
			parts = append(parts, fmt.Sprintf("%d %ss", n, word))
		}
	}
	if len(parts) == 0 {
		return "no findings"
	}
	return strings.Join(parts, ", ")
}

// worstFirst sorts checks for people: what fails, what warns, what cannot be said, what is waived, what
// passes.
func worstFirst(checks []Check) []Check {
	sorted := slices.Clone(checks)
	slices.SortStableFunc(sorted, func(a, b Check) int { return a.Verdict.rank() - b.Verdict.rank() })
	return sorted
}

func (v Verdict) rank() int {
	return slices.Index([]string{string(Fail), string(Warn), string(Inconclusive), string(Waived), string(Pass)}, v.word())
}
