package cache

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"
)

const (
	scanCount      = 1000            // keys a SCAN looks at
	unlinkBatch    = 500             // keys of one UNLINK
	planScans      = 5               // SCANs that a plan is based on
	patternTimeout = 5 * time.Second // of one command
)

// A DeletePlan is what DeletePattern will do and about what it will cost. PlanDelete makes it; whoever
// confirms it passes it on.
type DeletePlan struct {
	// Pattern is as the caller spelled it and Match what the upstream is asked for.
	Pattern string `json:"pattern"`
	Match   string `json:"match"`

	// DatabaseKeys is the size of the whole database: all of it is looked at, 1,000 keys a command.
	DatabaseKeys int64 `json:"database_keys"`

	// SampledKeys were looked at for the plan, and SampledMatches of them match.
	SampledKeys    int64 `json:"sampled_keys"`
	SampledMatches int64 `json:"sampled_matches"`

	// EstimatedKeys is about how many keys will be deleted; Exact is whether the sample was everything.
	EstimatedKeys int64 `json:"estimated_keys"`
	Exact         bool  `json:"exact"`

	// EstimatedCommands is about what deleting costs: SCANs and UNLINKs. MaxCommands, half as much
	// again and 10, is where DeletePattern stops; it may be changed.
	EstimatedCommands int64 `json:"estimated_commands"`
	MaxCommands       int64 `json:"max_commands"`

	// PlanCommands is what the plan itself has cost.
	PlanCommands int64 `json:"plan_commands"`

	// Examples are the first keys that match, at most 10.
	Examples []string `json:"examples"`
}

// A pattern is one that has been looked at.
type pattern struct {
	text  string
	store string // with prefix, parts veiled where they are sensitive
	match string // for SCAN
	space *space
}

// pattern reads a pattern: a key in which * stands for any characters of one part, and as the last part
// for everything that follows. The namespace is spelled out, or the pattern is * alone: the whole cache.
func (c *Cache) pattern(text string) (pattern, error) {
	bad := func(why string) error { return fmt.Errorf("%w: pattern %q: %s", ErrKey, shorten(text), why) }
	name, _, _ := strings.Cut(text, ":")
	sp := c.spaces.find(name)
	if text == "*" {
		return pattern{text: text, store: c.root + "*", match: c.root + "*", space: sp}, nil
	}
	if strings.Contains(name, "*") {
		return pattern{}, bad("the namespace must be spelled out, or the pattern be * alone")
	}
	if sp.bare {
		if len(text) > maxKeyBytes || !utf8.ValidString(text) || text == "" {
			return pattern{}, bad("want UTF-8 of at most 1024 bytes")
		}
		return pattern{text: text, store: text, match: globEscape(text), space: sp}, nil
	}
	if err := checkSpelling(text, true); err != nil {
		return pattern{}, err
	}
	if !plainPart(name) {
		return pattern{}, bad("the namespace may only have letters, digits, - _ and dots")
	}
	if sp.sensitive {
		for part := range strings.SplitSeq(text, ":") {
			if part != "*" && strings.Contains(part, "*") {
				return pattern{}, bad("the parts of sensitive keys are unreadable, so that * must be a whole part")
			}
		}
	}
	store := c.root + c.veil(sp, text)
	return pattern{text: text, store: store, match: store, space: sp}, nil
}

