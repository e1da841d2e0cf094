package cache

import (
	"cmp"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	headBytes   = 512 // of an entry that a sample reads
	detailPage  = 50  // entries looked into by one pipeline
	detailPrice = 2   // commands an entry
)

// SampleOptions bound a Sample.
type SampleOptions struct {
	// MaxCommands is the most commands to spend. Default 100; at least 3.
	MaxCommands int64
}

// A Sample is what the upstream holds, from a part of its keys.
type Sample struct {
	DatabaseKeys int64 `json:"database_keys"`
	SampledKeys  int64 `json:"sampled_keys"`
	Complete     bool  `json:"complete"` // every key was looked at
	Commands     int64 `json:"commands"`

	// Namespaces are those of the cache, the largest first. Keys of others are counted in OtherKeys and
	// generations of tags in TagKeys.
	Namespaces []NamespaceSample `json:"namespaces"`
	OtherKeys  int64             `json:"other_keys"`
	TagKeys    int64             `json:"tag_keys"`
}

// A NamespaceSample is what a sample showed of one namespace.
type NamespaceSample struct {
	Name          string `json:"name"`
	SampledKeys   int64  `json:"sampled_keys"`
	EstimatedKeys int64  `json:"estimated_keys"`

	// The rest is from Entries of them, which were looked into.
	Entries        int64         `json:"entries"`
	MeanBytes      int64         `json:"mean_bytes"` // as stored
	EstimatedBytes int64         `json:"estimated_bytes"`
	Codecs         []Codec       `json:"codecs"`
	Compressed     int64         `json:"compressed"`
	Encrypted      int64         `json:"encrypted"`
	Base64         int64         `json:"base64"`
	Negative       int64         `json:"negative"`
	NoExpiry       int64         `json:"no_expiry"`
	Tagged         int64         `json:"tagged"`
	Foreign        int64         `json:"foreign"` // without an envelope that can be read
	MeanAge        time.Duration `json:"-"`       // since the write
	MeanTTL        time.Duration `json:"-"`       // fresh time as written
	MeanAgeMS      int64         `json:"mean_age_ms"`
	MeanTTLMS      int64         `json:"mean_ttl_ms"`
	keys           []string
}

// Sample looks at a part of the keys, and into some entries of each namespace: at their size and the
// first 512 bytes, which say all but the value. It reads no values of others and changes nothing.
//
// Price: DBSIZE, a SCAN for every 1,000 keys, and 2 commands (STRLEN, GETRANGE) for each entry it looks
// into; at most o.MaxCommands in all, of which at least half go to entries.
func (c *Cache) Sample(ctx context.Context, o SampleOptions) (Sample, error) {
	o.MaxCommands = or(o.MaxCommands, 100)
	if o.MaxCommands < 3 {
		return Sample{}, fmt.Errorf("max_commands: got %d, want at least 3", o.MaxCommands)
	}
	s := Sample{Namespaces: []NamespaceSample{}}
	found := map[string]*NamespaceSample{}
	s.Complete = true
	err := c.nodes(ctx, func(ctx context.Context, node redis.Cmdable) error {
		complete, err := c.sampleKeys(ctx, node, &s, max(2, o.MaxCommands/2), found)
		s.Complete = s.Complete && complete
		if err != nil {
			return err
		}
		return c.sampleEntries(ctx, node, &s, o.MaxCommands, found)
	})
	if err != nil {
		return s, fmt.Errorf("sample the cache: %w", err)
	}
	for _, ns := range found {
		ns.finish(&s)
		s.Namespaces = append(s.Namespaces, *ns)
	}
	slices.SortFunc(s.Namespaces, func(a, b NamespaceSample) int {
		return cmp.Or(cmp.Compare(b.EstimatedKeys, a.EstimatedKeys), strings.Compare(a.Name, b.Name))
	})
	return s, nil
}

// sampleKeys counts keys by namespace, and is true when it has seen them all.
func (c *Cache) sampleKeys(ctx context.Context, node redis.Cmdable, s *Sample, budget int64, found map[string]*NamespaceSample) (bool, error) {
	size, err := c.patient(ctx, func(ctx context.Context) (int64, error) { return node.DBSize(ctx).Result() })
	s.Commands++
	if err != nil {
		return false, err
	}
	s.DatabaseKeys += size
	var cursor uint64
	for s.Commands < budget {
		keys, next, err := c.scan(ctx, node, cursor, "")
		s.Commands++
		if err != nil {
			return false, err
		}
		for _, key := range keys {
			s.SampledKeys++
			c.sampleKey(key, s, found)
		}
		if cursor = next; cursor == 0 {
			return true, nil
		}
	}
	return false, nil
}

