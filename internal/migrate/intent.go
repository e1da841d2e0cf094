package migrate

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// intentSchema is the version of intents that this program writes and the newest it follows.
const intentSchema = 1

// maxIntent is the most bytes one stored intent or pulse may have.
const maxIntent = 16 << 10

// A Verb is what an intent asks of the host.
type Verb string

// The verbs.
const (
	IntentPause    Verb = "pause"    // wait at the next safe point, until it expires or is withdrawn
	IntentComplete Verb = "complete" // complete as soon as every step is in place
	IntentAbort    Verb = "abort"    // stop and roll back what is not completed
	IntentRollback Verb = "rollback" // roll back, also when every step is in place
	IntentRate     Verb = "rate"     // go at Rate from now on
)

// An Intent is what somebody wants of the process that hosts a migration. It is kept in Redis until it
// expires, or until the migration is completed or rolled back. There is at most one of each verb for one migration; the last
// one counts.
type Intent struct {
	Schema int    `json:"schema"`
	ID     string `json:"id"` // tells two intents of one verb apart
	Verb   Verb   `json:"verb"`

	// By is who asks, and Reason why; for people and the journal.
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`

	// At is when it was written and Expires when it means nothing any more, both by the clock of who
	// wrote it.
	At      time.Time `json:"at"`
	Expires time.Time `json:"expires"`

	// Rate is the most items a second, 0 without a limit; of IntentRate only.
	Rate float64 `json:"rate,omitempty"`
}

func (i Intent) validate() error {
	var errs []error
	switch i.Verb {
	case IntentPause, IntentComplete, IntentAbort, IntentRollback, IntentRate:
	default:
		errs = append(errs, fmt.Errorf("verb: got %q", i.Verb))
	}
	if i.ID == "" {
		errs = append(errs, errors.New("id: got none"))
	}
	if !i.Expires.After(i.At) {
		errs = append(errs, fmt.Errorf("expiry: got %s after %s, want later", i.Expires.Format(time.RFC3339), i.At.Format(time.RFC3339)))
	}
	if !(i.Rate >= 0) || i.Rate > 1e9 {
		errs = append(errs, fmt.Errorf("rate: got %g, want 0 to 1e9", i.Rate))
	}
	return errors.Join(errs...)
}

// ParseIntent reads an intent as Redis keeps it. One that a newer program wrote is an *IntentError.
func ParseIntent(text []byte) (Intent, error) {
	if len(text) > maxIntent {
		return Intent{}, fmt.Errorf("intent of %d bytes, want at most %d", len(text), maxIntent)
	}
	var i Intent
	if err := json.Unmarshal(text, &i); err != nil {
		return Intent{}, fmt.Errorf("not an intent: %w", err)
	}
	if i.Schema > intentSchema {
		return Intent{}, &IntentError{Verb: i.Verb, Schema: i.Schema}
	}
	return i, i.validate()
}

// An IntentError reports an intent that a newer version of this program wrote.
type IntentError struct {
	Verb   Verb
	Schema int
}

func (e *IntentError) Error() string {
	return fmt.Sprintf("intent %s has schema %d, this version follows up to %d", e.Verb, e.Schema, intentSchema)
}

// A Pulse is what the host says of itself: what the journal does not tell. It is written when it
// changes, and with every renewal of the lease.
type Pulse struct {
	Schema int `json:"schema"`

	// Condition is what the host does; Why says why it waits, empty when it does not.
	Condition Condition `json:"condition"`
	Why       string    `json:"why,omitempty"`

	// Progress is how far the step under way is, nil when that is not known.
	Progress *Progress `json:"progress,omitempty"`

	// Rate is the limit in items a second, 0 without one.
	Rate float64 `json:"rate,omitempty"`

	// At is when it was written, by the host's clock.
	At time.Time `json:"at"`
}

// Fields of the hash that holds the intents of one migration and the pulse of its host.
const (
	pulseField   = "pulse"
	intentFields = "intent:" // and the verb
)

// intentKey is the Redis hash of t's intents, and the channel on which a change is told.
func (t Target) intentKey() string {
	if t.Whole() {
		return intentsPrefix + t.scope()
	}
	return intentsPrefix + t.Phase + ":" + t.scope()
}

// IntentChannel is the channel on which a message, of whatever content, says that t's intents changed.
func (t Target) IntentChannel() string { return t.intentKey() }

// An Asked is an intent that was left, and whether anybody was there to hear of it.
type Asked struct {
	Intent

	// Heard is how many listeners were told at once. With none the host has no bell, or is gone; in a Cluster
	// only those on one node are counted.
	Heard int64
}

// Ask leaves an intent for the host of t. Of i its Verb, Reason and Rate count; By is Owner() when it is
// empty. ttl is how long the intent holds. Price: 2 commands.
func Ask(ctx context.Context, client redis.UniversalClient, t Target, i Intent, ttl time.Duration) (Asked, error) {
	now := time.Now().UTC()
	i.Schema, i.ID, i.At, i.Expires = intentSchema, rand.Text(), now, now.Add(ttl)
	i.By = cmp.Or(i.By, Owner())
	if err := i.validate(); err != nil {
		return Asked{Intent: i}, fmt.Errorf("intent: %w", err)
	}
	text, err := json.Marshal(i)
	if err != nil {
		return Asked{Intent: i}, err
	}
	if len(text) > maxIntent {
		return Asked{Intent: i}, fmt.Errorf("intent of %d bytes, want at most %d", len(text), maxIntent)
	}
	if err := client.HSet(ctx, t.intentKey(), intentFields+string(i.Verb), text).Err(); err != nil {
		return Asked{Intent: i}, fmt.Errorf("write intent of %s: %w", t, err)
	}
	heard, err := Knock(ctx, client, t, string(i.Verb))
	return Asked{Intent: i, Heard: heard}, err
}

// Withdraw takes intents back; a pause ends by it. Price: 2 commands.
func Withdraw(ctx context.Context, client redis.UniversalClient, t Target, verbs ...Verb) error {
	fields := make([]string, len(verbs))
	for n, v := range verbs {
		fields[n] = intentFields + string(v)
	}
	if err := client.HDel(ctx, t.intentKey(), fields...).Err(); err != nil {
		return fmt.Errorf("withdraw intent of %s: %w", t, err)
	}
	_, err := Knock(ctx, client, t, "withdrawn")
	return err
}

// Dismiss follows ForceUnlock: it removes the pulse of the host of t, which nobody else would when that is
// dead, and has one that is not look at its lease at once. Price: 2 commands.
func Dismiss(ctx context.Context, client redis.UniversalClient, t Target) error {
	if err := client.HDel(ctx, t.intentKey(), pulseField).Err(); err != nil {
		return fmt.Errorf("remove the pulse of %s: %w", t, err)
	}
	_, err := Knock(ctx, client, t, "unlocked")
	return err
}

// Knock has the host of t look at once at its intents and at its lease, and returns how many listeners were
// told. what is for people who watch. Price: 1 command.
func Knock(ctx context.Context, client redis.UniversalClient, t Target, what string) (int64, error) {
	heard, err := client.Publish(ctx, t.IntentChannel(), what).Result()
	if err != nil {
		return 0, fmt.Errorf("tell the host of %s: %w", t, err)
	}
	return heard, nil
}

// Wishes are the intents of one migration, by verb, and what its host says.
type Wishes struct {
	Intents map[Verb]Intent
	Pulse   *Pulse   // nil when no host ever said anything
	Strange []string // what could not be read, one sentence each, sorted
}

// List is w's intents in the order of their verbs.
func (w Wishes) List() []Intent {
	out := make([]Intent, 0, len(w.Intents))
	for _, i := range w.Intents {
		out = append(out, i)
	}
	slices.SortFunc(out, func(a, b Intent) int { return cmp.Compare(a.Verb, b.Verb) })
	return out
}

// ReadWishes reads the intents of t that have not expired. Price: 1 command.
func ReadWishes(ctx context.Context, client redis.UniversalClient, t Target, now time.Time) (Wishes, error) {
	fields, err := client.HGetAll(ctx, t.intentKey()).Result()
	if err != nil {
		return Wishes{}, fmt.Errorf("read intents of %s: %w", t, err)
	}
	return parseWishes(fields, now), nil
}

// parseWishes reads the hash of the intents of one migration.
func parseWishes(fields map[string]string, now time.Time) Wishes {
	w := Wishes{Intents: map[Verb]Intent{}}
	for field, text := range fields {
		if field == pulseField {
			var p Pulse
			if len(text) <= maxIntent && json.Unmarshal([]byte(text), &p) == nil && p.Schema <= intentSchema {
				w.Pulse = &p
			}
			continue
		}
		verb, ok := strings.CutPrefix(field, intentFields)
		if !ok {
			continue
		}
		i, err := ParseIntent([]byte(text))
		switch {
		case err != nil:
			w.Strange = append(w.Strange, fmt.Sprintf("%s: %v", field, err))
		case string(i.Verb) != verb:
			w.Strange = append(w.Strange, fmt.Sprintf("%s: it says %s", field, i.Verb))
		case i.Expires.After(now):
			w.Intents[i.Verb] = i
		}
	}
	slices.Sort(w.Strange)
	return w
}

// Wants is what somebody wants by one of verbs at the time now, the first of them that is wanted; nil when
// none is.
func (w Wishes) Wants(now time.Time, verbs ...Verb) *Intent {
	for _, v := range verbs {
		if i, ok := w.Intents[v]; ok && i.Expires.After(now) {
			return &i
		}
	}
	return nil
}

// attendScript does in one command all that a host does again and again, while KEYS[1] holds its lease
// ARGV[1]: it renews that for ARGV[2] milliseconds, writes the pulse ARGV[3] to KEYS[2], and returns what that
// holds after a 1; else it returns {0}. A Redis without memory for the pulse keeps the lease all the same. hushScript
// removes the pulse from KEYS[1], and clearScript the whole of KEYS[1], while KEYS[2] holds the lease ARGV[1].
var (
	attendScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return {0} end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.pcall('HSET', KEYS[2], 'pulse', ARGV[3])
return {1, redis.call('HGETALL', KEYS[2])}
`)
	hushScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('HDEL', KEYS[1], 'pulse')
