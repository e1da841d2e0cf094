package report

import (
	"bytes"
	"fmt"
	"strings"
)

func renderMarkdown(doc Document) []byte {
	if doc.Marker != "" {
		return renderComment(doc)
	}
	var out bytes.Buffer
	markdownTitle(&out, doc.Title)
	for _, s := range doc.Sections {
		markdownSection(&out, s)
	}
	if doc.Verdicts {
		markdownChecks(&out, worstFirst(doc.Checks))
		markdownFindings(&out, doc.Findings)
	} else {
		markdownFindings(&out, doc.Findings)
		markdownChecks(&out, doc.Checks)
	}
	return markdownEnd(&out, doc.Notes)
}

func markdownTitle(out *bytes.Buffer, title string) {
	if title != "" {
		fmt.Fprintf(out, "## %s\n\n", inline(title))
	}
}

func markdownEnd(out *bytes.Buffer, notes []string) []byte {
	for _, n := range notes {
		fmt.Fprintf(out, "> %s\n", inline(n))
	}
	trimmed := bytes.TrimRight(out.Bytes(), "\n")
	if len(trimmed) == 0 {
		return nil
	}
	return append(trimmed, '\n')
}

func markdownSection(out *bytes.Buffer, s Section) {
	if s.Title != "" {
		fmt.Fprintf(out, "### %s\n\n", inline(s.Title))
	}
	if s.Text != "" {
		for paragraph := range strings.SplitSeq(strings.TrimSpace(s.Text), "\n") {
			fmt.Fprintf(out, "%s\n", inline(paragraph))
		}
		out.WriteByte('\n')
	}
	for _, f := range s.Fields {
		fmt.Fprintf(out, "- **%s:** %s\n", inline(f.Name), inline(f.Value))
	}
	if len(s.Fields) > 0 {
		out.WriteByte('\n')
	}
	if s.Table != nil {
		markdownTable(out, *s.Table)
	}
}

func markdownTable(out *bytes.Buffer, t Table) {
	if len(t.Columns) == 0 {
		return
	}
	names := make([]string, len(t.Columns))
	rules := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		names[i] = inline(c.Name)
		rules[i] = "---"
		if c.Right {
			rules[i] = "---:"
		}
	}
	markdownRow(out, names)
	markdownRow(out, rules)
	for _, row := range t.Rows {
		markdownRow(out, markdownCells(row, len(t.Columns), inline))
	}
	if t.Total != nil {
		markdownRow(out, markdownCells(t.Total, len(t.Columns), strong))
	}
	out.WriteByte('\n')
}

func markdownCells(row []string, columns int, render func(string) string) []string {
	cells := make([]string, columns)
	for i := range min(columns, len(row)) {
		cells[i] = render(row[i])
	}
	return cells
}

func markdownRow(out *bytes.Buffer, cells []string) {
	fmt.Fprintf(out, "| %s |\n", strings.Join(cells, " | "))
}

func markdownFindings(out *bytes.Buffer, findings []Finding) {
	if len(findings) == 0 {
		return
	}
	sorted := issues(Document{Findings: findings})
	fmt.Fprintf(out, "### Findings: %s\n\n", tally(sorted))
	markdownList(out, sorted)
	out.WriteByte('\n')
}

func markdownList(out *bytes.Buffer, findings []Finding) {
	for _, f := range findings {
		fmt.Fprintf(out, "- **%s** %s", f.Severity.word(), inline(f.Rule))
		if f.File != "" {
			fmt.Fprintf(out, " (%s)", inline(f.place()))
		}
		fmt.Fprintf(out, ": %s\n", inline(f.text()))
		if f.Remedy != "" {
			fmt.Fprintf(out, "  Remedy: %s\n", inline(f.Remedy))
		}
	}
}

// place is file:line:column, as far as it is known.
func (f Finding) place() string {
	switch {
	case f.Line > 0 && f.Column > 0:
		return fmt.Sprintf("%s:%d:%d", f.File, f.Line, f.Column)
	case f.Line > 0:
		return fmt.Sprintf("%s:%d", f.File, f.Line)
	}
	return f.File
}

func markdownChecks(out *bytes.Buffer, checks []Check) {
	if len(checks) == 0 {
		return
	}
	out.WriteString("### Checks\n\n")
	markdownTable(out, checkTable(checks))
}

func checkTable(checks []Check) Table {
	rows := make([][]string, len(checks))
	for i, c := range checks {
		rows[i] = []string{c.Verdict.word(), c.title(), c.whole()}
	}
	return Table{Columns: []Column{{Name: "Verdict"}, {Name: "Check"}, {Name: "Why"}}, Rows: rows}
}

// whole is why, where and what to do, as far as they are known and needed.
func (c Check) whole() string {
	out := c.Message
	if c.File != "" {
		out += " (" + Finding{File: c.File, Line: c.Line, Column: c.Column}.place() + ")"
	}
	if c.Remedy != "" {
		out += ". Remedy: " + c.Remedy
	}
	return out
}

// word is v, or inconclusive where v is no verdict.
func (v Verdict) word() string {
	switch v {
	case Pass, Warn, Fail, Waived, Inconclusive:
		return string(v)
	}
	return string(Inconclusive)
}

func strong(s string) string {
	if s == "" {
		return ""
	}
	return "**" + inline(s) + "**"
}

// inline makes s one line of plain text in markdown: nothing in it is markup, a link, HTML or the
// end of a table cell.
func inline(s string) string {
	var out strings.Builder
	for _, r := range strings.TrimSpace(visible(s)) {
		switch {
		case r == '\n' || r == '\t':
			out.WriteByte(' ')
		case r == '<':
			out.WriteString("&lt;")
		case r == '&':
			out.WriteString("&amp;")
		case strings.ContainsRune("\\`*_[]|~#>", r):
			out.WriteByte('\\')
			out.WriteRune(r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}
