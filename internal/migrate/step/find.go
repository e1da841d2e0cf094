package step

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate"
	"github.com/redisopt/redisopt/internal/migrate/mover"
)

// asynqPrefix is what the names of all keys of asynq begin with.
const asynqPrefix = "asynq"

// latestBullMQ is the major version that is written for when nothing tells which one will run: for a
// queue that is not paused, 5 and 6 keep everything in the same place.
const latestBullMQ = 6

// bullMajor is the version of Bull that is written for.
const bullMajor = 4

// A Request is what an operator asks for. Find makes a Route of it.
type Request struct {
	// Queue is the queue's name and Prefix its key prefix; Prefix's default is "bull".
	Queue, Prefix string

	// Engine is the layout of the target: mover.BullMQ, the default, mover.Asynq, or mover.Bull, which is the way
	// back of a queue whose migration was completed.
	Engine mover.Layout

	// ToPrefix is the target's key prefix. Default "bullmq", inside the same braces when Prefix is a
	// hash tag, and "bull" or the hash tag alone for mover.Bull. It must differ from Prefix unless InPlace.
	// asynq's is always "asynq".
	ToPrefix string

	// InPlace keeps prefix and name; nobody may be attached then.
	InPlace bool

	// Order is how priorities survive; default mover.Keep.
	Order mover.Order

	// Major is the target's BullMQ, 5 or 6; 0 means to find out. A queue that is BullMQ's already goes to the
	// other version, under another prefix, when Major says so.
	Major int

	// Schedulers says how repeatables are called at the target.
	Schedulers SchedulerIDs

	// Soak, when not nil, is waited for after the move. A migration that was begun keeps its own.
	Soak *Soaking
}

func (r Request) withDefaults() Request {
	if r.Prefix == "" {
		r.Prefix = "bull"
	}
	if r.Engine == "" {
		r.Engine = mover.BullMQ
	}
	switch {
	case r.ToPrefix == "" && r.Engine == mover.Asynq:
		r.ToPrefix = asynqPrefix
	case r.ToPrefix == "" && r.InPlace:
		r.ToPrefix = r.Prefix
	case r.ToPrefix == "" && r.Engine == mover.Bull:
		r.ToPrefix = "bull"
		if tag, ok := strings.CutSuffix(r.Prefix, "}:mq"); ok {
			r.ToPrefix = tag + "}" // where it came from
		}
	case r.ToPrefix == "" && strings.HasPrefix(r.Prefix, "{") && strings.HasSuffix(r.Prefix, "}"):
		r.ToPrefix = r.Prefix + ":mq" // the same slot in a Cluster
	case r.ToPrefix == "":
		r.ToPrefix = "bullmq"
	}
	return r
}

// Validate reports all that is wrong with r, without asking Redis.
func (r Request) Validate() error {
	r = r.withDefaults()
	var errs []error
	if r.Queue == "" {
		errs = append(errs, errors.New("queue: got none"))
	}
	switch r.Engine {
	case mover.BullMQ:
	case mover.Asynq:
		errs = append(errs, r.validateAsynq()...)
		return errors.Join(errs...)
	case mover.Bull:
		errs = append(errs, r.validateBull()...)
	default:
		errs = append(errs, fmt.Errorf("engine: got %q, want bullmq, asynq or bull", r.Engine))
	}
	if r.Prefix == asynqPrefix && r.InPlace {
		errs = append(errs, errors.New("in place is for Bull and BullMQ: asynq has keys of its own"))
	}
	if r.InPlace && r.ToPrefix != r.Prefix {
		errs = append(errs, fmt.Errorf("in place keeps prefix %q, so it cannot go to prefix %q", r.Prefix, r.ToPrefix))
	}
	if !r.InPlace && r.ToPrefix == r.Prefix {
		errs = append(errs, fmt.Errorf("source and target have prefix %q: choose another one, or ask for in place", r.Prefix))
	}
	if r.Major != 0 && r.Major != 5 && r.Major != 6 {
		errs = append(errs, fmt.Errorf("bullmq major: got %d, want 5 or 6", r.Major))
	}
	return errors.Join(errs...)
}

// validateBull is about what only Bull does not have.
func (r Request) validateBull() []error {
	var errs []error
	if r.Order == mover.ByPriority {
		errs = append(errs, errors.New("order: Bull keeps priorities in the list of waiting jobs, leave it out"))
	}
	if r.Major != 0 {
		errs = append(errs, errors.New("bullmq major: Bull has none, leave it out"))
	}
	if r.Schedulers.ByName || len(r.Schedulers.Named) > 0 {
		errs = append(errs, errors.New("scheduler id: Bull makes the key of a repeatable itself, leave it out"))
	}
	return errs
}

// validateAsynq is about what only asynq does not have.
func (r Request) validateAsynq() []error {
	var errs []error
	if r.InPlace {
		errs = append(errs, errors.New("in place is for Bull and BullMQ: asynq has keys of its own"))
	}
	if r.Prefix == asynqPrefix {
		errs = append(errs, fmt.Errorf("source and target have prefix %q: the queue is asynq's already", r.Prefix))
	}
	if r.ToPrefix != asynqPrefix {
		errs = append(errs, fmt.Errorf("to prefix: got %q, asynq's is always %q", r.ToPrefix, asynqPrefix))
	}
	if r.Order == mover.ByPriority {
		errs = append(errs, errors.New("order: asynq has bands instead of priorities, leave it out"))
	}
	if r.Major != 0 {
		errs = append(errs, errors.New("bullmq major: asynq has none, leave it out"))
	}
	return errs
}

