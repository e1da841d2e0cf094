package cache

import (
	"context"
	"errors"
	"time"
)

var errSoon = errors.New("being written")

func New(o Options) (*Cache, error) { return &Cache{opts: o}, nil }

type Cache struct{ opts Options }

func (c *Cache) Run(ctx context.Context) error { <-ctx.Done(); return nil }
func (c *Cache) Close() error                  { return nil }

func (c *Cache) Get(ctx context.Context, key string, tags ...string) (Result, error) {
	return Result{}, errSoon
}
func (c *Cache) GetMany(ctx context.Context, keys []string) (map[string]Result, error) {
	return nil, errSoon
}
func (c *Cache) Set(ctx context.Context, key string, value []byte, o SetOptions) (SetResult, error) {
	return SetResult{}, errSoon
}

// An Item is one write of SetMany.
type Item struct {
	Key     string
	Value   []byte
	Options SetOptions
}

func (c *Cache) SetMany(ctx context.Context, items []Item) ([]SetResult, error) {
	return nil, errSoon
}

// A Loader finds a value that is not in the cache.
type Loader func(ctx context.Context) ([]byte, error)

func (c *Cache) GetOrLoad(ctx context.Context, key string, o SetOptions, load Loader) (Result, error) {
	return Result{}, errSoon
}
func (c *Cache) Delete(ctx context.Context, keys ...string) (DeleteResult, error) {
	return DeleteResult{}, errSoon
}
func (c *Cache) InvalidateTags(ctx context.Context, tags ...string) (DeleteResult, error) {
	return DeleteResult{}, errSoon
}

// A DeleteResult says what became of a delete. Cause says why the upstream did not do it.
type DeleteResult struct {
	Deleted  int64
	Commands int64
	Done     bool
	Cause    error
}

// A DeletePlan is what DeletePattern would do and cost.
type DeletePlan struct {
	Pattern           string `json:"pattern"`
	Match             string `json:"match"`
	DatabaseKeys      int64  `json:"database_keys"`
	SampledKeys       int64  `json:"sampled_keys"`
	SampledMatches    int64  `json:"sampled_matches"`
	EstimatedKeys     int64  `json:"estimated_keys"`
	EstimatedCommands int64  `json:"estimated_commands"`
	PlanCommands      int64  `json:"plan_commands"`
	Exact             bool   `json:"exact"`
}

func (c *Cache) PlanDelete(ctx context.Context, pattern string) (DeletePlan, error) {
	return DeletePlan{}, errSoon
}
func (c *Cache) DeletePattern(ctx context.Context, plan DeletePlan) (DeleteResult, error) {
	return DeleteResult{}, errSoon
}

// A Warmer fills part of the cache before it is asked for.
type Warmer struct {
	Name        string
	Every       time.Duration
	Items       func(ctx context.Context) ([]WarmItem, error)
	Concurrency int
	MaxCommands int64
	Force       bool
}

// A WarmItem is one entry to fill.
type WarmItem struct {
	Key     string
	Load    Loader
	Options SetOptions
}

// A WarmReport is what a Warmer did.
type WarmReport struct {
	Name     string
	Items    int
	Fresh    int
	Loaded   int
	Stored   int
	Failed   int
	Left     int
	Commands int64
	Errors   []string
}

func (w Warmer) validate() error { return nil }

func (c *Cache) Warm(ctx context.Context, w Warmer) (WarmReport, error) {
	return WarmReport{}, errSoon
}

// Stats are counts since New. See NamespaceStats.
type Stats struct {
	Namespaces map[string]NamespaceStats `json:"namespaces"`
}

// NamespaceStats are the counts of one namespace.
type NamespaceStats struct {
	MemoryHits int64 `json:"memory_hits"`
}

func (c *Cache) Stats() Stats { return Stats{} }
