package connections

import "strings"

// Libraries that a server's connections have shown so far.
type librariesSeen struct{ bull, bullmq bool }

func librariesOf(conns []Connection, bullChannels bool) librariesSeen {
	seen := librariesSeen{bull: bullChannels}
	for _, c := range conns {
		seen.bull = seen.bull || c.Library == LibraryBull
		seen.bullmq = seen.bullmq || c.Library == LibraryBullMQ
	}
	return seen
}

// rest settles what no arithmetic reached: producers without workers, subscribers, application clients.
func (g *group) rest(libs librariesSeen, bullChannels bool) {
	bullHere := len(g.workers(LibraryBull)) > 0
	for _, c := range g.open(true) {
		switch {
		case bullChannels && !bullHere && c.client.PSub == 0 && c.client.Sub > 0:
			c.set(RoleSubscriber, LibraryBull, Likely, "subscribed while channels of Bull queues are active")
		default:
			c.set(RolePubSub, LibraryNone, Likely, "a subscriber that no queue needs")
		}
	}
	for _, c := range g.open(false) {
		g.ordinary(c, libs)
	}
}

func (g *group) ordinary(c *Connection, libs librariesSeen) {
	cmd := c.client.Command
	either, which := LibraryEither, "Bull or BullMQ"
	switch {
	case libs.bull && !libs.bullmq:
		either, which = LibraryBull, "Bull"
	case libs.bullmq && !libs.bull:
		either, which = LibraryBullMQ, "BullMQ"
	}
	anyLibrary := libs.bull || libs.bullmq
	switch {
	case libs.bullmq && (cmd == "hset" || cmd == "hmset"):
		c.set(RoleQueueClient, LibraryBullMQ, Likely, "last command HSET, as a BullMQ Queue writes its meta key when it opens; no worker in "+g.where)
	case anyLibrary && runsScripts(cmd):
		c.set(RoleQueueClient, either, Likely, "runs scripts, as a producer of "+which+" does")
	case anyLibrary && (cmd == "info" || strings.HasPrefix(cmd, "client")):
		c.set(RoleQueueClient, either, Likely, "opened and not used yet, as a queue or FlowProducer of "+which)
	case isCacheCommand(cmd):
		c.set(RoleCache, LibraryNone, Likely, "last command "+strings.ToUpper(cmd)+", as a cache does")
	case isLimiterCommand(cmd):
		c.set(RoleLimiter, LibraryNone, Likely, "last command "+strings.ToUpper(cmd)+", as a rate limiter does")
	case isNeutral(cmd):
		c.set(RoleUnknown, LibraryNone, Unsure, "no name, and no command that tells; ask "+g.where)
	default:
		c.set(RoleApp, LibraryNone, Likely, "last command "+strings.ToUpper(cmd)+"; no queue library's")
	}
}

func runsScripts(cmd string) bool {
	switch cmd {
	case "eval", "evalsha", "eval_ro", "evalsha_ro", "script|load", "script":
		return true
	}
	return false
}

// isNeutral holds for commands that every client may send, so they tell nothing about its purpose.
func isNeutral(cmd string) bool {
	name, _, _ := strings.Cut(cmd, "|")
	switch name {
	case "", "null", "info", "client", "ping", "auth", "hello", "select", "command", "config", "echo",
		"multi", "exec", "cluster", "readonly", "wait", "time":
		return true
	}
	return false
}

func isCacheCommand(cmd string) bool {
	switch cmd {
	case "get", "set", "setex", "psetex", "setnx", "getset", "getex", "getdel", "mget", "mset", "del",
		"unlink", "ttl", "pttl", "exists", "scan", "touch":
		return true
	}
	return false
}

func isLimiterCommand(cmd string) bool {
	switch cmd {
	case "zadd", "zcard", "zcount", "zremrangebyscore", "incr", "incrby", "expire", "pexpire":
		return true
	}
	return false
}

// delayedChannels returns the "prefix:queue" of every Bull queue whose subscriber listens: a worker's
// subscriber is always on the delayed channel of its queue.
func delayedChannels(conns []Connection, channels []string) map[string]bool {
	named := make(map[string]bool)
	for _, c := range conns {
		if c.Queue != "" {
			named[c.Prefix+":"+c.Queue] = true
		}
	}
	queues := make(map[string]bool)
	for _, ch := range channels {
		i := strings.LastIndexByte(ch, ':')
		if i < 0 || !bullEvents[ch[i+1:]] {
			continue
		}
		if q := ch[:i]; named[q] || strings.Count(q, ":") >= 1 {
			queues[q] = true
		}
	}
	return queues
}

// bullEvents are the last parts of Bull's channel names; treat as read-only.
var bullEvents = map[string]bool{
	"delayed": true, "completed": true, "failed": true, "progress": true, "paused": true, "resumed": true,
	"drained": true, "cleaned": true, "stalled": true, "removed": true, "active": true, "duplicated": true,
}
