package embedded

import "strings"

// A Description says what runs and what to expect of it.
type Description struct {
	// Engine is "miniredis, in this process" or "redis-server".
	Engine string `json:"engine"`

	// Addr is where it listens.
	Addr string `json:"addr"`

	// Volatile is true when everything is lost on Close.
	Volatile bool `json:"volatile"`

	// Durability is one sentence: what a crash costs.
	Durability string `json:"durability"`

	// Plan is the simulated plan; its zero value limits nothing.
	Plan Plan `json:"plan"`

	// Lacks is what a real Redis has and this has not; empty for a real redis-server.
	Lacks []string `json:"lacks"`
}

// Describe says what the server is and what it lacks.
func (s *Server) Describe() Description {
	if s.child != nil {
		return Description{
			Engine: "redis-server", Addr: s.Addr(),
			Durability: "append-only file, synced every second: a crash of the machine loses up to the last second",
			Lacks:      []string{},
		}
	}
	return Description{
		Engine: "miniredis, in this process", Addr: s.Addr(), Volatile: true,
		Durability: "none: everything is gone when the process ends",
		Plan:       s.opts.Plan,
		Lacks:      Lacks(),
	}
}

// Lacks is what the in-process store has not, one thing per line, the most important first.
func Lacks() []string {
	return []string{
		"persistence: everything is gone when the process ends",
		"in Lua: struct, cmsgpack but for unpack, bit but for band; the scripts of Bull and BullMQ get along without",
		"speed in Lua: scripts run 16 to 80 times slower than on Redis, so nothing may be measured here",
		"cjson as Redis has it: key order, numbers beyond 2^53 and empty tables can come out differently",
		"an orderly queue of blocked clients: when several wait on one key, any of them may be served",
		"CLIENT TRACKING, PAUSE, UNBLOCK and REPLY, COMMAND with arguments, XINFO … FULL, keyspace notifications",
		"users with passwords, cluster, replication, modules, functions, sharded pub/sub",
		"these commands of Redis 7.0: " + strings.Join(missing(), " "),
		"DUMP and RESTORE of anything but strings",
		"CLIENT, CONFIG, INFO, HELLO and ROLE inside MULTI or a script",
		"CONFIG SET, memory limits and eviction; used_memory is the heap of the whole process",
		"failed_calls of commands inside MULTI; buffer and memory sizes in CLIENT LIST, which say 0",
	}
}

// missing are the commands of Redis 7.0 that answer "unknown command" here.
func missing() []string {
	return strings.Fields(`acl asking bgrewriteaof bgsave bitfield bitfield_ro blmpop debug failover fcall fcall_ro
		function geohash geosearchstore lastsave latency lcs lolwut migrate module monitor pfdebug pfselftest psync
		readonly readwrite replconf replicaof restore-asking save shutdown slaveof slowlog sort sort_ro spublish
		ssubscribe substr sunsubscribe sync xsetid zdiff zdiffstore zintercard zrangestore`)
}