func (c *Cache) sampleKey(key string, s *Sample, found map[string]*NamespaceSample) {
	name, ours := strings.CutPrefix(key, c.root)
	if ours && strings.HasPrefix(name, tagMark) {
		s.TagKeys++
		return
	}
	if !ours {
		name = key
	}
	name, _, _ = strings.Cut(name, ":")
	if sp, configured := c.spaces.configured[name]; ours == (configured && sp.bare) {
		s.OtherKeys++
		return
	}
	ns := found[name]
	if ns == nil {
		if len(found) >= maxSpaces {
			s.OtherKeys++
			return
		}
		ns = &NamespaceSample{Name: name, Codecs: []Codec{}}
		found[name] = ns
	}
	ns.SampledKeys++
	if len(ns.keys) < detailPage {
		ns.keys = append(ns.keys, key)
	}
}

// sampleEntries looks into entries of every namespace in turn until the commands are spent.
func (c *Cache) sampleEntries(ctx context.Context, node redis.Cmdable, s *Sample, budget int64, found map[string]*NamespaceSample) error {
	type look struct {
		ns  *NamespaceSample
		key string
	}
	var looks []look
	names := make([]string, 0, len(found))
	for name := range found {
		names = append(names, name)
	}
	slices.Sort(names)
	for round := range detailPage {
		for _, name := range names {
			ns := found[name]
			if round < len(ns.keys) && s.Commands+detailPrice*int64(len(looks)+1) <= budget {
				looks = append(looks, look{ns, ns.keys[round]})
			}
		}
	}
	for len(looks) > 0 {
		page := looks[:min(detailPage, len(looks))]
		looks = looks[len(page):]
		var sizes []*redis.IntCmd
		var heads []*redis.StringCmd
		_, err := c.patient(ctx, func(ctx context.Context) (int64, error) {
			sizes, heads = nil, nil
			_, err := node.Pipelined(ctx, func(p redis.Pipeliner) error {
				for _, l := range page {
					sizes = append(sizes, p.StrLen(ctx, l.key))
					heads = append(heads, p.GetRange(ctx, l.key, 0, headBytes-1))
				}
				return nil
			})
			if err != nil && !isOutage(err) {
				err = nil // a key of another type: its own reply says so
			}
			return 0, err
		})
		s.Commands += detailPrice * int64(len(page))
		if err != nil {
			return err
		}
		for i, l := range page {
			if sizes[i].Err() != nil || heads[i].Err() != nil {
				l.ns.Entries++
				l.ns.Foreign++
				continue
			}
			if sizes[i].Val() > 0 {
				l.ns.look(sizes[i].Val(), heads[i].Val(), c.spaces.find(l.ns.Name).bare)
			}
		}
	}
	return nil
}

// look adds one entry, of which the beginning is known.
func (n *NamespaceSample) look(size int64, head string, bare bool) {
	n.Entries++
	n.MeanBytes += size
	b := []byte(head)
	if strings.HasPrefix(head, textMark) {
		n.Base64++
		text := head[len(textMark):]
		if int64(len(head)) < size {
			text = text[:len(text)/4*4]
		}
		b, _ = base64.RawStdEncoding.DecodeString(text) // what is no base64 is no header either
	}
	e, _, _, err := decodeHead(b)
	if err != nil {
		if bare {
			n.codec(IORedisJSON)
		} else {
			n.Foreign++
		}
		return
	}
	n.codec(e.codec)
	n.MeanAge += time.Since(e.written)
	n.MeanTTL += e.fresh
	for _, f := range []struct {
		has bool
		n   *int64
	}{
		{e.has(flagPacked), &n.Compressed},
		{e.has(flagSealed), &n.Encrypted},
		{e.has(flagNegative), &n.Negative},
		{e.has(flagForever), &n.NoExpiry},
		{len(e.tags) > 0, &n.Tagged},
	} {
		if f.has {
			*f.n++
		}
	}
}

func (n *NamespaceSample) codec(c Codec) {
	if !slices.Contains(n.Codecs, c) {
		n.Codecs = append(n.Codecs, c)
		slices.Sort(n.Codecs)
	}
}

// finish turns sums into means and estimates.
func (n *NamespaceSample) finish(s *Sample) {
	n.EstimatedKeys = n.SampledKeys
	if !s.Complete && s.SampledKeys > 0 {
		n.EstimatedKeys = n.SampledKeys * s.DatabaseKeys / s.SampledKeys
	}
	if n.Entries > 0 {
		n.MeanBytes /= n.Entries
	}
	if known := n.Entries - n.Foreign; known > 0 {
		n.MeanAge /= time.Duration(known)
		n.MeanTTL /= time.Duration(known)
	}
	n.EstimatedBytes = n.MeanBytes * n.EstimatedKeys
	n.MeanAgeMS, n.MeanTTLMS = max(0, n.MeanAge).Milliseconds(), n.MeanTTL.Milliseconds()
	n.keys = nil
}
