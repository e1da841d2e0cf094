package upstream

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// A Kind is what software answers.
type Kind string

// The kinds that are told apart. KindUnknown is used when nothing may be asked.
const (
	KindRedis   Kind = "redis"
	KindValkey  Kind = "valkey"
	KindUpstash Kind = "upstash"
	KindUnknown Kind = "unknown"
)

// Capabilities are what a Redis is and what this user may do on it. What could not be found out has
// its zero value and a line in Missing.
type Capabilities struct {
	Kind Kind `json:"kind"`

	// Version is the version of the software itself; for Upstash and Valkey, RedisVersion is the
	// Redis they are compatible with.
	Version      string `json:"version"`
	RedisVersion string `json:"redis_version"`

	// Mode is "standalone", "cluster" or "sentinel".
	Mode string `json:"mode"`

	// Role is "master" or "slave". ReadOnlyReplica is true for the latter: writes are refused there.
	Role            string `json:"role"`
	ReadOnlyReplica bool   `json:"read_only_replica"`

	// Embedded is true for the volatile store inside this program.
	Embedded bool `json:"embedded"`

	MaxMemoryPolicy  string `json:"max_memory_policy"` // "noeviction" is the only one safe for queues
	MaxMemoryBytes   int64  `json:"max_memory_bytes"`  // 0 when unlimited or unknown
	MaxClients       int64  `json:"max_clients"`       // 0 when unknown
	ConnectedClients int64  `json:"connected_clients"` // 0 when unknown

	Info         bool `json:"info"`          // INFO may be read
	CommandStats bool `json:"command_stats"` // and says how often each command was called
	ClientList   bool `json:"client_list"`   // CLIENT LIST may be read
	Scripts      bool `json:"scripts"`       // Lua may be run; in read-only mode: the server has it
	Blocking     bool `json:"blocking"`      // commands that wait for data work

	// Missing says, one sentence each, what could not be found out or is not available, and why.
	// Never nil.
	Missing []string `json:"missing"`

	// Fields are all fields of INFO, by name; nil when INFO may not be read. Repeated names keep the
	// last.
	Fields map[string]string `json:"-"`
}

// Probe asks what the Redis is and what the user may do. It changes nothing, copes with a user that
// may do very little, and returns an error only when the Redis cannot be reached.
//
// It costs 4 commands: INFO, CLIENT LIST, XREAD with a block of 1 ms, and EVALSHA of a script that
// does not exist (SCRIPT EXISTS in read-only mode); and up to 4 more where the server turns one of
// them down or leaves something out: HELLO, CONFIG GET, and shorter forms of the same.
func (u *Upstream) Probe(ctx context.Context) (Capabilities, error) {
	p := prober{client: u.own, c: Capabilities{Kind: KindUnknown, Missing: []string{}}}
	for _, ask := range []func(context.Context) error{
		p.info, p.clientList, p.blocking, func(ctx context.Context) error { return p.scripts(ctx, u.opts.ReadOnly) },
	} {
		if err := ask(ctx); err != nil {
			return Capabilities{}, err
		}
	}
	return p.c, nil
}

type prober struct {
	client redis.UniversalClient
	c      Capabilities
}

// try sends a command. Denied is why the server did not run it, empty if it did; the error is for
// failures that are no answer.
func (p *prober) try(ctx context.Context, args ...any) (reply any, denied *Error, err error) {
	cmd := p.client.Do(ctx, args...)
	reply, err = cmd.Result()
	c := Classify(err)
	if c == None {
		return reply, nil, nil
	}
	if slices.Contains([]Class{Permission, Unavailable, Server, Quota}, c) {
		return nil, Detail(err), nil
	}
	return nil, nil, err
}

func (p *prober) missing(what string, why *Error) {
	p.c.Missing = append(p.c.Missing, fmt.Sprintf("%s: %s", what, whyNot(why)))
}

func whyNot(e *Error) string {
	if e.Class == Permission {
		return "this user may not (" + text(e) + ")"
	}
	if e.Class == Unavailable {
		return "the server does not have it"
	}
	return text(e)
}

func text(e *Error) string {
	if e.Err == nil {
		return string(e.Class)
	}
	return e.Err.Error()
}

func (p *prober) info(ctx context.Context) error {
	reply, denied, err := p.try(ctx, "info", "all")
	if denied != nil && denied.Class == Server {
		reply, denied, err = p.try(ctx, "info")
	}
	if err != nil {
		return err
	}
	if denied != nil {
		p.missing("INFO, so version, limits and command counts", denied)
		return p.hello(ctx)
	}
	s, _ := reply.(string)
	p.c.Info = true
	p.c.Fields = ParseInfo(s)
	p.fill(p.c.Fields)
	if !p.c.CommandStats {
		p.c.Missing = append(p.c.Missing, "INFO commandstats: the server does not count calls by command")
	}
	if p.c.MaxClients != 0 {
		return nil
	}
	return p.maxClients(ctx)
}

