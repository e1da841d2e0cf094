package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// cacheDelData is the contract of cache.del/v1.
type cacheDelData struct {
	Keys     []string `json:"keys"`
	Tags     []string `json:"tags"`
	Pattern  string   `json:"pattern,omitempty"`
	Deleted  int64    `json:"deleted"` // entries that were there; what a tag ended is not counted
	Commands int64    `json:"commands"`
	Done     bool     `json:"done"`
}

func (a *app) cacheDelCommand() *cobra.Command {
	var tags []string
	cmd := &cobra.Command{
		Use:   "del [KEY...]",
		Short: "End entries by key, or all that carry a tag",
		Long: `Ends entries. Any number of keys is 1 command, and so is a tag, however many entries carry it: with
owner_parts configured, --tag user:42 ends all that belongs to user 42. Replicas that have an entry in
memory serve it until its time there ends (l1_ttl).`,
		Example: `  redisopt cache del user:42:profile user:42:contacts
  redisopt cache del --tag user:42 --yes`,
		Args: cobra.ArbitraryArgs,
		RunE: a.action(func(ctx context.Context, args []string) error { return a.cacheDel(ctx, args, tags) }),
	}
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "a `tag` to invalidate; may be repeated")
	return cmd
}

func (a *app) cacheDel(ctx context.Context, keys, tags []string) error {
	if len(keys)+len(tags) == 0 {
		return usagef("want a key or a --tag to delete")
	}
	var price int64
	err := a.previewed(func(c *cache.Cache) error {
		var err error
		price, err = c.DeletePrice(keys, tags)
		return err
	})
	if err != nil {
		return err
	}
	plan := cachePlanDocument(cachePlanData{
		Action: "delete", Keys: orEmpty(keys), Tags: orEmpty(tags), EstimatedCommands: price,
	})
	if a.flags.dryRun {
		return a.print(plan)
	}
	if err := a.confirm(ctx, plan, "Delete them?"); err != nil {
		return err
	}
	return a.withCache(ctx, true, func(c *cache.Cache, _ func() int64) error {
		byKey, err := c.Delete(ctx, keys...)
		if err == nil {
			err = byKey.Cause
		}
		if err != nil {
			return err
		}
		byTag, err := c.InvalidateTags(ctx, tags...)
		if err == nil {
			err = byTag.Cause
		}
		if err != nil {
			return err
		}
		return a.print(cacheDelDocument(cacheDelData{
			Keys: orEmpty(keys), Tags: orEmpty(tags), Deleted: byKey.Deleted, Commands: byKey.Commands + byTag.Commands, Done: true,
		}))
	})
}

func (a *app) cacheDelPatternCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "del-pattern PATTERN",
		Short: "Delete the entries that a pattern means, after showing the price",
		Long: `Looks at every key of the database, 1,000 a command (SCAN), and deletes those that match, 500 a command
(UNLINK). In a pattern * stands for any characters of one part, and as the last part for all that follows;
* alone is the whole cache, and nothing but the cache. It stops at the number of commands in the plan, or
at --max-commands.

A tag does the same for 1 command: redisopt cache del --tag user:42.`,
		Example: `  redisopt cache del-pattern 'user:*:profile' --dry-run
  redisopt cache del-pattern 'user:42:*' --yes`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.cacheDelPattern(ctx, args[0]) }),
	}
	return cmd
}

func (a *app) cacheDelPattern(ctx context.Context, pattern string) error {
	return a.withCache(ctx, true, func(c *cache.Cache, spent func() int64) error {
		plan, err := c.PlanDelete(ctx, pattern)
		if err != nil {
			return err
		}
		doc := cachePlanDocument(cachePlanData{
			Action: "delete " + pattern, Keys: []string{}, Tags: []string{}, Pattern: &plan,
			EstimatedCommands: plan.EstimatedCommands, PlanCommands: plan.PlanCommands,
		})
		if a.flags.dryRun {
			return a.print(doc)
		}
		if plan.EstimatedKeys == 0 && plan.Exact {
			return a.print(cacheDelDocument(cacheDelData{Keys: []string{}, Tags: []string{}, Pattern: pattern, Commands: plan.PlanCommands, Done: true}))
		}
		if limit := a.flags.maxCommands; limit > 0 && spent()+plan.EstimatedCommands > limit {
			return verdictf(exitViolated, "deleting %q costs about %d commands, and --max-commands allows %d, %d of them spent on the plan",
				pattern, plan.EstimatedCommands, limit, spent())
		}
		if err := a.confirm(ctx, doc, "Delete them?"); err != nil {
			return err
		}
		r, err := c.DeletePattern(ctx, plan)
		d := cacheDelData{
			Keys: []string{}, Tags: []string{}, Pattern: pattern, Deleted: r.Deleted,
			Commands: r.Commands + plan.PlanCommands, Done: r.Done,
		}
		if err != nil && r.Deleted > 0 {
			return errors.Join(a.print(cacheDelDocument(d)), err)
		}
		if err != nil {
			return err
		}
		return a.print(cacheDelDocument(d))
	})
}

// cacheDelDocument is cache.del/v1.
func cacheDelDocument(d cacheDelData) report.Document {
	what := fmt.Sprintf("%s deleted", plural(d.Deleted, "entry"))
	if d.Deleted != 1 {
		what = fmt.Sprintf("%d entries deleted", d.Deleted)
	}
	doc := report.Document{Kind: "cache.del/v1", Data: d}
	if len(d.Keys) > 0 || d.Pattern != "" {
		doc.Sections = append(doc.Sections, report.Section{Text: what})
	}
	if len(d.Tags) > 0 {
		doc.Sections = append(doc.Sections, report.Section{Text: "all entries with the " + listedAs("tag", d.Tags) + " have ended"})
	}
	if !d.Done {
		doc.Notes = append(doc.Notes, "not all of them: it stopped before its end")
	}
	return doc
}

// listedAs is one or more names with what they are.
func listedAs(what string, names []string) string {
	if len(names) > 1 {
		what += "s"
	}
	return what + " " + listed(names)
}
