package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// warmFile is the file of cache warm, YAML or JSON.
type warmFile struct {
	Entries []warmEntry `yaml:"entries"`
}

// A warmEntry is one entry to fill. Of value, json and file there is one.
type warmEntry struct {
	Key      string        `yaml:"key"`
	Value    *string       `yaml:"value"` // as it is
	JSON     any           `yaml:"json"`  // any YAML, written as JSON
	File     string        `yaml:"file"`  // its content; relative to the file that names it
	TTL      time.Duration `yaml:"ttl"`
	Class    string        `yaml:"class"`
	Codec    string        `yaml:"codec"`
	Tags     []string      `yaml:"tags"`
	NoExpiry bool          `yaml:"no_expiry"`
}

func (a *app) cacheWarmCommand() *cobra.Command {
	var (
		concurrency int
		force       bool
	)
	cmd := &cobra.Command{
		Use:   "warm FILE",
		Short: "Fill entries from a list, those that are not fresh",
		Long: `Fills the cache from a file, YAML or JSON:

  entries:
    - key: page:home
      file: home.html
      ttl: 10m
    - key: user:42:profile
      json: {name: Ann}
      class: USER_PROFILE

Each entry has a key, one of value, json and file, and if need be ttl, class, codec, tags, no_expiry.
Entries that are fresh are left alone. Costs 1 command for every 100 entries, and 1 for each that is
written, more with tags.`,
		Example: `  redisopt cache warm entries.yaml --dry-run
  redisopt cache warm entries.yaml --yes --max-commands 500`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.cacheWarm(ctx, args[0], concurrency, force) }),
	}
	cmd.Flags().IntVar(&concurrency, "concurrency", 4, "how many entries to write at a time")
	cmd.Flags().BoolVar(&force, "force", false, "write entries that are fresh too")
	return cmd
}

func (a *app) cacheWarm(ctx context.Context, file string, concurrency int, force bool) error {
	if concurrency < 1 || concurrency > 64 {
		return usagef("--concurrency: got %d, want 1 to 64", concurrency)
	}
	text, err := a.readInput(file)
	if err != nil {
		return err
	}
	items, err := a.warmItems(file, text)
	if err != nil {
		return err
	}
	plan := cachePlanData{Action: "warm", Keys: []string{}, Tags: []string{}, Entries: len(items)}
	plan.EstimatedCommands = int64((len(items) + 99) / 100)
	err = a.previewed(func(c *cache.Cache) error {
		var errs []error
		for _, item := range items {
			plan.Keys = append(plan.Keys, item.Key)
			value, err := item.Load(ctx)
			if err == nil {
				var p cache.SetResult
				p, err = c.Preview(item.Key, value, item.Options)
				plan.EstimatedCommands += int64(p.Commands)
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	doc := cachePlanDocument(plan)
	if a.flags.dryRun {
		return a.print(doc)
	}
	if err := a.confirm(ctx, doc, "Write the entries?"); err != nil {
		return err
	}
	return a.withCache(ctx, true, func(c *cache.Cache, _ func() int64) error {
		r, err := c.Warm(ctx, cache.Warmer{
			Name: filepath.Base(file), Concurrency: concurrency, Force: force, MaxCommands: -1, // the connection counts
			Items: func(context.Context) ([]cache.WarmItem, error) { return items, nil },
		})
		if r.Items > 0 {
			err = errors.Join(a.print(cacheWarmDocument(r)), err)
		}
		if err == nil && r.Failed > 0 {
			err = fmt.Errorf("%d of %d entries were not written: %s", r.Failed, r.Items, r.Errors[0])
		}
		return err
	})
}

// warmItems reads the list, and reports all that is wrong with it.
func (a *app) warmItems(file string, text []byte) ([]cache.WarmItem, error) {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	var list warmFile
	if err := dec.Decode(&list); err != nil && !errors.Is(err, io.EOF) {
		return nil, usagef("%s: %w", file, err)
	}
	var (
		items []cache.WarmItem
		errs  []error
		keys  = map[string]bool{}
	)
	for i, e := range list.Entries {
		at := fmt.Sprintf("%s: entries[%d] %q", file, i, e.Key)
		value, err := a.warmValue(e, filepath.Dir(file))
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", at, err))
		case keys[e.Key]:
			errs = append(errs, fmt.Errorf("%s: the key is there twice", at))
		}
		keys[e.Key] = true
		items = append(items, cache.WarmItem{
			Key:     e.Key,
			Load:    func(context.Context) ([]byte, error) { return value, nil },
			Options: cache.SetOptions{TTL: e.TTL, Class: e.Class, Codec: cache.Codec(e.Codec), Tags: e.Tags, NoExpiry: e.NoExpiry},
		})
	}
	if len(list.Entries) == 0 {
		errs = append(errs, fmt.Errorf("%s: no entries", file))
	}
	if len(errs) > 0 {
		return nil, &usageError{errors.Join(errs...)}
	}
	return items, nil
}

func (a *app) warmValue(e warmEntry, dir string) ([]byte, error) {
	given := []bool{e.Value != nil, e.JSON != nil, e.File != ""}
	if n := len(slices.DeleteFunc(given, func(b bool) bool { return !b })); n != 1 {
		return nil, errors.New("want exactly one of value, json and file")
	}
	switch {
	case e.Value != nil:
		return []byte(*e.Value), nil
	case e.JSON != nil:
		return json.Marshal(e.JSON)
	}
	path := e.File
	if !filepath.IsAbs(path) {
		path = filepath.Join(dir, path)
	}
	return a.readInput(path)
}

// cacheWarmDocument is cache.warm/v1.
func cacheWarmDocument(r cache.WarmReport) report.Document {
	doc := report.Document{Kind: "cache.warm/v1", Data: r, Title: "warm " + r.Name, Sections: []report.Section{{Fields: []report.Field{
		{Name: "entries", Value: fmt.Sprint(r.Items)},
		{Name: "fresh", Value: fmt.Sprintf("%d, left alone", r.Fresh)},
		{Name: "written", Value: fmt.Sprint(r.Stored + r.Absent)},
		{Name: "failed", Value: fmt.Sprint(r.Failed)},
		{Name: "left", Value: fmt.Sprint(r.Left)},
	}}}}
	doc.Notes = append(doc.Notes, r.Errors...)
	return doc
}

// offline is a client that cannot send anything, for plans.
func offline() redis.UniversalClient {
	return redis.NewClient(&redis.Options{
		Addr: "127.0.0.1:0", MaxRetries: -1, DialerRetries: 1,
		Dialer: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("a plan sends nothing")
		},
	})
}
