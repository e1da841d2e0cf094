package gateway

import (
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// longestWord is the longest word of a command's name that is looked up. No command comes near.
const longestWord = 32

// appendName appends the name of the command in args as mux.Kind wants it: lower case, a subcommand after
// a bar, and "?" in place of what cannot be a name.
func appendName(dst []byte, args [][]byte) []byte {
	start := len(dst)
	dst = appendWord(dst, args[0])
	if len(args) < 2 || !mux.IsContainer(string(dst[start:])) {
		return dst
	}
	return appendWord(append(dst, '|'), args[1])
}

func appendWord(dst, word []byte) []byte {
	start := len(dst)
	if len(word) == 0 || len(word) > longestWord {
		return append(dst, '?')
	}
	for _, c := range word {
		switch {
		case c >= 'A' && c <= 'Z':
			c += 'a' - 'A'
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '.', c == '_', c == '-':
		default:
			return append(dst[:start], '?')
		}
		dst = append(dst, c)
	}
	return dst
}

// refusal is why c may not run the command, as the text of the error; empty when it may. It decides by
// name; what depends on the arguments, the mux refuses.
func (c *caller) refusal(name []byte) string {
	kind := mux.Kind(string(name))
	if kind == mux.Read && !c.readOnly && !isOperators(string(name)) {
		return ""
	}
	if kind == mux.Write && !c.readOnly {
		return ""
	}
	return c.refusalOf(string(name), kind)
}

// refusalOf is refusal for what is not an everyday command.
func (c *caller) refusalOf(name string, kind mux.Category) string {
	verb, _, _ := strings.Cut(name, "|")
	upper := strings.ToUpper(verb)
	allowed := c.allow[name] || c.allow[verb]
	switch kind {
	case mux.Blocking, mux.PubSub, mux.Transaction:
		return textNotREST(upper)
	case mux.Connection:
		if isServers(name) {
			return textUnavailable(upper)
		}
		return textNotREST(upper)
	case mux.Read, mux.Write, mux.Script, mux.Admin, mux.Unknown:
	}
	if verb == "client" && !allowed {
		return textNotREST(upper)
	}
	if c.readOnly && (kind != mux.Read || isExpensive(name) && !allowed) {
		return textNoPermission(verb)
	}
	if (kind == mux.Admin || kind == mux.Unknown || isOperators(name)) && !allowed {
		if c.readOnly {
			return textNoPermission(verb)
		}
		return textUnavailable(strings.ToUpper(strings.ReplaceAll(name, "|", " ")))
	}
	return ""
}

// isServers lists what takes a connection over or ends the server, rather than changing a connection.
func isServers(name string) bool {
	switch name {
	case "sync", "psync", "replconf", "shutdown", "failover", "replicaof", "slaveof", "script|debug":
		return true
	}
	return false
}

// isOperators lists what is not dangerous to the shared connection, but shows or changes what belongs to
// the operator, or stops the server for long: KEYS walks all keys while everybody waits.
func isOperators(name string) bool {
	verb, _, _ := strings.Cut(name, "|")
	switch verb {
	case "keys", "acl", "client", "cluster", "config", "latency", "module", "slowlog", "pfdebug", "pfselftest":
		return true
	}
	switch name {
	case "script|kill", "function|delete", "function|flush", "function|kill", "function|restore":
		return true
	}
	return false
}

// isExpensive lists the reads that a read-only token may not run: those that walk keys which it does not
// name, and those whose cost a caller decides.
func isExpensive(name string) bool {
	switch name {
	case "keys", "scan", "randomkey", "lcs", "sort_ro", "eval_ro", "evalsha_ro", "fcall_ro":
		return true
	}
	return false
}
