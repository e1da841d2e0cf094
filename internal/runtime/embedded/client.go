package embedded

import (
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"
)

const errClientName = "ERR Client names cannot contain spaces, newlines or special characters."

// client answers CLIENT with its subcommands.
func (c *conn) client(args []string) {
	if len(args) == 0 {
		c.peer.WriteError("ERR wrong number of arguments for 'client' command")
		return
	}
	sub, rest := strings.ToLower(args[0]), args[1:]
	if want, known := clientArity(sub); !known {
		c.peer.WriteError(fmt.Sprintf("ERR unknown subcommand '%s'. Try CLIENT HELP.", args[0]))
		return
	} else if len(rest) < want[0] || len(rest) > want[1] {
		c.peer.WriteError("ERR wrong number of arguments for 'client|" + sub + "' command")
		return
	}
	switch sub {
	case "list":
		c.clientList(rest)
	case "info":
		c.peer.WriteBulk(c.line(time.Now()) + "\n")
	case "id":
		c.peer.WriteInt(int(c.id))
	case "getredir":
		c.peer.WriteInt(-1)
	case "getname":
		if c.state.name == "" {
			c.peer.WriteNull()
			return
		}
		c.peer.WriteBulk(c.state.name)
	case "setname":
		if !validName(rest[0]) {
			c.peer.WriteError(errClientName)
			return
		}
		c.update(func(s *clientState) { s.name = rest[0] })
		c.peer.WriteOK()
	case "setinfo":
		c.clientSetInfo(rest[0], rest[1])
	case "no-evict":
		c.clientNoEvict(rest[0])
	case "kill":
		c.clientKill(rest)
	}
}

// clientArity is the least and the greatest number of arguments after the subcommand.
func clientArity(sub string) (want [2]int, known bool) {
	switch sub {
	case "info", "id", "getname", "getredir":
		return [2]int{0, 0}, true
	case "list":
		return [2]int{0, maxArgs}, true
	case "setname", "no-evict":
		return [2]int{1, 1}, true
	case "setinfo":
		return [2]int{2, 2}, true
	case "kill":
		return [2]int{1, maxArgs}, true
	}
	return want, false
}

// validName reports whether Redis takes s as a client's name: printable ASCII without spaces.
func validName(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r < '!' || r > '~' })
}

func (c *conn) clientSetInfo(attribute, value string) {
	if !validName(value) {
		c.peer.WriteError(fmt.Sprintf("ERR %s cannot contain spaces, newlines or special characters.", strings.ToLower(attribute)))
		return
	}
	switch strings.ToLower(attribute) {
	case "lib-name":
		c.update(func(s *clientState) { s.libName = value })
	case "lib-ver":
		c.update(func(s *clientState) { s.libVer = value })
	default:
		c.peer.WriteError(fmt.Sprintf("ERR Unrecognized option '%s'", attribute))
		return
	}
	c.peer.WriteOK()
}

func (c *conn) clientNoEvict(value string) {
	on := strings.EqualFold(value, "on")
	if !on && !strings.EqualFold(value, "off") {
		c.peer.WriteError("ERR syntax error")
		return
	}
	c.update(func(s *clientState) { s.noEvict = on })
	c.peer.WriteOK()
}

// clientList answers CLIENT LIST [TYPE type] and CLIENT LIST ID id [id …].
func (c *conn) clientList(args []string) {
	keep := func(*conn) bool { return true }
	switch {
	case len(args) == 0:
	case len(args) == 2 && strings.EqualFold(args[0], "type"):
		kind := strings.ToLower(args[1])
		if !validType(kind) {
			c.peer.WriteError(fmt.Sprintf("ERR Unknown client type '%s'", args[1]))
			return
		}
		keep = func(o *conn) bool { return o.kind() == kind }
	case len(args) >= 2 && strings.EqualFold(args[0], "id"):
		var ids []int64
		for _, a := range args[1:] {
			id, err := strconv.ParseInt(a, 10, 64)
			if err != nil || id < 1 {
				c.peer.WriteError("ERR Invalid client ID")
				return
			}
			ids = append(ids, id)
		}
		keep = func(o *conn) bool { return slices.Contains(ids, o.id) }
	default:
		c.peer.WriteError("ERR syntax error")
		return
	}
	var b strings.Builder
	now := time.Now()
	for _, o := range c.m.clients() {
		if keep(o) {
			b.WriteString(o.line(now))
			b.WriteByte('\n')
		}
	}
	c.peer.WriteBulk(b.String())
}

