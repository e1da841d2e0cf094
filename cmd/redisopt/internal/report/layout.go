package report

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/charmbracelet/lipgloss"
	"github.com/charmbracelet/x/ansi"
)

// visible replaces what a terminal would obey by what it can show: keys, names and replies of a
// Redis are other people's bytes. Newlines and tabs stay.
func visible(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if !strings.ContainsFunc(s, obeyed) {
		return s
	}
	var out strings.Builder
	for _, r := range s {
		if obeyed(r) {
			fmt.Fprintf(&out, `\x%02x`, r)
		} else {
			out.WriteRune(r)
		}
	}
	return out.String()
}

// obeyed reports whether r is a control character or one that changes the direction of text.
func obeyed(r rune) bool {
	if r == '\n' || r == '\t' {
		return false
	}
	return unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)
}

// cell makes s one line.
func cell(s string) string {
	return strings.Join(strings.FieldsFunc(visible(s), func(r rune) bool { return r == '\n' || r == '\t' }), " ")
}

// width is the number of terminal columns of one line.
func width(s string) int { return lipgloss.Width(s) }

// wrap breaks s into lines of at most limit columns, at spaces where it can and inside a word where
// the word alone is longer. Newlines in s are kept. It returns at least one line.
func wrap(s string, limit int) []string {
	var lines []string
	for line := range strings.SplitSeq(s, "\n") {
		lines = append(lines, wrapLine(line, limit)...)
	}
	return lines
}

func wrapLine(line string, limit int) []string {
	var lines []string
	current := ""
	for word := range strings.FieldsSeq(line) {
		if current != "" && width(current)+1+width(word) <= limit {
			current += " " + word
			continue
		}
		if current != "" {
			lines = append(lines, current)
		}
		for width(word) > limit {
			head := ansi.Truncate(word, limit, "")
			if head == "" {
				break // one character is wider than the limit
			}
			lines = append(lines, head)
			word = strings.TrimPrefix(word, head)
		}
		current = word
	}
	return append(lines, current)
}

// shorten cuts s to limit columns and marks the cut with "…".
func shorten(s string, limit int) string { return ansi.Truncate(s, limit, "…") }

// indent puts prefix before the first line and as many spaces before the others.
func indent(lines []string, prefix string) []string {
	out := make([]string, len(lines))
	pad := strings.Repeat(" ", width(prefix))
	for i, line := range lines {
		if i == 0 {
			out[i] = prefix + line
		} else {
			out[i] = strings.TrimRight(pad+line, " ")
		}
	}
	return out
}
