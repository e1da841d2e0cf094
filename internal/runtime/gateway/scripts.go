package gateway

import (
	"bytes"
	"crypto/sha1" //nolint:gosec // the identity of a script in Redis is its SHA-1
	"encoding/hex"
	"sync"
	"sync/atomic"
)

// maxScripts bounds the scripts whose rewritten identity is remembered. Programs have tens of scripts; one
// that makes a new script for every call only pushes its own out.
const maxScripts = 1024

// lockFlag is a flag that one provider understands in a script's first line, and that Redis refuses the
// whole script for. It asks for locks on the declared keys instead of one on everything; a Redis runs one
// script at a time anyway, so leaving it out changes nothing.
const lockFlag = "allow-key-locking"

type sha [sha1.Size]byte

// scripts rewrites scripts that a Redis would refuse for that flag, and remembers what the rewritten ones
// are called there. A process that has just started remembers nothing: the server answers NOSCRIPT, the
// client sends the text again, and from then on it is known.
type scripts struct {
	some atomic.Bool // whether there is anything to look up

	mu    sync.RWMutex
	names map[sha]sha // of the text the client sent, to that of the text the server has
	order []sha       // oldest first, as a ring once it is full
	next  int
}

// rewrite returns the text to send in place of script, which is script itself if nothing is wrong with it.
func (s *scripts) rewrite(script []byte) []byte {
	if len(script) < 2 || script[0] != '#' || script[1] != '!' {
		return script
	}
	line, _, _ := bytes.Cut(script, []byte{'\n'})
	if !bytes.Contains(line, []byte(lockFlag)) {
		return script
	}
	text := append(withoutLockFlag(line), script[len(line):]...)
	s.remember(sha1.Sum(script), sha1.Sum(text))
	return text
}

// withoutLockFlag is the first line of a script without the flag: with the flags that are left, or as a
// comment when it was the only one, since the line numbers in error messages must stay right.
func withoutLockFlag(line []byte) []byte {
	words := bytes.Fields(line)
	out := append(make([]byte, 0, len(line)+8), words[0]...)
	kept := false
	for _, w := range words[1:] {
		flags, ok := bytes.CutPrefix(w, []byte("flags="))
		if !ok {
			out = append(append(out, ' '), w...)
			kept = true
			continue
		}
		var left [][]byte
		for f := range bytes.SplitSeq(flags, []byte{','}) {
			if len(f) > 0 && string(f) != lockFlag {
				left = append(left, f)
			}
		}
		if len(left) > 0 {
			out = append(append(out, " flags="...), bytes.Join(left, []byte{','})...)
			kept = true
		}
	}
	if kept {
		return out
	}
	return append([]byte("-- "), bytes.TrimRight(line[2:], "\r")...)
}

func (s *scripts) remember(sent, stored sha) {
	s.mu.RLock()
	_, known := s.names[sent]
	s.mu.RUnlock()
	if known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, known := s.names[sent]; known {
		return
	}
	if s.names == nil {
		s.names = make(map[sha]sha)
	}
	if len(s.order) < maxScripts {
		s.order = append(s.order, sent)
	} else {
		delete(s.names, s.order[s.next])
		s.order[s.next] = sent
		s.next = (s.next + 1) % maxScripts
	}
	s.names[sent] = stored
	s.some.Store(true)
}

// nameOf is what the script that the client calls name is called at the server, which is name itself for
// a script that was not rewritten.
func (s *scripts) nameOf(name []byte) []byte {
	if !s.some.Load() || len(name) != 2*sha1.Size {
		return name
	}
	var sent sha
	if _, err := hex.Decode(sent[:], name); err != nil {
		return name
	}
	s.mu.RLock()
	stored, known := s.names[sent]
	s.mu.RUnlock()
	if !known {
		return name
	}
	return hex.AppendEncode(nil, stored[:])
}
