package record

import "strings"

// What a command was for.
type kind int

const (
	work  kind = iota
	idle       // polling that found nothing, keep-alive
	setup      // opens, names or prepares a connection
)

// kindOf tells what a command was for, from the command and what was answered; r is nil where nothing was.
func kindOf(e *entry, r *reply) kind {
	switch e.name {
	case "hello", "auth", "select", "quit", "reset", "info", "command", "readonly", "readwrite", "asking", "echo",
		"script|load", "script|exists", "config|get", "cluster|slots", "cluster|shards", "cluster|nodes", "role":
		return setup
	case "ping":
		return idle
	}
	if strings.HasPrefix(e.name, "command|") || strings.HasPrefix(e.name, "client|") {
		return setup
	}
	if r != nil && strings.HasPrefix(r.err, "NOSCRIPT") {
		return setup // the client sends the text next
	}
	found := r != nil && !r.empty()
	switch {
	case e.block:
		if !found {
			return idle
		}
	case e.script != "":
		if e.tends() || e.polls() && !found {
			return idle
		}
	}
	return work
}

// tends is whether a script of a queue only looks after it: Bull's and BullMQ's check for stalled jobs, and
// Bull's for jobs whose time has come.
func (e *entry) tends() bool {
	return e.first == "stalled" || e.first == "delayed"
}

// polls is whether a script of BullMQ asks for the next job. The one that also finishes a job has more keys.
func (e *entry) polls() bool {
	return e.first == "wait" && e.second == "active" && e.numKeys <= 12
}

// blocks is whether a command waits for something to come.
func (r *request) blocks(name string) bool {
	switch name {
	case "blpop", "brpop", "brpoplpush", "blmove", "bzpopmin", "bzpopmax", "blmpop", "bzmpop":
		return true
	case "xread", "xreadgroup":
		for i := range r.args {
			if strings.EqualFold(r.text(i), "block") {
				return true
			}
		}
	}
	return false
}

// firstComment is the first sentence of the first comment of a Lua script.
func firstComment(text string) string {
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "--[[" || line == "--" || line == "" {
			continue
		}
		if strings.HasPrefix(line, "local ") || strings.HasPrefix(line, "redis.") || strings.HasPrefix(line, "return") {
			return ""
		}
		line = strings.Trim(strings.TrimPrefix(line, "--"), " -[]")
		if line != "" {
			return cut(strings.ToValidUTF8(line, "\uFFFD"), 120)
		}
	}
	return ""
}
