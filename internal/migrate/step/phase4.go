package step

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
)

// Phase4Name is the phase that deletes what the other phases have left behind.
const Phase4Name = "phase4"

// ownPrefix begins the keys of redisopt itself, which phase 4 never deletes.
const ownPrefix = "redisopt:"

// A Phase4Plan is what a journal keeps of phase 4.
type Phase4Plan struct {
	// Prefixes are deleted in this order, each whole. A prefix is taken literally; of a queue it ends in
	// a colon. At least one.
	Prefixes []string `json:"prefixes"`

	// File is the backup that is made first, and that the way back restores: an absolute path.
	File string `json:"file"`
}

// Validate reports all that is wrong with p.
func (p Phase4Plan) Validate() error {
	var errs []error
	if len(p.Prefixes) == 0 {
		errs = append(errs, errors.New("prefixes: got none to delete"))
	}
	for i, prefix := range p.Prefixes {
		errs = append(errs, checkPrefix(prefix))
		for _, other := range p.Prefixes[:i] {
			if strings.HasPrefix(prefix, other) || strings.HasPrefix(other, prefix) {
				errs = append(errs, fmt.Errorf("prefix %q: prefix %q covers it, or the other way round", prefix, other))
			}
		}
	}
	if !filepath.IsAbs(p.File) {
		errs = append(errs, fmt.Errorf("backup: got %q, want an absolute path", p.File))
	}
	return errors.Join(errs...)
}

// checkPrefix refuses what would delete more than one means.
func checkPrefix(prefix string) error {
	switch {
	case prefix == "":
		return errors.New("prefix: got an empty one, which is every key")
	case strings.ContainsAny(prefix, "*?"):
		return fmt.Errorf("prefix %q: it is taken literally, so want no pattern", prefix)
	case strings.HasPrefix(prefix, ownPrefix), strings.HasPrefix(ownPrefix, prefix):
		return fmt.Errorf("prefix %q: it covers keys of redisopt itself, among them the journal", prefix)
	}
	return nil
}

// A Phase4 saves keys to a file and deletes them. It is for one goroutine.
type Phase4 struct {
	// Facts are what audits and the scan of the code know, for the Outline. Nil: nothing.
	Facts *Phase4Facts

	// Left are leftovers that stay and why, for the Outline.
	Left []migrate.Problem

	plan   Phase4Plan
	env    migrate.Env
	client redis.UniversalClient
}

// Phase4Facts are leftovers that are not in Redis.
type Phase4Facts struct {
	Packages    []string             // "bull 4.16.5 in package.json"
	Env         []string             // names of environment variables that the code reads for what is left
	Code        []migrate.CodeChange // where the code still makes legacy objects
	Connections []string             // legacy connections: "bull:mail: 2 workers of pid 7 (node)"
}

// NewPhase4 returns the phase. It touches nothing yet.
func NewPhase4(client redis.UniversalClient, plan Phase4Plan, env migrate.Env) (*Phase4, error) {
	plan.Prefixes = slices.Clone(plan.Prefixes)
	if err := plan.Validate(); err != nil {
		return nil, err
	}
	return &Phase4{plan: plan, env: env, client: client}, nil
}

// openPhase4 makes the phase again from a journal.
func openPhase4(client redis.UniversalClient, options json.RawMessage, env migrate.Env) (migrate.Phase, error) {
	var plan Phase4Plan
	if err := json.Unmarshal(options, &plan); err != nil {
		return nil, fmt.Errorf("plan in the journal: %w", err)
	}
	return NewPhase4(client, plan, env)
}

// Target is the whole database.
func (p *Phase4) Target() migrate.Target { return migrate.Target{Phase: Phase4Name} }

// Options is the plan.
func (p *Phase4) Options() any { return p.plan }

// Steps save everything, then delete one prefix after the other.
func (p *Phase4) Steps() []migrate.Step {
	all := []migrate.Step{&Save{phase: p}}
	for i, prefix := range p.plan.Prefixes {
		all = append(all, &Delete{name: deleteName(i, prefix), prefix: prefix, phase: p})
	}
	return all
}

// deleteName is the step's key in the journal.
func deleteName(i int, prefix string) string {
	return fmt.Sprintf("phase4.delete-%02d-%s", i+1, strings.ReplaceAll(prefix, ".", "_"))
}

// scan gives the names of all keys that begin with one of prefixes to f, at most scanPage at a time; some
// may come twice. Price: one command for a thousand keys of the database.
func scan(ctx context.Context, client redis.UniversalClient, prefixes []string, f func(names []string) error) error {
	const page = 1000
	match := "*"
	if len(prefixes) == 1 {
		match = escapeGlob(prefixes[0]) + "*"
	}
	return everyNode(ctx, client, func(ctx context.Context, node redis.Cmdable) error {
		for cursor := uint64(0); ; {
			names, next, err := node.Scan(ctx, cursor, match, page).Result()
			if err != nil {
				return fmt.Errorf("scan %q: %w", match, err)
			}
			names = slices.DeleteFunc(names, func(name string) bool {
				return !slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
			})
			for chunk := range slices.Chunk(names, scanPage) {
				if err := f(chunk); err != nil {
					return err
				}
			}
			if cursor = next; cursor == 0 {
				return nil
			}
		}
	})
}

// scanPage is how many keys are dealt with at once.
const scanPage = 50

// everyNode calls f for every node that holds keys, one after the other.
func everyNode(ctx context.Context, client redis.UniversalClient, f func(context.Context, redis.Cmdable) error) error {
	cluster, ok := client.(interface {
		ForEachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error
	})
	if !ok {
		return f(ctx, client)
	}
	turn := make(chan struct{}, 1) // the library asks all nodes at once
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		turn <- struct{}{}
		defer func() { <-turn }()
		return f(ctx, node)
	})
}

// escapeGlob makes text match itself in a pattern.
func escapeGlob(text string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}
