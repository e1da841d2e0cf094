package scenario

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/redisopt/redisopt/internal/bench"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

// A Scenario is one thing to benchmark. All lists them.
type Scenario struct {
	// Name is stable: its group, a hyphen, and what is done.
	Name string `json:"name"`

	// About is one line for people.
	About string `json:"about"`

	// TCP says that it needs a Redis over TCP.
	TCP bool `json:"tcp"`

	// Usual says that it belongs to a run that names none.
	Usual bool `json:"-"`

	// most is the most commands that one operation may cost, those in scripts included.
	most int64

	prepare func(ctx context.Context, t Target, o Options) (*Prepared, error)
}

// All are the scenarios, in the order in which they run.
func All() []Scenario {
	return []Scenario{
		{Name: "cache-get", About: "read a cached entry that is not in memory", Usual: true, most: 1, prepare: cacheGet},
		{Name: "cache-set", About: "write a cached entry", Usual: true, most: 1, prepare: cacheSet},
		{Name: "cache-miss", About: "read an entry that is not there", most: 1, prepare: cacheMiss},
		{Name: "cache-mixed", About: "nine reads for each write, some of them missing", Usual: true, most: 1, prepare: cacheMixed},
		{Name: "cache-hot", About: "read entries that memory has most of the time", most: 1, prepare: cacheHot},
		{Name: "limit-hot", About: "check one subject that asks all the time", Usual: true, most: 5, prepare: limitHot},
		{Name: "limit-cold", About: "check a subject that was never seen", Usual: true, most: 5, prepare: limitCold},
		{Name: "limit-denied", About: "check a subject whose quota is used up", Usual: true, most: 5, prepare: limitDenied},
		{Name: "queue-add", About: "add a job", TCP: true, Usual: true, most: 4, prepare: queueAdd},
		{Name: "queue-round-trip", About: "add a job and wait until it was run and is done; none lost, none doubled", TCP: true, Usual: true, most: 30, prepare: queueRoundTrip},
		{Name: "gateway-get", About: "GET through our gateway over HTTP", TCP: true, Usual: true, most: 1, prepare: gatewayGet},
		{Name: "plain-tcp", About: "one GET over TCP, nothing of ours between", TCP: true, most: 1, prepare: plainTCP},
		{Name: "plain-rest", About: "one GET over the REST API, of the target or of our gateway in front of it", most: 1, prepare: plainREST},
		{Name: "legacy-limit", About: "the limiter that an application has: four commands, one after the other", most: 4, prepare: legacyLimit},
	}
}

// Choose finds scenarios by name or by group; "all" is every one, and no name the usual ones. Those that
// need TCP are left out of a group when there is none, and an error when they were named.
func Choose(names []string, tcp bool) ([]Scenario, error) {
	var (
		out  []Scenario
		errs []error
	)
	all := All()
	known := make([]string, 0, len(all))
	for _, s := range all {
		known = append(known, s.Name)
	}
	for _, name := range names {
		if name != "all" && !slices.ContainsFunc(all, func(s Scenario) bool { return about(name, s.Name) }) {
			errs = append(errs, fmt.Errorf("no scenario %q, want all, cache, limit, queue, gateway, plain, legacy or one of %v", name, known))
		}
	}
	for _, s := range all {
		chosen := len(names) == 0 && s.Usual
		for _, name := range names {
			chosen = chosen || name == "all" || about(name, s.Name)
			if name == s.Name && s.TCP && !tcp {
				errs = append(errs, fmt.Errorf("scenario %s needs a Redis over TCP: set REDIS_URL", s.Name))
			}
		}
		if chosen && (tcp || !s.TCP) {
			out = append(out, s)
		}
	}
	if len(errs) == 0 && len(out) == 0 {
		errs = append(errs, fmt.Errorf("%v need a Redis over TCP: set REDIS_URL", names))
	}
	return out, errors.Join(errs...)
}

func about(name, scenario string) bool { return bench.Assertion{Scenario: name}.About(scenario) }

// Commands is the most that operations of s cost, preparing and clean-up included.
func (s Scenario) Commands(operations int64, o Options) int64 {
	o = o.withDefaults()
	return s.most*operations + int64(o.Keys) + operations/100 + 50
}

