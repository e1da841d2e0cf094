package embedded

import (
	"bufio"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alicebob/miniredis/v2/server"
)

// A queuedCommand waits for EXEC.
type queuedCommand struct {
	name string // upper case
	args []string
}

// handle runs one command of a client and accounts for it.
func (c *conn) handle(args []string) {
	name, rest := strings.ToUpper(args[0]), args[1:]
	full := c.m.fullName(name, rest)
	c.update(func(s *clientState) {
		s.cmd = full
		if full == "" {
			s.cmd = "NULL"
		}
	})
	c.m.clock.watch(name, rest)
	c.m.clock.advance()

	c.out.newReply()
	began := time.Now()
	waits := blocks(name, rest) && c.state.multi < 0
	if !waits {
		// As in Redis, who has a reply finds its command counted, and what it did to the connection listed.
		c.out.hold()
		defer c.out.release()
	}
	switch text := c.refusal(name, full); {
	case text != "":
		c.spoil(name)
		c.peer.WriteError(text)
		c.peer.Flush()
		if full != "" {
			c.m.stats.count(full, rejected, 0)
		}
		return
	case waits:
		// As in Redis, a command that blocks counts when it begins to wait.
		c.m.stats.count(full, succeeded, 0)
		c.m.quota.bill(name)
		c.update(func(s *clientState) { s.blocked = true })
		if c.ended.Load() {
			c.out.finish()
			return
		}
	}
	if !c.own(name, rest) {
		c.m.srv.Dispatch(c.peer, c.m.luas.rewrite(name, args))
	}
	c.peer.Flush()
	reply := c.out.reply()
	if waits {
		c.update(func(s *clientState) { s.blocked = false })
		if strings.HasPrefix(reply, "-") {
			c.m.stats.fail(full)
		}
		return
	}
	c.settle(name, full, rest, reply, time.Since(began))
	c.m.clock.advance() // a script may have set the first TTL
}

// settle books a finished command and follows what it did to the connection.
func (c *conn) settle(name, full string, args []string, reply string, spent time.Duration) {
	inMulti := c.state.multi >= 0
	switch {
	case inMulti && strings.HasPrefix(reply, "+QUEUED"):
		c.queued = append(c.queued, queuedCommand{name, args})
		c.update(func(s *clientState) { s.multi = len(c.queued) })
		return
	case inMulti && name == "EXEC":
		if strings.HasPrefix(reply, "*") && !strings.HasPrefix(reply, "*-1") {
			for _, q := range c.queued {
				c.m.account(q.name, c.m.fullName(q.name, q.args), succeeded, 0)
				c.follow(q.name, q.args)
			}
		}
		c.endMulti()
	case inMulti && name == "DISCARD":
		c.endMulti()
	case inMulti && strings.HasPrefix(reply, "-"):
		c.spoil(name) // miniredis forgets to for an unknown command
	}
	how := outcomeOf(reply)
	if full != "" {
		c.m.account(name, full, how, spent)
	}
	if how == succeeded {
		c.follow(name, args)
	}
}

// outcomeOf tells from a reply how its command ended.
func outcomeOf(reply string) outcome {
	switch {
	case !strings.HasPrefix(reply, "-"):
		return succeeded
	case strings.HasPrefix(reply, "-ERR wrong number of arguments"), strings.HasPrefix(reply, "-ERR unknown command"):
		return rejected
	default:
		return failed
	}
}

// account books one call that has ended.
func (m *memory) account(name, full string, how outcome, spent time.Duration) {
	m.stats.count(full, how, spent)
	if how != rejected {
		m.quota.bill(name)
	}
}

// follow keeps what CLIENT LIST shows in step with a command that succeeded.
func (c *conn) follow(name string, args []string) {
	c.update(func(s *clientState) {
		s.resp = 2
		if c.peer.Resp3 {
			s.resp = 3
		}
		switch name {
		case "MULTI":
			s.multi = 0
		case "SELECT":
			if n, err := strconv.Atoi(args[0]); err == nil {
				s.db = n
			}
		case "SUBSCRIBE":
			add(s.subs, args)
		case "PSUBSCRIBE":
			add(s.psubs, args)
		case "UNSUBSCRIBE":
			remove(s.subs, args)
		case "PUNSUBSCRIBE":
			remove(s.psubs, args)
		}
	})
}

