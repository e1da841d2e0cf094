package main

import (
	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/inspect"
)

// reportFindings turns what an audit found into what a document prints.
func reportFindings(found []inspect.Finding) []report.Finding {
	out := make([]report.Finding, len(found))
	for i, f := range found {
		out[i] = report.Finding{
			Rule:     f.Rule,
			Severity: report.Severity(f.Severity),
			Subject:  f.Subject,
			Message:  f.Message,
			Remedy:   f.Remedy,
			File:     f.File,
			Line:     f.Line,
			Column:   f.Column,
			Fix:      reportFix(f.Fix),
		}
	}
	return out
}

// reportFix is the exact change of a finding, nil where there is none.
func reportFix(f *inspect.Fix) *report.Fix {
	if f == nil {
		return nil
	}
	out := &report.Fix{Description: f.Description}
	for _, e := range f.Edits {
		out.Edits = append(out.Edits, report.Edit(e))
	}
	return out
}
