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
	ruleInconclusive = "check-inconclusive"
)

// issues returns what CI formats annotate, worst first and otherwise in the order given: the
// findings, and the checks that did not pass.
func issues(doc Document) []Finding {
	all := slices.Clone(doc.Findings)
	for _, c := range doc.Checks {
		f := Finding{Subject: c.title(), Message: c.Message}
		switch c.Verdict {
		case Pass:
			continue
		case Fail:
			f.Rule, f.Severity = ruleFailed, SeverityCritical
		case Inconclusive:
			f.Rule, f.Severity = ruleInconclusive, SeverityWarning
		default:
			f.Rule, f.Severity = ruleInconclusive, SeverityWarning
		}
		all = append(all, f)
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
// the message, whose numbers change, and the line, which moves. Findings that would share one are
// numbered.
func fingerprints(kind string, findings []Finding) []string {
	prints := make([]string, len(findings))
	seen := map[string]int{}
	for i, f := range findings {
		identity := strings.Join([]string{kind, f.Rule, f.Subject, f.File}, "\x00")
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
