package migrate

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// LeaseOptions say which lease to take and how.
type LeaseOptions struct {
	// Key is the Redis key that holds the token while the lease is held. Required.
	Key string

	// Counter is the Redis key of the fence number, which outlives every lease. Required; in a Cluster
	// it must share a slot with Key.
	Counter string

	// Owner is shown to whoever is refused: user@host pid. Required; no line feeds.
	Owner string

	// TTL is how long the lease lasts without a renewal. Default 30 seconds; at least 1 second, because
	// a pause that long must not yet lose it. It is renewed every third of it.
	TTL time.Duration

	// Rest is the TTL while nothing moves, when a renewal protects nothing that the fence does not. Default
	// 20 minutes; at least TTL, which a longer TTL raises it to. It is renewed every half of it.
	Rest time.Duration
}

func (o LeaseOptions) withDefaults() LeaseOptions {
	if o.TTL == 0 {
		o.TTL = 30 * time.Second
	}
	if o.Rest == 0 {
		o.Rest = 20 * time.Minute
	}
	o.Rest = max(o.Rest, o.TTL)
	return o
}

func (o LeaseOptions) validate() error {
	var errs []error
	if o.Key == "" {
		errs = append(errs, errors.New("lease key: got none"))
	}
	if o.Counter == "" {
		errs = append(errs, errors.New("lease counter: got none"))
	}
	if o.Owner == "" || strings.ContainsAny(o.Owner, "\r\n") {
		errs = append(errs, fmt.Errorf("lease owner: got %q, want one line", o.Owner))
	}
	if o.TTL < time.Second {
		errs = append(errs, fmt.Errorf("lease ttl: got %s, want at least 1s", o.TTL))
	}
	return errors.Join(errs...)
}

// A Holder is who holds a lease.
type Holder struct {
	Fence   int64     `json:"fence"`   // grows with every lease taken on this key
	Owner   string    `json:"owner"`   // user@host pid
	Expires time.Time `json:"expires"` // by the local clock, unless renewed

	token string // what the lease's key held when this was read
}

// A Lease keeps others out of one migration. Its token names the fence number, a secret and the owner;
// every script that changes something checks that the key still holds the token, so that an operator
// who slept through the expiry can do nothing more, however late he wakes.
type Lease struct {
	client redis.UniversalClient
	opts   LeaseOptions
	token  string
	fence  int64
	poked  chan struct{} // has room for one: a renewal is wanted now

	mu      sync.Mutex
	resting bool
	expires time.Time // by the local clock, as the last successful renewal made it

	renewing sync.Mutex // held while a renewal is under way
	carrier  carrier    // guarded by renewing; nil: renewScript
}

// A carrier renews a lease for ttl together with something else, and tells whether the lease is still ours.
type carrier func(ctx context.Context, ttl time.Duration) (bool, error)

// The token is "<fence> <secret> <owner>".

