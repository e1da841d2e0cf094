package embedded

import (
	"bufio"
	"fmt"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// imitates is the Redis whose replies are given; clients decide by it what they may send.
const imitates = "7.0.15"

// databases is the number of databases, as Redis has by default.
const databases = 16

// ours reports whether a connection's command, in upper case, is answered here and never by
// miniredis. Such commands are about the connection or the server, not about keys.
func ours(name string) bool {
	switch name {
	case "CLIENT", "CONFIG", "HELLO", "INFO", "RESET", "ROLE":
		return true
	}
	return false
}

// isExtra reports whether some forms of a command are answered here, in scripts too.
func isExtra(name string) bool {
	switch name {
	case "AUTH", "MEMORY", "OBJECT", "SELECT", "TIME":
		return true
	}
	return false
}

// subcommands are those of a command that has some, lower case.
func subcommands(name string) []string {
	switch name {
	case "client":
		return []string{"list", "info", "id", "getname", "setname", "setinfo", "kill", "no-evict", "getredir"}
	case "config":
		return []string{"get", "resetstat"}
	case "memory":
		return []string{"usage"}
	case "object":
		return []string{"encoding", "freq", "idletime", "refcount"}
	case "pubsub":
		return []string{"channels", "numsub", "numpat"}
	case "script":
		return []string{"load", "exists", "flush"}
	case "xgroup":
		return []string{"create", "destroy", "createconsumer", "delconsumer"}
	case "xinfo":
		return []string{"stream", "groups", "consumers"}
	case "cluster":
		return []string{"slots", "keyslot", "nodes", "shards"}
	}
	return nil
}

// own answers a command that miniredis is not asked, and says whether it did.
func (c *conn) own(name string, args []string) bool {
	switch name {
	case "CLIENT":
		c.client(args)
	case "CONFIG":
		c.config(args)
	case "HELLO":
		c.hello(args)
	case "INFO":
		c.peer.WriteBulk(c.m.info(args))
	case "RESET":
		c.reset()
	case "SCRIPT":
		return c.load(args)
	case "ROLE":
		c.peer.WriteLen(3)
		c.peer.WriteBulk("master")
		c.peer.WriteInt(0)
		c.peer.WriteLen(0)
	default:
		return c.state.multi < 0 && c.m.extra(c.peer, name, args)
	}
	return true
}

// extra answers what miniredis lacks or gets wrong among the commands that a script may call as well,
// and says whether it did.
func (m *memory) extra(p *server.Peer, name string, args []string) bool {
	switch name {
	case "AUTH":
		if len(args) != 2 || args[0] != "default" {
			return false
		}
		p.WriteOK() // Redis' default user has no password and takes any
	case "MEMORY":
		return m.memoryUsage(p, args)
	case "OBJECT":
		return m.object(p, args)
	case "SELECT":
		if len(args) != 1 {
			return false
		}
		if n, err := strconv.Atoi(args[0]); err != nil || n < databases {
			return false
		}
		p.WriteError("ERR DB index is out of range")
	case "TIME":
		if len(args) != 0 {
			return false
		}
		now := time.Now()
		p.WriteLen(2)
		p.WriteBulk(strconv.FormatInt(now.Unix(), 10))
		p.WriteBulk(strconv.Itoa(now.Nanosecond() / 1000))
	default:
		return false
	}
	return true
}

// memoryUsage takes SAMPLES n off MEMORY USAGE, which miniredis does not know.
func (m *memory) memoryUsage(p *server.Peer, args []string) bool {
	if len(args) != 4 || !strings.EqualFold(args[0], "usage") || !strings.EqualFold(args[2], "samples") {
		return false
	}
	if n, err := strconv.Atoi(args[3]); err != nil || n < 0 {
		p.WriteError("ERR value is not an integer or out of range")
		return true
	}
	p.WriteRaw(m.as(p, "MEMORY", "USAGE", args[1]))
	return true
}

// object answers OBJECT but for IDLETIME, which miniredis has.
func (m *memory) object(p *server.Peer, args []string) bool {
	if len(args) != 2 {
		return false
	}
	sub := strings.ToLower(args[0])
	if sub != "encoding" && sub != "freq" && sub != "refcount" {
		return false
	}
	kind := strings.TrimPrefix(strings.TrimSpace(m.as(p, "TYPE", args[1])), "+")
	switch {
	case kind == "none":
		p.WriteNull()
	case sub == "freq":
		p.WriteError("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching between policies at runtime LRU and LFU data will take some time to adjust.")
	case sub == "refcount":
		p.WriteInt(1)
	default:
		p.WriteBulk(m.encoding(p, kind, args[1]))
	}
	return true
}

// encoding is what Redis would use for a value of the kind and size, as far as the size tells.
func (m *memory) encoding(p *server.Peer, kind, key string) string {
	long := func(limit int, command ...string) bool {
		n, err := strconv.Atoi(strings.TrimSpace(strings.TrimPrefix(m.as(p, command...), ":")))
		return err == nil && n > limit
	}
	switch kind {
	case "string":
		_, value, _ := strings.Cut(strings.TrimSuffix(m.as(p, "GET", key), "\r\n"), "\r\n")
		if _, err := strconv.ParseInt(value, 10, 64); err == nil && len(value) <= 20 {
			return "int"
		}
		if len(value) <= 44 {
			return "embstr"
		}
		return "raw"
	case "list":
		return "quicklist"
	case "hash":
		if long(512, "HLEN", key) {
			return "hashtable"
		}
		return "listpack"
	case "set":
		return "hashtable"
	case "zset":
		if long(128, "ZCARD", key) {
			return "skiplist"
		}
		return "listpack"
	}
	return kind
}

// as runs a command as the peer, inside its script if it is one, and returns the raw reply.
func (m *memory) as(p *server.Peer, args ...string) string {
	var out replyBuffer
	inner := server.NewPeer(bufio.NewWriter(&out))
	inner.Ctx = p.Ctx
	if m.isTop(p) {
		m.mu.Lock()
		m.top[inner] = struct{}{}
		m.mu.Unlock()
		m.srv.Dispatch(inner, args)
		m.mu.Lock()
		delete(m.top, inner)
		m.mu.Unlock()
	} else {
		outer := m.script
		m.script = inner
		m.srv.Dispatch(inner, args)
		m.script = outer
	}
	inner.Flush()
	return string(out)
}

func (c *conn) hello(args []string) {
	proto := 2
	if c.peer.Resp3 {
		proto = 3
	}
	if len(args) > 0 {
		n, err := strconv.Atoi(args[0])
		if err != nil || n < 2 || n > 3 {
			c.peer.WriteError("NOPROTO unsupported protocol version")
			return
		}
		proto = n
	}
	name, named := "", false
	for rest := args[min(1, len(args)):]; len(rest) > 0; {
		switch option := strings.ToUpper(rest[0]); {
		case option == "AUTH" && len(rest) >= 3:
			if rest[1] != "default" {
				c.peer.WriteError("WRONGPASS invalid username-password pair or user is disabled.")
				return
			}
			rest = rest[3:]
		case option == "SETNAME" && len(rest) >= 2:
			if !validName(rest[1]) {
				c.peer.WriteError(errClientName)
				return
			}
			name, named, rest = rest[1], true, rest[2:]
		default:
			c.peer.WriteError("ERR Syntax error in HELLO option '" + rest[0] + "'")
			return
		}
	}
	if named {
		c.update(func(s *clientState) { s.name = name })
	}
	c.speak(proto)
	c.peer.WriteMapLen(7)
	for _, pair := range [][2]string{{"server", "redis"}, {"version", imitates}} {
		c.peer.WriteBulk(pair[0])
		c.peer.WriteBulk(pair[1])
	}
	c.peer.WriteBulk("proto")
	c.peer.WriteInt(proto)
	c.peer.WriteBulk("id")
	c.peer.WriteInt(int(c.id))
	for _, pair := range [][2]string{{"mode", "standalone"}, {"role", "master"}} {
		c.peer.WriteBulk(pair[0])
		c.peer.WriteBulk(pair[1])
	}
	c.peer.WriteBulk("modules")
	c.peer.WriteLen(0)
}

// speak switches the protocol version, also for pub/sub messages that are being written.
func (c *conn) speak(proto int) {
	c.peer.Block(func(*server.Writer) { c.peer.Resp3 = proto == 3 })
}

// reset puts the connection back to how it was when it opened.
func (c *conn) reset() {
	if c.state.multi >= 0 {
		c.silently("DISCARD")
		c.endMulti()
	}
	c.silently("UNWATCH")
	if len(c.state.subs)+len(c.state.psubs) > 0 {
		c.silently("UNSUBSCRIBE")
		c.silently("PUNSUBSCRIBE")
	}
	c.silently("SELECT", "0")
	c.speak(2)
	c.update(func(s *clientState) {
		s.name, s.db, s.noEvict = "", 0, false
		clear(s.subs)
		clear(s.psubs)
	})
	c.peer.WriteInline("RESET")
}

func (c *conn) config(args []string) {
	switch {
	case len(args) == 0:
		c.peer.WriteError("ERR wrong number of arguments for 'config' command")
	case strings.EqualFold(args[0], "RESETSTAT") && len(args) == 1:
		c.m.stats.reset()
		c.peer.WriteOK()
	case strings.EqualFold(args[0], "GET") && len(args) > 1:
		values := c.m.settings()
		var found []string
		for _, name := range sortedKeys(values) {
			if slices.ContainsFunc(args[1:], func(pattern string) bool { return matches(pattern, name) }) {
				found = append(found, name)
			}
		}
		c.peer.WriteMapLen(len(found))
		for _, name := range found {
			c.peer.WriteBulk(name)
			c.peer.WriteBulk(values[name])
		}
	case strings.EqualFold(args[0], "GET"), strings.EqualFold(args[0], "RESETSTAT"):
		c.peer.WriteError("ERR wrong number of arguments for 'config|" + strings.ToLower(args[0]) + "' command")
	default:
		c.peer.WriteError(fmt.Sprintf("ERR unknown subcommand '%s'. The embedded server has CONFIG GET and RESETSTAT; nothing can be configured.", args[0]))
	}
}

// settings are what CONFIG GET knows.
func (m *memory) settings() map[string]string {
	return map[string]string{
		"appendonly":             "no",
		"bind":                   "127.0.0.1",
		"databases":              strconv.Itoa(databases),
		"maxclients":             strconv.Itoa(m.maxClients()),
		"maxmemory":              "0",
		"maxmemory-policy":       "noeviction",
		"notify-keyspace-events": "",
		"port":                   portOf(m.addr),
		"save":                   "",
		"timeout":                "0",
	}
}

// maxClients is the connection cap in force.
func (m *memory) maxClients() int {
	if m.plan.MaxConnections > 0 {
		return m.plan.MaxConnections
	}
	return defaultMaxClients
}

// matches is Redis' glob over configuration names, none of which has a slash.
func matches(pattern, name string) bool {
	ok, err := path.Match(strings.ToLower(pattern), name)
	return err == nil && ok
}