// globEscape makes everything but * stand for itself.
func globEscape(text string) string {
	return strings.NewReplacer(`\`, `\\`, `?`, `\?`, `[`, `\[`, `]`, `\]`).Replace(text)
}

// matches is whether a key is meant by a pattern; both are as in the upstream. There * also crosses
// colons; here it does not, except as the last part.
func matches(pattern, store string) bool {
	for {
		p, pRest, pMore := strings.Cut(pattern, ":")
		if p == "*" && !pMore {
			return store != ""
		}
		s, sRest, sMore := strings.Cut(store, ":")
		if !glob(p, s) || pMore != sMore {
			return false
		}
		if !pMore {
			return true
		}
		pattern, store = pRest, sRest
	}
}

// glob matches text with a pattern in which * is any characters.
func glob(pattern, text string) bool {
	first, rest, star := strings.Cut(pattern, "*")
	if !star {
		return pattern == text
	}
	if !strings.HasPrefix(text, first) {
		return false
	}
	text = text[len(first):]
	for {
		next, more, another := strings.Cut(rest, "*")
		if !another {
			return strings.HasSuffix(text, next)
		}
		i := strings.Index(text, next)
		if i < 0 {
			return false
		}
		text, rest = text[i+len(next):], more
	}
}

// PlanDelete says what DeletePattern would do and cost, and changes nothing. A pattern is a key in which
// * stands for any characters of one part, and as the last part for all that follows; every other
// character stands for itself. The pattern * alone is the whole cache, and nothing but the cache.
//
// Price: DBSIZE and at most 5 SCANs. Tags do the same as a pattern for 1 command (InvalidateTags).
func (c *Cache) PlanDelete(ctx context.Context, text string) (DeletePlan, error) {
	p, err := c.pattern(text)
	if err != nil {
		return DeletePlan{}, err
	}
	plan := DeletePlan{Pattern: text, Match: p.match, Examples: []string{}}
	complete := true
	var scans int64
	err = c.nodes(ctx, func(ctx context.Context, node redis.Cmdable) error {
		size, err := c.patient(ctx, func(ctx context.Context) (int64, error) { return node.DBSize(ctx).Result() })
		plan.PlanCommands++
		if err != nil {
			return err
		}
		plan.DatabaseKeys += size
		var cursor uint64
		for range planScans {
			keys, next, err := c.scan(ctx, node, cursor, "")
			plan.PlanCommands++
			scans++
			if err != nil {
				return err
			}
			plan.sample(p, keys)
			if cursor = next; cursor == 0 {
				return nil
			}
		}
		complete = false
		return nil
	})
	if err != nil {
		return plan, fmt.Errorf("plan the delete of %q: %w", shorten(text), err)
	}
	plan.estimate(complete, scans, p.space.Guard)
	return plan, nil
}

func (p *DeletePlan) sample(pat pattern, keys []string) {
	p.SampledKeys += int64(len(keys))
	for _, key := range keys {
		if !matches(pat.store, key) {
			continue
		}
		p.SampledMatches++
		if len(p.Examples) < 10 {
			p.Examples = append(p.Examples, key)
		}
	}
}

// estimate works out what deleting costs from what a sample of scans SCANs showed.
func (p *DeletePlan) estimate(complete bool, scans int64, guarded bool) {
	p.Exact, p.EstimatedKeys = complete, p.SampledMatches
	if !complete && p.SampledKeys > 0 {
		p.EstimatedKeys = (p.SampledMatches*p.DatabaseKeys + p.SampledKeys - 1) / p.SampledKeys
		scans = max(scans, (p.DatabaseKeys*scans+p.SampledKeys-1)/p.SampledKeys)
	}
	unlinks := (p.EstimatedKeys + unlinkBatch - 1) / unlinkBatch
	if guarded {
		unlinks = p.EstimatedKeys
	}
	p.EstimatedCommands = scans + unlinks
	p.MaxCommands = p.EstimatedCommands + p.EstimatedCommands/2 + 10
}

// DeletePattern deletes what a plan is about. It looks at the whole database with SCAN, never KEYS, and
// deletes with UNLINK, 500 keys a command. Entries that are written meanwhile may stay.
//
// It stops with ErrBudget before it spends more than plan.MaxCommands; the result says how far it came,
// and deleting again goes on. It is not bounded by Options.Deadline: ctx ends it. Price: see
// DeletePlan.EstimatedCommands.
func (c *Cache) DeletePattern(ctx context.Context, plan DeletePlan) (DeleteResult, error) {
	p, err := c.pattern(plan.Pattern)
	if err != nil {
		return DeleteResult{}, err
	}
	r := DeleteResult{}
	// Afterwards too, against those who have read meanwhile.
	c.dropPattern(p.store)
	defer c.dropPattern(p.store)
	err = c.nodes(ctx, func(ctx context.Context, node redis.Cmdable) error {
		return c.sweep(ctx, node, p, plan.MaxCommands, &r)
	})
	if err == nil && c.opts.Subscribe != nil {
		_, err = c.patient(ctx, func(ctx context.Context) (int64, error) {
			texts := announcement{Patterns: []string{p.store}}.encode(c.instance)
			r.Commands++
			return c.opts.Client.Publish(ctx, c.opts.Channel, texts[0]).Result()
		})
	}
	if err != nil {
		r.Cause = err
		return r, fmt.Errorf("delete %q, %d keys so far: %w", shorten(plan.Pattern), r.Deleted, err)
	}
	r.Done = true
	return r, nil
}

// sweep deletes the keys of one node.
func (c *Cache) sweep(ctx context.Context, node redis.Cmdable, p pattern, budget int64, r *DeleteResult) error {
	spend := func(n int64) error {
		if budget > 0 && r.Commands+n > budget {
			return fmt.Errorf("%w: %d commands of %d are spent; plan it again, or raise the limit", ErrBudget, r.Commands, budget)
		}
		r.Commands += n
		return nil
	}
	var batch []string
	unlink := func() error {
		n := min(unlinkBatch, len(batch))
		var d deletion
		for _, key := range batch[:n] {
			d.add(key, p.space)
		}
		price := int64(1)
		if p.space.Guard || c.opts.Cluster {
			price = int64(n)
		}
		if err := spend(price); err != nil {
			return err
		}
		deleted, err := c.patient(ctx, func(ctx context.Context) (int64, error) {
			deleted, _, err := c.deletionOn(ctx, node, d)
			return deleted, err
		})
		if err != nil {
			return err
		}
		r.Deleted += deleted
		p.space.counts.deletes.Add(int64(n))
		batch = batch[n:]
		return nil
	}
	seen := map[string]bool{} // SCAN may say a key twice; only while it is in the batch does that matter
	var cursor uint64
	for {
		if err := spend(1); err != nil {
			return err
		}
		keys, next, err := c.scan(ctx, node, cursor, p.match)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if matches(p.store, key) && !seen[key] {
				seen[key] = true
				batch = append(batch, key)
			}
		}
		cursor = next
		for len(batch) >= unlinkBatch || cursor == 0 && len(batch) > 0 {
			if err := unlink(); err != nil {
				return err
			}
			if len(batch) == 0 {
				clear(seen)
			}
		}
		if cursor == 0 {
			return nil
		}
	}
}

// scan reads one page of keys.
func (c *Cache) scan(ctx context.Context, node redis.Cmdable, cursor uint64, match string) (keys []string, next uint64, err error) {
	_, err = c.patient(ctx, func(ctx context.Context) (int64, error) {
		var err error
		keys, next, err = node.Scan(ctx, cursor, match, scanCount).Result()
		return 0, err
	})
	return keys, next, err
}

// patient runs one command of background work, for which nobody waits with a deadline of milliseconds.
func (c *Cache) patient(ctx context.Context, f func(ctx context.Context) (int64, error)) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	var n int64
	err := c.send(ctx, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, patternTimeout)
		defer cancel()
		var err error
		n, err = f(ctx)
		return err
	})
	return n, err
}

// nodes calls f for each node that has keys, one after the other.
func (c *Cache) nodes(ctx context.Context, f func(ctx context.Context, node redis.Cmdable) error) error {
	if !c.opts.Cluster {
		return f(ctx, c.opts.Client)
	}
	cluster, ok := c.opts.Client.(interface {
		ForEachMaster(ctx context.Context, f func(ctx context.Context, client *redis.Client) error) error
	})
	if !ok {
		return errors.New("this client cannot visit the nodes of a Cluster one by one; use tags instead of patterns")
	}
	one := make(chan struct{}, 1) // it calls for all nodes at once
	return cluster.ForEachMaster(ctx, func(ctx context.Context, node *redis.Client) error {
		one <- struct{}{}
		defer func() { <-one }()
		return f(ctx, node)
	})
}

// dropPattern drops from memory what a pattern means, and keeps what was read of it from being stored.
func (c *Cache) dropPattern(store string) {
	c.memory.dropMatching(func(key string) bool {
		if !matches(store, key) {
			return false
		}
		c.versions.changed(key)
		return true
	})
	c.versions.unknownChanged()
}
