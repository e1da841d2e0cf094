package rest

import (
	"strings"

	"github.com/redisopt/redisopt/internal/runtime/meter"
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
	k.action, k.why = actionOf(name)
	k.stream = name == "xread" || name == "xreadgroup"
	k.repeat = isRead(name)
	k.write = !k.repeat && k.action == send
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
	useBell   = "a subscription is a stream of its own there, not a command"
)

// actionOf says what is done with a command, and why it is refused if it is.
func actionOf(name string) (action, string) {
	verb, _, _ := strings.Cut(name, "|")
	switch verb {
	case "hello":
		return answerHello, ""
	case "auth", "quit", "reset":
		return answerOK, ""
	case "select":
		return answerSelect, ""
	case "multi":
		return beginTx, ""
	case "exec":
		return endTx, ""
	case "discard":
		return dropTx, ""
	case "client":
		if name == "client|setinfo" || name == "client|setname" {
			return answerOK, ""
		}
		return refuse, needsConn
	case "blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "wait", "waitaof":
		return refuse, blocks
	case "watch", "unwatch":
		return refuse, noWatch
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "monitor":
		return refuse, useBell
	case "readonly", "readwrite", "asking", "sync", "psync", "replconf", "failover", "shutdown":
		return refuse, needsConn
	}
	return send, ""
}

// isContainer is whether the second word belongs to the name of verb.
func isContainer(verb string) bool {
	switch verb {
	case "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module",
		"object", "pubsub", "script", "slowlog", "xgroup", "xinfo":
		return true
	}
	return false
}

// isRead is whether a command reads data or statistics and does nothing else, so that sending it twice
// does no harm.
func isRead(name string) bool {
	switch name {
	case "get", "mget", "getrange", "substr", "strlen", "getbit", "bitcount", "bitpos", "bitfield_ro", "lcs",
		"exists", "type", "ttl", "pttl", "expiretime", "pexpiretime", "keys", "scan", "randomkey", "dbsize", "dump",
		"hget", "hmget", "hgetall", "hkeys", "hvals", "hlen", "hexists", "hstrlen", "hscan", "hrandfield", "httl", "hpttl",
		"lrange", "lindex", "llen", "lpos",
		"smembers", "sismember", "smismember", "scard", "sinter", "sunion", "sdiff", "sintercard", "srandmember", "sscan",
		"zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore", "zrangebylex", "zrevrangebylex", "zcard", "zcount",
		"zlexcount", "zscore", "zmscore", "zrank", "zrevrank", "zinter", "zunion", "zdiff", "zintercard", "zrandmember", "zscan",
		"xrange", "xrevrange", "xlen", "xread", "xpending", "xinfo|stream", "xinfo|groups", "xinfo|consumers",
		"geodist", "geohash", "geopos", "geosearch", "georadius_ro", "georadiusbymember_ro", "sort_ro",
		"object|encoding", "object|freq", "object|idletime", "object|refcount", "memory|usage",
		"info", "time", "lastsave", "role", "ping", "echo", "config|get", "command", "command|count", "command|info",
		"pubsub|channels", "pubsub|numsub", "pubsub|numpat", "script|exists", "function|list", "function|stats",
		"eval_ro", "evalsha_ro", "fcall_ro":
		return true
	}
	return false
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
