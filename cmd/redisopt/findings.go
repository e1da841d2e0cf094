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
		}
	}
	return out
}
