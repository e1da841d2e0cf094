package rehearsal

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/migrate/mover/capture"
)

// scanPage is how many keys one SCAN walks over.
const scanPage = 1000

// A Sample is a bounded copy of a Redis, in memory alone.
type Sample struct {
	// Keys are what was copied.
	Keys []capture.Key `json:"-"`

	// Read is when the copy was finished, from which the remaining lives of Keys count.
	Read time.Time `json:"-"`

	// Queues are the queues that were copied, and Shapes the kinds of all other keys.
	Queues []QueueCopy `json:"queues"`
	Shapes []Shape     `json:"shapes"`

	// Scanned is how many keys were walked over, and Walked whether that were all.
	Scanned int64 `json:"scanned"`
	Walked  bool  `json:"walked_whole"`

	// Left are what was not copied and why.
	Left []LeftOut `json:"left_out"`
}

// A Shape is one kind of keys that belong to no queue.
type Shape struct {
	Prefix  string `json:"prefix"` // up to the first colon; empty when there is no plain word
	Type    string `json:"type"`
	Expires bool   `json:"expires"`
	Format  string `json:"format"` // of strings: object, array, text in quotes, number, text, binary, empty
	Copied  int64  `json:"copied"`
}

// A LeftOut is what was not copied.
type LeftOut struct {
	Why  string `json:"why"`
	Keys int64  `json:"keys"`
}

// Read copies what scope says. It sends only commands that read. The copy of a queue in use is not one moment: a job
// that moves on while it is read may be missing, or be in two containers. progress, when not nil, is told after every
// page how many keys were asked for. Price: a SCAN for every 1,000 keys where Others or Prefixes are asked
// for, and for each key that is copied up to 4 commands; see Estimate.
func Read(ctx context.Context, client redis.UniversalClient, scope Scope, bounds Bounds, progress func(keys int64)) (*Sample, error) {
	bounds = bounds.withDefaults()
	if err := bounds.Validate(); err != nil {
		return nil, err
	}
	r := &reader{client: client, pace: &migrate.Pace{}, left: map[string]int64{}, cut: map[string]bool{}, tell: progress}
	if bounds.Rate > 0 {
		r.pace.SetRate(bounds.Rate)
	}
	s := &Sample{Queues: []QueueCopy{}, Shapes: []Shape{}, Left: []LeftOut{}, Walked: true}
	for _, e := range scope.Queues {
		keys, copied, err := r.queue(ctx, e, bounds.Jobs)
		if err != nil {
			return nil, err
		}
		s.Keys, s.Queues = append(s.Keys, keys...), append(s.Queues, copied)
	}
	own, err := r.read(ctx, scope.Own, 10*maxElements)
	if err != nil {
		return nil, err
	}
	s.Keys = append(s.Keys, own...)
	if err := s.others(ctx, r, scope, bounds); err != nil {
		return nil, err
	}
	s.Keys = once(s.Keys)
	s.Read = time.Now()
	for _, why := range slices.Sorted(maps.Keys(r.left)) {
		s.Left = append(s.Left, LeftOut{Why: why, Keys: r.left[why]})
	}
	if n := int64(len(r.cut)); n > 0 {
		s.Left = append(s.Left, LeftOut{Why: "collections of which only the ends were copied", Keys: n})
	}
	return s, nil
}

// once is keys without those that come again: two migrations may be about one queue.
func once(keys []capture.Key) []capture.Key {
	seen := map[string]bool{}
	return slices.DeleteFunc(keys, func(k capture.Key) bool {
		again := seen[k.Name]
		seen[k.Name] = true
		return again
	})
}

// others copies keys that belong to no queue of scope: those under its prefixes, and some of every kind.
func (s *Sample) others(ctx context.Context, r *reader, scope Scope, bounds Bounds) error {
	if bounds.Keys < 0 || !scope.Others && len(scope.Prefixes) == 0 {
		return nil
	}
	picked, err := s.walk(ctx, r, scope, bounds)
	if err != nil {
		return err
	}
	keys, err := r.read(ctx, picked, maxElements)
	if err != nil {
		return err
	}
	counts := map[Shape]int64{}
	for _, k := range keys {
		counts[shapeOf(k)]++
	}
	for shape, n := range counts {
		shape.Copied = n
		s.Shapes = append(s.Shapes, shape)
	}
	slices.SortFunc(s.Shapes, func(a, b Shape) int {
		return cmp.Or(strings.Compare(a.Prefix, b.Prefix), strings.Compare(a.Type, b.Type), strings.Compare(a.Format, b.Format), yes(a.Expires)-yes(b.Expires))
	})
	s.Keys = append(s.Keys, keys...)
	return nil
}

