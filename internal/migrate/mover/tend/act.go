package tend

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts are compiled in
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
	"github.com/redisopt/redisopt/internal/runtime/upstream"
)

var (
	//go:embed claims.lua
	claimsLua string
	//go:embed retry_bull.lua
	retryBullLua string
	//go:embed retry_bullmq.lua
	retryBullMQLua string
	//go:embed retry_asynq.lua
	retryAsynqLua string
	//go:embed delete_bull.lua
	deleteBullLua string
	//go:embed delete_bullmq.lua
	deleteBullMQLua string
	//go:embed delete_asynq.lua
	deleteAsynqLua string
)

// Bounds of one script: how many jobs, how many of a list at first, whose removal looks through it, and
// how long it may keep the server busy before the next is given fewer.
const (
	mostPerScript = 50
	firstOfList   = 10
	longScript    = 30 * time.Millisecond
	shortScript   = 10 * time.Millisecond
)

// An Action is what is done to selected jobs.
type Action string

// Retry gives failed jobs back to the workers, as the library's own retry does; in asynq's layout it
// runs scheduled, retried and grouped jobs at once as well. Delete removes jobs with all that is kept
// of them.
const (
	Retry  Action = "retry"
	Delete Action = "delete"
)

// Retryable are the states whose jobs can be retried.
func (q *Queue) Retryable() []mover.State {
	switch q.at.Layout {
	case Asynq:
		return []mover.State{Aggregating, mover.Delayed, Retrying, mover.Failed}
	case mover.BullMQ:
		return []mover.State{mover.Completed, mover.Failed}
	case mover.Bull:
	}
	return []mover.State{mover.Failed}
}

// Deletable are the states whose jobs can be deleted. A running job of asynq's cannot.
func (q *Queue) Deletable() []mover.State {
	return slices.DeleteFunc(q.States(), func(s mover.State) bool { return s == mover.Active && q.at.Layout == Asynq })
}

// Why a job was left alone.
const (
	Gone       = "gone"         // no longer where it was seen: somebody else took it
	Changed    = "changed"      // no longer what made the filter match
	Locked     = "locked"       // a worker runs it
	NoJob      = "missing-hash" // there is no job under the id
	WrongType  = "wrong-type"   // the key of the job is of another type
	Scheduled  = "schedule"     // the next run of a schedule, which would end with it
	Children   = "has-children" // the parent of a flow
	Awaited    = "awaited"      // its parent waits for it
	MaybeTaken = "maybe-active" // a worker may have just taken it
	Marker     = "marker"       // no job: the library's own mark in its list
	NotThere   = "not-there"    // named, but not in these states
)

func reasonOf(letter byte) string {
	return map[byte]string{
		'g': Gone, 'c': Changed, 'l': Locked, 'm': NoJob, 'w': WrongType, 's': Scheduled,
		'f': Children, 'p': Awaited, 'a': MaybeTaken, 'k': Marker,
	}[letter]
}

// A Skip is one job that was left alone.
type Skip struct {
	ID    string      `json:"id"`
	State mover.State `json:"state,omitempty"`
	Why   string      `json:"why"`
}

// maxSkips is how many jobs that were left alone are named.
const maxSkips = 100

// An Outcome is what a change did.
type Outcome struct {
	Done    int64            `json:"done"`
	Skipped map[string]int64 `json:"skipped"`      // how many, by why
	Skips   []Skip           `json:"skipped_jobs"` // the first hundred of them
	Left    int64            `json:"left"`         // not begun, since it was stopped

	// Unknown is how many jobs were in a script whose reply did not come: it ran, or it did not. To
	// run the same again is safe: what was done is not found again.
	Unknown int64 `json:"unknown"`

	Scripts int64 `json:"scripts"`
}

func (o *Outcome) skip(id string, state mover.State, why string) {
	if o.Skipped[why]++; len(o.Skips) < maxSkips {
		o.Skips = append(o.Skips, Skip{ID: id, State: state, Why: why})
	}
}

