package upstream

import "strings"

// isContainer is whether INFO commandstats counts the subcommands of verb apart.
func isContainer(verb string) bool {
	switch verb {
	case "acl", "client", "cluster", "command", "config", "function", "latency", "memory", "module",
		"object", "pubsub", "script", "slowlog", "xgroup", "xinfo":
		return true
	}
	return false
}

// isRead is whether command reads data or statistics and does nothing else, so that sending it twice
// does no harm.
func isRead(command string) bool {
	switch command {
	case "get", "mget", "getrange", "substr", "strlen", "getbit", "bitcount", "bitpos", "bitfield_ro", "lcs",
		"exists", "type", "ttl", "pttl", "expiretime", "pexpiretime", "keys", "scan", "randomkey", "dbsize", "dump",
		"hget", "hmget", "hgetall", "hkeys", "hvals", "hlen", "hexists", "hstrlen", "hscan", "hrandfield", "httl", "hpttl",
		"lrange", "lindex", "llen", "lpos",
		"smembers", "sismember", "smismember", "scard", "sinter", "sunion", "sdiff", "sintercard", "srandmember", "sscan",
		"zrange", "zrevrange", "zrangebyscore", "zrevrangebyscore", "zrangebylex", "zrevrangebylex", "zcard", "zcount",
		"zlexcount", "zscore", "zmscore", "zrank", "zrevrank", "zinter", "zunion", "zdiff", "zintercard", "zrandmember", "zscan",
		"xrange", "xrevrange", "xlen", "xread", "xpending",
		"xinfo|stream", "xinfo|groups", "xinfo|consumers", "xinfo|help",
		"geodist", "geohash", "geopos", "geosearch", "georadius_ro", "georadiusbymember_ro", "sort_ro",
		"object|encoding", "object|freq", "object|idletime", "object|refcount", "object|help", "memory|usage", "memory|stats", "memory|doctor",
		"info", "time", "lastsave", "role", "ping", "echo",
		"client|list", "client|info", "client|id", "client|getname", "client|help",
		"config|get", "config|help",
		"command", "command|count", "command|docs", "command|info", "command|list", "command|getkeys", "command|help",
		"cluster|info", "cluster|nodes", "cluster|slots", "cluster|shards", "cluster|myid", "cluster|keyslot", "cluster|links",
		"cluster|countkeysinslot", "cluster|getkeysinslot", "cluster|help",
		"latency|latest", "latency|history", "latency|histogram", "latency|doctor", "latency|help",
		"slowlog|get", "slowlog|len", "slowlog|help",
		"pubsub|channels", "pubsub|numsub", "pubsub|numpat", "pubsub|shardchannels", "pubsub|shardnumsub", "pubsub|help",
		"script|exists", "script|help", "function|list", "function|stats", "function|dump", "function|help", "module|list", "module|help",
		"acl|whoami", "acl|cat", "acl|dryrun", "acl|getuser", "acl|list", "acl|users", "acl|help",
		"eval_ro", "evalsha_ro", "fcall_ro":
		return true
	}
	return false
}

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
