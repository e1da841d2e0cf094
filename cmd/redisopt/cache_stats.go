package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/cache"
)

func (a *app) cacheStatsCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "stats",
		Short: "What the cache holds, by namespace, from a sample",
		Long: `Looks at a sample of the keys, and into some entries of each namespace: at their size and the header of
their envelope, which says codec, age and time to live. It reads no values and changes nothing. Spends at
most --max-commands, 100 without it. What a running sidecar counts, hits and misses, is at its /metrics.`,
		Example: `  redisopt cache stats
  redisopt cache stats --max-commands 30 -o json`,
		Args: cobra.NoArgs,
		RunE: a.action(func(ctx context.Context, _ []string) error { return a.cacheStats(ctx) }),
	}
}

// connectPrice is what a connection costs before the first command of the work: HELLO, and what Open
// asks to know that the Redis answers, with AUTH and SELECT where they are needed.
const connectPrice = 5

func (a *app) cacheStats(ctx context.Context) error {
	budget := int64(100)
	if limit := a.flags.maxCommands; limit > 0 {
		if budget = limit - connectPrice; budget < 3 {
			return usagef("--max-commands: got %d, want at least %d to connect and look at anything", limit, connectPrice+3)
		}
	}
	return a.withCache(ctx, false, func(c *cache.Cache, _ func() int64) error {
		s, err := c.Sample(ctx, cache.SampleOptions{MaxCommands: budget})
		if err != nil {
			return err
		}
		return a.print(cacheStatsDocument(s))
	})
}

// cacheStatsDocument is cache.stats/v1.
func cacheStatsDocument(s cache.Sample) report.Document {
	doc := report.Document{Kind: "cache.stats/v1", Data: s, Title: "cache"}
	if len(s.Namespaces) == 0 {
		doc.Sections = []report.Section{{Text: fmt.Sprintf("no entry of the cache among %s", plural(s.SampledKeys, "key"))}}
	} else {
		doc.Sections = []report.Section{{Table: cacheStatsTable(s)}}
	}
	if !s.Complete {
		doc.Notes = append(doc.Notes, fmt.Sprintf("estimated from %d of %d keys; --max-commands raises the sample", s.SampledKeys, s.DatabaseKeys))
	}
	if s.OtherKeys > 0 {
		doc.Notes = append(doc.Notes, fmt.Sprintf("%s in the sample do not belong to the cache", plural(s.OtherKeys, "key")))
	}
	if s.TagKeys > 0 {
		doc.Notes = append(doc.Notes, fmt.Sprintf("%s in the sample hold generations of tags", plural(s.TagKeys, "key")))
	}
	for _, ns := range s.Namespaces {
		if ns.Foreign > 0 {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s: %d of %d entries have no envelope that can be read; they are misses", ns.Name, ns.Foreign, ns.Entries))
		}
		if ns.NoExpiry > 0 {
			doc.Notes = append(doc.Notes, fmt.Sprintf("%s: %d of %d entries never expire", ns.Name, ns.NoExpiry, ns.Entries))
		}
	}
	return doc
}

func cacheStatsTable(s cache.Sample) *report.Table {
	table := &report.Table{Columns: []report.Column{
		{Name: "namespace", Elastic: true},
		{Name: "keys", Right: true},
		{Name: "bytes", Right: true},
		{Name: "mean", Right: true},
		{Name: "codec"},
		{Name: "zip", Right: true},
		{Name: "enc", Right: true},
		{Name: "age", Right: true},
		{Name: "ttl", Right: true},
	}}
	for _, ns := range s.Namespaces {
		codecs := make([]string, len(ns.Codecs))
		for i, c := range ns.Codecs {
			codecs[i] = string(c)
		}
		share := func(n int64) string {
			if known := ns.Entries - ns.Foreign; known > 0 {
				return fmt.Sprintf("%d%%", 100*n/known)
			}
			return "-"
		}
		ms := func(n int64) string {
			if n == 0 {
				return "-"
			}
			return roughly((time.Duration(n) * time.Millisecond).Truncate(time.Second))
		}
		table.Rows = append(table.Rows, []string{
			ns.Name, fmt.Sprint(ns.EstimatedKeys), fmt.Sprint(ns.EstimatedBytes), fmt.Sprint(ns.MeanBytes),
			strings.Join(codecs, ","), share(ns.Compressed), share(ns.Encrypted), ms(ns.MeanAgeMS), ms(ns.MeanTTLMS),
		})
	}
	return table
}
