package ramp

import (
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A claim is which keys the commands of one call write on both sides: those that are mirrored, and those of which
// something older is still on its way to either side. It does not change while their turn lasts, whatever the
// control document says meanwhile.
type claim struct {
	keys   []string       // sorted
	latest map[string]int // the last command that writes a key, by its place
}

// claim is that of cmds.
func (c *Client) claim(cmds []redis.Cmder) *claim {
	t := &claim{}
	for i, cmd := range cmds {
		for _, key := range written(cmd) {
			if _, ok := t.latest[key]; !ok && !c.mirrored(key) && !c.across(c.routed(key)).behind(key) {
				continue
			}
			if t.latest == nil {
				t.latest = map[string]int{}
			}
			t.latest[key] = i
		}
	}
	t.keys = slices.Sorted(maps.Keys(t.latest))
	return t
}

// mirrored is whether a key that j writes is written on both sides.
func (j *job) mirrored(key string) bool {
	_, ok := j.turn.latest[key]
	return ok
}

// last is whether no later command of the same turn writes key.
func (j *job) last(key string) bool { return j.turn.latest[key] == j.place }

// written are the keys that a command writes.
func written(cmd redis.Cmder) []string {
	args := cmd.Args()
	switch strings.ToLower(cmd.Name()) {
	case "set", "setnx", "setex", "psetex":
		return []string{text(args, 1)}
	case "mset":
		var keys []string
		for i := 1; i+1 < len(args); i += 2 {
			keys = append(keys, text(args, i))
		}
		return keys
	case "del", "unlink":
		keys := make([]string, 0, len(args))
		for i := 1; i < len(args); i++ {
			keys = append(keys, text(args, i))
		}
		return keys
	case "eval", "evalsha":
		if text(args, 2) == "1" {
			return []string{text(args, 3)}
		}
	}
	return nil
}