// ActOptions say how to act.
type ActOptions struct {
	// Schedules ends the schedules whose pending run is deleted, instead of leaving that run.
	Schedules bool

	// OnProgress, when not nil, is told after every script how many jobs were looked at.
	OnProgress func(looked, total int64)

	// Now is the time of events. Default time.Now.
	Now func() time.Time
}

// Act does action to every selected job that is still as it was seen. When ctx ends it stops between
// two scripts. The outcome says what was done also when there is an error. Price: one script for every
// fifty jobs, fewer where that keeps the server busy for longer than 30 ms.
func (q *Queue) Act(ctx context.Context, action Action, s *Selection, o ActOptions) (Outcome, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	out := Outcome{Skipped: map[string]int64{}, Skips: []Skip{}, Left: s.Jobs}
	for _, id := range s.Missing {
		out.skip(id, "", NotThere)
	}
	run := &acting{q: q, action: action, s: s, o: o, out: &out, size: mostPerScript, token: rand.Text()}
	for _, l := range s.lots {
		script, err := q.script(action, l.c)
		if err != nil {
			return out, err
		}
		if l.c.list {
			run.size = firstOfList
		}
		for claims := l.claims; len(claims) > 0; {
			if err := ctx.Err(); err != nil {
				return out, err
			}
			chunk := claims[:min(run.size, len(claims))]
			if err := run.chunk(ctx, script, l.c, chunk); err != nil {
				return out, fmt.Errorf("%s jobs of %q: %w", action, l.c.key, err)
			}
			claims = claims[len(chunk):]
			if o.OnProgress != nil {
				o.OnProgress(s.Jobs-out.Left, s.Jobs)
			}
		}
		if action == Retry && q.at.Layout == Asynq {
			q.ring(ctx, 0, l.c.band)
		}
	}
	return out, nil
}

// acting is one Act under way.
type acting struct {
	q      *Queue
	action Action
	s      *Selection
	o      ActOptions
	out    *Outcome
	size   int
	token  string
}

// chunk gives some claims to the script. It is not stopped half-way when ctx ends.
func (a *acting) chunk(ctx context.Context, script *redis.Script, c container, claims []claim) error {
	keys, word := a.q.keys(a.action, c, a.o.Schedules)
	now := strconv.FormatInt(a.o.Now().UnixMilli(), 10)
	token := a.token
	if a.q.at.Layout == Asynq {
		now, token = strconv.FormatInt(a.o.Now().UnixNano(), 10), c.group
	}
	args := []any{a.q.jobBase(c.band), now, token, strconv.Itoa(a.q.at.Major), word, strconv.Itoa(len(a.s.names))}
	for _, name := range a.s.names {
		args = append(args, name)
	}
	for _, k := range claims {
		args = append(args, k.id, k.seal)
	}
	took := a.q.took()
	a.out.Scripts++
	reply, err := script.Run(context.WithoutCancel(ctx), a.q.client, keys, args...).Result()
	if err != nil {
		if mayHaveRun(err) {
			a.out.Left -= int64(len(claims))
			a.out.Unknown += int64(len(claims))
		}
		return scriptError(err)
	}
	a.pace(took())
	a.out.Left -= int64(len(claims))
	rows, ok := reply.([]any)
	if !ok || len(rows) != 2 {
		return errReply
	}
	letters, okLetters := rows[0].(string)
	calls, okCalls := rows[1].(int64)
	if !okLetters || !okCalls || len(letters) != len(claims) {
		return errReply
	}
	if a.q.InScript != nil {
		a.q.InScript(calls)
	}
	for i, k := range claims {
		if letters[i] == 'd' {
			a.out.Done++
			continue
		}
		a.out.skip(k.id, c.state, reasonOf(letters[i]))
	}
	return nil
}

// pace gives the next script fewer jobs when this one kept the server busy, and more when it did not.
func (a *acting) pace(took time.Duration) {
	switch {
	case took > longScript:
		a.size = max(1, a.size/2)
	case took < shortScript:
		a.size = min(mostPerScript, a.size*2)
	}
}

