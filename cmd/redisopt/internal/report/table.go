package report

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/charmbracelet/lipgloss"
	"github.com/muesli/termenv"
	"github.com/olekukonko/tablewriter"
	"github.com/olekukonko/tablewriter/renderer"
	"github.com/olekukonko/tablewriter/tw"
)

// styles are the few colours of the table format. Without colour every style changes nothing.
type styles struct {
	title, heading, faint, good, bad, doubt lipgloss.Style
}

func newStyles(color bool) styles {
	profile := termenv.Ascii
	if color {
		profile = termenv.ANSI // the terminal's own sixteen colours, which suit its background
	}
	r := lipgloss.NewRenderer(io.Discard, termenv.WithProfile(profile))
	return styles{
		title:   r.NewStyle().Bold(true),
		heading: r.NewStyle().Bold(true),
		faint:   r.NewStyle().Faint(true),
		good:    r.NewStyle().Foreground(lipgloss.Color("2")),
		bad:     r.NewStyle().Foreground(lipgloss.Color("1")).Bold(true),
		doubt:   r.NewStyle().Foreground(lipgloss.Color("3")),
	}
}

func (s styles) severity(v Severity) lipgloss.Style {
	return [...]lipgloss.Style{s.bad, s.doubt, s.faint}[v.rank()]
}

func (s styles) verdict(v Verdict) lipgloss.Style {
	switch v {
	case Pass:
		return s.good
	case Fail:
		return s.bad
	case Waived:
		return s.faint
	case Warn, Inconclusive:
		return s.doubt
	}
	return s.doubt
}

// A sheet is the table format in the making.
type sheet struct {
	bytes.Buffer
	styles styles
	width  int
}

func renderTable(doc Document, opts WriteOptions) ([]byte, error) {
	s := &sheet{styles: newStyles(opts.Color), width: opts.Width}
	if doc.Title != "" {
		s.lines(wrap(visible(doc.Title), s.width), s.styles.title)
	}
	for _, section := range doc.Sections {
		if err := s.section(section); err != nil {
			return nil, err
		}
	}
	if doc.Verdicts {
		s.checks(worstFirst(doc.Checks))
		s.findings(doc.Findings)
	} else {
		s.findings(doc.Findings)
		s.checks(doc.Checks)
	}
	if len(doc.Notes) > 0 {
		s.space()
		for _, n := range doc.Notes {
			s.lines(indent(wrap(visible(n), s.width-6), "note: "), s.styles.faint)
		}
	}
	return s.Bytes(), nil
}

// space sets a block apart from what is above it.
func (s *sheet) space() {
	if s.Len() > 0 {
		s.WriteByte('\n')
	}
}

func (s *sheet) lines(lines []string, style lipgloss.Style) {
	for _, line := range lines {
		fmt.Fprintln(s, style.Render(line))
	}
}

func (s *sheet) plain(lines []string) {
	for _, line := range lines {
		fmt.Fprintln(s, line)
	}
}

func (s *sheet) section(section Section) error {
	s.space()
	if section.Title != "" {
		s.lines(wrap(visible(section.Title), s.width), s.styles.heading)
	}
	if section.Text != "" {
		s.plain(wrap(visible(strings.TrimSuffix(section.Text, "\n")), s.width))
	}
	s.fields(section.Fields)
	if section.Table == nil || len(section.Table.Columns) == 0 {
		return nil
	}
	return s.table(*section.Table)
}

func (s *sheet) fields(fields []Field) {
	longest := 0
	for _, f := range fields {
		longest = max(longest, width(cell(f.Name)))
	}
	longest = min(longest, s.width/2)
	for _, f := range fields {
		name := shorten(cell(f.Name), longest)
		prefix := name + strings.Repeat(" ", longest-width(name)+gap)
		lines := indent(wrap(visible(f.Value), s.width-longest-gap), prefix)
		lines[0] = strings.TrimRight(s.styles.faint.Render(prefix)+strings.TrimPrefix(lines[0], prefix), " ")
		s.plain(lines)
	}
}

