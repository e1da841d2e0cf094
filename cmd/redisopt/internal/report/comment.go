package report

import (
	"bytes"
	"fmt"
	"strings"
)

// What a comment may hold. The host refuses one of more than 65,536 characters.
const (
	maxComment         = 60_000
	maxCommentChecks   = 20
	maxCommentFindings = 10
)

// renderComment prints the body of a comment on a change: its marker, what did not pass, the worst
// findings, and what passed folded away. Sections are left out.
func renderComment(doc Document) []byte {
	var out bytes.Buffer
	fmt.Fprintf(&out, "<!-- %s -->\n", strings.NewReplacer("--", "", ">", "").Replace(cell(doc.Marker)))
	markdownTitle(&out, doc.Title)
	var told, passed []Check
	for _, c := range worstFirst(doc.Checks) {
		if c.Verdict == Pass {
			passed = append(passed, c)
		} else {
			told = append(told, c)
		}
	}
	if len(told) > 0 {
		markdownTable(&out, checkTable(told[:min(len(told), maxCommentChecks)]))
		more(&out, len(told)-maxCommentChecks, "budget")
	}
	if sorted := issues(Document{Findings: doc.Findings}); len(sorted) > 0 {
		fmt.Fprintf(&out, "**Findings: %s**\n\n", tally(sorted))
		markdownList(&out, sorted[:min(len(sorted), maxCommentFindings)])
		out.WriteByte('\n')
		more(&out, len(sorted)-maxCommentFindings, "finding")
	}
	if len(passed) > 0 {
		fmt.Fprintf(&out, "<details><summary>%d passed</summary>\n\n", len(passed))
		markdownTable(&out, checkTable(passed[:min(len(passed), maxCommentChecks)]))
		more(&out, len(passed)-maxCommentChecks, "budget")
		out.WriteString("</details>\n\n")
	}
	return withinComment(markdownEnd(&out, doc.Notes))
}

func more(out *bytes.Buffer, n int, what string) {
	if n == 1 {
		fmt.Fprintf(out, "1 more %s: -o json lists all.\n\n", what)
	} else if n > 1 {
		fmt.Fprintf(out, "%d more %ss: -o json lists all.\n\n", n, what)
	}
}

// withinComment cuts a body that is too long at the end of a line; the worst is at its beginning.
func withinComment(body []byte) []byte {
	if len(body) <= maxComment {
		return body
	}
	head := body[:maxComment]
	if at := bytes.LastIndexByte(head, '\n'); at > 0 {
		head = head[:at+1]
	} else {
		head = bytes.ToValidUTF8(head, nil)
	}
	return append(bytes.Clone(head), "\n> Shortened: -o json has the whole.\n"...)
}
