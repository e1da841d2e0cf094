package limit

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/runtime/limit/window"
)

// An Other is a second Redis to which subjects move, one by one, while checks go on. A subject is counted
// on one side at a time, with all its limits.
//
// While a subject is carried, every check that asks Redis takes its units on the subject's side and then
// reads what the other side counts: when both together are over the limit, the units are given back and
// the check is denied. The unit that was taken last is seen by whoever took it, so that both sides together
// never admit more than the limit in any window, even while replicas do not agree yet on which side a
// subject is. That costs 1 command more for a check that was granted, and 3 or 4 where units are given back.
//
// A subject that is carried no longer and is counted here again is looked at in the same way until what the
// other side counted of it has left every window, with half a Deadline to wait: what cannot be read by then
// is forgotten.
//
// A token bucket counts on one side at a time, and is fetched from the other one by the first check that finds
// that it is not where its subject is counted, with the level that it has there. So nobody gets more than one
// bucket lets through, whatever replicas do at the same time; what the way takes, a caller waits longer. It
// costs 6 or 7 commands once, and no more until the bucket is known no longer: bucketKept after its last use,
// or when it is dry. What cannot be fetched begins with what its side knows: once, at most one bucket more.
//
// A rule that reads a former limiter's sets goes on reading them on the old side: 1 command there for a check
// that was granted, and more where units are given back. Rules that count in such sets (LegacyShare) are not
// moved, because the application counts there too; with SameDatabase there is only one place, and all move.
type Other struct {
	// Client is the second Redis, in the same terms as Options.Client. Required.
	Client redis.UniversalClient

	// Cluster says that Client talks to a Redis Cluster.
	Cluster bool

	// InScript is Options.InScript for this side. Nil: nobody is told.
	InScript func(command string, n int64)

	// Takes is whether a subject is counted on this side now. It is asked for every check and must be
	// cheap. Required.
	Takes func(subject string) bool

	// Carries is whether a subject may have been counted on either side lately. Nil: none has.
	Carries func(subject string) bool

	// Left is since when a subject is carried no longer; zero: for so long that it does not matter, or it
	// is. It is asked for every check of a subject that is neither counted on this side nor carried. Nil:
	// none is looked at any longer than it is carried.
	Left func(subject string) time.Time

	// SameDatabase says that both clients reach one database, so that there is nothing to carry.
	SameDatabase bool

	// Compares is whether the decision about a check that was just made on the old side is to be compared
	// with what this side would decide, which costs up to 9 commands, in the background and at most every
	// 100 ms; see Limiter.Run. It must be cheap. Nil: none is.
	Compares func() bool

	// Compared is told of every comparison, and how long this side took; 0: it was not asked. Nil: nobody is.
	Compared func(like Likeness, key string, took time.Duration)

	// Observed is told of every call of either side's script; other tells which. Nil: nobody is.
	Observed func(other bool, took time.Duration, err error)
}

func (o *Other) withDefaults() *Other {
	if o == nil {
		return nil
	}
	own := *o
	if own.InScript == nil {
		own.InScript = func(string, int64) {}
	}
	if own.Carries == nil {
		own.Carries = func(string) bool { return false }
	}
	if own.Left == nil {
		own.Left = func(string) time.Time { return time.Time{} }
	}
	if own.Compares == nil {
		own.Compares = func() bool { return false }
	}
	if own.Compared == nil {
		own.Compared = func(Likeness, string, time.Duration) {}
	}
	if own.Observed == nil {
		own.Observed = func(bool, time.Duration, error) {}
	}
	if _, ok := own.Client.(*redis.ClusterClient); ok {
		own.Cluster = true
	}
	return &own
}

func (o *Other) validate() error {
	var errs []error
	if o.Client == nil {
		errs = append(errs, errors.New("other client: missing"))
	}
	if o.Takes == nil {
		errs = append(errs, errors.New("other takes: missing"))
	}
	return errors.Join(errs...)
}

// Movable is whether subjects of r can be counted on the side of o, and if not why.
func (o *Other) Movable(r Rule) (bool, string) {
	switch {
	case o.SameDatabase:
		return true, ""
	case r.LegacyShare:
		return false, "it counts in a former limiter's sets, where the application counts too, on the old side; when ramp becomes upstream it begins anew, so a caller may get one limit more in that window"
	}
	return true, ""
}