`)
	clearScript = redis.NewScript(`
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
`)
)

// attend renews the lease for ttl, writes the pulse and reads the intents of t. It tells false when the lease
// is not ours any more. Price: 1 command, and 4 in its script.
func attend(ctx context.Context, client redis.UniversalClient, t Target, lease *Lease, ttl time.Duration, p Pulse) (Wishes, bool, error) {
	p.Schema = intentSchema
	text, err := json.Marshal(p)
	if err != nil {
		return Wishes{}, false, err
	}
	answer, err := attendScript.Run(ctx, client, []string{lease.Key(), t.intentKey()}, lease.Token(), ttl.Milliseconds(), text).Slice()
	if err != nil {
		return Wishes{}, false, fmt.Errorf("renew the lease of %s: %w", t, err)
	}
	if len(answer) < 2 {
		return Wishes{}, false, nil
	}
	list, _ := answer[1].([]any) // a server of its own making may answer otherwise; then nothing is wished
	fields := make(map[string]string, len(list)/2)
	for i := 0; i+1 < len(list); i += 2 {
		name, _ := list[i].(string)
		fields[name], _ = list[i+1].(string)
	}
	return parseWishes(fields, time.Now()), true, nil
}

// hush removes the pulse while the lease is ours. Price: 1 command, and 2 in its script.
func hush(ctx context.Context, client redis.UniversalClient, t Target, lease *Lease) error {
	return hushScript.Run(ctx, client, []string{t.intentKey(), lease.Key()}, lease.Token()).Err()
}

// clearWishes removes all intents and the pulse while the lease is ours. Price: 1 command, and 2 in its
// script.
func clearWishes(ctx context.Context, client redis.UniversalClient, t Target, lease *Lease) error {
	return clearScript.Run(ctx, client, []string{t.intentKey(), lease.Key()}, lease.Token()).Err()
}
