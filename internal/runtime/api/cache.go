package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/redisopt/redisopt/internal/runtime/cache"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// The headers that say how a read was answered.
const (
	cacheHeader    = "Redisopt-Cache"          // hit, stale, negative or miss
	sourceHeader   = "Redisopt-Cache-Source"   // memory or upstream
	ttlHeader      = "Redisopt-Cache-Ttl"      // seconds for which it is fresh
	tokenHeader    = "Redisopt-Cache-Token"    // for a conditional write
	degradedHeader = "Redisopt-Cache-Degraded" // the class of the upstream's failure
)

// A CacheStatus says how a read was answered.
type CacheStatus string

// The answers to a read. Stale and Negative are hits too.
const (
	StatusHit      CacheStatus = "hit"
	StatusStale    CacheStatus = "stale"    // past its time to live, or not checked because the upstream is down
	StatusNegative CacheStatus = "negative" // known not to exist
	StatusMiss     CacheStatus = "miss"
)

func statusOf(r cache.Result) CacheStatus {
	switch {
	case !r.Hit:
		return StatusMiss
	case r.Negative:
		return StatusNegative
	case r.Stale:
		return StatusStale
	}
	return StatusHit
}

func mediaTypeOf(c cache.Codec) string {
	switch c {
	case cache.JSON, cache.IORedisJSON:
		return "application/json"
	case cache.MsgPack:
		return "application/vnd.msgpack"
	case cache.Raw:
	}
	return "application/octet-stream"
}

// A WriteResult says what became of a write.
type WriteResult struct {
	Key         string  `json:"key"`
	Stored      bool    `json:"stored" doc:"The upstream has the value"`
	Reason      string  `json:"reason,omitempty" doc:"Why it has not: superseded, or the class of the upstream's failure; the value is then in this replica's memory at most"`
	TTLSeconds  float64 `json:"ttl_seconds" doc:"How long the value is fresh; 0 without an end"`
	Clamped     bool    `json:"clamped" doc:"The time to live was shortened to the longest that is allowed"`
	ValueBytes  int     `json:"value_bytes"`
	StoredBytes int     `json:"stored_bytes" doc:"After compression and encryption, with the envelope"`
	Compressed  bool    `json:"compressed"`
	Encrypted   bool    `json:"encrypted"`
	Commands    int     `json:"commands" doc:"Billed commands it cost"`
}

type cacheGetInput struct {
	Key         string   `path:"key" maxLength:"4096" doc:"The key, with / as %2F; its first part is the namespace"`
	Tags        []string `query:"tags" maxItems:"16" doc:"Tags that the value must not have been invalidated by, besides its own"`
	IfNoneMatch string   `header:"If-None-Match"`
}

type cacheGetOutput struct {
	ContentType  string `header:"Content-Type"`
	CacheControl string `header:"Cache-Control" hidden:"true"`
	ETag         string `header:"ETag" doc:"Changes with the value"`
	Age          string `header:"Age" doc:"Whole seconds since the value was written"`
	Answer       string `header:"Redisopt-Cache" enum:"hit,stale" doc:"hit or stale; negative and miss come with 404"`
	Source       string `header:"Redisopt-Cache-Source" doc:"memory or upstream"`
	TTL          string `header:"Redisopt-Cache-Ttl" doc:"Seconds for which the value is fresh; absent without an end"`
	Token        string `header:"Redisopt-Cache-Token" doc:"For a write that must not overtake a delete; see PUT"`
	Degraded     string `header:"Redisopt-Cache-Degraded" doc:"The class of the upstream's failure, when it did not answer"`
	Body         []byte
}

type cachePutInput struct {
	Key             string   `path:"key" maxLength:"4096" doc:"The key, with / as %2F; its first part is the namespace"`
	TTLSeconds      float64  `query:"ttl_seconds" minimum:"0" doc:"How long the value is fresh; absent or 0: as its class says"`
	StaleForSeconds float64  `query:"stale_for_seconds" minimum:"0" doc:"How much longer it may be served stale; absent or 0: as its class says"`
	Class           string   `query:"class" maxLength:"100" doc:"Named time to live"`
	Tags            []string `query:"tags" maxItems:"16" doc:"What the value depends on, separated by commas"`
	Token           string   `query:"token" maxLength:"4096" doc:"Redisopt-Cache-Token of the read that the value was made for: nothing is stored if it was deleted since"`
	NoExpiry        bool     `query:"no_expiry" doc:"Keep it until it is deleted"`
	Negative        bool     `query:"negative" doc:"Remember that there is no such thing; the body is empty"`
	Announce        bool     `query:"announce" doc:"Tell the other replicas to drop what they have in memory, for 1 command"`
}

