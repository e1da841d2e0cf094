package report

import (
	"net/url"
	"strings"
)

// The parts of SARIF 2.1.0 that are printed.
type (
	sarifLog struct {
		Schema  string     `json:"$schema"`
		Version string     `json:"version"`
		Runs    []sarifRun `json:"runs"`
	}
	sarifRun struct {
		Tool       sarifTool     `json:"tool"`
		ColumnKind string        `json:"columnKind"`
		Results    []sarifResult `json:"results"`
	}
	sarifTool struct {
		Driver sarifDriver `json:"driver"`
	}
	sarifDriver struct {
		Name    string      `json:"name"`
		Version string      `json:"version"`
		Rules   []sarifRule `json:"rules"`
	}
	sarifRule struct {
		ID string `json:"id"`
	}
	sarifResult struct {
		RuleID       string            `json:"ruleId"`
		RuleIndex    int               `json:"ruleIndex"`
		Level        string            `json:"level"`
		Message      sarifText         `json:"message"`
		Locations    []sarifLocation   `json:"locations"`
		Fingerprints map[string]string `json:"partialFingerprints"`
		Fixes        []sarifFix        `json:"fixes,omitempty"`
	}
	sarifText struct {
		Text string `json:"text"`
	}
	sarifLocation struct {
		Physical *sarifPhysical `json:"physicalLocation,omitempty"`
		Logical  []sarifLogical `json:"logicalLocations,omitempty"`
	}
	sarifPhysical struct {
		Artifact sarifArtifact `json:"artifactLocation"`
		Region   *sarifRegion  `json:"region,omitempty"`
	}
	sarifArtifact struct {
		URI string `json:"uri"`
	}
	sarifRegion struct {
		StartLine   int `json:"startLine"`
		StartColumn int `json:"startColumn,omitempty"`
		EndLine     int `json:"endLine,omitempty"`
		EndColumn   int `json:"endColumn,omitempty"`
	}
	sarifLogical struct {
		Name string `json:"fullyQualifiedName"`
		Kind string `json:"kind"`
	}
	sarifFix struct {
		Description sarifText     `json:"description"`
		Changes     []sarifChange `json:"artifactChanges"`
	}
	sarifChange struct {
		Artifact     sarifArtifact      `json:"artifactLocation"`
		Replacements []sarifReplacement `json:"replacements"`
	}
	sarifReplacement struct {
		Deleted  sarifRegion `json:"deletedRegion"`
		Inserted sarifText   `json:"insertedContent"`
	}
)

func renderSARIF(doc Document, opts WriteOptions) ([]byte, error) {
	all := issues(doc)
	prints := fingerprints(doc.Kind, all)
	driver := sarifDriver{Name: "redisopt", Version: opts.Version, Rules: []sarifRule{}}
	index := map[string]int{}
	results := make([]sarifResult, len(all))
	for i, f := range all {
		rule, known := index[f.Rule]
		if !known {
			rule = len(driver.Rules)
			index[f.Rule] = rule
			driver.Rules = append(driver.Rules, sarifRule{ID: f.Rule})
		}
		results[i] = sarifResult{
			RuleID: f.Rule, RuleIndex: rule,
			Level:        [...]string{"error", "warning", "note"}[f.Severity.rank()],
			Message:      sarifText{f.full()},
			Locations:    []sarifLocation{sarifWhere(doc.Kind, f)},
			Fingerprints: map[string]string{"redisopt/v1": prints[i]},
			Fixes:        sarifFixes(f),
		}
	}
	return indented(sarifLog{
		Schema:  "https://json.schemastore.org/sarif-2.1.0.json",
		Version: "2.1.0",
		Runs:    []sarifRun{{Tool: sarifTool{driver}, ColumnKind: "unicodeCodePoints", Results: results}},
	})
}

func sarifWhere(kind string, f Finding) sarifLocation {
	if f.File == "" {
		return sarifLocation{Logical: []sarifLogical{{Name: orElse(f.Subject, kind), Kind: "resource"}}}
	}
	physical := &sarifPhysical{Artifact: sarifArtifact{sarifURI(f.File)}}
	if f.Line > 0 {
		physical.Region = &sarifRegion{StartLine: f.Line, StartColumn: max(f.Column, 0)}
	}
	return sarifLocation{Physical: physical}
}

// sarifFixes offers the exact change where one is known; a remedy in words stays in the message. An
// edit without a place makes the whole fix unusable, so it is left out.
func sarifFixes(f Finding) []sarifFix {
	if f.Fix == nil || len(f.Fix.Edits) == 0 {
		return nil
	}
	fix := sarifFix{Description: sarifText{orElse(f.Fix.Description, f.full())}}
	at := map[string]int{}
	for _, e := range f.Fix.Edits {
		if e.File == "" || e.Line < 1 || e.Column < 1 || e.EndLine < e.Line || e.EndColumn < 1 {
			return nil
		}
		i, known := at[e.File]
		if !known {
			i = len(fix.Changes)
			at[e.File] = i
			fix.Changes = append(fix.Changes, sarifChange{Artifact: sarifArtifact{sarifURI(e.File)}})
		}
		fix.Changes[i].Replacements = append(fix.Changes[i].Replacements, sarifReplacement{
			Deleted:  sarifRegion{StartLine: e.Line, StartColumn: e.Column, EndLine: e.EndLine, EndColumn: e.EndColumn},
			Inserted: sarifText{e.Text},
		})
	}
	return []sarifFix{fix}
}

// sarifURI makes a relative URI reference of a path; a first segment with a colon would read as a
// scheme, so such a path begins with "./".
func sarifURI(path string) string {
	return (&url.URL{Path: strings.TrimPrefix(path, "./")}).String()
}
