package embedded_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alicebob/miniredis/v2/proto"
	"github.com/google/go-cmp/cmp"

	"github.com/redisopt/redisopt/internal/runtime/embedded"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A scene is a set of named connections to one server.
type scene struct {
	t     *testing.T
	addr  string
	conns map[string]*proto.Client
}

func newScene(t *testing.T, addr string) *scene {
	return &scene{t: t, addr: addr, conns: map[string]*proto.Client{}}
}

func (s *scene) conn(who string) *proto.Client {
	if s.conns[who] == nil {
		s.conns[who] = dial(s.t, s.addr)
	}
	return s.conns[who]
}

func (s *scene) do(who, command string) string { return do(s.t, s.conn(who), command) }

func (s *scene) eval(who, script string) string {
	reply, err := s.conn(who).Do("EVAL", script, "0")
	if err != nil {
		s.t.Fatalf("EVAL: %v", err)
	}
	return reply
}

// blocks sends a command that will wait, and returns when CLIENT LIST shows that it does.
func (s *scene) blocks(who, watcher, command string) {
	c := s.conn(who)
	go func() { _, _ = c.Do(strings.Fields(command)...) }()
	name := strings.ToLower(strings.Fields(command)[0])
	eventually(s.t, command+" waits", func() bool {
		for line := range strings.SplitSeq(s.do(watcher, "CLIENT LIST"), "\n") {
			if strings.Contains(line, " cmd="+name+" ") && strings.Contains(line, " flags=b ") {
				return true
			}
		}
		return false
	})
}

// bothServers runs f on an embedded Redis and on a real one.
func bothServers(t *testing.T, f func(*scene) any) (theirs, ours any) {
	t.Helper()
	rs := redistest.Start(t)
	return f(newScene(t, rs.Addr)), f(newScene(t, start(t, embedded.Options{}).Addr()))
}

// sameOnBoth fails when f answers differently on the two servers.
func sameOnBoth(t *testing.T, f func(*scene) any) {
	t.Helper()
	theirs, ours := bothServers(t, f)
	if diff := cmp.Diff(theirs, ours); diff != "" {
		t.Errorf("embedded differs from redis-server (-redis +embedded):\n%s", diff)
	}
}

// clientLines are the lines of CLIENT LIST in order of id, with what differs between any two servers
// replaced: numbers that depend on ports, time, the process and memory.
func clientLines(list string) []string {
	volatile := regexp.MustCompile(`(id|addr|laddr|fd|age|idle|qbuf|qbuf-free|argv-mem|multi-mem|rbs|rbp|obl|oll|omem|tot-mem)=\S+`)
	var out []string
	for line := range strings.SplitSeq(strings.TrimSuffix(list, "\n"), "\n") {
		out = append(out, volatile.ReplaceAllString(line, "$1=*"))
	}
	slices.Sort(out)
	return out
}

func TestClientListEqualsThatOfRedis(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		s.do("watcher", "CLIENT SETNAME observer")
		s.do("fresh", "PING")
		s.conn("silent")
		s.do("named", "CLIENT SETNAME bull:bWFpbA==")
		s.do("resp3", "HELLO 3 SETNAME three")
		s.do("subscriber", "SUBSCRIBE a b")
		s.do("patterns", "PSUBSCRIBE p*")
		s.do("tx", "MULTI")
		s.do("tx", "SET k v")
		s.do("db", "SELECT 3")
		s.do("script", "EVAL return(1) 0")
		s.do("unknown", "NOSUCHCOMMAND")
		s.do("badsub", "CLIENT NOSUCH")
		s.do("arity", "GET")
		s.do("config", "CONFIG GET maxmemory")
		s.do("object", "OBJECT ENCODING k")
		s.do("noevict", "CLIENT NO-EVICT ON")
		s.blocks("bull", "watcher", "BRPOPLPUSH w a 0")
		s.blocks("mq", "watcher", "BZPOPMIN m 0")
		s.blocks("events", "watcher", "XREAD BLOCK 0 STREAMS e $")
		s.blocks("mover", "watcher", "BLMOVE w a LEFT RIGHT 0")
		eventually(s.t, "the silent one is accepted", func() bool {
			return strings.Count(s.do("watcher", "CLIENT LIST"), "\n") == 20
		})
		return clientLines(s.do("watcher", "CLIENT LIST"))
	})
}

