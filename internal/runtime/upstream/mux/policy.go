package mux

import "strings"

// A Category says what a command does, as far as that decides where it may travel and whether it may
// be sent again.
type Category uint8

// The categories. Unknown is every name that is not in the table.
const (
	Unknown     Category = iota
	Read                 // reads data or statistics and does nothing else: harmless to send twice
	Write                // changes data, or may
	Script               // runs or manages code on the server; counts as a write
	Admin                // changes the server rather than data, or wipes all of it
	Transaction          // MULTI, EXEC, DISCARD, WATCH, UNWATCH
	Blocking             // may wait for data
	PubSub               // makes the connection a subscriber
	Connection           // changes or asks for the state of its own connection, or takes it over
)

func (c Category) String() string {
	switch c {
	case Read:
		return "read"
	case Write:
		return "write"
	case Script:
		return "script"
	case Admin:
		return "admin"
	case Transaction:
		return "transaction"
	case Blocking:
		return "blocking"
	case PubSub:
		return "pubsub"
	case Connection:
		return "connection"
	case Unknown:
	}
	return "unknown"
}

// Shared is whether a command of this category may travel, by itself, on a connection that others
// use too.
func (c Category) Shared() bool {
	return c == Read || c == Write || c == Script || c == Admin
}

// Kind is the category of a command, named in lower case as INFO commandstats spells it, a
// subcommand after a bar: "get", "client|list". XREAD and XREADGROUP block only with the argument
// BLOCK and are listed by what they do without it; see Blocks.
func Kind(command string) Category {
	switch {
	case isRead(command):
		return Read
	case isWrite(command):
		return Write
	case isScript(command):
		return Script
	}
	return kindOfRest(command)
}

// IsContainer is whether a command is named by its verb and its first argument together.
func IsContainer(verb string) bool {
	switch verb {
	case "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module",
		"object", "pubsub", "script", "slowlog", "xgroup", "xinfo":
		return true
	}
	return false
}

func isRead(command string) bool {
	switch command {
	case "get", "mget", "getrange", "substr", "strlen", "getbit", "bitcount", "bitpos", "bitfield_ro", "lcs",
		"exists", "type", "ttl", "pttl", "expiretime", "pexpiretime", "keys", "scan", "randomkey", "dbsize", "dump",
		"hget", "hmget", "hgetall", "hkeys", "hvals", "hlen", "hexists", "hstrlen", "hscan", "hrandfield",
		"httl", "hpttl", "hexpiretime", "hpexpiretime",
		"lrange", "lindex", "llen", "lpos",
		"smembers", "sismember", "smismember", "scard", "sinter", "sunion", "sdiff", "sintercard", "srandmember", "sscan",
		"zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore", "zrangebylex", "zrevrangebylex", "zcard", "zcount",
		"zlexcount", "zscore", "zmscore", "zrank", "zrevrank", "zinter", "zunion", "zdiff", "zintercard", "zrandmember", "zscan",
		"xrange", "xrevrange", "xlen", "xread", "xpending",
		"xinfo|stream", "xinfo|groups", "xinfo|consumers", "xinfo|help",
		"geodist", "geohash", "geopos", "geosearch", "georadius_ro", "georadiusbymember_ro", "sort_ro", "pfcount",
		"object|encoding", "object|freq", "object|idletime", "object|refcount", "object|help",
		"memory|usage", "memory|stats", "memory|doctor", "memory|help",
		"info", "time", "lastsave", "role", "ping", "echo", "lolwut",
		"client|list", "client|info", "client|id", "client|getname", "client|help",
		"config|get", "config|help",
		"command", "command|count", "command|docs", "command|info", "command|list", "command|getkeys", "command|getkeysandflags", "command|help",
		"cluster|info", "cluster|nodes", "cluster|slots", "cluster|shards", "cluster|myid", "cluster|keyslot", "cluster|links",
		"cluster|countkeysinslot", "cluster|getkeysinslot", "cluster|help",
		"latency|latest", "latency|history", "latency|histogram", "latency|doctor", "latency|graph", "latency|help",
		"slowlog|get", "slowlog|len", "slowlog|help",
		"pubsub|channels", "pubsub|numsub", "pubsub|numpat", "pubsub|shardchannels", "pubsub|shardnumsub", "pubsub|help",
		"script|exists", "script|help", "function|list", "function|stats", "function|dump", "function|help", "module|list", "module|help",
		"acl|whoami", "acl|cat", "acl|dryrun", "acl|getuser", "acl|list", "acl|users", "acl|help",
		"eval_ro", "evalsha_ro", "fcall_ro",
		"json.get", "json.mget", "json.arrindex", "json.arrlen", "json.objkeys", "json.objlen", "json.strlen", "json.type", "json.resp":
		return true
	}
	return false
}

