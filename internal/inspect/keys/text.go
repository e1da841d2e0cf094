package keys

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

const maxShown = 120

// printable is a name with what cannot be printed escaped.
func printable(name string) string {
	quoted := strconv.Quote(name)
	if inner := quoted[1 : len(quoted)-1]; inner != strings.ReplaceAll(name, `"`, `\"`) {
		return inner
	}
	return name
}

// shown is a name as a person may see it: printable, and a long one cut.
func shown(name string) string {
	name = printable(name)
	if len(name) <= maxShown {
		return name
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(name[cut]) {
		cut--
	}
	return name[:cut] + "…"
}

// Bytes writes a size the way people compare them: "512 B", "1.2 KiB", "10.0 MiB".
func Bytes(n float64) string {
	for _, unit := range []string{"B", "KiB", "MiB", "GiB"} {
		if n < 1024 {
			if unit == "B" {
				return fmt.Sprintf("%.0f B", n)
			}
			return fmt.Sprintf("%.1f %s", n, unit)
		}
		n /= 1024
	}
	return fmt.Sprintf("%.1f TiB", n)
}

// String is the share with its interval, "100%", "4% (2% to 7%)", or that there were too few samples.
func (s Share) String() string {
	switch {
	case s.Samples == 0:
		return "not observed"
	case s.Insufficient:
		return fmt.Sprintf("%d of %d (insufficient samples)", s.Hits, s.Samples)
	case s.Exact:
		return percent(*s.Value)
	}
	return fmt.Sprintf("%s (%s to %s)", percent(*s.Value), percent(*s.Low), percent(*s.High))
}

func percent(v float64) string {
	if v > 0 && v < 0.01 || v < 1 && v > 0.99 {
		return fmt.Sprintf("%.1f%%", 100*v)
	}
	return fmt.Sprintf("%.0f%%", 100*v)
}
