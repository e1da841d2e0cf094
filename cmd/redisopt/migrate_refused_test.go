package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
	"github.com/redisopt/redisopt/internal/runtime/upstream/redistest"
)

// A badInput is something that a migration must not begin with, or must tell of before it begins.
type badInput struct {
	name string

	// spoil makes it so, in a Redis with the queue bull:mail of two waiting jobs and in the state directory.
	spoil func(p *program)

	// args are what is added to migrate phase3 --queue mail.
	args []string

	// want is the exit code, of the dry run too; and says what both print: what is wrong, and what to do.
	want int
	says []string

	// then is the exit code of the run, where want is 0, and stays are jobs that are at the source after it.
	then  int
	stays []string
}

// A program is the real binary, a Redis and a state directory.
type program struct {
	*testing.T
	server *redistest.Server
	redis  *redis.Client
	dir    string
}

// types runs the real program.
func (p *program) types(args ...string) finished {
	p.Helper()
	return runChild(p.T, p.server.URL(), p.dir, nil, args...)
}

// do sends one command.
func (p *program) do(args ...any) {
	p.Helper()
	if err := p.redis.Do(p.Context(), args...).Err(); err != nil {
		p.Fatalf("%v: %v", args, err)
	}
}

// job adds a waiting job to bull:mail.
func (p *program) job(id string, fields ...any) {
	p.Helper()
	p.do(append([]any{"HSET", "bull:mail:" + id, "name", "x", "data", "{}", "opts", "{}", "timestamp", "1795000000000", "delay", "0", "priority", "0"}, fields...)...)
	p.do("LPUSH", "bull:mail:wait", id)
}

// locked adds an active job that a worker holds.
func (p *program) locked() {
	p.Helper()
	p.job("held")
	p.do("LMOVE", "bull:mail:wait", "bull:mail:active", "LEFT", "RIGHT")
	p.do("SET", "bull:mail:held:lock", "token", "PX", "600000")
}

