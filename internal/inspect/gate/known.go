package gate

import (
	"strings"
	"unicode"
)

// key is what stays the same about a finding while its numbers and lines change.
func (k KnownOne) key() string {
	return strings.Join([]string{k.Rule, withoutNumbers(k.Subject), k.File}, "\x00")
}

// withoutNumbers is s with every number replaced by one sign: "11 queues" and "12 queues" are about the
// same thing.
func withoutNumbers(s string) string {
	var out strings.Builder
	inside := false
	for _, r := range s {
		if digit := unicode.IsDigit(r); !digit {
			out.WriteRune(r)
			inside = false
		} else if !inside {
			out.WriteByte('#')
			inside = true
		}
	}
	return out.String()
}

// known tells which findings the baseline has too, by their place in found. A finding on a line with the
// same text is taken before one that is only about the same thing, so that of two the new one is new.
func known(found []Finding, base []KnownOne) []bool {
	out := make([]bool, len(found))
	left := map[string]int{}
	for _, k := range base {
		left[k.key()+"\x00"+k.Anchor]++
	}
	for i, f := range found {
		key := knownOf(f).key() + "\x00" + f.Anchor
		if left[key] > 0 {
			left[key]--
			out[i] = true
		}
	}
	rest := map[string]int{}
	for key, n := range left {
		rest[key[:strings.LastIndexByte(key, 0)]] += n
	}
	for i, f := range found {
		if key := knownOf(f).key(); !out[i] && rest[key] > 0 {
			rest[key]--
			out[i] = true
		}
	}
	return out
}

func knownOf(f Finding) KnownOne { return KnownOne{f.Rule, f.Subject, f.File, f.Anchor} }
