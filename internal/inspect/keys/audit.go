package keys

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/inspect"
	"github.com/redisopt/redisopt/internal/inspect/connections"
)

// Audit looks at a sample of the keys of rdb's database. What the server refuses is named in
// Report.Missing. It is not for concurrent use with other commands that count against the same budget.
//
// Price: at most Options.Budget commands: INFO, DBSIZE, a tenth for SCAN, and for each key in detail TYPE,
// PTTL, MEMORY USAGE and one of HLEN, LLEN, SCARD, ZCARD, XLEN or GETRANGE; on a cluster DBSIZE and at
// least one SCAN for each primary. It writes nothing; STRLEN, GETRANGE and the counting of elements do
// count as a use of the key where the server evicts what was not used.
func Audit(ctx context.Context, rdb redis.UniversalClient, opts Options) (*Report, error) {
	opts = opts.withDefaults()
	estimate, err := Plan(opts)
	if err != nil {
		return nil, err
	}
	a := &audit{rdb: rdb, opts: opts, refused: map[string]bool{}, report: &Report{
		At: time.Now().UTC(), Estimate: estimate, RequestLimit: opts.RequestLimit, SizeFrom: "MEMORY USAGE",
		Prefixes: []Prefix{}, Biggest: []Key{}, Missing: []string{}, Notes: []string{},
		Measures: []inspect.Measure{}, Findings: []inspect.Finding{},
	}}
	return a.run(ctx)
}

// An audit is one look at a database.
type audit struct {
	rdb     redis.UniversalClient
	opts    Options
	report  *Report
	refused map[string]bool // commands that are not to be had here
	memory  memory
}

// A memory is what INFO says about it; zero values where it says nothing.
type memory struct {
	known     bool
	policy    string
	used, max int64
}

func (a *audit) run(ctx context.Context) (*Report, error) {
	r := a.report
	if err := a.info(ctx); err != nil {
		return nil, err
	}
	nodes, err := a.nodes(ctx)
	if err != nil {
		return nil, err
	}
	names, err := a.names(ctx, nodes)
	if err != nil {
		return nil, err
	}
	r.Names = len(names)
	groups := a.groups(names)
	lot, picked := choose(groups, a.opts.details(a.opts.Budget-r.Sent), r.Complete)
	all := slices.Concat(lot, picked)
	if err := a.look(ctx, all); err != nil {
		return nil, err
	}
	if a.refused["MEMORY USAGE"] {
		r.SizeFrom = "elements"
	}
	a.collect(groups, lot, picked)
	a.judge(all)
	return r, nil
}

// info asks who answers and what happens when memory is full. A user who may not know is told so.
func (a *audit) info(ctx context.Context) error {
	r := a.report
	r.Sent++
	text, err := a.rdb.Info(ctx).Result()
	if refused(err) {
		a.refuse("INFO", err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("read INFO: %w", err)
	}
	r.Server = connections.ParseServer(text)
	f := connections.InfoFields(text)
	a.memory = memory{policy: f["maxmemory_policy"], used: integer(f["used_memory"]), max: integer(f["maxmemory"])}
	a.memory.known = a.memory.policy != ""
	r.Policy = a.memory.policy
	if !a.memory.known {
		r.Missing = append(r.Missing, "maxmemory-policy is not observable here (INFO does not name it)")
	}
	var others []string
	for name, v := range f {
		if strings.HasPrefix(name, "db") && strings.HasPrefix(v, "keys=") {
			others = append(others, name)
		}
	}
	if len(others) > 1 {
		r.Notes = append(r.Notes, fmt.Sprintf("%d databases of this server have keys; only the one of the connection was looked at", len(others)))
	}
	return nil
}