type cacheKeyInput struct {
	Key string `path:"key" maxLength:"4096" doc:"The key, with / as %2F"`
}

type writeOutput struct{ Body WriteResult }

func (a *API) cacheRoutes(h huma.API) {
	get := a.operation("cache-get", http.MethodGet, "/v1/cache/keys/{key}", "cache", "One value", ScopeCacheRead,
		"The body is the value and nothing else. Costs 0 commands from memory, else 1. Concurrent reads are merged. 404 with the header "+
			"Redisopt-Cache: miss when there is nothing, and negative when it is known not to exist.")
	get.Responses["200"] = valueResponse("The value")
	get.Responses["304"] = &huma.Response{Description: "The value is the one that If-None-Match names"}
	huma.Register(h, withErrors(get, http.StatusNotFound), a.cacheGet)

	put := a.operation("cache-set", http.MethodPut, "/v1/cache/keys/{key}", "cache", "Set one value", ScopeCacheWrite,
		"The body is the value and nothing else: one JSON document, or bytes. 0, false, \"\" and null are values. Costs 1 command, 3 where a guard or a token protects it.")
	put.Metadata[bodyKind] = valueBody
	put.RequestBody = &huma.RequestBody{Content: valueContent()}
	huma.Register(h, withErrors(put, http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType,
		http.StatusUnprocessableEntity), a.cachePut)

	del := a.operation("cache-delete", http.MethodDelete, "/v1/cache/keys/{key}", "cache", "Delete one value", ScopeCacheWrite, "Costs 1 command.")
	huma.Register(h, orLater(h, del), a.cacheDelete)

	a.cacheBatchRoutes(h)
}

func valueContent() map[string]*huma.MediaType {
	return map[string]*huma.MediaType{"application/json": {}, "application/octet-stream": {}}
}

func valueResponse(description string) *huma.Response {
	content := valueContent()
	content["application/vnd.msgpack"] = &huma.MediaType{}
	return &huma.Response{Description: description, Content: content}
}

func (a *API) cacheGet(ctx context.Context, in *cacheGetInput) (*cacheGetOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	r, err := a.opts.Cache.Get(ctx, in.Key, in.Tags...)
	if err != nil {
		return nil, cacheProblem(err, "path.key")
	}
	status := statusOf(r)
	if status == StatusMiss || status == StatusNegative {
		return nil, missing(r, status)
	}
	out := &cacheGetOutput{
		ContentType: mediaTypeOf(r.Codec), CacheControl: revalidate, ETag: etag(r.Value), Age: wholeSeconds(r.Age), Answer: string(status), Source: string(r.Source),
		Token: r.Token, Degraded: degradedBy(r), Body: r.Value,
	}
	if !r.NoExpiry {
		out.TTL = wholeSeconds(r.TTL)
	}
	if matches(in.IfNoneMatch, out.ETag) {
		return nil, notModified(http.Header{"Etag": {out.ETag}, "Cache-Control": {revalidate}, cacheHeader: {out.Answer}, "Age": {out.Age}})
	}
	return out, nil
}

// missing is a 404: there is no value to answer with.
func missing(r cache.Result, status CacheStatus) *problemError {
	p := newProblem(http.StatusNotFound, "cache_miss", "Not in the cache", "there is no value under this key", "load it, and PUT it with the token of this answer")
	if status == StatusNegative {
		p = newProblem(http.StatusNotFound, "cache_negative", "Known not to exist", "it is remembered that there is no such thing", "do not load it")
		p = p.with("Age", wholeSeconds(r.Age))
	}
	p = p.with(cacheHeader, string(status))
	for name, value := range map[string]string{tokenHeader: r.Token, sourceHeader: string(r.Source), degradedHeader: degradedBy(r)} {
		if value != "" {
			p = p.with(name, value)
		}
	}
	return p
}

func degradedBy(r cache.Result) string {
	if !r.Degraded {
		return ""
	}
	return failureClass(r.Cause)
}

// failureClass is the class of an upstream's failure; never empty.
func failureClass(err error) string {
	if c := upstream.Classify(err); c != upstream.None {
		return string(c)
	}
	return string(upstream.Unknown)
}

func wholeSeconds(d time.Duration) string { return strconv.FormatInt(int64(d/time.Second), 10) }

// seconds turns a number of a request into a duration; what is too long for one is the longest.
func seconds(s float64) time.Duration {
	if s >= math.MaxInt64/1e9 {
		return math.MaxInt64
	}
	return time.Duration(s * float64(time.Second))
}

