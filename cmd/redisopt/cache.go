package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/config"
	"github.com/redisopt/redisopt/internal/runtime/meter"
	"github.com/redisopt/redisopt/internal/runtime/sidecar"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// cacheCommand is the group of commands about cached entries.
func (a *app) cacheCommand() *cobra.Command {
	return a.group("cache", "Cached entries: read, write, delete, fill, measure", `  redisopt cache get user:42:profile
  redisopt cache del-pattern 'user:42:*' --dry-run
  redisopt cache stats --max-commands 50`,
		a.cacheGetCommand(), a.cacheSetCommand(), a.cacheDelCommand(), a.cacheDelPatternCommand(),
		a.cacheWarmCommand(), a.cacheStatsCommand())
}

// withCache opens the cache of the configuration on its upstream, REST where that is configured. It
// keeps nothing in memory, and waits for a reply as long as any command does: a person asked. Spent is how
// many commands have left so far.
func (a *app) withCache(ctx context.Context, writes bool, f func(c *cache.Cache, spent func() int64) error) error {
	use := redisUse{component: meter.Cache, writes: writes, need: config.Need{Upstream: true}}
	return a.withRedis(ctx, use, func(up *upstream.Upstream, conf *config.Config) error {
		o := cacheOptions(conf)
		o.Client, o.BinarySafe = up.Client(), up.BinarySafe()
		o.InScript = func(_, command string, n int64) { up.AddInScript(meter.Cache, command, n) }
		o.Cluster = up.Transport() == "tcp" && len(conf.Upstream.Cluster) > 0
		c, err := cache.New(o)
		if err != nil {
			return &usageError{err}
		}
		defer func() { _ = c.Close() }() // it has no error of its own
		return f(c, func() int64 { return up.Spent().Commands })
	})
}

// cacheOptions are those of one command: without a tier in memory, with exact times to live, and as
// patient as other commands.
func cacheOptions(conf *config.Config) cache.Options {
	o := sidecar.CacheOptions(conf)
	o.L1Bytes, o.MergeWindow, o.Jitter, o.Deadline = -1, -1, -1, conf.Upstream.Timeout
	return o
}

// previewed runs f with a cache that cannot send anything, for plans that need no upstream.
func (a *app) previewed(f func(c *cache.Cache) error) error {
	conf, err := a.load(config.Need{Upstream: true})
	if err != nil {
		return err
	}
	o := cacheOptions(conf)
	o.Client = offline()
	if _, rest := sidecar.RESTOptions(conf); !rest {
		o.BinarySafe = true
	}
	c, err := cache.New(o)
	if err != nil {
		return &usageError{err}
	}
	defer func() { _ = c.Close() }() // it has no error of its own
	return f(c)
}

// cachePlanData is the contract of cache.plan/v1: what set, del, del-pattern or warm would do.
type cachePlanData struct {
	Action  string            `json:"action"`
	Keys    []string          `json:"keys"`
	Tags    []string          `json:"tags"`
	Entry   *cacheEntryPlan   `json:"entry,omitempty"`   // of set
	Pattern *cache.DeletePlan `json:"pattern,omitempty"` // of del-pattern
	Entries int               `json:"entries,omitempty"` // of warm

	// EstimatedCommands is what it would cost, PlanCommands what the plan has.
	EstimatedCommands int64 `json:"estimated_commands"`
	PlanCommands      int64 `json:"plan_commands"`
}

// cacheEntryPlan is how an entry would be kept.
type cacheEntryPlan struct {
	ValueBytes  int     `json:"value_bytes"`
	StoredBytes int     `json:"stored_bytes"`
	Compressed  bool    `json:"compressed"`
	Encrypted   bool    `json:"encrypted"`
	TTLSeconds  float64 `json:"ttl_seconds"` // 0: no expiry
	Clamped     bool    `json:"clamped"`
}

// cachePlanDocument is cache.plan/v1.
func cachePlanDocument(p cachePlanData) report.Document {
	doc := report.Document{Kind: "cache.plan/v1", Data: p, Title: "plan: " + p.Action}
	fields := []report.Field{}
	field := func(name, format string, args ...any) {
		fields = append(fields, report.Field{Name: name, Value: fmt.Sprintf(format, args...)})
	}
	if len(p.Keys) > 0 {
		field("keys", "%s", listed(p.Keys))
	}
	if len(p.Tags) > 0 {
		field("tags", "%s", listed(p.Tags))
	}
	if e := p.Entry; e != nil {
		field("value", "%d bytes", e.ValueBytes)
		field("stored", "%d bytes%s", e.StoredBytes, cacheHow(e.Compressed, e.Encrypted))
		field("lives", "%s", cacheLife(e.TTLSeconds, e.Clamped))
	}
	if d := p.Pattern; d != nil {
		field("pattern", "%s", d.Pattern)
		field("looks at", "%d keys, the whole database", d.DatabaseKeys)
		field("deletes", "%s%s", aboutUnless(d.Exact), plural(d.EstimatedKeys, "key"))
		if len(d.Examples) > 0 {
			field("such as", "%s", listed(d.Examples))
		}
		field("stops at", "%s", plural(d.MaxCommands, "command"))
	}
	if p.Entries > 0 {
		field("entries", "%d", p.Entries)
	}
	field("price", "about %s", plural(p.EstimatedCommands, "command"))
	doc.Sections = []report.Section{{Fields: fields}}
	return doc
}

func aboutUnless(exact bool) string {
	if exact {
		return ""
	}
	return "about "
}

// cacheHow is how a value is stored, for people.
func cacheHow(compressed, encrypted bool) string {
	switch {
	case compressed:
		return ", compressed"
	case encrypted:
		return ", encrypted"
	}
	return ""
}

// cacheLife is how long an entry lives, for people.
func cacheLife(seconds float64, clamped bool) string {
	if seconds == 0 {
		return "until it is deleted"
	}
	life := roughly(time.Duration(seconds * float64(time.Second)))
	if clamped {
		return life + ", shortened to the maximum"
	}
	return life
}

// listed is a list of names, cut after a few.
func listed(names []string) string {
	const most = 5
	if len(names) > most {
		return strings.Join(names[:most], ", ") + fmt.Sprintf(" and %d more", len(names)-most)
	}
	return strings.Join(names, ", ")
}
