package scenario

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sort"
	"strconv"
	"sync/atomic"

	"github.com/redis/go-redis/v9"
)

// A chooser picks keys by popularity. It may be used from several goroutines; which key the i-th pick is
// depends on the seed and on i alone.
type chooser struct {
	seed      uint64
	n         atomic.Uint64
	cumulated []float64 // shares up to each key; nil: all alike
	keys      int
}

func newChooser(o Options) *chooser {
	c := &chooser{seed: o.Seed, keys: o.Keys}
	if o.Zipf <= 0 {
		return c
	}
	c.cumulated = make([]float64, o.Keys)
	var sum float64
	for k := range c.cumulated {
		sum += math.Pow(float64(k+1), -o.Zipf)
		c.cumulated[k] = sum
	}
	for k := range c.cumulated {
		c.cumulated[k] /= sum
	}
	return c
}

// next is the next key, and a share from 0 to 1 to decide something else by.
func (c *chooser) next() (key int, share float64) {
	random := rand.New(rand.NewPCG(c.seed, c.n.Add(1))) //nolint:gosec // a benchmark's keys are no secret
	u := random.Float64()
	if c.cumulated == nil {
		return int(u * float64(c.keys)), random.Float64()
	}
	return min(sort.SearchFloat64s(c.cumulated, u), c.keys-1), random.Float64()
}

// payload is n bytes that compress about as well as JSON does: half of them repeat.
func payload(o Options) []byte {
	random := rand.New(rand.NewPCG(o.Seed, 7)) //nolint:gosec // a benchmark's values are no secret
	out := make([]byte, 0, o.PayloadBytes+16)
	out = append(out, `{"pad":"`...)
	for len(out) < o.PayloadBytes-2 {
		out = strconv.AppendUint(out, random.Uint64(), 36)
		out = append(out, "-name-value-"...)
	}
	if o.PayloadBytes < 12 {
		return []byte(`1234567890ab`)[:o.PayloadBytes]
	}
	return append(out[:o.PayloadBytes-2], `"}`...)
}

// name is the name of key k.
func name(k int) string { return "k" + strconv.Itoa(k) }

// unlink deletes keys, 500 a command. On a Cluster each key is a command.
func unlink(ctx context.Context, client redis.UniversalClient, cluster bool, keys []string) error {
	size := 500
	if cluster {
		size = 1
	}
	var errs []error
	for len(keys) > 0 {
		n := min(size, len(keys))
		if err := client.Unlink(ctx, keys[:n]...).Err(); err != nil {
			errs = append(errs, fmt.Errorf("delete %d keys of the benchmark, the first is %s: %w", n, keys[0], err))
			break
		}
		keys = keys[n:]
	}
	return errors.Join(errs...)
}
