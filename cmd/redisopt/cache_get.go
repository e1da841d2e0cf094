package main

import (
	"context"
	"encoding/json"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/redisopt/redisopt/cmd/redisopt/internal/report"
	"github.com/redisopt/redisopt/internal/runtime/cache"
)

// cacheGetData is the contract of cache.get/v1. Of value, text and base64 there is one, by what the entry
// holds, or none where nothing is shown.
type cacheGetData struct {
	Key      string          `json:"key"`
	Hit      bool            `json:"hit"`
	Negative bool            `json:"negative"` // it is known that there is no such thing
	Stale    bool            `json:"stale"`
	Foreign  bool            `json:"foreign"` // written by others, and no JSON
	Hidden   bool            `json:"hidden"`  // of a sensitive class, and --reveal was not given
	Codec    cache.Codec     `json:"codec,omitempty"`
	Bytes    int             `json:"value_bytes"`
	Value    json.RawMessage `json:"value,omitempty"`
	Text     *string         `json:"text,omitempty"`
	Base64   []byte          `json:"base64,omitempty"`
	AgeMS    int64           `json:"age_ms"`
	TTLMS    int64           `json:"ttl_ms"` // 0 where the entry does not say
	NoExpiry bool            `json:"no_expiry"`
}

func (a *app) cacheGetCommand() *cobra.Command {
	var (
		tags   []string
		reveal bool
	)
	cmd := &cobra.Command{
		Use:   "get KEY",
		Short: "One entry: its value, codec, age and time to live",
		Long: `Reads one entry as the sidecar does: it opens the envelope, and checks the tags that could have ended
it. A miss is an answer, not an error: hit is false, and the exit code 0. Costs 1 command, and 1 more for
tags that are not named with --tag.`,
		Example: `  redisopt cache get user:42:profile
  redisopt cache get user:42:profile -o json`,
		Args: cobra.ExactArgs(1),
		RunE: a.action(func(ctx context.Context, args []string) error { return a.cacheGet(ctx, args[0], tags, reveal) }),
	}
	cmd.Flags().StringArrayVar(&tags, "tag", nil, "a `tag` that the entry may carry, to check it in the same command")
	cmd.Flags().BoolVar(&reveal, "reveal", false, "show the value of an entry that is encrypted")
	return cmd
}

func (a *app) cacheGet(ctx context.Context, key string, tags []string, reveal bool) error {
	return a.withCache(ctx, false, func(c *cache.Cache, _ func() int64) error {
		r, err := c.Get(ctx, key, tags...)
		if err != nil {
			return err
		}
		if r.Degraded {
			return r.Cause
		}
		return a.print(cacheGetDocument(cacheGetOf(key, r, c.Sensitive(key) && !reveal)))
	})
}

func cacheGetOf(key string, r cache.Result, hidden bool) cacheGetData {
	d := cacheGetData{
		Key: key, Hit: r.Hit, Negative: r.Negative, Stale: r.Stale, Foreign: r.Foreign, Codec: r.Codec,
		Bytes: len(r.Value), AgeMS: r.Age.Milliseconds(), TTLMS: r.TTL.Milliseconds(), NoExpiry: r.NoExpiry,
	}
	switch {
	case !r.Hit || r.Negative:
	case hidden:
		d.Hidden = true
	case (r.Codec == cache.JSON || r.Codec == cache.IORedisJSON) && json.Valid(r.Value):
		d.Value = r.Value
	case utf8.Valid(r.Value):
		text := string(r.Value)
		d.Text = &text
	default:
		d.Base64 = r.Value
	}
	return d
}

// cacheGetDocument is cache.get/v1.
func cacheGetDocument(d cacheGetData) report.Document {
	doc := report.Document{Kind: "cache.get/v1", Data: d, Title: d.Key}
	if !d.Hit {
		doc.Sections = []report.Section{{Text: "no entry"}}
		return doc
	}
	ms := func(n int64) string { return roughly(time.Duration(n) * time.Millisecond) }
	fields := []report.Field{{Name: "codec", Value: string(d.Codec)}}
	switch {
	case d.NoExpiry:
		fields = append(fields, report.Field{Name: "age", Value: ms(d.AgeMS)}, report.Field{Name: "lives", Value: "until it is deleted"})
	case d.TTLMS > 0:
		fields = append(fields, report.Field{Name: "age", Value: ms(d.AgeMS)}, report.Field{Name: "lives", Value: "for " + ms(d.TTLMS) + " more"})
	case d.Stale:
		fields = append(fields, report.Field{Name: "age", Value: ms(d.AgeMS)}, report.Field{Name: "lives", Value: "past its time, to be loaded anew"})
	}
	section := report.Section{Fields: fields}
	switch {
	case d.Negative:
		doc.Notes = append(doc.Notes, "the entry says that there is no such thing")
	case d.Hidden:
		doc.Notes = append(doc.Notes, "the value is encrypted and hidden; --reveal shows it")
	case d.Base64 != nil:
		doc.Notes = append(doc.Notes, "the value is no text; -o json has it as base64")
	}
	if d.Foreign {
		doc.Notes = append(doc.Notes, "written by others as plain text, which is read as a JSON string")
	}
	section.Fields = append(section.Fields, report.Field{Name: "size", Value: plural(int64(d.Bytes), "byte")})
	doc.Sections = []report.Section{section}
	switch {
	case d.Value != nil:
		doc.Sections = append(doc.Sections, report.Section{Title: "value", Text: string(d.Value)})
	case d.Text != nil:
		doc.Sections = append(doc.Sections, report.Section{Title: "value", Text: *d.Text})
	}
	return doc
}
