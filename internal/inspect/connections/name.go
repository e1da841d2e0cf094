package connections

import (
	"encoding/base64"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Name is what Bull and BullMQ write into a connection's name. Both write the same one for a worker,
// so a name says which queue but never which of the two libraries.
type Name struct {
	Prefix string // key prefix; may itself contain colons or a hash tag
	Queue  string
	Worker string // the worker's own name, empty when it has none
	Events bool   // a QueueEvents connection
}

// ParseName reads prefix:base64(queue), followed by nothing, ":qe" or ":w:<worker>". The base64 must be
// canonical and decode to printable text; any other name is not a queue library's, and ok is false.
func ParseName(s string) (n Name, ok bool) {
	parts := strings.Split(s, ":")
	for i := 1; i < len(parts); i++ {
		rest := parts[i+1:]
		isEvents := len(rest) == 1 && rest[0] == "qe"
		isWorker := len(rest) >= 2 && rest[0] == "w"
		if len(rest) > 0 && !isEvents && !isWorker {
			continue // the prefix goes on
		}
		queue, valid := decodeQueue(parts[i])
		if !valid {
			continue
		}
		n = Name{Prefix: strings.Join(parts[:i], ":"), Queue: queue, Events: isEvents}
		if isWorker {
			n.Worker = strings.Join(rest[1:], ":")
		}
		return n, n.Prefix != ""
	}
	return Name{}, false
}

func decodeQueue(s string) (string, bool) {
	// The decoder skips line ends, which no library writes.
	if s == "" || strings.ContainsAny(s, "\r\n") {
		return "", false
	}
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || !utf8.Valid(b) {
		return "", false
	}
	for _, r := range string(b) {
		if !unicode.IsPrint(r) {
			return "", false
		}
	}
	return string(b), true
}
