package report

import (
	"encoding/xml"
	"fmt"
	"time"
)

type junitSuites struct {
	XMLName  xml.Name     `xml:"testsuites"`
	Name     string       `xml:"name,attr"`
	Tests    int          `xml:"tests,attr"`
	Failures int          `xml:"failures,attr"`
	Skipped  int          `xml:"skipped,attr"`
	Suites   []junitSuite `xml:"testsuite"`
}

type junitSuite struct {
	Name      string      `xml:"name,attr"`
	Tests     int         `xml:"tests,attr"`
	Failures  int         `xml:"failures,attr"`
	Errors    int         `xml:"errors,attr"`
	Skipped   int         `xml:"skipped,attr"`
	Timestamp string      `xml:"timestamp,attr,omitempty"`
	Cases     []junitCase `xml:"testcase"`
}

type junitCase struct {
	Class   string        `xml:"classname,attr"`
	Name    string        `xml:"name,attr"`
	File    string        `xml:"file,attr,omitempty"`
	Line    int           `xml:"line,attr,omitempty"`
	Failure *junitOutcome `xml:"failure"`
	Skipped *junitOutcome `xml:"skipped"`
	Output  string        `xml:"system-out,omitempty"`
}

type junitOutcome struct {
	Message string `xml:"message,attr"`
	Type    string `xml:"type,attr,omitempty"`
	Text    string `xml:",chardata"`
}

// renderJUnit prints one test suite per group of checks and one for the findings. A check that fails
// and a critical finding are failures, an inconclusive or waived check is skipped, and a warning or a
// finding that fails no gate passes and says so in its output. A document without either is one passed case, because CI
// systems refuse an empty report.
func renderJUnit(doc Document, opts WriteOptions) ([]byte, error) {
	root := junitSuites{Name: doc.Kind}
	index := map[string]int{}
	add := func(suite string, c junitCase) {
		c.Class = doc.Kind + "." + suite
		i, known := index[suite]
		if !known {
			i = len(root.Suites)
			index[suite] = i
			root.Suites = append(root.Suites, junitSuite{Name: suite, Timestamp: junitTime(opts.Now)})
		}
		root.Suites[i].Cases = append(root.Suites[i].Cases, c)
	}
	for _, c := range doc.Checks {
		add(orElse(c.Group, "checks"), junitCheck(c))
	}
	for _, f := range issues(Document{Findings: doc.Findings}) {
		add("findings", junitFinding(f))
	}
	if len(root.Suites) == 0 {
		add("findings", junitCase{Name: "no findings"})
	}
	root.count()
	out, err := xml.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, err
	}
	return append([]byte(xml.Header), append(out, '\n')...), nil
}

func junitCheck(c Check) junitCase {
	out := junitCase{Name: c.Name, File: c.File, Line: c.Line}
	switch c.Verdict {
	case Pass:
		out.Output = c.Message
	case Warn:
		out.Output = "warning: " + c.whole()
	case Fail:
		out.Failure = &junitOutcome{Message: c.Message, Type: orElse(c.Rule, ruleFailed), Text: c.Remedy}
	case Waived:
		out.Skipped = &junitOutcome{Message: "waived: " + c.Message}
	case Inconclusive:
		out.Skipped = &junitOutcome{Message: orElse(c.Message, "inconclusive")}
	default:
		out.Skipped = &junitOutcome{Message: orElse(c.Message, "inconclusive")}
	}
	return out
}

func junitFinding(f Finding) junitCase {
	out := junitCase{Name: f.Rule, File: f.File, Line: f.Line}
	if f.Subject != "" {
		out.Name += " " + f.Subject
	}
	if f.Severity == SeverityCritical {
		out.Failure = &junitOutcome{Message: f.Message, Type: f.Rule, Text: f.Remedy}
	} else {
		out.Output = fmt.Sprintf("%s: %s", f.Severity.word(), f.full())
	}
	return out
}

func (s *junitSuites) count() {
	for i := range s.Suites {
		suite := &s.Suites[i]
		suite.Tests = len(suite.Cases)
		for _, c := range suite.Cases {
			if c.Failure != nil {
				suite.Failures++
			}
			if c.Skipped != nil {
				suite.Skipped++
			}
		}
		s.Tests += suite.Tests
		s.Failures += suite.Failures
		s.Skipped += suite.Skipped
	}
}

func junitTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02T15:04:05")
}

func orElse(s, fallback string) string {
	if s == "" {
		return fallback
	}
	return s
}
