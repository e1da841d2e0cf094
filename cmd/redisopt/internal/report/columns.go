package report

import "strings"

// gap is the space between two columns of a table.
const gap = 2

// minColumn is the least width a column is shrunk to.
const minColumn = 6

// fit decides the width of every column so that the table takes at most limit columns of a
// terminal: prose gives way first, then names, and numbers last.
func fit(t Table, limit int) []int {
	widths := naturalWidths(t)
	prose := func(i int) bool { return t.Columns[i].Elastic }
	words := func(i int) bool { return !t.Columns[i].Right }
	shrink(widths, limit, prose, 5*minColumn)
	shrink(widths, limit, words, 3*minColumn)
	shrink(widths, limit, prose, 2*minColumn)
	shrink(widths, limit, words, minColumn)
	shrink(widths, limit, func(int) bool { return true }, minColumn)
	return widths
}

func naturalWidths(t Table) []int {
	widths := make([]int, len(t.Columns))
	measure := func(row []string) {
		for i := range min(len(row), len(widths)) {
			widths[i] = max(widths[i], width(cell(row[i])))
		}
	}
	for i, c := range t.Columns {
		widths[i] = width(cell(c.Name))
	}
	for _, row := range t.Rows {
		measure(row)
	}
	measure(t.Total)
	return widths
}

// shrink takes one column of width at a time from the widest column that may give, until the table
// fits or none can give more.
func shrink(widths []int, limit int, may func(int) bool, least int) {
	total := gap * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for total > limit {
		widest := -1
		for i, w := range widths {
			if may(i) && w > least && (widest < 0 || w > widths[widest]) {
				widest = i
			}
		}
		if widest < 0 {
			return
		}
		widths[widest]--
		total--
	}
}

// fitted returns row with every cell wrapped or shortened to its column.
func fitted(columns []Column, row []string, widths []int) []string {
	out := make([]string, len(columns))
	for i := range min(len(row), len(columns)) {
		text := cell(row[i])
		if columns[i].Elastic {
			out[i] = strings.Join(wrap(text, widths[i]), "\n")
		} else {
			out[i] = shorten(text, widths[i])
		}
	}
	return out
}
