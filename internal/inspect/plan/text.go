package plan

import (
	"fmt"
	"math"
	"strconv"
)

// amount is a number for people: "950", "250,000", "5.00 M".
func amount(n float64) string {
	switch {
	case math.IsInf(n, 1):
		return "any"
	case n >= 10e6:
		return fmt.Sprintf("%.1f M", n/1e6)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", n/1e6)
	case n >= 1000:
		return fmt.Sprintf("%d,%03d", int64(n)/1000, int64(n)%1000)
	}
	return strconv.FormatFloat(n, 'f', 0, 64)
}

// bytesText is a number of bytes for people, in powers of 1024.
func bytesText(n float64) string {
	for _, unit := range []struct {
		name string
		size float64
	}{{"TB", 1 << 40}, {"GB", 1 << 30}, {"MB", 1 << 20}, {"KB", 1 << 10}} {
		if n >= unit.size {
			return strconv.FormatFloat(math.Round(n/unit.size*10)/10, 'f', -1, 64) + " " + unit.name
		}
	}
	return strconv.FormatFloat(n, 'f', 0, 64) + " B"
}