// A side is one of the two places where subjects are counted.
type side struct {
	client   redis.UniversalClient
	cluster  bool
	inScript func(command string, n int64)
	breaker  *breaker
	observed func(took time.Duration, err error)
}

// side is where an item's units are taken, or with across the opposite one.
func (l *Limiter) side(other bool) side {
	o := l.opts.Other
	observed := func(time.Duration, error) {}
	if o != nil {
		observed = func(took time.Duration, err error) { o.Observed(other, took, err) }
	}
	if other {
		return side{o.Client, o.Cluster, o.InScript, &l.otherBreaker, observed}
	}
	return side{l.opts.Client, l.opts.Cluster, l.opts.InScript, &l.breaker, observed}
}

// place decides on which side an item is counted, and whether the opposite one is to be looked at.
func (l *Limiter) place(it *item) {
	o := l.opts.Other
	if o == nil {
		return
	}
	if ok, _ := o.Movable(it.rule.Rule); !ok {
		return
	}
	it.other = o.Takes(it.subject)
	if o.SameDatabase {
		return
	}
	it.carried = o.Carries(it.subject)
	if it.carried || it.other {
		return
	}
	// A unit counts for less than two windows, whatever the algorithm, and in a bucket until that is dry.
	counts := 2 * it.rule.nominal()
	if it.plan.policy.Algorithm == TokenBucket {
		counts = it.plan.full()
	}
	if since := o.Left(it.subject); !since.IsZero() && time.Since(since) < counts {
		it.carried, it.late = true, true
	}
}

// align has items that are decided all or none counted on one side: what is carried may be counted on
// either.
func align(items []*item) {
	for _, it := range items {
		if it.other && !it.carried {
			return
		}
	}
	for _, it := range items {
		if it.other != items[0].other {
			for _, it := range items {
				it.other = false
			}
			return
		}
	}
}

// memory is the name under which an item is remembered here: what is held in advance belongs to the side
// that counted it, except where both sides are one database.
func (l *Limiter) memory(key string, other bool) string {
	if !other || l.opts.Other.SameDatabase {
		return key
	}
	return "\x00" + key
}

// verify reads what the opposite side counts of what was granted, and gives back what both together have
// over the limit. items are of one side and in one slot.
func (l *Limiter) verify(ctx context.Context, items []*item, r *reply, all bool) {
	var look []int
	for i, it := range items {
		if (it.carried && !l.bucket(it) || l.formerAcross(it)) && r.answers[i].Granted > 0 {
			look = append(look, i)
		}
	}
	if len(look) == 0 || all && !admitted(items, r.answers) {
		return // with "all", nothing was taken
	}
	across := l.side(!items[0].other)
	if across.client == nil || !across.breaker.admit() {
		return
	}
	asking, cancel := l.waiting(ctx, items, look)
	defer cancel()
	there, commands, err := l.counted(asking, across, items, look, r.now)
	across.breaker.done(err == nil || !unusable(ctx, err))
	r.commands += commands
	if err != nil {
		return // what cannot be reached takes nothing either
	}
	back := map[int]int64{}
	for n, i := range look {
		units := items[i].exceeds(&r.answers[i], there[n])
		if units == 0 {
			continue
		}
		back[i] = units
		if there[n].former > 0 && r.answers[i].Granted == 0 {
			r.commands += l.formerFrees(asking, across, items[i], &r.answers[i], r.now)
		}
	}
	if all && !admitted(items, r.answers) {
		for i := range items { // none is to have anything
			if r.answers[i].Granted > 0 {
				back[i] += r.answers[i].Granted
			}
		}
	}
	if len(back) > 0 {
		r.commands += l.putBack(ctx, items, r.answers, back, r.now)
	}
}

// A share is what the opposite side counts of an item.
type share struct {
	window.Decision       // of our own count, that of the former limiter added to Used
	former          int64 // of it, what the former limiter counts
}