// fill takes what it knows from the fields of INFO.
func (p *prober) fill(f map[string]string) {
	c := &p.c
	c.RedisVersion = f["redis_version"]
	c.Kind, c.Version = KindRedis, c.RedisVersion
	switch {
	case f["upstash_version"] != "":
		c.Kind, c.Version = KindUpstash, f["upstash_version"]
	case f["valkey_version"] != "" || f["server_name"] == "valkey":
		c.Kind, c.Version = KindValkey, f["valkey_version"]
	case c.RedisVersion == "":
		c.Kind = KindUnknown
	}
	c.Mode = f["redis_mode"]
	if c.Mode == "" && f["cluster_enabled"] == "1" {
		c.Mode = "cluster"
	}
	if c.Mode == "" {
		c.Mode = "standalone"
	}
	c.Role = f["role"]
	c.ReadOnlyReplica = c.Role == "slave"
	c.Embedded = f["redisopt_embedded"] != ""
	c.MaxMemoryPolicy = f["maxmemory_policy"]
	c.MaxMemoryBytes = number(f["maxmemory"])
	c.MaxClients = number(f["maxclients"])
	c.ConnectedClients = number(f["connected_clients"])
	for name := range maps.Keys(f) {
		if strings.HasPrefix(name, "cmdstat_") {
			c.CommandStats = true
			break
		}
	}
}

func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// hello asks what little a user without INFO may know.
func (p *prober) hello(ctx context.Context) error {
	reply, denied, err := p.try(ctx, "hello")
	if err != nil || denied != nil {
		return err
	}
	f := map[string]string{}
	if pairs, ok := reply.([]any); ok {
		for kv := range slices.Chunk(pairs, 2) {
			if len(kv) == 2 {
				f[fmt.Sprint(kv[0])] = fmt.Sprint(kv[1])
			}
		}
	}
	if m, ok := reply.(map[any]any); ok {
		for k, v := range m {
			f[fmt.Sprint(k)] = fmt.Sprint(v)
		}
	}
	p.c.Version, p.c.Mode = f["version"], f["mode"]
	switch f["server"] {
	case "redis":
		p.c.Kind, p.c.RedisVersion = KindRedis, f["version"]
	case "valkey":
		p.c.Kind = KindValkey
	}
	if p.c.Role = f["role"]; p.c.Role == "replica" {
		p.c.Role = "slave"
	}
	p.c.ReadOnlyReplica = p.c.Role == "slave"
	return nil
}

func (p *prober) maxClients(ctx context.Context) error {
	reply, denied, err := p.try(ctx, "config", "get", "maxclients")
	if err != nil {
		return err
	}
	if denied == nil {
		if pair, ok := reply.([]any); ok && len(pair) == 2 {
			p.c.MaxClients = number(fmt.Sprint(pair[1]))
		}
		if m, ok := reply.(map[any]any); ok {
			p.c.MaxClients = number(fmt.Sprint(m["maxclients"]))
		}
	}
	if p.c.MaxClients == 0 {
		p.c.Missing = append(p.c.Missing, "connection limit: neither INFO nor CONFIG GET maxclients says it")
	}
	return nil
}

func (p *prober) clientList(ctx context.Context) error {
	// Pub/sub connections are few, so the answer is short; old servers have only the long form.
	_, denied, err := p.try(ctx, "client", "list", "type", "pubsub")
	if denied != nil && denied.Class == Server {
		_, denied, err = p.try(ctx, "client", "list")
	}
	if err != nil {
		return err
	}
	if denied != nil {
		p.missing("CLIENT LIST, so who holds connections", denied)
		return nil
	}
	p.c.ClientList = true
	return nil
}

func (p *prober) blocking(ctx context.Context) error {
	_, denied, err := p.try(ctx, "xread", "block", "1", "streams", "redisopt:probe", "$")
	if err != nil {
		return err
	}
	switch {
	case denied == nil, denied.Class == Permission && strings.Contains(text(denied), "key"), strings.HasPrefix(text(denied), "WRONGTYPE"):
		p.c.Blocking = true // a user who may not read that key may still run the command
	default:
		p.missing("blocking commands", denied)
	}
	return nil
}

func (p *prober) scripts(ctx context.Context, readOnly bool) error {
	const sha = "0000000000000000000000000000000000000000"
	args := []any{"evalsha", sha, "0"}
	if readOnly {
		args = []any{"script", "exists", sha}
	}
	_, denied, err := p.try(ctx, args...)
	if err != nil {
		return err
	}
	if denied != nil && !strings.HasPrefix(text(denied), "NOSCRIPT") {
		p.missing("scripts", denied)
		return nil
	}
	p.c.Scripts = true
	return nil
}

// ParseInfo reads the fields of an INFO reply by name. It takes any text; lines without a colon and
// section headings are left out.
func ParseInfo(info string) map[string]string {
	f := map[string]string{}
	for line := range strings.Lines(info) {
		line = strings.TrimRight(line, "\r\n")
		if name, value, ok := strings.Cut(line, ":"); ok && !strings.HasPrefix(line, "#") {
			f[name] = value
		}
	}
	return f
}