func badInputs() []badInput {
	mq := []string{"--engine", "bullmq", "--bullmq-major", "6", "--active-timeout", "-1s"}
	place := append(slices.Clone(mq), "--in-place")
	config := func(name, value string) func(*program) {
		return func(p *program) { p.do("CONFIG", "SET", name, value) }
	}
	return []badInput{
		{
			name: "a live worker in place", args: place, want: exitBlocked, says: []string{"attached", "stop every process of this queue"},
			spoil: func(p *program) {
				opts := *p.redis.Options()
				opts.ClientName = "bull:bWFpbA=="
				worker := redis.NewClient(&opts)
				p.Cleanup(func() { _ = worker.Close() })
				if err := worker.Ping(p.Context()).Err(); err != nil {
					p.Fatal(err)
				}
			},
		},
		{
			name: "an active job with a live lock, in place", args: place, want: exitBlocked,
			says: []string{"bull:mail:held:lock is held", "run the same command again"}, spoil: (*program).locked,
		},
		{
			name: "an active job with a live lock", args: mq, says: []string{"bull:mail:held:lock is held", "moved once it has finished"},
			spoil: (*program).locked, then: exitBlocked, stays: []string{"bull:mail:held"},
		},
		{
			name: "a second operator", args: mq, want: exitBlocked, says: []string{"ann@alpha 100", "redisopt migrate --force-unlock --queue mail"},
			spoil: func(p *program) {
				p.do("SET", migrate.Target{Phase: "phase3", Prefix: "bull", Queue: "mail"}.LeaseKey(), "7 secret ann@alpha 100", "PX", "600000")
			},
		},
		{
			name: "a changed plan", args: append(slices.Clone(mq), "--to-prefix", "elsewhere"), want: exitBlocked,
			says: []string{"plan", "redisopt migrate resume --queue mail", "redisopt rollback phase3 --queue mail"},
			spoil: func(p *program) {
				if c := p.types(append([]string{"migrate", "phase3", "--queue", "mail", "--yes"}, mq...)...); c.code != 0 {
					p.Fatal(c)
				}
				p.job("late")
			},
		},
		{
			name: "a source that a later BullMQ opened", args: []string{"--engine", "asynq"}, want: exitBlocked,
			says: []string{"BullMQ 7.1.0", "use a version of redisopt that knows it"},
			spoil: func(p *program) {
				p.do("HSET", "bull:mail:meta", "version", "bullmq:7.1.0", "opts.maxLenEvents", "10000")
			},
		},
		{
			name: "a target that a later BullMQ opened", args: []string{"--engine", "bullmq"}, want: exitBlocked,
			says: []string{"BullMQ 7.1.0", "use a version of redisopt that knows it"},
			spoil: func(p *program) {
				p.do("HSET", "bullmq:mail:meta", "version", "bullmq:7.1.0", "opts.maxLenEvents", "10000")
			},
		},
		{
			name: "a job without its hash", args: mq, says: []string{"lost"}, stays: []string{},
			spoil: func(p *program) { p.do("LPUSH", "bull:mail:wait", "lost") },
		},
		{
			name: "a job without its hash, in place", args: place, want: exitBlocked, says: []string{"lost", "without --in-place"},
			spoil: func(p *program) { p.do("LPUSH", "bull:mail:wait", "lost") },
		},
		{
			name: "an id that the target has", args: mq, says: []string{"bullmq:mail:1 exists already", "has 1 jobs already"}, stays: []string{"bull:mail:1"},
			spoil: func(p *program) {
				p.do("HSET", "bullmq:mail:1", "name", "other", "data", "{}", "opts", "{}", "timestamp", "1")
				p.do("LPUSH", "bullmq:mail:wait", "1")
			},
		},
		{
			name: "a prefix with a queue of Bull", args: mq, want: exitBlocked, says: []string{"is a queue of Bull", "--to-prefix"},
			spoil: func(p *program) {
				p.do("HSET", "bullmq:mail:9", "name", "x", "data", "{}", "opts", "{}", "timestamp", "1")
				p.do("ZADD", "bullmq:mail:priority", "5", "9")
				p.do("LPUSH", "bullmq:mail:wait", "9")
			},
		},
		{
			name: "a prefix that something else uses", args: mq, want: exitBlocked, says: []string{"bullmq:mail:wait is a string", "something else uses this name"},
			spoil: func(p *program) { p.do("SET", "bullmq:mail:wait", "x") },
		},
		{
			name: "a priority that BullMQ does not know", args: mq, says: []string{"BullMQ knows priorities up to 2097151"},
			spoil: func(p *program) {
				p.job("urgent", "opts", `{"priority":3000000}`, "priority", "3000000")
				p.do("ZADD", "bull:mail:priority", "3000000", "urgent")
			},
		},
		{
			name: "memory close to maxmemory", args: mq, want: exitBlocked, says: []string{"of maxmemory are used", "raise maxmemory"},
			spoil: func(p *program) {
				p.do("SETRANGE", "cache:large", 16<<20, "x") // beside which what connections take is little
				used := int64(0)
				for line := range strings.Lines(p.redis.Info(p.Context(), "memory").Val()) {
					if value, ok := strings.CutPrefix(line, "used_memory:"); ok {
						for _, digit := range strings.TrimSpace(value) {
							used = 10*used + int64(digit-'0')
						}
					}
				}
				p.do("CONFIG", "SET", "maxmemory", used*105/100)
			},
		},
		{
			name: "eviction of jobs", args: mq, want: exitBlocked, says: []string{"maxmemory-policy is allkeys-lru", "noeviction"},
			spoil: func(p *program) {
				config("maxmemory", "1gb")(p)
				config("maxmemory-policy", "allkeys-lru")(p)
			},
		},
		{
			name: "eviction of what expires", args: mq, says: []string{"maxmemory-policy is volatile-lru"}, spoil: config("maxmemory-policy", "volatile-lru"),
		},
		{
			name: "a quota nearly spent", args: append(slices.Clone(mq), "--commands-left", "100"), want: exitBlocked,
			says: []string{"100 are left of the plan's month (--commands-left)", "redisopt audit plan"}, spoil: func(*program) {},
		},
		{
			name: "a target that has jobs", args: mq, says: []string{"bullmq:mail", "has 1 jobs already"},
			spoil: func(p *program) {
				p.do("HSET", "bullmq:mail:meta", "opts.maxLenEvents", "10000")
				p.do("HSET", "bullmq:mail:there", "name", "x", "data", "{}", "opts", "{}", "timestamp", "1")
				p.do("LPUSH", "bullmq:mail:wait", "there")
			},
		},
		{
			name: "a journal damaged in the middle", args: mq, want: exitBlocked, says: []string{"damaged", "out of the way"},
			spoil: func(p *program) {
				if c := p.types(append([]string{"migrate", "phase3", "--queue", "mail", "--yes"}, mq...)...); c.code != 0 {
					p.Fatal(c)
				}
				p.job("late")
				files, err := filepath.Glob(filepath.Join(p.dir, "migrations", "*", "*.journal"))
				if err != nil || len(files) != 1 {
					p.Fatalf("journals %q, %v, want one", files, err)
				}
				content, err := os.ReadFile(files[0])
				if err != nil {
					p.Fatal(err)
				}
				content[len(content)/2] ^= 1
				if err := os.WriteFile(files[0], content, 0o600); err != nil {
					p.Fatal(err)
				}
			},
		},
	}
}

