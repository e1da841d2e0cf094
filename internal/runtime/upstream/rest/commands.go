package rest

import (
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/upstream/mux"
)

// maxName is how much of a command's name, or of its subcommand's, is looked at.
const maxName = 32

// What is done with a command.
type action uint8

const (
	send     action = iota
	answerOK        // it says how to set up a connection, and there is nothing to set up
	answerHello
	answerSelect
	beginTx
	endTx
	dropTx
	refuse
)

// A kind is what is known of one command of one component. It does not change.
type kind struct {
	name   string // lower case, with its subcommand
	action action
	why    string // of refuse
	stream bool   // it blocks when BLOCK is among its arguments
	repeat bool   // it reads and does nothing else
	write  bool
	series *meter.Series // nil without a meter
}

// kindOf is what is known of the command name of component c.
func (t *Transport) kindOf(c meter.Component, name string, counted bool) *kind {
	k := &kind{name: name}
	category := mux.Kind(name)
	k.action, k.why = actionOf(name, category)
	k.stream = name == "xread" || name == "xreadgroup"
	k.repeat = category == mux.Read
	k.write = category != mux.Read && category != mux.Transaction
	if t.opts.Observer.Write != nil {
		k.write = t.opts.Observer.Write(name)
	}
	if m := t.opts.Observer.Meter; m != nil && counted && k.action != refuse {
		k.series = m.Series(c, name)
	}
	return k
}

const (
	blocks    = "it blocks, and a request over HTTP does not wait; use a redis:// or rediss:// upstream for it"
	needsConn = "it needs a connection that stays; use a redis:// or rediss:// upstream for it"
	noWatch   = "the next request may travel apart, so nothing can be watched; use a script, or a redis:// or rediss:// upstream"
	apart     = "a subscription is a stream of its own there, not a command"
)

// actionOf says what is done with a command, and why it is refused if it is.
func actionOf(name string, category mux.Category) (action, string) {
	switch name {
	case "hello":
		return answerHello, ""
	case "auth", "quit", "reset", "client|setinfo", "client|setname":
		return answerOK, ""
	case "select":
		return answerSelect, ""
	case "multi":
		return beginTx, ""
	case "exec":
		return endTx, ""
	case "discard":
		return dropTx, ""
	case "monitor":
		return refuse, apart
	}
	switch category {
	case mux.Blocking:
		return refuse, blocks
	case mux.PubSub:
		return refuse, apart
	case mux.Transaction:
		return refuse, noWatch
	case mux.Connection:
		return refuse, needsConn
	case mux.Unknown, mux.Read, mux.Write, mux.Script, mux.Admin:
	}
	return send, ""
}

// appendName appends word in lower case, or "?" when it cannot be the name of a command.
func appendName(dst, word []byte) []byte {
	start := len(dst)
	if len(word) == 0 || len(word) > maxName {
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
