package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// maxReplyBytes bounds the values of one batch, which are held in memory while they are written.
const maxReplyBytes = 32 << 20

// A CacheEntry is the answer to one key of a batch.
type CacheEntry struct {
	Key         string          `json:"key"`
	Status      CacheStatus     `json:"status" enum:"hit,stale,negative,miss" doc:"stale and negative are hits too"`
	Value       json.RawMessage `json:"value,omitempty" doc:"The value, where it is JSON; 0, false, an empty string and null are values"`
	ValueBase64 []byte          `json:"value_base64,omitempty" doc:"The value, where it is bytes"`
	Codec       string          `json:"codec,omitempty" enum:"raw,json,msgpack,ioredis-json"`
	Source      string          `json:"source,omitempty" enum:"memory,upstream,loader"`
	AgeSeconds  float64         `json:"age_seconds" doc:"Since the value was written"`
	TTLSeconds  float64         `json:"ttl_seconds" doc:"How long it is fresh; 0 without an end"`
	Degraded    string          `json:"degraded,omitempty" doc:"The class of the upstream's failure, when it did not answer"`
	Token       string          `json:"token,omitempty" doc:"For a write that must not overtake a delete"`
}

type batchGetInput struct {
	Body struct {
		Keys []string `json:"keys" minItems:"1" maxItems:"1000" nullable:"false"`
	}
}

type batchGetOutput struct {
	Body struct {
		Entries []CacheEntry `json:"entries" nullable:"false" doc:"In the order of the keys"`
	}
}

// A CacheWrite is one write of a batch.
type CacheWrite struct {
	Key             string          `json:"key" minLength:"1" maxLength:"4096"`
	Value           json.RawMessage `json:"value,omitempty" doc:"The value as JSON; this or value_base64, unless it is negative"`
	ValueBase64     *[]byte         `json:"value_base64,omitempty" doc:"The value as bytes"`
	TTLSeconds      float64         `json:"ttl_seconds,omitempty" minimum:"0" doc:"Absent or 0: as the class says"`
	StaleForSeconds float64         `json:"stale_for_seconds,omitempty" minimum:"0"`
	Class           string          `json:"class,omitempty" maxLength:"100"`
	Tags            []string        `json:"tags,omitempty" maxItems:"16" nullable:"false"`
	Token           string          `json:"token,omitempty" maxLength:"4096"`
	NoExpiry        bool            `json:"no_expiry,omitempty"`
	Negative        bool            `json:"negative,omitempty"`
	Announce        bool            `json:"announce,omitempty"`
}

type batchSetInput struct {
	Body struct {
		Entries []CacheWrite `json:"entries" minItems:"1" maxItems:"1000" nullable:"false"`
	}
}

type batchSetOutput struct {
	Body struct {
		Entries []WriteResult `json:"entries" nullable:"false" doc:"In the order of the request"`
	}
}

type deleteInput struct {
	Body struct {
		Keys []string `json:"keys" minItems:"1" maxItems:"1000" nullable:"false"`
	}
}

type invalidateInput struct {
	Body struct {
		Tags []string `json:"tags" minItems:"1" maxItems:"1000" nullable:"false" doc:"Every entry that carries one of them ends: tags it was set with, and the owner in its key"`
	}
}

// A Deletion says what became of a delete.
type Deletion struct {
	Done     bool   `json:"done" doc:"The upstream did it; if not, this replica has forgotten the entries and tells the upstream when it is back, and others may still have them"`
	Reason   string `json:"reason,omitempty" doc:"Why it is not done: the class of the upstream's failure"`
	Deleted  int64  `json:"deleted" doc:"Entries that were there, as far as the upstream says; 0 for an invalidation"`
	Commands int64  `json:"commands" doc:"Billed commands it cost"`
}

type deleteOutput struct {
	Status int
	Body   Deletion
}

type patternInput struct {
	Body struct {
		Pattern     string `json:"pattern" minLength:"1" maxLength:"4096" doc:"Glob over keys as they are spelled here: user:42:*"`
		MaxCommands int64  `json:"max_commands,omitempty" minimum:"0" doc:"Delete if it is estimated to cost at most this; absent or 0: only say what it would cost"`
	}
}

