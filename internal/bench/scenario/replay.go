package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/meter"
)

// maxTrace bounds the commands of a trace.
const maxTrace = 1_000_000

// A Trace is a recording of commands, as redis-cli MONITOR prints them, that can be sent again.
type Trace struct {
	Commands []TracedCommand

	// Skipped counts what is left out, by command: what is not about exactly one key, and what changes a
	// connection or the server. A replay must not reach beyond its own keys.
	Skipped map[string]int
}

// A TracedCommand is one command of a Trace.
type TracedCommand struct {
	At   time.Duration // after the first one
	Args []string      // the name, the key, and the rest
}

// Times are when the commands were sent, faster by speed: 2 is twice as fast.
func (t *Trace) Times(speed float64) []time.Duration {
	out := make([]time.Duration, len(t.Commands))
	for i, c := range t.Commands {
		out[i] = time.Duration(float64(c.At) / speed)
	}
	return out
}

// single are the commands whose first argument is their only key.
const single = " get set setex psetex setnx getset getdel getex append strlen incr incrby incrbyfloat decr decrby" +
	" setrange getrange exists del unlink expire pexpire expireat pexpireat ttl pttl persist type" +
	" hget hset hmset hsetnx hmget hgetall hdel hincrby hincrbyfloat hlen hexists hkeys hvals" +
	" lpush rpush lpop rpop llen lrange ltrim lindex lrem lset" +
	" sadd srem smembers sismember scard spop" +
	" zadd zcard zcount zrange zrevrange zrangebyscore zrevrangebyscore zremrangebyscore zremrangebyrank zscore zrank zrem zincrby" +
	" pfadd pfcount setbit getbit bitcount "

// ReadTrace reads what redis-cli MONITOR printed:
//
//	1764417600.123456 [0 10.0.0.7:51234] "GET" "user:1"
//
// Lines that begin otherwise are refused, except OK and empty ones. Commands that scripts ran, which MONITOR
// shows as well, are left out and counted as "lua". Line is the number of the line that was wrong.
func ReadTrace(r io.Reader) (*Trace, error) {
	t := &Trace{Skipped: map[string]int{}}
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 64<<10), 16<<20)
	var first float64
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line == "OK" {
			continue
		}
		at, from, args, err := monitored(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if strings.HasSuffix(from, " lua") {
			t.Skipped["lua"]++
			continue
		}
		name := strings.ToLower(args[0])
		several := len(args) > 2 && (name == "exists" || name == "del" || name == "unlink" || name == "pfcount")
		if len(args) < 2 || several || !strings.Contains(single, " "+name+" ") {
			t.Skipped[name]++
			continue
		}
		if len(t.Commands) == maxTrace {
			return nil, fmt.Errorf("line %d: more than %d commands", n, maxTrace)
		}
		if len(t.Commands) == 0 {
			first = at
		}
		after := time.Duration((at - first) * float64(time.Second))
		if last := len(t.Commands) - 1; last >= 0 {
			after = max(after, t.Commands[last].At) // the server's clock may have been set back
		}
		t.Commands = append(t.Commands, TracedCommand{At: after, Args: args})
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	if len(t.Commands) == 0 {
		return nil, fmt.Errorf("no command that can be replayed: %s", skippedText(t.Skipped))
	}
	return t, nil
}

func skippedText(skipped map[string]int) string {
	if len(skipped) == 0 {
		return "the trace is empty"
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(skipped)) {
		parts = append(parts, fmt.Sprintf("%s %d", name, skipped[name]))
	}
	return "left out " + strings.Join(parts, ", ")
}

// monitored takes one line apart.
func monitored(line string) (at float64, from string, args []string, err error) {
	wrong := errors.New("want a line of MONITOR, such as: 1764417600.123456 [0 10.0.0.7:51234] \"GET\" \"user:1\"")
	stamp, rest, found := strings.Cut(line, " [")
	if !found {
		return 0, "", nil, wrong
	}
	if at, err = strconv.ParseFloat(stamp, 64); err != nil || !(at >= 0 && at < 1e12) {
		return 0, "", nil, wrong
	}
	from, rest, found = strings.Cut(rest, "] ")
	if !found {
		return 0, "", nil, wrong
	}
	for rest = strings.TrimSpace(rest); rest != ""; rest = strings.TrimSpace(rest) {
		end := closing(rest)
		if end < 0 {
			return 0, "", nil, wrong
		}
		arg, err := unquote(rest[1:end])
		if err != nil {
			return 0, "", nil, err
		}
		args, rest = append(args, arg), rest[end+1:]
	}
	if len(args) == 0 || args[0] == "" {
		return 0, "", nil, wrong
	}
	return at, from, args, nil
}

// closing is where the quoted text that s begins with ends; -1 when it does not.
func closing(s string) int {
	if s[0] != '"' {
		return -1
	}
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '"':
			return i
		}
	}
	return -1
}

// unquote undoes what Redis does to arguments there: \" \\ \n \r \t \a \b and \xHH.
func unquote(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	plain := map[byte]byte{'"': '"', '\\': '\\', 'n': '\n', 'r': '\r', 't': '\t', 'a': '\a', 'b': '\b'}
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		switch {
		case i < len(s) && plain[s[i]] != 0:
			b.WriteByte(plain[s[i]])
		case i+2 < len(s) && s[i] == 'x':
			v, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("escape \\%s: want two hexadecimal digits", s[i:i+3])
			}
			b.WriteByte(byte(v))
			i += 2
		default:
			return "", errors.New("an escape that MONITOR does not write")
		}
	}
	return b.String(), nil
}

// Replaying is the scenario that sends trace again, at the times of its Times: the i-th operation is its i-th
// command, with the key renamed into the benchmark's own, so that nothing else is read or changed. What the
// server answers with an error is an error here too, since it may have been one then.
func Replaying(trace *Trace) Scenario {
	return Scenario{
		Name: "replay", About: fmt.Sprintf("%d recorded commands", len(trace.Commands)), most: 1,
		prepare: func(_ context.Context, t Target, _ Options) (*Prepared, error) { return replay(trace, t), nil },
	}
}

func replay(trace *Trace, t Target) *Prepared {
	client, own := t.Upstream.As(meter.Bench), prefix()
	var n atomic.Int64
	return &Prepared{
		Operation: func(ctx context.Context, _ *bench.Span) error {
			i := n.Add(1) - 1
			command := trace.Commands[int(i)%len(trace.Commands)].Args
			args := make([]any, len(command))
			for j, arg := range command {
				args[j] = arg
			}
			args[1] = own + ":" + command[1]
			err := client.Do(ctx, args...).Err()
			if errors.Is(err, redis.Nil) {
				return nil
			}
			return err
		},
		Close: func(ctx context.Context) error {
			keys := map[string]bool{}
			for _, c := range trace.Commands {
				keys[own+":"+c.Args[1]] = true
			}
			return unlink(ctx, client, t.Cluster, slices.Sorted(maps.Keys(keys)))
		},
	}
}
