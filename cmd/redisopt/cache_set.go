package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// maxCacheFile bounds a file that a command reads into memory.
const maxCacheFile = 64 << 20

// cacheSetData is the contract of cache.set/v1.
type cacheSetData struct {
	Key      string `json:"key"`
	Stored   bool   `json:"stored"`
	Commands int    `json:"commands"`
	cacheEntryPlan
}

// cacheSetFlags say how an entry is kept.
type cacheSetFlags struct {
	ttl      time.Duration
	class    string
	codec    string
	tags     []string
	noExpiry bool
	file     string
}

func (f *cacheSetFlags) options() cache.SetOptions {
	return cache.SetOptions{TTL: f.ttl, Class: f.class, Codec: cache.Codec(f.codec), Tags: f.tags, NoExpiry: f.noExpiry}
}

func (a *app) cacheSetCommand() *cobra.Command {
	var f cacheSetFlags
	cmd := &cobra.Command{
		Use:   "set KEY [VALUE]",
		Short: "Write one entry, after showing how it would be kept",
		Long: `Writes one entry as the sidecar does: in its namespace's codec, compressed or encrypted where that is
configured, for the time of its class. A value that must not be cached (a password, a token) is refused.
Costs 1 command, and up to 2 more for tags.`,
		Example: `  redisopt cache set page:home '<html>' --ttl 10m
  redisopt cache set user:42:profile --file profile.json --class USER_PROFILE --yes`,
		Args: cobra.RangeArgs(1, 2),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.cacheSet(ctx, args, f) }),
	}
	cmd.Flags().DurationVar(&f.ttl, "ttl", 0, "how long the entry lives (default that of its class)")
	cmd.Flags().StringVar(&f.class, "class", "", "the `class`, a named time to live (default that of the namespace)")
	cmd.Flags().StringVar(&f.codec, "codec", "", "raw, json or msgpack (default that of the namespace)")
	cmd.Flags().StringArrayVar(&f.tags, "tag", nil, "a `tag` whose invalidation ends the entry; may be repeated")
	cmd.Flags().BoolVar(&f.noExpiry, "no-expiry", false, "keep the entry until it is deleted")
	cmd.Flags().StringVar(&f.file, "file", "", "read the value from this `file`, - for standard input")
	return cmd
}

func (a *app) cacheSet(ctx context.Context, args []string, f cacheSetFlags) error {
	if (len(args) == 2) == (f.file != "") {
		return usagef("want the value either as VALUE or by --file")
	}
	if f.ttl < 0 {
		return usagef("--ttl: got %s, want more than 0s", f.ttl)
	}
	value := []byte(nil)
	if f.file == "" {
		value = []byte(args[1])
	} else {
		var err error
		if value, err = a.readInput(f.file); err != nil {
			return err
		}
	}
	if f.file == "-" && !a.flags.yes && !a.flags.dryRun {
		return usagef("standard input is the value, so nobody can be asked; read the plan with --dry-run, then add --yes")
	}
	key, o := args[0], f.options()
	var preview cache.SetResult
	err := a.previewed(func(c *cache.Cache) error {
		var err error
		preview, err = c.Preview(key, value, o)
		return err
	})
	if err != nil {
		return err
	}
	plan := cachePlanDocument(cachePlanData{
		Action: "write " + key, Keys: []string{key}, Tags: orEmpty(f.tags), Entry: entryPlan(preview),
		EstimatedCommands: int64(preview.Commands),
	})
	if a.flags.dryRun {
		return a.print(plan)
	}
	if err := a.confirm(ctx, plan, "Write the entry?"); err != nil {
		return err
	}
	return a.withCache(ctx, true, func(c *cache.Cache, _ func() int64) error {
		r, err := c.Set(ctx, key, value, o)
		if err != nil {
			return err
		}
		if !r.Stored {
			return r.Cause
		}
		return a.print(cacheSetDocument(cacheSetData{Key: key, Stored: true, Commands: r.Commands, cacheEntryPlan: *entryPlan(r)}))
	})
}

func entryPlan(r cache.SetResult) *cacheEntryPlan {
	return &cacheEntryPlan{
		ValueBytes: r.ValueBytes, StoredBytes: r.StoredBytes, Compressed: r.Compressed, Encrypted: r.Encrypted,
		TTLSeconds: r.TTL.Seconds(), Clamped: r.Clamped,
	}
}

// cacheSetDocument is cache.set/v1.
func cacheSetDocument(d cacheSetData) report.Document {
	return report.Document{Kind: "cache.set/v1", Data: d, Title: d.Key, Sections: []report.Section{{Fields: []report.Field{
		{Name: "stored", Value: fmt.Sprintf("%d bytes for %d%s", d.StoredBytes, d.ValueBytes, cacheHow(d.Compressed, d.Encrypted))},
		{Name: "lives", Value: cacheLife(d.TTLSeconds, d.Clamped)},
	}}}}
}

// readInput reads a file, or standard input for "-", up to maxCacheFile.
func (a *app) readInput(file string) ([]byte, error) {
	in := a.in
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return nil, &usageError{err}
		}
		defer func() { _ = f.Close() }() // it was only read
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxCacheFile+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	if len(text) > maxCacheFile {
		return nil, usagef("%s has more than %d bytes", file, maxCacheFile)
	}
	return text, nil
}

// orEmpty is list, or an empty one for nil.
func orEmpty(list []string) []string {
	if list == nil {
		return []string{}
	}
	return list
}