// Target is what the request is about.
func (r Request) Target() migrate.Target {
	r = r.withDefaults()
	return migrate.Target{Phase: Phase3Name, Prefix: r.Prefix, Queue: r.Queue}
}

// Find makes a Route of r. It returns an *UnknownQueueError, a *LayoutError or a *MajorError when that
// cannot be done, and writes nothing. A migration that was begun already says what its source is, and
// which BullMQ it was planned for unless r says so: neither is asked of Redis again, where both may
// look different by now.
//
// Price: that of mover.Show, and 1 command, 2 for a queue of BullMQ; for an unknown queue that of mover.DetectQueues too.
func (r Request) Find(ctx context.Context, client redis.UniversalClient, s migrate.State) (Route, error) {
	r = r.withDefaults()
	if err := r.Validate(); err != nil {
		return Route{}, err
	}
	route := Route{
		To:    mover.Endpoint{Layout: r.Engine, Major: r.Major, Prefix: r.ToPrefix, Queue: r.Queue},
		Order: r.Order, Schedulers: r.Schedulers, Soak: r.Soak,
	}.withDefaults()
	if r.Engine == mover.Bull {
		route.To.Major = bullMajor
	}
	if s.Stage != migrate.NotStarted && s.Stage != migrate.RolledBack {
		begun, err := ReadRoute(s.Options)
		if err != nil {
			return Route{}, err
		}
		route.From = begun.From
		if r.Soak == nil {
			route.Soak = begun.Soak
		}
		switch {
		case r.Engine != mover.BullMQ || r.Major != 0:
		case begun.To.Layout == mover.BullMQ:
			route.To.Major = begun.To.Major
		default: // another plan, which will be refused
			route.To.Major = latestBullMQ
		}
		return route, nil
	}
	source, err := mover.Show(ctx, client, mover.Endpoint{Prefix: r.Prefix, Queue: r.Queue})
	switch {
	case errors.Is(err, mover.ErrNoQueue):
		return Route{}, unknown(ctx, client, r)
	case err != nil:
		return Route{}, err
	case source.Endpoint.Layout == mover.BullMQ && r.Engine == mover.BullMQ && r.Major != 0 && r.Major != source.Endpoint.Major && !r.InPlace:
	case source.Endpoint.Layout == r.Engine:
		want := mover.Bull
		if r.Engine == mover.Bull {
			want = mover.BullMQ
		}
		return Route{}, &LayoutError{Queue: source.Endpoint, Want: want}
	}
	route.From = source.Endpoint
	if route.From.Layout == mover.BullMQ {
		if _, err := notedMajor(ctx, client, route.From); err != nil {
			return Route{}, err
		}
	}
	if r.Major == 0 && r.Engine == mover.BullMQ {
		route.To.Major, err = bullMQMajor(ctx, client, route.To, source.Paused)
	}
	return route, err
}

// notedMajor is the major version that a BullMQ noted when it opened the queue at e; 0 when none did. One that
// came after those that are known here is a *BlockedError: nobody knows how it keeps its jobs. Price: 1 command.
func notedMajor(ctx context.Context, client redis.UniversalClient, e mover.Endpoint) (int, error) {
	note, err := client.HGet(ctx, e.Key("meta"), "version").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return 0, fmt.Errorf("read %s: %w", e.Key("meta"), err)
	}
	version, ok := strings.CutPrefix(note, "bullmq:")
	if !ok {
		return 0, nil
	}
	first, _, _ := strings.Cut(version, ".")
	major, err := strconv.Atoi(first)
	if err != nil {
		return 0, nil //nolint:nilerr // a note that is no version says nothing
	}
	if major > latestBullMQ {
		return 0, &BlockedError{Queue: e, Problems: []mover.Problem{{Rule: "unknown-version", Blocking: true, Message: fmt.Sprintf(
			"it was opened by BullMQ %s, and this version of redisopt knows BullMQ up to %d", version, latestBullMQ)}}}
	}
	return major, nil
}

// bullMQMajor finds out which BullMQ will run the target: what its Queue noted when it was opened, else
// the latest, unless the difference matters.
func bullMQMajor(ctx context.Context, client redis.UniversalClient, e mover.Endpoint, paused bool) (int, error) {
	major, err := notedMajor(ctx, client, e)
	if err != nil {
		return 0, err
	}
	if major == 5 || major == 6 {
		return major, nil
	}
	if paused {
		return 0, &MajorError{Queue: e}
	}
	return latestBullMQ, nil
}

// unknown says which queues there are.
func unknown(ctx context.Context, client redis.UniversalClient, r Request) error {
	found, err := mover.DetectQueues(ctx, client, mover.ListOptions{Prefix: r.Prefix})
	if err != nil {
		return errors.Join(&UnknownQueueError{Prefix: r.Prefix, Queue: r.Queue}, err)
	}
	names := make([]string, 0, len(found))
	for _, e := range found {
		if e.Layout != r.Engine {
			names = append(names, e.Queue)
		}
	}
	return &UnknownQueueError{Prefix: r.Prefix, Queue: r.Queue, Near: nearest(r.Queue, names)}
}

// nearest sorts names by how little they differ from name.
func nearest(name string, names []string) []string {
	out := slices.Clone(names)
	slices.SortFunc(out, func(a, b string) int {
		return cmp.Or(cmp.Compare(distance(name, a), distance(name, b)), cmp.Compare(a, b))
	})
	return slices.Compact(out)
}

// distance is the number of runes to insert, delete or change to make b of a.
func distance(a, b string) int {
	target := []rune(b)
	row := make([]int, len(target)+1)
	for j := range row {
		row[j] = j
	}
	for i, ra := range []rune(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j, rb := range target {
			change := diagonal
			if ra != rb {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(target)]
}