// A Target is the Redis to measure.
type Target struct {
	// Upstream is the way to it. Where it is over TCP it must be Shared, as it is in production.
	Upstream *upstream.Upstream

	// Cluster says that it is a Redis Cluster.
	Cluster bool

	// Parts, when not nil, are told by Upstream where the time of its requests goes.
	Parts *Parts
}

// Options say with which keys and values. The zero value is 1,000 keys of 512 bytes.
type Options struct {
	// Keys is how many keys there are. Default 1,000; at most 1,000,000.
	Keys int

	// Zipf is the exponent of the keys' popularity: the k-th is asked for in proportion to k^-Zipf.
	// Default 1.0; negative: all alike. At most 3.
	Zipf float64

	// PayloadBytes is the size of a value or of a job's payload. Default 512; at most 10 MB, for jobs
	// 256 KiB.
	PayloadBytes int

	// ReadShare is the share of reads in cache-mixed. Default 0.9.
	ReadShare float64

	// Seed makes the choice of keys repeatable. Default 1.
	Seed uint64

	// TTL bounds how long what is left behind by a crash stays. Default 10 min.
	TTL time.Duration

	// Timeout is how long an engine waits for the Redis. Default 5 s.
	Timeout time.Duration
}

func (o Options) withDefaults() Options {
	if o.Keys == 0 {
		o.Keys = 1000
	}
	if o.Zipf == 0 {
		o.Zipf = 1
	}
	if o.PayloadBytes == 0 {
		o.PayloadBytes = 512
	}
	if o.ReadShare == 0 {
		o.ReadShare = 0.9
	}
	if o.Seed == 0 {
		o.Seed = 1
	}
	if o.TTL == 0 {
		o.TTL = 10 * time.Minute
	}
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	return o
}

// Validate reports all that is wrong with o.
func (o Options) Validate() error {
	o = o.withDefaults()
	var errs []error
	if o.Keys < 1 || o.Keys > 1_000_000 {
		errs = append(errs, fmt.Errorf("keys: got %d, want 1 to 1000000", o.Keys))
	}
	if o.Zipf > 3 {
		errs = append(errs, fmt.Errorf("zipf: got %g, want at most 3", o.Zipf))
	}
	if o.PayloadBytes < 1 || o.PayloadBytes > 10_000_000 {
		errs = append(errs, fmt.Errorf("payload: got %d bytes, want 1 to 10000000", o.PayloadBytes))
	}
	if !(o.ReadShare >= 0 && o.ReadShare <= 1) {
		errs = append(errs, fmt.Errorf("read share: got %g, want 0 to 1", o.ReadShare))
	}
	if o.TTL < time.Second {
		errs = append(errs, fmt.Errorf("ttl: got %s, want at least 1s", o.TTL))
	}
	return errors.Join(errs...)
}

// A Prepared scenario is ready to run.
type Prepared struct {
	// Operation is what is measured. It ends with an error whenever an application would have been served
	// without the Redis.
	Operation bench.Operation

	// Check, after the last operation, says what was wrong with what the target did, whatever the speed:
	// broken is empty when nothing was.
	Check func(ctx context.Context) (broken string, err error)

	// Close ends what the scenario started and deletes its keys. It is called once, also when the run
	// failed; its context has its own time.
	Close func(ctx context.Context) error
}

// Prepare makes s ready: its keys are written, its servers run. Its commands are not those of the
// operations.
func (s Scenario) Prepare(ctx context.Context, t Target, o Options) (*Prepared, error) {
	o = o.withDefaults()
	if err := o.Validate(); err != nil {
		return nil, err
	}
	p, err := s.prepare(ctx, t, o)
	if err != nil {
		return nil, fmt.Errorf("prepare %s: %w", s.Name, err)
	}
	if p.Check == nil {
		p.Check = func(context.Context) (string, error) { return "", nil }
	}
	if p.Close == nil {
		p.Close = func(context.Context) error { return nil }
	}
	return p, nil
}

// prefix is a new name for the keys of one run: redisopt-bench and six random bytes.
func prefix() string {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	return "redisopt-bench-" + hex.EncodeToString(random[:])
}
