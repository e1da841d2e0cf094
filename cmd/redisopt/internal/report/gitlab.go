package report

import (
	"bytes"
	"encoding/json"
	"strings"
)

// A codeQuality is one entry of GitLab's code quality report.
type codeQuality struct {
	Description string              `json:"description"`
	CheckName   string              `json:"check_name"`
	Fingerprint string              `json:"fingerprint"`
	Severity    string              `json:"severity"`
	Location    codeQualityLocation `json:"location"`
}

type codeQualityLocation struct {
	Path  string           `json:"path"`
	Lines codeQualityLines `json:"lines"`
}

type codeQualityLines struct {
	Begin int `json:"begin"`
}

// renderGitLab prints the list of findings. GitLab refuses entries without a path, so a finding about
// something that is not a file is located at its subject.
func renderGitLab(doc Document) ([]byte, error) {
	all := issues(doc)
	prints := fingerprints(doc.Kind, all)
	list := make([]codeQuality, len(all))
	for i, f := range all {
		list[i] = codeQuality{
			Description: f.full(),
			CheckName:   f.Rule,
			Fingerprint: prints[i],
			Severity:    [...]string{"critical", "major", "info"}[f.Severity.rank()],
			Location:    codeQualityLocation{Path: gitlabPath(doc.Kind, f), Lines: codeQualityLines{Begin: max(f.Line, 1)}},
		}
	}
	return indented(list)
}

func gitlabPath(kind string, f Finding) string {
	switch {
	case f.File != "":
		return strings.TrimPrefix(f.File, "./")
	case f.Subject != "":
		return f.Subject
	}
	return kind
}

func indented(v any) ([]byte, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	err := enc.Encode(v)
	return out.Bytes(), err
}