type patternOutput struct {
	Body struct {
		Plan    cache.DeletePlan `json:"plan" doc:"What it costs, estimated from a sample"`
		Done    bool             `json:"done" doc:"False when only the plan was asked for"`
		Deleted int64            `json:"deleted"`
		Spent   int64            `json:"commands" doc:"Billed commands, the plan's included"`
	}
}

type statsOutput struct{ Body cache.Stats }

func (a *API) cacheBatchRoutes(h huma.API) {
	post := func(id, path, summary string, scope Scope, description string) huma.Operation {
		return withErrors(takesJSON(a.operation(id, http.MethodPost, "/v1/cache/"+path, "cache", summary, scope, description)),
			http.StatusServiceUnavailable)
	}
	huma.Register(h, post("cache-get-many", "get", "Many values", ScopeCacheRead,
		"One MGET for all keys that are not in memory: 1 command however many they are. Misses are no error."), a.cacheGetMany)
	huma.Register(h, post("cache-set-many", "set", "Set many values", ScopeCacheWrite, "Costs 1 command for each value, in one round trip."), a.cacheSetMany)
	huma.Register(h, orLater(h, post("cache-delete-many", "delete", "Delete many values", ScopeCacheWrite,
		"Costs 1 command however many they are.")), a.cacheDeleteMany)
	huma.Register(h, orLater(h, post("cache-invalidate", "invalidate", "Invalidate by tags", ScopeCacheWrite,
		"Ends every entry that carries one of the tags, however many there are, without finding them: 1 command for each tag.")), a.cacheInvalidate)
	huma.Register(h, post("cache-delete-pattern", "delete-pattern", "Delete by pattern", ScopeCacheWrite,
		"Reads through the whole database, so tags are cheaper. Without max_commands it only says what it would cost."), a.cacheDeletePattern)
	huma.Register(h, a.operation("cache-stats", http.MethodGet, "/v1/cache/stats", "cache", "What the cache did since it was started", ScopeCacheRead,
		"Costs no command."), a.cacheStats)
}

// orLater says that a delete may be done later.
func orLater(h huma.API, op huma.Operation) huma.Operation {
	op.Responses["202"] = jsonResponse("Not done yet because the upstream did not answer", schemaOf[Deletion](h))
	op.Description += " 202 while the upstream does not answer: it is told later."
	return op
}

func (a *API) cacheGetMany(ctx context.Context, in *batchGetInput) (*batchGetOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	results, err := a.opts.Cache.GetMany(ctx, in.Body.Keys)
	if err != nil {
		return nil, cacheProblem(err, "body.keys")
	}
	var size int
	for _, r := range results {
		size += len(r.Value)
	}
	if size > maxReplyBytes {
		return nil, newProblem(http.StatusUnprocessableEntity, "reply_too_large", "Reply too large",
			"the values have "+itoa(size)+" bytes together, and an answer has at most "+itoa(maxReplyBytes), "ask for fewer keys at once, or for one with GET")
	}
	out := &batchGetOutput{}
	for i, key := range in.Body.Keys {
		r := results[i]
		e := CacheEntry{Key: key, Status: statusOf(r), Codec: string(r.Codec), Source: string(r.Source), Degraded: degradedBy(r), Token: r.Token}
		e.Value, e.ValueBase64 = rawOrText(r)
		e.AgeSeconds, e.TTLSeconds = r.Age.Seconds(), r.TTL.Seconds()
		out.Body.Entries = append(out.Body.Entries, e)
	}
	return out, nil
}