func isWrite(command string) bool {
	switch command {
	case "set", "setnx", "setex", "psetex", "setrange", "setbit", "append", "mset", "msetnx", "getset", "getdel", "getex",
		"incr", "incrby", "incrbyfloat", "decr", "decrby", "bitop", "bitfield", "pfadd", "pfmerge", "pfdebug", "pfselftest",
		"del", "unlink", "expire", "pexpire", "expireat", "pexpireat", "persist", "rename", "renamenx", "copy", "move",
		"touch", "restore", "restore-asking", "sort", "delex", "digest", "msetex",
		"hset", "hsetnx", "hmset", "hdel", "hincrby", "hincrbyfloat", "hexpire", "hpexpire", "hexpireat", "hpexpireat",
		"hpersist", "hgetdel", "hgetex", "hsetex",
		"lpush", "rpush", "lpushx", "rpushx", "lpop", "rpop", "lset", "linsert", "lrem", "ltrim", "lmove", "rpoplpush", "lmpop",
		"sadd", "srem", "spop", "smove", "sinterstore", "sunionstore", "sdiffstore",
		"zadd", "zrem", "zincrby", "zpopmin", "zpopmax", "zmpop", "zremrangebyscore", "zremrangebyrank", "zremrangebylex",
		"zrangestore", "zunionstore", "zinterstore", "zdiffstore",
		"geoadd", "georadius", "georadiusbymember", "geosearchstore",
		"xadd", "xdel", "xdelex", "xtrim", "xsetid", "xack", "xackdel", "xclaim", "xautoclaim", "xreadgroup",
		"xgroup|create", "xgroup|createconsumer", "xgroup|delconsumer", "xgroup|destroy", "xgroup|setid", "xgroup|help",
		"publish", "spublish",
		"json.set", "json.mset", "json.merge", "json.del", "json.forget", "json.numincrby", "json.nummultby", "json.strappend",
		"json.arrappend", "json.arrinsert", "json.arrpop", "json.arrtrim", "json.clear", "json.toggle":
		return true
	}
	return false
}

// isScript lists EVAL and its kin by name: the server's own flags do not call them writes.
func isScript(command string) bool {
	switch command {
	case "eval", "evalsha", "fcall", "script|load", "script|flush", "script|kill",
		"function|load", "function|delete", "function|flush", "function|restore", "function|kill":
		return true
	}
	return false
}

func kindOfRest(command string) Category {
	switch command {
	case "multi", "exec", "discard", "watch", "unwatch":
		return Transaction
	case "blpop", "brpop", "brpoplpush", "blmove", "blmpop", "bzpopmin", "bzpopmax", "bzmpop", "wait", "waitaof":
		return Blocking
	case "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe":
		return PubSub
	case "flushall", "flushdb", "swapdb", "debug", "save", "bgsave", "bgrewriteaof", "migrate",
		"config|set", "config|resetstat", "config|rewrite",
		"client|kill", "client|unblock", "client|pause", "client|unpause",
		"memory|purge", "memory|malloc-stats", "slowlog|reset", "latency|reset",
		"module|load", "module|loadex", "module|unload",
		"acl|setuser", "acl|deluser", "acl|load", "acl|save", "acl|genpass", "acl|log",
		"cluster|addslots", "cluster|addslotsrange", "cluster|delslots", "cluster|delslotsrange", "cluster|meet",
		"cluster|forget", "cluster|replicate", "cluster|replicas", "cluster|reset", "cluster|setslot",
		"cluster|failover", "cluster|flushslots", "cluster|bumpepoch", "cluster|saveconfig", "cluster|set-config-epoch":
		return Admin
	case "hello", "auth", "select", "quit", "reset", "readonly", "readwrite", "asking", "monitor",
		"client|setname", "client|setinfo", "client|tracking", "client|trackinginfo", "client|caching", "client|getredir",
		"client|no-touch", "client|no-evict", "client|reply", "script|debug",
		"sync", "psync", "replconf", "shutdown", "failover", "replicaof", "slaveof":
		return Connection
	}
	return Unknown
}

// Blocks is whether args, which name an XREAD or XREADGROUP, ask to wait: BLOCK before STREAMS.
func Blocks(args [][]byte) bool {
	for _, a := range args[1:] {
		if equalFold(a, "STREAMS") {
			return false
		}
		if equalFold(a, "BLOCK") {
			return true
		}
	}
	return false
}

func equalFold(b []byte, s string) bool { return len(b) == len(s) && strings.EqualFold(string(b), s) }

// maxName is the longest word of a command's name that is looked up.
const maxName = 32

// appendName appends the name of the command in args to dst as Kind wants it, "?" if its first word
// cannot be a name.
func appendName(dst []byte, args [][]byte) []byte {
	start := len(dst)
	dst = appendWord(dst, args[0])
	if len(args) < 2 || !IsContainer(string(dst[start:])) {
		return dst
	}
	return appendWord(append(dst, '|'), args[1])
}

// appendWord appends word in lower case. Names end up as labels of metrics, and what an application
// sends by mistake may be anything.
func appendWord(dst, word []byte) []byte {
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