// counted is what the opposite side counts of the items at look: 1 command for all that are carried, and 1 for
// each former limiter's set.
func (l *Limiter) counted(ctx context.Context, across side, items []*item, look []int, now int64) ([]share, int64, error) {
	var keys []string
	pipe := across.client.Pipeline()
	former := make([]*redis.IntCmd, len(look))
	for n, i := range look {
		if items[i].carried {
			keys = append(keys, items[i].key)
		}
		if l.formerAcross(items[i]) {
			former[n] = pipe.ZCount(ctx, items[i].former, items[i].since(now), "+inf")
		}
	}
	var own *redis.SliceCmd
	if len(keys) > 0 {
		own = pipe.MGet(ctx, keys...)
	}
	commands := int64(pipe.Len())
	_, _ = pipe.Exec(ctx) // each command has its own error
	var values []any
	if own != nil {
		var err error
		if values, err = own.Result(); err == nil && len(values) != len(keys) {
			err = fmt.Errorf("MGET of %d keys had %d values", len(keys), len(values))
		}
		if err != nil {
			return nil, commands, err
		}
	}
	var failed error
	out := make([]share, len(look))
	for n, i := range look {
		if items[i].carried {
			text, _ := values[0].(string)
			values = values[1:]
			p := items[i].plan.policy
			out[n].Decision = p.Peek(window.Decode(p, text), now, 0, 0)
		}
		if former[n] == nil {
			continue
		}
		count, err := former[n].Result()
		switch {
		case err == nil:
			out[n].former = count
			out[n].Used += count
		case own == nil && unusable(ctx, err): // a key of another type is no outage
			failed = err
		}
	}
	return out, commands, failed
}

// admitted is whether all items have what they need.
func admitted(items []*item, answers []answer) bool {
	for i, it := range items {
		if answers[i].Granted < it.cost && !it.soft() {
			return false
		}
	}
	return true
}

// spurious is after how long, in microseconds, a check is worth trying again that was denied only because
// two replicas took the last units on different sides at the same moment.
const spurious = 20_000

// exceeds adds what the opposite side counts to an answer and takes away what is over the limit. It
// returns how much of the grant is to be given back.
func (it *item) exceeds(a *answer, there share) int64 {
	p := it.plan.policy
	before := a.Used - a.Granted
	a.Used += there.Used
	over := a.Used - p.Capacity()
	if over <= 0 {
		return 0
	}
	least := max(1, it.cost)
	back := min(over, a.Granted)
	if a.Granted-back < least {
		back = a.Granted
	}
	a.Granted -= back
	a.Used -= back
	if a.Granted > 0 {
		a.RetryWant = soonest(a.Reset, there.Reset)
		return back
	}
	a.Retry = spurious
	if before+there.Used+least > p.Capacity() {
		a.Retry = soonest(there.Reset, a.Reset)
	}
	a.RetryWant = a.Retry
	return back
}

// soonest is the smaller of two times, of those that are known.
func soonest(a, b int64) int64 {
	switch {
	case a <= 0:
		return max(b, spurious)
	case b <= 0:
		return max(a, spurious)
	}
	return max(spurious, min(a, b))
}

// putBack returns units to the side that granted them and tells what that cost. What cannot be returned
// counts until its window ends.
func (l *Limiter) putBack(ctx context.Context, items []*item, answers []answer, back map[int]int64, now int64) int64 {
	var asks []ask
	for i, it := range items {
		if units := back[i]; units > 0 {
			asks = append(asks, ask{plan: it.plan, key: it.key, carry: l.staying(it), Ask: window.Ask{Give: units, Stamp: answers[i].Stamp}})
		}
	}
	r, err := l.call(ctx, l.side(items[0].other), asks, false, now)
	if err != nil {
		return 1
	}
	return r.commands
}

// elsewhere is the state that the opposite side has of an item, empty where it is not to be looked at, or only
// lately was and has no answer: 1 command.
func (l *Limiter) elsewhere(ctx context.Context, it *item) (string, error) {
	if !it.carried {
		return "", nil
	}
	asking := ctx
	if it.late {
		var cancel context.CancelFunc
		asking, cancel = context.WithTimeout(ctx, l.opts.Deadline/2)
		defer cancel()
	}
	text, err := l.side(!it.other).client.Get(asking, it.key).Result()
	switch {
	case err == nil || errors.Is(err, redis.Nil):
		return text, nil
	case it.late && ctx.Err() == nil:
		return "", nil // as a check does
	}
	return "", err
}
