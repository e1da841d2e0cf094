package embedded

import (
	"crypto/sha1" //nolint:gosec // Redis names scripts by SHA-1
	_ "embed"     // the prelude is compiled in
	"encoding/hex"
	"strings"
	"sync"
)

// prelude defines, as locals, what Redis gives to scripts and miniredis does not: cmsgpack.unpack and
// bit. It stands before a script that uses either, on the same line, so that line numbers stay.
//
//go:embed prelude.lua
var prelude string

// luas remembers under which name a script with the prelude is kept, by the name its sender knows.
type luas struct {
	once   sync.Once
	joined string // the prelude on one line

	mu    sync.Mutex
	names map[string]string
}

// adapt is script as miniredis can run it.
func (l *luas) adapt(script string) string {
	if !strings.Contains(script, "cmsgpack.") && !strings.Contains(script, "bit.") {
		return script
	}
	l.once.Do(func() { l.joined = strings.Join(strings.Fields(prelude), " ") + " " })
	adapted := l.joined + script
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.names == nil {
		l.names = map[string]string{}
	}
	l.names[sha1Hex(script)] = sha1Hex(adapted)
	return adapted
}

// name is what miniredis calls the script that its sender calls sha.
func (l *luas) name(sha string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if adapted, ok := l.names[strings.ToLower(sha)]; ok {
		return adapted
	}
	return sha
}

// rewrite is a command with its scripts and their names as miniredis knows them.
func (l *luas) rewrite(name string, args []string) []string {
	switch {
	case len(args) < 2:
		return args
	case name == "EVAL", name == "EVAL_RO":
		return append([]string{args[0], l.adapt(args[1])}, args[2:]...)
	case name == "EVALSHA", name == "EVALSHA_RO":
		return append([]string{args[0], l.name(args[1])}, args[2:]...)
	case name == "SCRIPT" && strings.EqualFold(args[1], "EXISTS"):
		out := append([]string{}, args...)
		for i := range out[2:] {
			out[2+i] = l.name(out[2+i])
		}
		return out
	}
	return args
}

// load answers SCRIPT LOAD of a script that needs the prelude, with the name its sender expects.
func (c *conn) load(args []string) bool {
	if len(args) != 2 || !strings.EqualFold(args[0], "LOAD") || c.state.multi >= 0 {
		return false
	}
	adapted := c.m.luas.adapt(args[1])
	if adapted == args[1] {
		return false
	}
	reply := c.m.ask("SCRIPT", "LOAD", adapted)
	if strings.HasPrefix(reply, "-") {
		c.peer.WriteRaw(reply)
		return true
	}
	c.peer.WriteBulk(sha1Hex(args[1]))
	return true
}

func sha1Hex(s string) string {
	sum := sha1.Sum([]byte(s)) //nolint:gosec // as above
	return hex.EncodeToString(sum[:])
}