func add(set map[string]struct{}, names []string) {
	for _, n := range names {
		set[n] = struct{}{}
	}
}

func remove(set map[string]struct{}, names []string) {
	if len(names) == 0 {
		clear(set)
	}
	for _, n := range names {
		delete(set, n)
	}
}

func (c *conn) update(f func(*clientState)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.state)
}

// refusal is the text with which a command is refused before it runs, or empty.
func (c *conn) refusal(name, full string) string {
	if !free(name) {
		if text := c.m.quota.refusal(); text != "" {
			return text
		}
	}
	if !ours(name) && !isExtra(name) {
		return ""
	}
	if len(c.state.subs)+len(c.state.psubs) > 0 && !c.peer.Resp3 && name != "RESET" {
		return "ERR Can't execute '" + full + "': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context"
	}
	if c.state.multi >= 0 && ours(name) && name != "RESET" {
		return "ERR " + strings.ToLower(name) + " inside MULTI is not supported by the embedded server; send it on its own"
	}
	return ""
}

// spoil makes the open transaction fail at EXEC, as a command refused while it is queued does; a
// refused EXEC ends it.
func (c *conn) spoil(name string) {
	switch {
	case c.state.multi < 0:
	case name == "EXEC", name == "DISCARD":
		c.silently("DISCARD")
		c.endMulti()
	default:
		c.silently("ECHO") // one argument short: miniredis marks the transaction
	}
}

// endMulti forgets the transaction, as miniredis has.
func (c *conn) endMulti() {
	c.queued = nil
	c.update(func(s *clientState) { s.multi = -1 })
}

// silently runs a command on the client's connection without its reply going out.
func (c *conn) silently(args ...string) {
	c.peer.Flush()
	c.out.mute(true)
	c.m.srv.Dispatch(c.peer, args)
	c.peer.Flush()
	c.out.mute(false)
}

// inScript is miniredis' hook before every command. It lets the commands of connections pass and
// accounts for those that a script calls, which come from peers of their own.
func (m *memory) inScript(peer *server.Peer, cmd string, args ...string) bool {
	if m.isTop(peer) || m.script == peer {
		return false
	}
	var out replyBuffer
	inner := server.NewPeer(bufio.NewWriter(&out))
	inner.Ctx, inner.Resp3 = peer.Ctx, peer.Resp3
	m.clock.watch(cmd, args)
	m.script = inner
	began := time.Now()
	switch {
	case ours(cmd):
		inner.WriteError("ERR This Redis command is not allowed from script")
	case !m.extra(inner, cmd, args):
		m.srv.Dispatch(inner, append([]string{cmd}, args...))
	}
	m.script = nil
	inner.Flush()
	if full := m.fullName(cmd, args); full != "" {
		m.account(cmd, full, outcomeOf(string(out)), time.Since(began))
		m.stats.inScript.Add(1)
	}
	peer.WriteRaw(string(out))
	return true
}

// fullName is the name under which Redis counts a command, lower case with its subcommand
// ("client|list"), and empty for one that does not exist here.
func (m *memory) fullName(name string, args []string) string {
	if !ours(name) && !m.srv.IsRegisteredCommand(name) {
		return ""
	}
	lower := strings.ToLower(name)
	if len(args) == 0 {
		return lower
	}
	switch name {
	case "CLIENT", "CONFIG", "MEMORY", "OBJECT", "PUBSUB", "SCRIPT", "XGROUP", "XINFO", "CLUSTER":
		sub := strings.ToLower(args[0])
		if !slices.Contains(subcommands(lower), sub) {
			return ""
		}
		return lower + "|" + sub
	case "COMMAND":
		return lower + "|" + strings.ToLower(args[0])
	}
	return lower
}

// blocks reports whether the command may wait for other clients.
func blocks(name string, args []string) bool {
	switch name {
	case "BLPOP", "BRPOP", "BRPOPLPUSH", "BLMOVE", "BZPOPMIN", "BZPOPMAX", "BZMPOP":
		return true
	case "XREAD", "XREADGROUP":
		return slices.ContainsFunc(args, func(a string) bool { return strings.EqualFold(a, "BLOCK") })
	}
	return false
}
