package transfer

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

// A Plan is what a copy would do.
type Plan struct {
	From string `json:"from"`
	To   string `json:"to"`

	Keys       int64 `json:"keys"`        // of the source
	TargetKeys int64 `json:"target_keys"` // that are there before
	Resumes    bool  `json:"resumes"`     // one that was begun
	Done       int64 `json:"done"`        // keys that it has looked at in the pass under way

	// SourceCommands and TargetCommands are about what one copying and one comparing pass cost.
	SourceCommands int64 `json:"source_commands"`
	TargetCommands int64 `json:"target_commands"`

	Problems []migrate.Problem `json:"problems"`

	run string // the process of the source
}

// Refused returns a *migrate.RefusedError when something keeps the copy from beginning.
func (p Plan) Refused() error {
	return migrate.Outline{Target: migrate.Target{Phase: "copy"}, Problems: p.Problems}.Refused()
}

// Check tells what Run would do. It writes nothing. Price: 4 commands to each side.
func Check(ctx context.Context, o Options) (Plan, error) {
	o = o.withDefaults()
	if err := o.validate(); err != nil {
		return Plan{}, err
	}
	p := Plan{From: o.From, To: o.To, Problems: []migrate.Problem{}}
	s, resumes, err := load(o, time.Now())
	if err != nil {
		return p, err
	}
	p.Resumes = resumes
	if n := len(s.Result.Passes); resumes && n > 0 {
		p.Done = s.Result.Passes[n-1].Looked
	}
	from, err := look(ctx, o.Source)
	if err != nil {
		return p, fmt.Errorf("source: %w", err)
	}
	to, err := look(ctx, o.Target)
	if err != nil {
		return p, fmt.Errorf("target: %w", err)
	}
	p.Keys, p.TargetKeys, p.run = from.keys, to.keys, from.run
	pages := from.keys/scanCount + 1
	p.SourceCommands = 2*pages + 4*from.keys + from.keys/chunkSize + 1
	p.TargetCommands = 2 * from.keys
	p.problems(o, from, to, s.before)
	return p, nil
}

func (p *Plan) problems(o Options, from, to side, before *Result) {
	block := func(rule, message, fix string) {
		p.Problems = append(p.Problems, migrate.Problem{Rule: rule, Message: message, Fix: fix, Blocking: true})
	}
	note := func(rule, message, fix string) {
		p.Problems = append(p.Problems, migrate.Problem{Rule: rule, Message: message, Fix: fix})
	}
	if isCluster(o.Source) {
		block("cluster", "the source is a Redis Cluster, whose nodes this copy does not walk", "copy each node by itself")
	}
	if isCluster(o.Target) {
		block("cluster", "the target is reached as a Redis Cluster, whose nodes this copy does not walk", "name a single server")
	}
	if from.run != "" && from.run == to.run && from.db == to.db {
		block("same-database", fmt.Sprintf("source and target are the same database %s of one server", from.db), "name another server, or another database number in the URL")
	}
	switch fresh := to.keys > 0 && !p.Resumes && o.Existing == Refuse; {
	case fresh && before != nil:
		// Whoever was not told how it ended asks again. Copying once more could undo what was written there since.
		block("copied-before", fmt.Sprintf("it has been done: %d keys were the same on both sides, %d differed, and the target has %d keys now",
			before.Compared, before.DifferencesTotal, to.keys), "use the target; or to copy again empty it, or add --existing replace")
	case fresh:
		block("target-not-empty", fmt.Sprintf("the target has %d keys", to.keys), "empty it, or say what becomes of them with --existing replace or --existing keep")
	}
	if to.role == "slave" {
		block("replica", "the target is a replica, which takes no writes", "name the master")
	}
	if evicts(to.policy) && !o.AllowEviction {
		block("eviction", fmt.Sprintf("the target may evict keys (%s), and queues lose jobs that way", to.policy), "set maxmemory-policy noeviction, or add --allow-eviction")
	}
	if free := to.limit - to.used; to.limit > 0 && !p.Resumes && free < from.used {
		block("memory", fmt.Sprintf("the target has room for %d bytes, and the source uses %d", free, from.used), "raise maxmemory of the target")
	}
	if to.major > 0 && from.major > to.major {
		note("older-target", fmt.Sprintf("the target is version %d and the source %d: keys whose DUMP it does not take are copied by their type, which costs more", to.major, from.major), "")
	}
	if p.Resumes {
		note("goes-on", "this copy was begun before: what others have written at the target since is overwritten or deleted",
			"if the application uses the target already, do not go on; move the file of the copy out of the way: "+o.File)
	}
	if o.PauseWrites == 0 {
		note("live-writes", "what is written while the last pass runs can differ, and is listed", "stop the writers, or hold their writes back for the last pass with --pause-writes 10s")
	}
}

// isCluster is whether client goes to the nodes of a Redis Cluster.
func isCluster(client redis.UniversalClient) bool {
	_, cluster := client.(interface {
		ForEachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error
	})
	return cluster
}

// evicts is true for a policy under which keys vanish.
func evicts(policy string) bool { return policy != "" && policy != "noeviction" }

// A side is one of the two Redises.
type side struct {
	keys    int64
	run, db string
	role    string
	policy  string
	used    int64
	limit   int64
	major   int
}

// look asks one side what it is.
func look(ctx context.Context, client redis.UniversalClient) (side, error) {
	var s side
	var err error
	if s.keys, err = client.DBSize(ctx).Result(); err != nil {
		return s, fmt.Errorf("count keys: %w", err)
	}
	info, err := client.Info(ctx).Result()
	if err != nil {
		return s, fmt.Errorf("read INFO: %w", err)
	}
	fields := map[string]string{}
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	number := func(field string) int64 {
		n, _ := strconv.ParseInt(fields[field], 10, 64) // 0 when the server does not say
		return n
	}
	s.run, s.role, s.policy = fields["run_id"], fields["role"], fields["maxmemory_policy"]
	s.used, s.limit = number("used_memory"), number("maxmemory")
	major, _, _ := strings.Cut(fields["redis_version"], ".")
	s.major, _ = strconv.Atoi(major)
	me, err := client.Do(ctx, "client", "info").Text()
	if _, refused := errors.AsType[redis.Error](err); err != nil && !refused {
		return s, fmt.Errorf("read CLIENT INFO: %w", err)
	}
	for field := range strings.FieldsSeq(me) {
		if db, ok := strings.CutPrefix(field, "db="); ok {
			s.db = db
		}
	}
	return s, nil
}
