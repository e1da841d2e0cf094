package record

import (
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const noKey = "(no key)"

// firstKey is the first key of a command, nil for one without.
func (r *request) firstKey(name string) []byte {
	switch name {
	case "ping", "echo", "hello", "auth", "select", "quit", "reset", "info", "time", "dbsize", "multi", "exec",
		"discard", "unwatch", "scan", "keys", "randomkey", "flushdb", "flushall", "swapdb", "wait", "waitaof",
		"monitor", "role", "lastsave", "save", "bgsave", "bgrewriteaof", "readonly", "readwrite", "asking",
		"subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "publish", "spublish",
		"shutdown", "failover", "replicaof", "slaveof", "lolwut", "sync", "psync", "?":
		return nil
	case "eval", "eval_ro", "evalsha", "evalsha_ro", "fcall", "fcall_ro":
		if n, err := strconv.Atoi(r.text(2)); err != nil || n < 1 {
			return nil
		}
		return r.arg(3)
	case "xread", "xreadgroup":
		for i := range r.args {
			if strings.EqualFold(r.text(i), "streams") {
				return r.arg(i + 1)
			}
		}
		return nil
	case "zunion", "zinter", "zdiff", "sintercard", "zintercard", "lmpop", "zmpop":
		return r.arg(2)
	case "blmpop", "bzmpop":
		return r.arg(3)
	case "bitop":
		return r.arg(2)
	}
	verb, _, sub := strings.Cut(name, "|")
	switch {
	case !sub:
		return r.arg(1)
	case verb == "object", verb == "memory", verb == "xinfo", verb == "xgroup":
		return r.arg(2)
	}
	return nil
}

func (r *request) arg(i int) []byte {
	if i >= len(r.args) {
		return nil
	}
	return r.args[i]
}

func (r *request) text(i int) string { return string(r.arg(i)) }

// prefixOf is the name of a key without what tells it from others of its kind: at most three parts
// between colons, ids as *.
func prefixOf(key []byte) string {
	if key == nil {
		return noKey
	}
	parts := strings.SplitN(strings.ToValidUTF8(string(key), "\uFFFD"), ":", 4)
	if len(parts) > 3 {
		parts[3] = "*"
	}
	for i, p := range parts {
		if isID(p) {
			parts[i] = "*"
		}
	}
	p := strings.Join(parts, ":")
	if len(p) > maxNameBytes/2 {
		p = cut(p, maxNameBytes/2) + "*"
	}
	return p
}

// isID is whether part tells one thing from others of its kind: a number, a hash, an address.
func isID(part string) bool {
	bare := strings.Trim(part, "{}")
	digits, hexes := 0, 0
	for _, c := range bare {
		switch {
		case c == '@' || c == utf8.RuneError || !unicode.IsPrint(c):
			return true
		case c >= '0' && c <= '9':
			digits++
			hexes++
		case c >= 'a' && c <= 'f', c >= 'A' && c <= 'F', c == '-':
			hexes++
		}
	}
	n := len(bare)
	return n > 0 && digits*2 >= n || n >= 12 && hexes == n && digits > 0 || n >= 20 && digits > 0
}

// cut is s with at most n bytes, cut between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
