package report

import (
	"bytes"
	"fmt"
	"strings"
)

// maxAnnotations is how many annotations of a kind one step shows; the rest are dropped unseen.
const maxAnnotations = 10

// renderGitHub prints workflow commands, worst first, and last one summary that says what is not
// shown.
func renderGitHub(doc Document) []byte {
	all := issues(doc)
	var out bytes.Buffer
	shown, perKind := 0, map[string]int{}
	for _, f := range all {
		kind := githubKind(f.Severity)
		limit := maxAnnotations
		if kind == "notice" {
			limit-- // the summary is a notice too
		}
		if perKind[kind] == limit {
			continue
		}
		perKind[kind]++
		shown++
		githubCommand(&out, kind, f)
	}
	summary := tally(all)
	if hidden := len(all) - shown; hidden > 0 {
		summary += fmt.Sprintf("; %d not shown here, -o json lists all", hidden)
	}
	githubCommand(&out, "notice", Finding{Rule: doc.Kind, Message: summary})
	return out.Bytes()
}

func githubKind(s Severity) string { return [...]string{"error", "warning", "notice"}[s.rank()] }

func githubCommand(out *bytes.Buffer, kind string, f Finding) {
	var properties []string
	add := func(name, value string) {
		properties = append(properties, name+"="+githubProperty(value))
	}
	if f.File != "" {
		add("file", f.File)
		if f.Line > 0 {
			add("line", fmt.Sprint(f.Line))
		}
		if f.Line > 0 && f.Column > 0 {
			add("col", fmt.Sprint(f.Column))
		}
	}
	add("title", f.Rule)
	fmt.Fprintf(out, "::%s %s::%s\n", kind, strings.Join(properties, ","), githubMessage(f.full()))
}

// githubMessage escapes what would end or split a workflow command.
func githubMessage(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A").Replace(s)
}

// githubProperty escapes also what separates properties.
func githubProperty(s string) string {
	return strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C").Replace(s)
}
