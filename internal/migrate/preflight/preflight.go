// Package preflight looks, before a phase begins, whether the Redis is fit for it: one finding for each thing
// that is not, with what to do. It only reads.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
)

// The bounds of what is fit.
const (
	oldestMajor, oldestMinor = 6, 2
	fullShare                = 0.9              // of maxmemory, from which nothing begins
	closeShare               = 0.8              // and from which it is told
	scarceShare              = 0.1              // of the month's commands, below which it is told
	skewed                   = 2 * time.Second  // of the clocks, from which it is told
	farSkewed                = 30 * time.Second // and from which nothing begins: intents and windows would not hold
)

// Options say what is about to begin.
type Options struct {
	// Standing is where the migration stands.
	Standing migrate.Standing

	// Queues is true when the phase touches job queues, whose keys must never be evicted.
	Queues bool

	// Commands is what the phase is expected to cost, those inside scripts included: some providers bill them.
	Commands int64

	// Quota is what the provider's plan still allows this month; nil: not known, so not judged.
	Quota *Quota

	// TLS is whether the connection is encrypted, and Local whether it does not leave this host.
	TLS, Local bool
}

// A Quota is what is left of a plan's commands this month.
type Quota struct {
	Left int64 // 0 or less: it is spent
	Plan int64 // of the whole month; 0: not known

	// Source says where that comes from, such as "--commands-left".
	Source string
}

// Check looks at the Redis of client. A Redis that does not answer is an error; everything else that is not
// fit is a Problem, in the order in which it was looked for. Price: 3 commands (INFO, TIME, CLIENT LIST).
func Check(ctx context.Context, client redis.UniversalClient, o Options) ([]migrate.Problem, error) {
	text, err := client.Info(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("look at the server: %w", err)
	}
	info := parse(text)
	out := append(server(info), memory(info, o.Queues)...)
	before := time.Now()
	then, err := client.Time(ctx).Result()
	if err != nil {
		return nil, fmt.Errorf("look at the server's clock: %w", err)
	}
	out = append(out, clock(then, before, time.Now())...)
	list, err := client.ClientList(ctx).Result()
	_, refused := errors.AsType[redis.Error](err)
	switch {
	case refused:
		out = append(out, migrate.Problem{
			Rule: "clients-hidden", Message: "CLIENT LIST is refused, so live workers and other writers cannot be seen",
			Fix: "allow CLIENT LIST to this user, or stop the workers and say so with --workers-stopped",
		})
	case err != nil:
		return nil, fmt.Errorf("look at the clients: %w", err)
	default:
		out = append(out, writers(list)...)
	}
	return append(out, asked(o)...), nil
}

// asked is what can be told without the server.
func asked(o Options) []migrate.Problem {
	var out []migrate.Problem
	if !o.TLS && !o.Local {
		out = append(out, migrate.Problem{
			Rule: "no-tls", Message: "the connection is not encrypted and leaves this host",
			Fix: "use a rediss:// URL",
		})
	}
	if err := o.Standing.Held(); err != nil {
		out = append(out, migrate.Problem{
			Rule: "lease-held", Message: err.Error(), Blocking: true,
			Fix: "wait, or when that process is gone: redisopt migrate --force-unlock",
		})
	}
	return append(out, quota(o.Commands, o.Quota)...)
}

// quota judges what a phase costs by what is left of the month's commands.
func quota(commands int64, q *Quota) []migrate.Problem {
	if q == nil {
		return nil
	}
	p := migrate.Problem{Rule: "quota", Fix: "wait for the next month, or raise the plan: redisopt audit plan"}
	switch {
	case commands > q.Left:
		p.Blocking = true
		p.Message = fmt.Sprintf("it costs about %d commands, those inside scripts included, and %d are left of the plan's month (%s)",
			commands, max(0, q.Left), q.Source)
	case q.Plan > 0 && float64(q.Left) < scarceShare*float64(q.Plan):
		p.Message = fmt.Sprintf("only %d of the plan's %d commands are left this month (%s), of which it costs about %d", q.Left, q.Plan, q.Source, commands)
	case commands > q.Left/2:
		p.Message = fmt.Sprintf("it costs about %d of the %d commands that are left of the plan's month (%s)", commands, q.Left, q.Source)
		p.Fix = "keep some for others with --commands-left and --reserve"
	default:
		return nil
	}
	return []migrate.Problem{p}
}

