package upstream

import (
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// isContainer is whether INFO commandstats counts the subcommands of verb apart.
func isContainer(verb string) bool { return mux.IsContainer(verb) }

// isRead is whether command reads data or statistics and does nothing else, so that sending it twice
// does no harm.
func isRead(command string) bool { return mux.Kind(command) == mux.Read }

// isSession is whether command changes nothing but the connection it is sent on.
func isSession(command string) bool {
	switch command {
	case "hello", "auth", "select", "quit", "reset", "readonly", "readwrite", "asking",
		"client|setname", "client|setinfo", "client|tracking", "client|caching", "client|no-touch", "client|reply",
		"subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "monitor",
		"watch", "unwatch", "multi", "exec", "discard", "wait":
		return true
	}
	return false
}

// isSubscription is whether the replies to command are messages, which answer nothing.
func isSubscription(command string) bool {
	switch command {
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "monitor":
		return true
	}
	return false
}

// allowedReadOnly is whether a read-only upstream may send command.
func allowedReadOnly(command string) bool { return isRead(command) || isSession(command) }

// argsName is the name of a command from its arguments, as a requestParser finds it on the wire.
func argsName(args []any) string {
	if len(args) == 0 {
		return "?"
	}
	verb := wordName(args[0])
	if len(args) < 2 || !isContainer(verb) {
		return verb
	}
	return verb + "|" + wordName(args[1])
}

func wordName(arg any) string {
	s, ok := arg.(string)
	if !ok {
		return "?"
	}
	// "client list" given as one word is not a command, and the server says so.
	if len(s) > maxName || strings.ContainsAny(s, " \r\n") {
		return "?"
	}
	return string(appendName(nil, []byte(s)))
}