var errReply = errors.New("a script answered in a form it never should")

// script is what does action in this layout.
func (q *Queue) script(action Action, c container) (*redis.Script, error) {
	body := map[Action]map[mover.Layout]string{
		Retry:  {mover.Bull: retryBullLua, mover.BullMQ: retryBullMQLua, Asynq: retryAsynqLua},
		Delete: {mover.Bull: deleteBullLua, mover.BullMQ: deleteBullMQLua, Asynq: deleteAsynqLua},
	}[action][q.at.Layout]
	allowed := q.Deletable()
	if action == Retry {
		allowed = q.Retryable()
	}
	if slices.Contains(allowed, c.state) {
		return redis.NewScript(claimsLua + body), nil
	}
	return nil, fmt.Errorf("%s: a job that is %s cannot be; want one that is %s", action, c.state, joinStates(allowed))
}

// keys are the keys of a script and the word it is given.
func (q *Queue) keys(action Action, c container, schedules bool) (keys []string, word string) {
	base := q.base(c.band)
	under := func(names ...string) []string {
		all := []string{c.key}
		for _, name := range names {
			all = append(all, base+name)
		}
		return all
	}
	if q.at.Layout == Asynq {
		word = map[mover.State]string{
			mover.Waiting: "pending", mover.Delayed: "scheduled", Retrying: "retry", mover.Failed: "archived",
			mover.Completed: "completed", Aggregating: "aggregating",
		}[c.state]
		if action == Retry {
			return under("pending", "groups"), word
		}
		return under("groups"), word
	}
	if action == Retry {
		if q.at.Layout == mover.Bull {
			return under("wait", "paused", "meta-paused"), string(c.state)
		}
		return under("wait", "paused", "meta", "active", "marker", "prioritized", "pc", "events"), string(c.state)
	}
	switch word = "zset"; {
	case c.state == mover.Active:
		word = "active"
	case c.list:
		word = "list"
	}
	if schedules {
		word += "+"
	}
	if q.at.Layout == mover.Bull {
		return under("priority", "limiter:index", "repeat", "stalled"), word
	}
	return under("repeat", "meta", "events"), word
}

// mayHaveRun says whether a script that failed so may have changed something.
func mayHaveRun(err error) bool {
	switch upstream.Classify(err) {
	case upstream.Spend, upstream.ReadOnly, upstream.Refused, upstream.DNS, upstream.Auth, upstream.Quota,
		upstream.Capacity, upstream.ConnectionLimit, upstream.Loading, upstream.RequestSize:
		return false
	case upstream.None, upstream.BadOptions, upstream.Canceled, upstream.Unknown, upstream.Permission, upstream.Unavailable,
		upstream.TLSMismatch, upstream.TLSUntrusted, upstream.Reset, upstream.IdleClose, upstream.Timedout,
		upstream.Unreachable, upstream.NotRedis, upstream.Server:
	}
	text := err.Error()
	// A user who may not run scripts at all is refused with NOPERM; one who may not run a command of a
	// script is told so by the script.
	return !strings.Contains(text, "REDISOPT_WRONGTYPE") && (!strings.HasPrefix(text, "NOPERM") || strings.Contains(text, "script"))
}

// scriptError turns what a script refused into the error it stands for.
func scriptError(err error) error {
	if _, key, ok := strings.Cut(err.Error(), "REDISOPT_WRONGTYPE "); ok {
		return &mover.WrongTypeError{Key: key}
	}
	return err
}

// EstimateAct is about what Act would cost: commands, and commands inside scripts.
func (q *Queue) EstimateAct(action Action, s *Selection) mover.Price {
	each := int64(9)
	if action == Delete {
		each = 10
	}
	p := mover.Price{InScript: s.Jobs * each}
	for _, l := range s.lots {
		scripts := (int64(len(l.claims)) + mostPerScript - 1) / mostPerScript
		p.TopLevel += scripts
		p.InScript += 8 * scripts
	}
	if s.Jobs > 0 {
		p.TopLevel++ // the server may not have the script yet
	}
	return p
}