func (a *API) cachePut(ctx context.Context, in *cachePutInput) (*writeOutput, error) {
	if a.opts.Cache == nil {
		return nil, notEnabled("the cache")
	}
	for name, n := range map[string]float64{"query.ttl_seconds": in.TTLSeconds, "query.stale_for_seconds": in.StaleForSeconds} {
		if math.IsNaN(n) {
			return nil, invalid(name, "not a number")
		}
	}
	info := infoOf(ctx)
	o := cache.SetOptions{
		TTL: seconds(in.TTLSeconds), StaleFor: seconds(in.StaleForSeconds), Class: in.Class, Tags: in.Tags, Token: in.Token,
		NoExpiry: in.NoExpiry, Negative: in.Negative, Announce: in.Announce,
	}
	o.Codec = cache.Raw
	if info.isJSON {
		o.Codec = cache.JSON
	}
	if in.Negative {
		o.Codec = ""
	}
	r, err := a.set(ctx, cache.Item{Key: in.Key, Value: info.body, Options: o})
	if err != nil {
		return nil, cacheProblem(err, "path.key")
	}
	return &writeOutput{written(in.Key, r)}, nil
}

// set keeps the value as what the request says it is, JSON or bytes. A namespace whose keys are shared
// with other programs has a form of its own, and then that is the one.
func (a *API) set(ctx context.Context, item cache.Item) (cache.SetResult, error) {
	r, err := a.opts.Cache.Set(ctx, item.Key, item.Value, item.Options)
	if errors.Is(err, cache.ErrValue) && item.Options.Codec != "" {
		item.Options.Codec = ""
		return a.opts.Cache.Set(ctx, item.Key, item.Value, item.Options)
	}
	return r, err
}

func written(key string, r cache.SetResult) WriteResult {
	out := WriteResult{
		Key: key, Stored: r.Stored, TTLSeconds: r.TTL.Seconds(), Clamped: r.Clamped, ValueBytes: r.ValueBytes, StoredBytes: r.StoredBytes,
		Compressed: r.Compressed, Encrypted: r.Encrypted, Commands: r.Commands,
	}
	switch {
	case r.Stored:
	case errors.Is(r.Cause, cache.ErrSuperseded):
		out.Reason = "superseded"
	default:
		out.Reason = failureClass(r.Cause)
	}
	return out
}

func (a *API) cacheDelete(ctx context.Context, in *cacheKeyInput) (*deleteOutput, error) {
	return a.deleteKeys(ctx, []string{in.Key}, "path.key")
}

// cacheProblem says what was wrong with a request to the cache.
func cacheProblem(err error, location string) error {
	var (
		denied *cache.DeniedError
		size   *cache.SizeError
	)
	switch {
	case errors.As(err, &denied):
		return newProblem(http.StatusUnprocessableEntity, "cache_denied", "Must not be cached", clean(err.Error()),
			"use a sensitive class, leave the field out, or allow the name for the namespace in the configuration")
	case errors.As(err, &size):
		return newProblem(http.StatusRequestEntityTooLarge, "value_too_large", "Value too large",
			fmt.Sprintf("the upstream takes %d bytes and the request would have %d", size.Limit, size.Bytes), "split the value")
	case errors.Is(err, cache.ErrKey):
		return invalid(location, "%s", clean(err.Error()))
	case errors.Is(err, cache.ErrValue):
		return invalid("body", "%s", clean(err.Error()))
	case errors.Is(err, cache.ErrClass):
		return invalid("class", "%s", clean(err.Error()))
	case errors.Is(err, cache.ErrBudget):
		return newProblem(http.StatusTooManyRequests, "command_budget_spent", "Command budget spent", clean(err.Error()), "ask for less, or allow more commands")
	}
	return upstreamProblem(err)
}

// upstreamProblem is for what went wrong behind us. The text of the error stays inside: it names hosts.
func upstreamProblem(err error) error {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return newProblem(http.StatusGatewayTimeout, "timeout", "Not in time", "the operation was not done in time; it may have been done all the same",
			"look at GET /readyz")
	}
	class := failureClass(err)
	return newProblem(http.StatusServiceUnavailable, "upstream_unavailable", "Upstream not available",
		"the upstream did not do it ("+class+"): "+cause(upstream.Class(class)), "GET /readyz says more; try again").with("Retry-After", "1")
}

// rawOrText is how a value travels inside a JSON document: as JSON where it is, else as base64.
func rawOrText(r cache.Result) (value json.RawMessage, encoded []byte) {
	switch {
	case !r.Hit || r.Negative:
		return nil, nil
	case mediaTypeOf(r.Codec) == "application/json":
		return bytes.TrimSpace(r.Value), nil
	}
	return nil, r.Value
}