func (s *sheet) table(t Table) error {
	widths := fit(t, s.width)
	alignment := make(tw.Alignment, len(t.Columns))
	header := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		alignment[i] = tw.AlignLeft
		if c.Right {
			alignment[i] = tw.AlignRight
		}
		header[i] = s.styles.heading.Render(shorten(cell(c.Name), widths[i]))
	}
	var out bytes.Buffer
	table := newTable(&out, alignment)
	table.Header(header)
	for _, row := range t.Rows {
		if err := table.Append(fitted(t.Columns, row, widths)); err != nil {
			return fmt.Errorf("table row: %w", err)
		}
	}
	if t.Total != nil {
		table.Footer(fitted(t.Columns, t.Total, widths))
	}
	if err := table.Render(); err != nil {
		return fmt.Errorf("table: %w", err)
	}
	for line := range strings.Lines(out.String()) {
		fmt.Fprintln(s, strings.TrimRight(line, " \n"))
	}
	return nil
}

// newTable is a table without borders: columns set apart by spaces, a rule under the heading and
// above the total.
func newTable(out io.Writer, alignment tw.Alignment) *tablewriter.Table {
	cells := tw.CellConfig{
		Formatting: tw.CellFormatting{AutoWrap: tw.WrapNone, AutoFormat: tw.Off},
		Alignment:  tw.CellAlignment{PerColumn: alignment},
		Padding:    tw.CellPadding{Global: tw.Padding{Left: tw.Empty, Right: tw.Empty, Overwrite: true}},
	}
	return tablewriter.NewTable(out,
		tablewriter.WithConfig(tablewriter.Config{Header: cells, Row: cells, Footer: cells}),
		tablewriter.WithRenderer(renderer.NewBlueprint(tw.Rendition{
			Borders: tw.Border{Left: tw.Off, Right: tw.Off, Top: tw.Off, Bottom: tw.Off},
			Symbols: tw.NewSymbolCustom("plain").WithRow("-").WithColumn("  ").WithCenter("  ").
				WithMidLeft("").WithMidRight(""),
			Settings: tw.Settings{
				Separators: tw.Separators{BetweenRows: tw.Off, BetweenColumns: tw.On, ShowHeader: tw.Off, ShowFooter: tw.Off},
				Lines:      tw.Lines{ShowTop: tw.Off, ShowBottom: tw.Off, ShowHeaderLine: tw.On, ShowFooterLine: tw.On},
			},
		})),
	)
}

func (s *sheet) findings(findings []Finding) {
	if len(findings) == 0 {
		return
	}
	sorted := issues(Document{Findings: findings})
	s.space()
	s.lines([]string{"Findings: " + tally(sorted)}, s.styles.heading)
	for _, f := range sorted {
		word := s.styles.severity(f.Severity).Render(f.Severity.word())
		head := f.Rule
		if f.File != "" {
			head += "  " + f.place()
		}
		fmt.Fprintf(s, "%s  %s\n", word, shorten(cell(head), s.width-width(word)-2))
		s.plain(indent(wrap(visible(f.text()), s.width-2), "  "))
		if f.Remedy != "" {
			s.plain(indent(wrap(visible(f.Remedy), s.width-4), "  > "))
		}
	}
}

func (s *sheet) checks(checks []Check) {
	if len(checks) == 0 {
		return
	}
	s.space()
	s.lines([]string{"Checks"}, s.styles.heading)
	for _, c := range checks {
		word := c.Verdict.word()
		line := c.title()
		if c.Message != "" {
			line += ": " + c.Message
		}
		prefix := word + strings.Repeat(" ", len(Inconclusive)-len(word)+gap)
		lines := indent(wrap(visible(line), s.width-len(prefix)), prefix)
		lines[0] = s.styles.verdict(c.Verdict).Render(word) + strings.TrimPrefix(lines[0], word)
		s.plain(lines)
		pad := strings.Repeat(" ", len(prefix))
		if c.File != "" {
			s.plain(indent(wrap(visible("at "+Finding{File: c.File, Line: c.Line, Column: c.Column}.place()), s.width-len(prefix)), pad))
		}
		if c.Remedy != "" {
			s.plain(indent(wrap(visible(c.Remedy), s.width-len(prefix)-2), pad+"> "))
		}
	}
}