// TestBadInputIsRefusedOrToldBeforeAnythingMoves runs the real program on each.
func TestBadInputIsRefusedOrToldBeforeAnythingMoves(t *testing.T) {
	server := redistest.Start(t)
	for _, bad := range badInputs() {
		t.Run(bad.name, func(t *testing.T) {
			p := &program{T: t, server: server, redis: server.Client(t), dir: t.TempDir()}
			p.do("FLUSHALL")
			p.do("CONFIG", "SET", "maxmemory", "0")
			p.do("CONFIG", "SET", "maxmemory-policy", "noeviction")
			p.job("1")
			p.job("2")
			bad.spoil(p)
			command := append([]string{"migrate", "phase3", "--queue", "mail"}, bad.args...)
			was := p.keys()
			dry := p.types(append(slices.Clone(command), "--dry-run")...)
			if dry.code != bad.want {
				t.Fatalf("dry run: %s\nwant exit %d", dry, bad.want)
			}
			words := squeezed(dry.stdout + dry.stderr)
			for _, says := range bad.says {
				if !strings.Contains(words, says) {
					t.Errorf("it says %s\nwant %q", dry, says)
				}
			}
			if !strings.Contains(dry.stderr, ", 0 writes") {
				t.Errorf("the dry run wrote: %s", dry.stderr)
			}
			if diff := capture.Compare(was, p.keys()); len(diff) > 0 {
				t.Fatalf("the dry run changed:\n%v", diff)
			}
			really := p.types(append(command, "--yes")...)
			if want := max(bad.want, bad.then); really.code != want {
				t.Fatalf("%s\nwant exit %d", really, want)
			}
			if bad.want != 0 {
				words := squeezed(really.stdout + really.stderr)
				for _, says := range bad.says {
					if !strings.Contains(words, says) {
						t.Errorf("it says %s\nwant %q", really, says)
					}
				}
				if diff := capture.Compare(was, p.keys()); len(diff) > 0 {
					t.Errorf("what was refused changed:\n%v", diff)
				}
				return
			}
			for _, key := range bad.stays {
				if n := p.redis.Exists(t.Context(), key).Val(); n != 1 {
					t.Errorf("%s is gone from the source", key)
				}
			}
			if n := p.redis.Exists(t.Context(), "bullmq:mail:2").Val(); n != 1 {
				t.Errorf("what could be moved was not: %s", really)
			}
		})
	}
}

func TestARepeatableThatWouldBeCalledByAnIDWithColonsIsRefusedAndStays(t *testing.T) {
	o := newOperator(t)
	j := queues()[2]
	var doc struct {
		Data struct {
			Repeats []struct {
				Key string `json:"key"`
			} `json:"repeats"`
		} `json:"data"`
	}
	_, out, _ := o.types(append(j.there(), "--dry-run", "-o", "json")...)
	if err := json.Unmarshal([]byte(out), &doc); err != nil || len(doc.Data.Repeats) == 0 {
		t.Fatalf("the plan has no repeatable: %v\n%s", err, out)
	}
	key := doc.Data.Repeats[0].Key
	named := append(j.there(), "--scheduler-id", key+"=1:2:3:4:5")
	was := world(t, o.client)
	contains(t, squeezed(o.wants(exitBlocked, append(slices.Clone(named), "--dry-run")...)), "scheduler-id-colon", "choose one with fewer colons")
	if diff := capture.Compare(was, world(t, o.client)); len(diff) > 0 {
		t.Errorf("the dry run changed:\n%v", diff)
	}
	o.wants(exitBlocked, named...)
	if err := o.client.ZScore(t.Context(), j.prefix+":"+j.queue+":repeat", key).Err(); err != nil {
		t.Errorf("the repeatable %s left the source: %v", key, err)
	}
}

// keys is everything that must not change.
func (p *program) keys() []capture.Key {
	p.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for { // a key that expires while it is read is read again
		keys, err := capture.Dump(p.Context(), p.redis, "*")
		if err == nil {
			for i := range keys {
				keys[i].TTL = 0
			}
			return keys
		}
		if time.Now().After(deadline) {
			p.Fatal(err)
		}
	}
}

// squeezed is text without the line breaks and columns that tables put into sentences.
func squeezed(text string) string { return strings.Join(strings.Fields(text), " ") }