// acquireScript takes the lease KEYS[1] if it is free: it answers {1, token} or {0, token of the
// holder, its milliseconds left}.
var acquireScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if held then return {0, held, redis.call('PTTL', KEYS[1])} end
local token = redis.call('INCR', KEYS[2]) .. ' ' .. ARGV[1]
redis.call('SET', KEYS[1], token, 'PX', ARGV[2])
return {1, token}
`)

// renewScript and releaseScript answer 0 when the lease is not ours any more, and withdrawScript when it is not
// that of who asked for it with ARGV[1].
var (
	renewScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
`)
	releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)
	withdrawScript = redis.NewScript(`
local held = redis.call('GET', KEYS[1])
if not held or string.sub(held, -#ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)
)

// withdrawTimeout bounds what is done about a lease whose taking was interrupted.
const withdrawTimeout = 2 * time.Second

// Acquire takes the lease, or returns a *HeldError that says who has it and until when. It does not
// wait. When ctx ends before the answer is there, the lease is given back if it was taken. Price: 1 command, and 3
// in the script; 1 more, and 2 in its script, where ctx ended.
func Acquire(ctx context.Context, client redis.UniversalClient, opts LeaseOptions) (*Lease, error) {
	opts = opts.withDefaults()
	if err := opts.validate(); err != nil {
		return nil, err
	}
	sent, mine := time.Now(), rand.Text()+" "+opts.Owner
	answer, err := acquireScript.Run(ctx, client, []string{opts.Key, opts.Counter}, mine, opts.TTL.Milliseconds()).Slice()
	if err != nil {
		if ctx.Err() != nil {
			again, cancel := context.WithTimeout(context.WithoutCancel(ctx), withdrawTimeout)
			defer cancel()
			_ = withdrawScript.Run(again, client, []string{opts.Key}, " "+mine).Err() // else it ends with its TTL
		}
		return nil, fmt.Errorf("take lease %s: %w", opts.Key, err)
	}
	taken, token, left := leaseAnswer(answer)
	if !taken {
		h := holder(token, left, sent)
		return nil, &HeldError{Key: opts.Key, Owner: h.Owner, Expires: h.Expires}
	}
	return &Lease{
		client: client, opts: opts, token: token, fence: holder(token, 0, sent).Fence,
		poked: make(chan struct{}, 1), expires: sent.Add(opts.TTL),
	}, nil
}

// leaseAnswer unpacks what acquireScript answers.
func leaseAnswer(answer []any) (taken bool, token string, left time.Duration) {
	if len(answer) >= 2 {
		n, _ := answer[0].(int64)
		taken = n == 1
		token, _ = answer[1].(string)
	}
	if len(answer) >= 3 {
		ms, _ := answer[2].(int64)
		left = time.Duration(ms) * time.Millisecond
	}
	return taken, token, left
}

// holder reads a token. One that we did not write is shown as it is.
func holder(token string, left time.Duration, now time.Time) Holder {
	h := Holder{Owner: token, Expires: now.Add(left), token: token}
	if number, rest, ok := strings.Cut(token, " "); ok {
		if _, owner, ok := strings.Cut(rest, " "); ok {
			if n, err := strconv.ParseInt(number, 10, 64); err == nil {
				h.Fence, h.Owner = n, owner
			}
		}
	}
	return h
}

// Holding tells who holds the lease of key, nil when nobody does. Price: 2 commands.
func Holding(ctx context.Context, client redis.UniversalClient, key string) (*Holder, error) {
	now := time.Now()
	token, err := client.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil //nolint:nilnil // nobody holds it, and that is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("read lease %s: %w", key, err)
	}
	left, err := client.PTTL(ctx, key).Result()
	if err != nil {
		return nil, fmt.Errorf("read lease %s: %w", key, err)
	}
	h := holder(token, left, now)
	return &h, nil
}

// ForceUnlock takes the lease of key away from shown, as Holding read it, and returns shown; nil when
// the lease is free by now. It returns a *HeldError, and takes nothing, when another one took the lease
// since. The holder's scripts do nothing from then on, and its work is cancelled at its next renewal.
// Price: 1 command, and 2 in its script; 3 when another one holds it.
func ForceUnlock(ctx context.Context, client redis.UniversalClient, key string, shown Holder) (*Holder, error) {
	removed, err := releaseScript.Run(ctx, client, []string{key}, shown.token).Int()
	if err != nil {
		return nil, fmt.Errorf("remove lease %s: %w", key, err)
	}
	if removed > 0 {
		return &shown, nil
	}
	now, err := Holding(ctx, client, key)
	if err != nil || now == nil {
		return nil, err
	}
	return nil, &HeldError{Key: key, Owner: now.Owner, Expires: now.Expires}
}

// Token is what the lease's key holds while the lease is ours.
func (l *Lease) Token() string { return l.token }

// Key is the lease's Redis key.
func (l *Lease) Key() string { return l.opts.Key }

// Fence is the lease's number, greater than that of every lease taken before on the same key.
func (l *Lease) Fence() int64 { return l.fence }

// Hold calls work while it keeps the lease, and gives the lease back when work returns. When the lease
// is lost, the context of work is cancelled with ErrLeaseLost as its cause, and the error of Hold says
// so. What Hold started has ended when it returns. Price: 1 command, and 2 in its script, every third
// of the TTL, or every half of Rest while it rests, when that changes, and once at the end.
func (l *Lease) Hold(ctx context.Context, work func(context.Context) error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := make(chan struct{})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := l.keep(ctx, stop); err != nil {
			cancel(err)
		}
	}()
	err := work(ctx)
	close(stop)
	<-ended
	if cause := context.Cause(ctx); errors.Is(cause, ErrLeaseLost) {
		if err == nil || errors.Is(err, context.Canceled) {
			return cause
		}
		return errors.Join(cause, err)
	}
	return errors.Join(err, l.release(ctx))
}

// SetResting says whether nothing moves for now: the lease is renewed at once for as long as that allows, and
// from then on in that rhythm.
func (l *Lease) SetResting(resting bool) {
	l.mu.Lock()
	changed := l.resting != resting
	l.resting = resting
	l.mu.Unlock()
	if changed {
		l.Poke()
	}
}

// Resting is what SetResting said last.
func (l *Lease) Resting() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.resting
}

// Poke has the lease renewed at once, which tells whether it is still ours. It does not wait for that, and
// does nothing after Hold has ended.
func (l *Lease) Poke() {
	select {
	case l.poked <- struct{}{}:
	default:
	}
}

// carry lets renewals be made by c, which may do more with the same command; nil ends that. It returns when
// no renewal by what was there before is under way any more.
func (l *Lease) carry(c carrier) {
	l.renewing.Lock()
	defer l.renewing.Unlock()
	l.carrier = c
}

// rhythm is for how long a renewal lasts now, and after how long the next one is due.
func (l *Lease) rhythm() (ttl, every time.Duration) {
	if l.Resting() {
		return l.opts.Rest, l.opts.Rest / 2
	}
	return l.opts.TTL, l.opts.TTL / 3
}

// keep renews the lease until stop is closed, and returns why the lease was lost. It goes on while ctx
// is cancelled: work may still have to come to a safe point. A renewal that had no answer is tried again
// after a tenth of the time.
func (l *Lease) keep(ctx context.Context, stop <-chan struct{}) error {
	_, every := l.rhythm()
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-stop:
			return nil
		case <-l.poked:
		case <-timer.C:
		}
		answered, err := l.renew(context.WithoutCancel(ctx))
		if err != nil {
			return err
		}
		if _, every = l.rhythm(); !answered {
			every /= 10
		}
		timer.Reset(every)
	}
}

// renew extends the lease and tells whether there was an answer. None is no loss until the lease must have
// expired.
func (l *Lease) renew(ctx context.Context) (answered bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, l.opts.TTL/3)
	defer cancel()
	l.renewing.Lock()
	defer l.renewing.Unlock()
	renew := l.carrier
	if renew == nil {
		renew = l.extend
	}
	ttl, _ := l.rhythm()
	sent := time.Now()
	kept, err := renew(ctx, ttl)
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case err == nil && kept:
		l.expires = sent.Add(ttl)
		return true, nil
	case err == nil:
		return true, fmt.Errorf("lease %s: %w", l.opts.Key, ErrLeaseLost)
	case !time.Now().Before(l.expires):
		return false, fmt.Errorf("lease %s: %w: not renewed until it expired: %w", l.opts.Key, ErrLeaseLost, err)
	default:
		return false, nil
	}
}

// extend renews the lease and does nothing else. Price: 1 command, and 2 in its script.
func (l *Lease) extend(ctx context.Context, ttl time.Duration) (bool, error) {
	kept, err := renewScript.Run(ctx, l.client, []string{l.opts.Key}, l.token, ttl.Milliseconds()).Int()
	return kept == 1, err
}

// release gives the lease back. Having lost it already is no error: the work is done.
func (l *Lease) release(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), l.opts.TTL/3)
	defer cancel()
	if err := releaseScript.Run(ctx, l.client, []string{l.opts.Key}, l.token).Err(); err != nil {
		return fmt.Errorf("give back lease %s: %w", l.opts.Key, err)
	}
	return nil
}
