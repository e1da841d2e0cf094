package keys

import (
	"slices"
	"strings"
	"unicode"
)

// A Family is whose keys these are, told by their names.
type Family string

// The families. The zero value is the application's own.
const (
	FamilyBull     Family = "bull" // or BullMQ, where the names read do not tell
	FamilyBullMQ   Family = "bullmq"
	FamilyAsynq    Family = "asynq"
	FamilyLimiter  Family = "limiter"
	FamilyCache    Family = "cache"
	FamilySession  Family = "session"
	FamilyRedisopt Family = "redisopt"
)

// queue reports keys that must not be evicted: jobs.
func (f Family) queue() bool { return f == FamilyBull || f == FamilyBullMQ || f == FamilyAsynq }

// owned reports keys whose format a library decides, so that no client of the application reads them.
func (f Family) owned() bool { return f.queue() || f == FamilyLimiter || f == FamilyRedisopt }

// shortLived reports keys that should expire.
func (f Family) shortLived() bool {
	return f == FamilyLimiter || f == FamilyCache || f == FamilySession
}

const (
	noPrefix    = "(no prefix)"
	otherPrefix = "(other)"
	maxChildren = 20 // prefixes below one name, beyond which they are values and not names
)

// partsOf splits a name at its colons; what braces hold together stays together.
func partsOf(name string) []string {
	var parts []string
	begin, depth, closed := 0, 0, strings.LastIndexByte(name, '}')
	for i := range len(name) {
		switch name[i] {
		case '{':
			depth++
		case '}':
			depth = max(depth-1, 0)
		case ':':
			if depth == 0 || i > closed {
				parts = append(parts, name[begin:i])
				begin = i + 1
			}
		}
	}
	return append(parts, name[begin:])
}

// isID reports a part that tells one thing from others of its kind: a number, a hash, an address.
func isID(part string) bool {
	part = strings.Trim(part, "{}")
	if i := strings.LastIndexByte(part, ':'); i >= 0 {
		part = part[i+1:]
	}
	digits, hex := 0, 0
	for _, r := range part {
		switch {
		case r == '@' || r == unicode.ReplacementChar || !unicode.IsPrint(r):
			return true
		case r >= '0' && r <= '9':
			digits++
			hex++
		case r >= 'a' && r <= 'f', r >= 'A' && r <= 'F', r == '-':
			hex++
		}
	}
	n := len(part)
	return n > 0 && digits*2 >= n || n >= 12 && hex == n && digits > 0 || n >= 20 && digits > 0
}

// structural reports a name without an id: one of its kind, and so likely to be a collection.
func structural(name string) bool { return !slices.ContainsFunc(partsOf(name), isID) }

// A grouper gives names their prefix. It has seen all of them before.
type grouper struct {
	depth  int
	queues map[string]Family          // what comes before the colon of a queue's keys
	below  map[string]map[string]bool // prefixes of two parts and more, by the first
}

// newGrouper reads names once. depth is how many parts a prefix has at most.
func newGrouper(names []string, depth int) *grouper {
	g := &grouper{depth: depth, queues: queuesOf(names), below: map[string]map[string]bool{}}
	for _, name := range names {
		p := g.plain(partsOf(name))
		first, _, found := strings.Cut(p, ":")
		if !found {
			continue
		}
		if g.below[first] == nil {
			g.below[first] = map[string]bool{}
		}
		g.below[first][p] = true
	}
	return g
}