func TestClientCommandsAnswerAsRedisDoes(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		var out []string
		say := func(who, command string) { out = append(out, command+" -> "+s.do(who, command)) }
		say("a", "CLIENT GETNAME")
		say("a", "CLIENT SETNAME x")
		say("a", "CLIENT GETNAME")
		say("a", "CLIENT SETNAME caf\xc3\xa9")
		say("a", "CLIENT SETNAME")
		say("a", "CLIENT NOSUCH")
		say("a", "CLIENT")
		say("a", "CLIENT LIST TYPE nosuch")
		say("a", "CLIENT LIST ID x")
		say("a", "CLIENT LIST nonsense")
		say("a", "CLIENT KILL 127.0.0.1:1")
		say("a", "CLIENT KILL ID 4000000")
		say("a", "CLIENT KILL ID 0")
		say("a", "CLIENT KILL USER nobody")
		say("a", "CLIENT KILL TYPE nosuch")
		say("a", "CLIENT KILL SKIPME maybe")
		say("a", "CLIENT KILL ID")
		say("a", "CLIENT NO-EVICT perhaps")
		say("a", "CLIENT GETREDIR")
		say("a", "HELLO 4")
		say("a", "HELLO 2 NONSENSE")
		say("a", "AUTH default anything")
		say("a", "SELECT 16")
		say("a", "CONFIG RESETSTAT")
		say("a", "CONFIG GET")
		say("a", "ROLE")
		say("sub", "SUBSCRIBE ch")
		say("sub", "CLIENT LIST")
		say("a", "PUBSUB CHANNELS")
		say("a", "PUBSUB NUMSUB ch")
		say("sub", "RESET")
		say("sub", "CLIENT LIST TYPE pubsub")
		say("a", "RESET")
		say("a", "CLIENT GETNAME")
		return strings.Join(out, "\n")
	})
}

func TestClientInfoIsTheLineOfTheConnectionThatAsks(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		s.do("a", "CLIENT SETNAME me")
		s.do("b", "PING")
		id := strings.TrimPrefix(s.do("a", "CLIENT ID"), ":")
		return []any{clientLines(s.do("a", "CLIENT INFO")), clientLines(s.do("b", "CLIENT LIST ID "+id))}
	})
}

func TestClientKillClosesForGood(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		var out []string
		say := func(who, command string) { out = append(out, command+" -> "+s.do(who, command)) }
		s.do("a", "PING")
		victim := strings.TrimPrefix(s.do("victim", "CLIENT ID"), ":")
		out = append(out, s.do("a", "CLIENT KILL ID "+victim))
		s.blocks("blocked", "a", "BLPOP q 0")
		s.do("sub", "SUBSCRIBE ch")
		say("a", "CLIENT KILL TYPE pubsub")
		say("a", "CLIENT KILL TYPE normal")
		eventually(s.t, "only one left", func() bool {
			return strings.Count(s.do("a", "CLIENT LIST"), "\n") == 1
		})
		for _, who := range []string{"victim", "sub"} {
			if reply, err := s.conn(who).Do("PING"); err == nil {
				out = append(out, who+" still answers "+reply)
			}
		}
		eventually(s.t, "nobody subscribes", func() bool { return strings.HasPrefix(s.do("a", "PUBSUB CHANNELS"), "*0") })
		s.do("a", "RPUSH q job")
		say("a", "LLEN q")
		say("a", "CLIENT KILL TYPE normal SKIPME no")
		if reply, err := s.conn("a").Do("PING"); err == nil {
			out = append(out, "a still answers "+reply)
		}
		return strings.Join(out, "\n")
	})
}

// commandCounts are calls, rejected and failed of every command.
func commandCounts(info string) []string {
	timing := regexp.MustCompile(`usec=\d+,usec_per_call=[\d.]+,`)
	var out []string
	for line := range strings.SplitSeq(info, "\r\n") {
		if strings.HasPrefix(line, "cmdstat_") {
			out = append(out, timing.ReplaceAllString(line, ""))
		}
	}
	slices.Sort(out)
	return out
}