func (a *API) cacheSetMany(ctx context.Context, in *batchSetInput) (*batchSetOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	items := make([]cache.Item, 0, len(in.Body.Entries))
	for i, e := range in.Body.Entries {
		item, err := e.item(i)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	results, err := a.opts.Cache.SetMany(ctx, items)
	if errors.Is(err, cache.ErrValue) { // one of them is in a namespace with a form of its own
		results, err = results[:0], nil
		for _, item := range items {
			r, e := a.set(ctx, item)
			if e != nil {
				err = e
				break
			}
			results = append(results, r)
		}
	}
	if err != nil {
		return nil, cacheProblem(err, "body.entries")
	}
	out := &batchSetOutput{}
	for i, r := range results {
		out.Body.Entries = append(out.Body.Entries, written(items[i].Key, r))
	}
	return out, nil
}

func (e CacheWrite) item(i int) (cache.Item, error) {
	at := "body.entries[" + itoa(i) + "]"
	given := 0
	for _, there := range []bool{e.Value != nil, e.ValueBase64 != nil, e.Negative} {
		if there {
			given++
		}
	}
	if given != 1 {
		return cache.Item{}, invalid(at, "want exactly one of value, value_base64 and negative")
	}
	item := cache.Item{Key: e.Key, Options: cache.SetOptions{
		TTL: seconds(e.TTLSeconds), StaleFor: seconds(e.StaleForSeconds), Class: e.Class, Tags: e.Tags, Token: e.Token,
		NoExpiry: e.NoExpiry, Negative: e.Negative, Announce: e.Announce,
	}}
	if e.Value != nil {
		item.Value, item.Options.Codec = e.Value, cache.JSON
	}
	if e.ValueBase64 != nil {
		item.Value, item.Options.Codec = *e.ValueBase64, cache.Raw
	}
	return item, nil
}

func (a *API) cacheDeleteMany(ctx context.Context, in *deleteInput) (*deleteOutput, error) {
	return a.deleteKeys(ctx, in.Body.Keys, "body.keys")
}

func (a *API) deleteKeys(ctx context.Context, keys []string, location string) (*deleteOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	r, err := a.opts.Cache.Delete(ctx, keys...)
	return deleted(r, err, location)
}

func (a *API) cacheInvalidate(ctx context.Context, in *invalidateInput) (*deleteOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	r, err := a.opts.Cache.InvalidateTags(ctx, in.Body.Tags...)
	return deleted(r, err, "body.tags")
}

// deleted is 202 where the upstream did not do it: it will be told, but until then other replicas may serve
// what the caller believes is gone.
func deleted(r cache.DeleteResult, err error, location string) (*deleteOutput, error) {
	if err != nil {
		return nil, cacheProblem(err, location)
	}
	out := &deleteOutput{http.StatusOK, Deletion{Done: r.Done, Deleted: r.Deleted, Commands: r.Commands}}
	if !r.Done {
		out.Status, out.Body.Reason = http.StatusAccepted, failureClass(r.Cause)
	}
	return out, nil
}

func (a *API) cacheDeletePattern(ctx context.Context, in *patternInput) (*patternOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	plan, err := a.opts.Cache.PlanDelete(ctx, in.Body.Pattern)
	if err != nil {
		return nil, cacheProblem(err, "body.pattern")
	}
	out := &patternOutput{}
	out.Body.Plan, out.Body.Spent = plan, plan.PlanCommands
	if in.Body.MaxCommands == 0 {
		return out, nil
	}
	if plan.EstimatedCommands > in.Body.MaxCommands {
		return nil, newProblem(http.StatusTooManyRequests, "command_budget_spent", "Command budget spent",
			"the pattern is estimated to cost "+itoa(plan.EstimatedCommands)+" commands and max_commands is "+itoa(in.Body.MaxCommands)+"; nothing was deleted",
			"raise max_commands, or use tags")
	}
	plan.MaxCommands = in.Body.MaxCommands
	r, err := a.opts.Cache.DeletePattern(ctx, plan)
	if err != nil {
		return nil, cacheProblem(err, "body.pattern")
	}
	out.Body.Done, out.Body.Deleted, out.Body.Spent = true, r.Deleted, plan.PlanCommands+r.Commands
	return out, nil
}

func (a *API) cacheStats(context.Context, *struct{}) (*statsOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	return &statsOutput{a.opts.Cache.Stats()}, nil
}