// of is the prefix and family of a name.
func (g *grouper) of(name string) (string, Family) {
	parts := partsOf(name)
	if base, f := g.queueOf(parts); f != "" {
		return base, f
	}
	switch parts[0] {
	case "asynq":
		if len(parts) > 1 && strings.HasPrefix(parts[1], "{") {
			return "asynq:" + parts[1], FamilyAsynq
		}
		return "asynq", FamilyAsynq
	case "redisopt":
		return strings.Join(parts[:min(2, len(parts))], ":"), FamilyRedisopt
	}
	for i, part := range parts[:min(2, len(parts))] {
		if !isLimiter(part) {
			continue
		}
		p := strings.Join(parts[:i+1], ":")
		if len(parts) > i+1 && parts[i+1] == "events" {
			return p + ":events", FamilyLimiter
		}
		return p, FamilyLimiter
	}
	p := g.plain(parts)
	if first, _, _ := strings.Cut(p, ":"); len(g.below[first]) > maxChildren && g.depth <= 2 {
		p = first
	}
	switch first := strings.ToLower(parts[0]); {
	case first == "cache" || strings.HasSuffix(first, "cache"):
		return p, FamilyCache
	case first == "sess" || strings.HasPrefix(first, "session"):
		return p, FamilySession
	}
	return p, ""
}

// plain is the first parts of a name, up to the first id and without the last part.
func (g *grouper) plain(parts []string) string {
	n := min(len(parts)-1, g.depth)
	if i := slices.IndexFunc(parts[:n], isID); i >= 0 {
		n = i
	}
	if n == 0 {
		return noPrefix
	}
	return strings.Join(parts[:n], ":")
}

func isLimiter(part string) bool {
	p := strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(part))
	return strings.Contains(p, "ratelimit") || p == "rl" || p == "limiter" || p == "throttle"
}

// queueOf is the queue whose key parts name.
func (g *grouper) queueOf(parts []string) (string, Family) {
	for n := min(len(parts)-1, 4); n >= 1; n-- {
		base := strings.Join(parts[:n], ":")
		if f := g.queues[base]; f != "" {
			return base, f
		}
	}
	if parts[0] == "bull" && len(parts) > 2 {
		return strings.Join(parts[:2], ":"), FamilyBull
	}
	return "", ""
}

// queuesOf finds the queues of Bull and BullMQ, whatever their prefix, by what their keys end in: two of
// these under one name are no accident.
func queuesOf(names []string) map[string]Family {
	const both, bull, mq = "both", FamilyBull, FamilyBullMQ
	ends := map[string]Family{
		"wait": both, "active": both, "delayed": both, "completed": both, "failed": both, "id": both,
		"stalled-check": both, "stalled": both, "paused": both, "repeat": both,
		"priority": bull, "meta-paused": bull,
		"meta": mq, "events": mq, "marker": mq, "pc": mq, "prioritized": mq, "waiting-children": mq,
	}
	seen := map[string]map[string]bool{}
	for _, name := range names {
		i := strings.LastIndexByte(name, ':')
		if i <= 0 || ends[name[i+1:]] == "" || !strings.Contains(name[:i], ":") && !strings.Contains(name[:i], "{") {
			continue
		}
		base := name[:i]
		if seen[base] == nil {
			seen[base] = map[string]bool{}
		}
		seen[base][name[i+1:]] = true
	}
	queues := map[string]Family{}
	for base, had := range seen {
		if strings.HasPrefix(base, "asynq:") || len(had) < 2 && !strings.HasPrefix(base, "bull:") {
			continue
		}
		queues[base] = bull
		for end := range had {
			if ends[end] == mq {
				queues[base] = mq
			}
		}
	}
	return queues
}

// collections are the names that a queue's collections have, those that grow first.
func collections(prefix string, f Family) []string {
	var ends []string
	switch f { //nolint:exhaustive // the others have no names that are known
	case FamilyBull, FamilyBullMQ:
		ends = []string{"completed", "failed", "events", "delayed", "wait"}
	case FamilyAsynq:
		if !strings.HasSuffix(prefix, "}") {
			return nil
		}
		ends = []string{"completed", "archived", "pending", "scheduled", "retry"}
	}
	names := make([]string, len(ends))
	for i, end := range ends {
		names[i] = prefix + ":" + end
	}
	return names
}