func TestCommandstatsCountWhatRedisCounts(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		s.do("a", "CONFIG RESETSTAT")
		s.do("a", "SET k v")
		s.do("a", "GET k")
		s.do("a", "get k")
		s.do("a", "LPUSH k v")    // WRONGTYPE
		s.do("a", "GET")          // wrong number of arguments
		s.do("a", "NOSUCH thing") // unknown
		s.do("a", "CLIENT SETNAME x")
		s.do("a", "CLIENT LIST")
		s.do("a", "OBJECT ENCODING k")
		s.do("a", "MEMORY USAGE k")
		s.do("a", "EVALSHA 0000000000000000000000000000000000000000 0")
		s.eval("a", "redis.call('incr', 'n'); redis.call('incr', 'n'); redis.call('set', 'o', 1, 'PX', 100000); redis.call('time'); return redis.call('object', 'encoding', 'n')")
		s.eval("a", "redis.pcall('lpush', 'k', 'v'); return 1")
		sha := s.do("a", "SCRIPT LOAD return(redis.call('exists','k'))")
		s.do("a", "EVALSHA "+sha+" 0")
		s.do("a", "EVALSHA "+sha+" 0")
		s.do("a", "MULTI")
		s.do("a", "SET k 1")
		s.do("a", "INCR k")
		s.do("a", "EVALSHA "+sha+" 0")
		s.do("a", "EXEC")
		s.do("a", "MULTI")
		s.do("a", "SET k 2")
		s.do("a", "DISCARD")
		s.do("a", "MULTI")
		s.do("a", "NOSUCH")
		s.do("a", "EXEC")
		s.do("sub", "SUBSCRIBE ch")
		s.do("a", "PUBLISH ch m")
		s.do("a", "BRPOPLPUSH none other 0.01")
		s.do("a", "RPUSH list x")
		s.do("a", "BRPOPLPUSH list other 1")
		s.blocks("b", "watcher", "BLPOP w 0")
		s.do("a", "PING")
		s.do("a", "HELLO 2")
		counts := commandCounts(s.do("a", "INFO commandstats"))
		return slices.DeleteFunc(counts, func(line string) bool {
			return strings.HasPrefix(line, "cmdstat_client|list:") // asked as often as it takes to see the wait
		})
	})
}

func TestTotalCommandsIsTheSumOfCommandstats(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		s.do("a", "CONFIG RESETSTAT")
		for i := range 10 {
			s.do("a", fmt.Sprintf("SET k%d v", i))
		}
		s.eval("a", "for i = 1, 7 do redis.call('incr', 'n') end return 1")
		for line := range strings.SplitSeq(s.do("a", "INFO stats"), "\r\n") {
			if strings.HasPrefix(line, "total_commands_processed:") {
				return line
			}
		}
		return "no such line"
	})
}

func TestCommandsOfJobMoversAnswerAsRedisDoes(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		var out []string
		say := func(command string) { out = append(out, command+" -> "+s.do("a", command)) }
		for _, command := range []string{
			"RPUSH l a b c b", "LPOS l b", "LPOS l b RANK -1", "LPOS l b COUNT 0", "LPOS l z", "LREM l 1 b", "LRANGE l 0 -1",
			"LMOVE l m LEFT RIGHT", "RPOPLPUSH l m", "LINSERT m BEFORE a z", "LTRIM m 0 1",
			"ZADD z 1 a 2 b 3 c", "ZADD z GT CH 5 a", "ZRANGE z 0 -1 WITHSCORES", "ZRANGE z 0 10 BYSCORE LIMIT 1 2", "ZRANGE z 10 0 BYSCORE REV LIMIT 0 1",
			"ZRANGEBYSCORE z -inf (5 LIMIT 0 1", "ZMSCORE z a nope", "ZCOUNT z 2 3", "ZPOPMIN z", "ZSCORE z a", "ZADD z 7353893095292933 big", "ZSCORE z big",
			"HSET h f v g w", "HMGET h f nope", "HSETNX h f x", "HRANDFIELD none", "HSTRLEN h g", "HINCRBY h n 3",
			"RENAME h h2", "RENAME none x", "RENAMENX h2 l", "COPY h2 h3", "COPY h2 h3 REPLACE", "TYPE h3", "OBJECT ENCODING h3", "OBJECT ENCODING l", "OBJECT REFCOUNT h3",
			"OBJECT ENCODING none", "SET s 12", "OBJECT ENCODING s", "SET s abc KEEPTTL", "OBJECT ENCODING s", "SET s v PX 100000 NX", "SET s v XX GET",
			"MEMORY USAGE none SAMPLES 0", "PEXPIRE s 100000 NX", "PERSIST s", "EXPIRETIME s", "UNLINK s none", "EXISTS h2 h2", "SADD set a b", "SMISMEMBER set a c",
			"SINTERCARD 1 set", "XADD x 1-1 f v", "XLEN x", "XRANGE x - +", "XTRIM x MAXLEN 0", "GETDEL none", "SCRIPT EXISTS 0000000000000000000000000000000000000000",
			"LPUSH h2 x", "INCR h2", "ZADD l 1 a", "SETRANGE r 2 x", "WAIT 0 0", "SWAPDB 0 1", "SWAPDB 0 1", "DBSIZE",
		} {
			say(command)
		}
		return strings.ReplaceAll(strings.Join(out, "\n"), "`", "'")
	})
}