func yes(b bool) int {
	if b {
		return 1
	}
	return 0
}

// walk picks names: of those under the prefixes of scope as many as fit, then of every beginning equally
// many.
func (s *Sample) walk(ctx context.Context, r *reader, scope Scope, bounds Bounds) ([]string, error) {
	most := max(1, bounds.Keys/10)
	named, kinds, order := []string{}, map[string][]string{}, []string{}
	cursor := uint64(0)
	for {
		names, next, err := r.client.Scan(ctx, cursor, "*", scanPage).Result()
		if err != nil {
			return nil, fmt.Errorf("walk over the keys: %w", err)
		}
		for _, name := range names {
			s.Scanned++
			switch {
			case hasAny(name, scope.Prefixes):
				if len(named) < bounds.Keys {
					named = append(named, name)
				} else {
					r.left[fmt.Sprintf("keys under the named prefixes beyond the first %d", bounds.Keys)]++
				}
			case !scope.Others || ofQueue(name, scope.Queues) || strings.HasPrefix(name, "redisopt:") || strings.HasPrefix(name, "{redisopt"):
			default:
				kind := wordOf(name)
				if kinds[kind] == nil {
					if len(order) == maxPrefixes {
						r.left[fmt.Sprintf("keys with other beginnings than the first %d", maxPrefixes)]++
						continue
					}
					order = append(order, kind)
				}
				if len(kinds[kind]) < most {
					kinds[kind] = append(kinds[kind], name)
				} else {
					r.left["keys that are like copied ones"]++
				}
			}
		}
		if cursor = next; cursor == 0 {
			break
		}
		if s.Scanned >= bounds.Scan {
			s.Walked = false
			break
		}
	}
	picked := named
	for round := range most {
		for _, kind := range order {
			switch {
			case round >= len(kinds[kind]):
			case len(picked) < bounds.Keys:
				picked = append(picked, kinds[kind][round])
			default:
				r.left[fmt.Sprintf("keys of all kinds beyond the %d that are copied", bounds.Keys)]++
			}
		}
	}
	return picked, nil
}

func hasAny(name string, prefixes []string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(name, p) })
}

// ofQueue is whether a key belongs to one of the queues that are copied, or looks like one of another.
func ofQueue(name string, queues []mover.Endpoint) bool {
	if slices.ContainsFunc(queues, func(e mover.Endpoint) bool { return strings.HasPrefix(name, e.Key("")) }) {
		return true
	}
	return hasAny(name, []string{"bull:", "bullmq:", "{bull}:", "{bullmq}:", "asynq:"})
}

// wordOf is what a name begins with, as far as that is a plain word and not somebody's name or number.
func wordOf(name string) string {
	word, _, more := strings.Cut(name, ":")
	if !more || len(word) > 40 || strings.ContainsFunc(word, func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '_' && r != '-' && r != '.'
	}) {
		return ""
	}
	return word
}

// shapeOf is the kind of a key, without anything of what it holds.
func shapeOf(k capture.Key) Shape {
	s := Shape{Prefix: wordOf(k.Name), Type: k.Type, Expires: k.TTL > 0}
	if v, ok := k.Value.(string); ok {
		s.Format = formatOf(v)
	}
	return s
}

// formatOf says what a string is.
func formatOf(v string) string {
	text := strings.TrimSpace(v)
	switch {
	case v == "":
		return "empty"
	case !utf8.ValidString(v):
		return "binary"
	case !json.Valid([]byte(text)):
		return "text"
	}
	switch text[0] {
	case '{':
		return "object"
	case '[':
		return "array"
	case '"':
		return "text in quotes"
	case 't', 'f', 'n':
		return "true, false or null"
	}
	if _, err := strconv.ParseFloat(text, 64); err == nil {
		return "number"
	}
	return "text"
}