func validType(kind string) bool {
	return slices.Contains([]string{"normal", "master", "replica", "pubsub"}, kind)
}

// kind is the client's type as CLIENT LIST TYPE knows it.
func (c *conn) kind() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.state.subs)+len(c.state.psubs) > 0 {
		return "pubsub"
	}
	return "normal"
}

// line is the connection in CLIENT LIST, with the fields of Redis 7.0 in their order. Buffer sizes
// and memory are not measured and say 0. lib-name and lib-ver, which are newer, follow once a client
// has set them.
func (c *conn) line(now time.Time) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := &c.state
	line := fmt.Sprintf("id=%d addr=%s laddr=%s fd=%d name=%s age=%d idle=%d flags=%s db=%d sub=%d psub=%d ssub=0 multi=%d"+
		" qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 events=r cmd=%s user=default redir=-1 resp=%d",
		c.id, address(c.nc.RemoteAddr()), address(c.nc.LocalAddr()), c.fd, s.name,
		seconds(c.created, now), seconds(s.last, now), s.flags(), s.db, len(s.subs), len(s.psubs), s.multi, s.cmd, s.resp)
	if s.libName != "" || s.libVer != "" {
		line += fmt.Sprintf(" lib-name=%s lib-ver=%s", s.libName, s.libVer)
	}
	return line
}

// flags are those of Redis that can occur here.
func (s *clientState) flags() string {
	var b strings.Builder
	if len(s.subs)+len(s.psubs) > 0 {
		b.WriteByte('P')
	}
	if s.multi >= 0 {
		b.WriteByte('x')
	}
	if s.blocked {
		b.WriteByte('b')
	}
	if s.noEvict {
		b.WriteByte('e')
	}
	if b.Len() == 0 {
		return "N"
	}
	return b.String()
}

// seconds between two instants as Redis counts them: the difference of whole seconds.
func seconds(from, to time.Time) int64 { return max(0, to.Unix()-from.Unix()) }

func address(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// clientKill answers CLIENT KILL addr:port and CLIENT KILL filter value [filter value …].
func (c *conn) clientKill(args []string) {
	if len(args) == 1 {
		for _, o := range c.m.clients() {
			if address(o.nc.RemoteAddr()) == args[0] {
				c.end(o)
				c.peer.WriteOK()
				return
			}
		}
		c.peer.WriteError("ERR No such client")
		return
	}
	keep, skipMe, problem := killFilter(args)
	if problem != "" {
		c.peer.WriteError(problem)
		return
	}
	n := 0
	for _, o := range c.m.clients() {
		if (o == c && skipMe) || !keep(o) {
			continue
		}
		c.end(o)
		n++
	}
	c.peer.WriteInt(n)
}

// end closes o now, or after the reply when it is the connection that asks.
func (c *conn) end(o *conn) {
	if o == c {
		c.peer.Close()
		return
	}
	o.kill()
}

// killFilter parses the filters of CLIENT KILL; all of them must hold.
func killFilter(args []string) (keep func(*conn) bool, skipMe bool, problem string) {
	var all []func(*conn) bool
	skipMe = true
	if len(args)%2 != 0 {
		return nil, false, "ERR syntax error"
	}
	for i := 0; i < len(args); i += 2 {
		value := args[i+1]
		switch strings.ToLower(args[i]) {
		case "id":
			id, err := strconv.ParseInt(value, 10, 64)
			if err != nil || id < 1 {
				return nil, false, "ERR client-id should be greater than 0"
			}
			all = append(all, func(o *conn) bool { return o.id == id })
		case "addr":
			all = append(all, func(o *conn) bool { return address(o.nc.RemoteAddr()) == value })
		case "laddr":
			all = append(all, func(o *conn) bool { return address(o.nc.LocalAddr()) == value })
		case "user":
			if value != "default" {
				return nil, false, fmt.Sprintf("ERR No such user '%s'", value)
			}
		case "type":
			kind := strings.ToLower(value)
			if !validType(kind) {
				return nil, false, fmt.Sprintf("ERR Unknown client type '%s'", value)
			}
			all = append(all, func(o *conn) bool { return o.kind() == kind })
		case "skipme":
			switch strings.ToLower(value) {
			case "yes":
				skipMe = true
			case "no":
				skipMe = false
			default:
				return nil, false, "ERR syntax error"
			}
		default:
			return nil, false, "ERR syntax error"
		}
	}
	keep = func(o *conn) bool {
		return !slices.ContainsFunc(all, func(f func(*conn) bool) bool { return !f(o) })
	}
	return keep, skipMe, ""
}
