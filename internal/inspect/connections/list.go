package connections

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// A Client is one line of CLIENT LIST, as the server wrote it. Fields that the server did not send
// hold their zero value, except Commands, which is then -1.
type Client struct {
	ID        int64
	Addr      string // peer, host:port; a path and ":0" on a Unix socket
	LocalAddr string // the server's own end; empty before Redis 6.2
	Name      string
	Flags     string
	Command   string // last command, lower case, subcommand after "|"
	User      string
	Driver    string // lib-name, Redis 7.2 and later
	Age       time.Duration
	Idle      time.Duration
	Sub       int // channels subscribed
	PSub      int // patterns subscribed

	// Commands is the number of commands this connection sent since it was opened, not counting what its
	// scripts ran (tot-cmds, newer servers only); -1 where the server does not say.
	Commands int64
}

// Blocked reports that the client waits in a blocking command.
func (c Client) Blocked() bool { return strings.Contains(c.Flags, "b") }

// Subscribed reports that the client is in subscriber mode.
func (c Client) Subscribed() bool {
	return c.Sub > 0 || c.PSub > 0 || strings.Contains(c.Flags, "P")
}

// ParseClientList reads the reply of CLIENT LIST. Fields it does not know are skipped, for servers add
// some with every release. A line without a usable id and address is not a client: it is returned in
// malformed, shortened, and the other lines still count.
func ParseClientList(text string) (clients []Client, malformed []string) {
	for line := range strings.SplitSeq(text, "\n") {
		line = strings.TrimRight(line, "\r")
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "txt:") {
			continue
		}
		c, err := parseClient(line)
		if err != nil {
			malformed = append(malformed, fmt.Sprintf("%s: %q", err, shorten(line, 80)))
			continue
		}
		clients = append(clients, c)
	}
	return clients, malformed
}

func parseClient(line string) (Client, error) {
	c := Client{Commands: -1}
	var haveID bool
	for field := range strings.FieldsSeq(line) {
		key, value, ok := strings.Cut(field, "=")
		if !ok {
			continue
		}
		var err error
		switch key {
		case "id":
			c.ID, err = strconv.ParseInt(value, 10, 64)
			haveID = err == nil && c.ID >= 0
		case "addr":
			c.Addr = value
		case "laddr":
			c.LocalAddr = value
		case "name":
			c.Name = value
		case "flags":
			c.Flags = value
		case "cmd":
			c.Command = strings.ToLower(value)
		case "user":
			c.User = value
		case "lib-name":
			c.Driver = value
		case "age":
			c.Age, err = seconds(value)
		case "idle":
			c.Idle, err = seconds(value)
		case "sub":
			c.Sub, err = strconv.Atoi(value)
		case "psub":
			c.PSub, err = strconv.Atoi(value)
		case "tot-cmds":
			c.Commands, err = strconv.ParseInt(value, 10, 64)
		}
		if err != nil {
			return Client{}, fmt.Errorf("field %s is not a number", key)
		}
	}
	switch {
	case !haveID:
		return Client{}, fmt.Errorf("no id")
	case c.Addr == "":
		return Client{}, fmt.Errorf("no addr")
	}
	return c, nil
}

// seconds bounds what it accepts so that a duration cannot overflow: a century is 3.2e9 s.
func seconds(s string) (time.Duration, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > 4_000_000_000 {
		return 0, fmt.Errorf("not a number of seconds")
	}
	return time.Duration(n) * time.Second, nil
}

func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "…"
}