func TestWhatIsLackingIsListed(t *testing.T) {
	redis := newScene(t, redistest.Start(t).Addr)
	server := start(t, embedded.Options{})
	ours := newScene(t, server.Addr())
	var listed []string
	for _, line := range embedded.Lacks() {
		if names, ok := strings.CutPrefix(line, "these commands of Redis 7.0: "); ok {
			listed = strings.Fields(names)
		}
	}
	reply := redis.do("a", "COMMAND LIST")
	for name := range strings.FieldsSeq(reply) {
		if strings.ContainsAny(name, "$*|") || slices.Contains([]string{"subscribe", "psubscribe", "quit"}, name) {
			continue // lengths of the reply, subcommands, and what changes the connection
		}
		lacks := strings.Contains(ours.do("a", name), "unknown command")
		if is := slices.Contains(listed, name); is != lacks {
			t.Errorf("%s: lacking %v, listed as lacking %v", name, lacks, is)
		}
	}
}

func TestLuaLibrariesAnswerAsThoseOfRedis(t *testing.T) {
	for _, tc := range []struct{ name, script, arg string }{
		{"small numbers", "unpack", "\x00\x7f\xe0\xff"},
		{"nothing, true and false", "unpack", "\xc3\xc2\xc0\x01"},
		{"unsigned of every size", "unpack", "\xcc\xff\xcd\x01\x00\xce\xff\xff\xff\xff\xcf\x00\x00\x01\x00\x00\x00\x00\x00"},
		{"signed of every size", "unpack", "\xd0\x80\xd1\xff\xfe\xd2\x80\x00\x00\x00\xd3\xff\xff\xff\xff\xff\xff\xff\xfe"},
		{"floats", "unpack", "\xca\x3f\xc0\x00\x00\xcb\xc0\x09\x21\xfb\x54\x44\x2d\x18\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xcb\x42\x79\xf6\x85\x9c\x6a\x10\x00"},
		{"strings of every size", "unpack", "\xa0\xa3abc\xd9\x03d\xc3\xa9\xda\x00\x02gh\xdb\x00\x00\x00\x01i"},
		{"lists and maps", "unpack", "\x92\x01\x91\xa1a\xdc\x00\x01\x05\x81\xa1k\xa1v\xde\x00\x01\xa1x\x81\xa1y\xc3"},
		{"cut short", "fails", "\x92\x01"},
		{"no message", "fails", "\xc1"},
		{"bits", "band", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			scripts := map[string]string{
				"unpack": `local function show(v)
						if type(v) == 'number' then return string.format('%.17g', v) end
						if type(v) ~= 'table' then return type(v) .. ' ' .. tostring(v) end
						local parts = {}
						for k, w in pairs(v) do parts[#parts + 1] = show(k) .. '=' .. show(w) end
						return '{' .. table.concat(parts, ' ') .. '}'
					end
					local function each(n, ...)
						local parts = {}
						for i = 1, n do parts[i] = show((select(i, ...))) end
						return table.concat(parts, '; ')
					end
					return each(select('#', cmsgpack.unpack(ARGV[1])), cmsgpack.unpack(ARGV[1]))`,
				"fails": "return tostring((pcall(cmsgpack.unpack, ARGV[1])))",
				"band":  "return cjson.encode({bit.band(6, 3), bit.band(4294967295, 255), bit.band(-1, 4095), bit.band(2147483648, 4294967295), bit.band(1, 2)})",
			}
			sameOnBoth(t, func(s *scene) any {
				reply, err := s.conn("a").Do("EVAL", scripts[tc.script], "0", tc.arg)
				if err != nil {
					t.Fatal(err)
				}
				return reply
			})
		})
	}
}

func TestScriptsKeepTheNameTheirSenderKnows(t *testing.T) {
	sameOnBoth(t, func(s *scene) any {
		const script = "return(cmsgpack.unpack(ARGV[1]))"
		var out []string
		sha := s.do("a", "SCRIPT LOAD "+script)
		out = append(out, sha, s.do("a", "SCRIPT EXISTS "+sha+" 0000"), s.do("a", "EVALSHA "+sha+" 0 \x07"), s.do("a", "SCRIPT FLUSH"),
			s.do("a", "EVALSHA "+sha+" 0 \x07"), s.do("a", "EVAL "+script+" 0 \x07"), s.do("a", "EVALSHA "+sha+" 0 \x07"))
		s.do("a", "MULTI")
		s.do("a", "EVALSHA "+sha+" 0 \x07")
		return append(out, s.do("a", "EXEC"))
	})
}
