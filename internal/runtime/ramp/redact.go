package ramp

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// Redact is how a key may be shown: its first part, as far as that is a plain word, and a hash by which the
// same key is recognised again.
func Redact(key string) string {
	sum := sha256.Sum256([]byte(key))
	first, _, more := strings.Cut(key, ":")
	if !more || len(first) > 32 || strings.ContainsFunc(first, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_' && r != '.'
	}) {
		first = "…"
	}
	return first + ":…#" + hex.EncodeToString(sum[:4])
}
