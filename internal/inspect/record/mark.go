package record

import (
	"net/url"
	"strconv"
	"strings"
)

// markPrefix begins every mark.
const markPrefix = "redisopt:"

// A Mark is how an application tells the recorder who it is and what it does. It is the argument of ECHO
// or the name of CLIENT SETNAME, and the recorder answers it itself. Without a recorder ECHO answers what
// it was given and does nothing.
//
//	redisopt:test:NAME        this process runs test NAME from now on; an empty NAME ends it
//	redisopt:test/conn:NAME   the same for this connection only
//	redisopt:test/all:NAME    the same for every process
//	redisopt:source:NAME      this process is called NAME
//	redisopt:source/conn:NAME this connection is
//
// In CLIENT SETNAME, which takes no spaces, NAME is percent-encoded. A NAME has at most 256 bytes.
type Mark struct {
	// What is "test" or "source".
	What string

	// Scope is "" for the process, "conn" or "all".
	Scope string

	// Name may be empty.
	Name string
}

// ParseMark reads a mark. It is false for anything else, a misspelt mark included.
func ParseMark(text string) (Mark, bool) {
	rest, ok := strings.CutPrefix(text, markPrefix)
	if !ok {
		return Mark{}, false
	}
	what, name, ok := strings.Cut(rest, ":")
	if !ok {
		return Mark{}, false
	}
	m := Mark{Name: cut(strings.ToValidUTF8(name, "\uFFFD"), maxNameBytes)}
	m.What, m.Scope, _ = strings.Cut(what, "/")
	switch {
	case m.What != "test" && m.What != "source",
		m.Scope != "" && m.Scope != "conn" && m.Scope != "all",
		m.What == "source" && m.Scope == "all",
		strings.HasSuffix(what, "/"):
		return Mark{}, false
	}
	return m, true
}

// markOf is the mark that a command is, and the answer to it.
func markOf(r *request, name string) (m Mark, answer []byte, ok bool) {
	switch {
	case name == "echo" && r.count == 2 && len(r.arg(1)) < keptBytes:
		m, ok = ParseMark(r.text(1))
		return m, bulk(r.arg(1)), ok
	case name == "client|setname" && r.count == 3 && len(r.arg(2)) < keptBytes:
		text, err := url.PathUnescape(r.text(2))
		if err != nil {
			return m, nil, false
		}
		m, ok = ParseMark(text)
		return m, []byte("+OK\r\n"), ok
	}
	return m, nil, false
}

// bulk is b as RESP.
func bulk(b []byte) []byte {
	out := append([]byte{'$'}, strconv.Itoa(len(b))...)
	out = append(out, "\r\n"...)
	out = append(out, b...)
	return append(out, "\r\n"...)
}