// server judges who answers.
func server(info map[string]string) []migrate.Problem {
	var out []migrate.Problem
	if major, minor, ok := version(info["redis_version"]); ok && (major < oldestMajor || major == oldestMajor && minor < oldestMinor) {
		out = append(out, migrate.Problem{
			Rule: "old-server", Blocking: true,
			Message: fmt.Sprintf("the server is Redis %s, want at least %d.%d", info["redis_version"], oldestMajor, oldestMinor),
			Fix:     "upgrade the server first",
		})
	}
	if role := info["role"]; role == "slave" || role == "replica" {
		out = append(out, migrate.Problem{
			Rule: "replica", Blocking: true, Message: "the server is a replica, which takes no writes",
			Fix: "name its primary: " + info["master_host"] + ":" + info["master_port"],
		})
	}
	if info["loading"] == "1" {
		out = append(out, migrate.Problem{
			Rule: "loading", Blocking: true, Message: "the server is still loading its data", Fix: "wait until it has loaded",
		})
	}
	return out
}

// memory judges whether what is written will stay.
func memory(info map[string]string, queues bool) []migrate.Problem {
	most, _ := strconv.ParseFloat(info["maxmemory"], 64)
	used, _ := strconv.ParseFloat(info["used_memory"], 64)
	policy := info["maxmemory_policy"]
	var out []migrate.Problem
	if most > 0 && used > closeShare*most {
		out = append(out, migrate.Problem{
			Rule: "memory", Blocking: used > fullShare*most,
			Message: fmt.Sprintf("%.0f%% of maxmemory are used, and a move needs room for both sides of a chunk and its ledger", 100*used/most),
			Fix:     "raise maxmemory, or delete what is not needed: redisopt audit keys",
		})
	}
	if policy != "" && policy != "noeviction" {
		p := migrate.Problem{
			Rule: "eviction", Message: "maxmemory-policy is " + policy + ", so the server may throw keys away when memory runs out",
			Fix: "CONFIG SET maxmemory-policy noeviction, or on Upstash turn eviction off",
		}
		// volatile-* spares what has no expiry, as jobs and ledgers have none.
		p.Blocking = queues && most > 0 && strings.HasPrefix(policy, "allkeys-")
		out = append(out, p)
	}
	return out
}

// clock judges how far the server's clock is from ours, taking half of the round trip off.
func clock(then, before, after time.Time) []migrate.Problem {
	off := then.Sub(before.Add(after.Sub(before) / 2)).Abs()
	off -= min(off, after.Sub(before)/2)
	if off < skewed {
		return nil
	}
	return []migrate.Problem{{
		Rule: "clock", Blocking: off >= farSkewed,
		Message: fmt.Sprintf("the server's clock and that of this host differ by %s", off.Round(time.Millisecond)),
		Fix:     "synchronise this host's clock",
	}}
}

// writers tells who else is connected and does not only read.
func writers(list string) []migrate.Problem {
	n := 0
	for line := range strings.Lines(list) {
		if strings.Contains(line, " name=redisopt") {
			continue
		}
		for field := range strings.FieldsSeq(line) {
			if command, ok := strings.CutPrefix(field, "cmd="); ok && writes(command) {
				n++
			}
		}
	}
	if n == 0 {
		return nil
	}
	return []migrate.Problem{{
		Rule: "other-writers", Message: fmt.Sprintf("%d other connections sent a command that writes, or runs a script, last", n),
		Fix: "that is all right for producers and workers of the queues; see who they are: redisopt audit connections",
	}}
}

// writes is true for the usual commands that write, and for scripts, which may.
func writes(command string) bool {
	switch command {
	case "set", "setex", "psetex", "setnx", "mset", "incr", "incrby", "decr", "del", "unlink", "expire", "pexpire",
		"hset", "hmset", "hincrby", "hdel", "lpush", "rpush", "lpop", "rpop", "brpoplpush", "rpoplpush", "blmove", "lmove",
		"zadd", "zrem", "bzpopmin", "zremrangebyscore", "sadd", "srem", "xadd", "eval", "evalsha", "fcall":
		return true
	}
	return false
}

// parse reads the fields of INFO.
func parse(text string) map[string]string {
	out := map[string]string{}
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			out[name] = value
		}
	}
	return out
}

func version(text string) (major, minor int, ok bool) {
	first, rest, _ := strings.Cut(text, ".")
	second, _, _ := strings.Cut(rest, ".")
	major, err := strconv.Atoi(first)
	if err != nil {
		return 0, 0, false
	}
	minor, err = strconv.Atoi(second)
	return major, minor, err == nil
}
