package mover

import (
	"context"
	_ "embed" // the scripts are compiled in
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

//go:embed prepare.lua
var prepareLua string

//go:embed move.lua
var moveLua string

// ErrFenced reports that the fence key no longer holds the token: another operator has taken over,
// and nothing was written.
var ErrFenced = errors.New("the lease on this migration was lost: another operator holds it now")

// A WrongTypeError reports a key of the target that is not what a queue keeps under that name, so
// that nothing was written.
type WrongTypeError struct{ Key string }

func (e *WrongTypeError) Error() string {
	return fmt.Sprintf("key %q is not of the type a queue keeps under this name", e.Key)
}

// maxPauses is how often a pause of the source is carried over between two chunks.
const maxPauses = 5

// errPaused reports that the source was paused since that was last looked at; nothing was written.
var errPaused = errors.New("the source was paused while it was being moved")

// scriptError turns what a script refused into the error it stands for.
func scriptError(err error) error {
	if err == nil {
		return nil
	}
	msg := err.Error()
	switch {
	case strings.Contains(msg, "REDISOPT_FENCED"):
		return ErrFenced
	case strings.Contains(msg, "REDISOPT_PAUSED"):
		return errPaused
	case strings.Contains(msg, "REDISOPT_WRONGTYPE"):
		_, key, _ := strings.Cut(msg, "REDISOPT_WRONGTYPE ")
		return &WrongTypeError{Key: key}
	case strings.HasPrefix(msg, "NOPERM"):
		return &DeniedError{Reason: msg}
	}
	return err
}

// What became of one claim, as the move script says it.
const (
	statusGone      = 'g' // no longer where it was seen: somebody else took it
	statusChanged   = 'c' // its hash is not what was seen
	statusLocked    = 'l' // a live worker holds its lock
	statusCollision = 'x' // the target already has a job of that id
	statusPhantom   = 'f' // the target has a key of that name, which is no job
	statusScheduled = 's' // the pending run of a scheduler, which moves it
	statusHeld      = 'h' // left in place, as asked
	statusMoved     = 'm'
	statusPriority  = 'p' // moved to the prioritized set
	statusEdited    = 'e' // converted where it is
)

// A claim is what is known of one job and what shall become of it. The script checks it all.
type claim struct {
	id, newID string
	action    byte
	score     string // in the source container; empty for lists
	priority  string // for the prioritized set or Bull's index; empty for none
	dedupID   string
	scheduler string // the job stays if this scheduler's next run is this very job
	seen      string // the fields that informed the edits, as the script showed them
	undo      string
	losses    int
	hset      []string
	hdel      []string

	// Of asynq: the message before the payload and behind the id, the band and the score it goes to, the
	// lock it holds, and whether it has data.
	head, tail  string
	band        int
	targetScore string
	lock        string
	noData      bool
}

// An entry is one id in the window of the source container.
type entry struct{ id, score, seen, undo string }

// A chunk is one call of the move script.
type chunk struct {
	lane   lane
	skip   int
	want   int
	idMin  int64 // the target's id counter must be at least this; 0 for no opinion
	claims []claim
	shapes [][]string // of jobs that need no look, and what becomes of them; see form
}

// An outcome is what the move script answered.
type outcome struct {
	skip   int
	status string // one letter for each claim
	plain  int    // moved without a claim, since their hashes had a known shape
	losses int64  // of these
	clash  []string
	next   []entry
}

// more says whether there may be something left to look at.
func (o *outcome) more() bool { return o.plain > 0 || len(o.next) > 0 }

// move runs one chunk: one round trip, and more only when the source was just paused.
func (m *Mover) move(ctx context.Context, c *chunk) (outcome, error) {
	script, keys, args := m.scripts.move, m.laneKeys, m.chunkArgs
	switch {
	case m.opts.To.Layout == Asynq:
		script, keys, args = m.scripts.enter, m.enterKeys, m.enterArgs
	case m.opts.From.Layout == Asynq:
		script, keys, args = m.scripts.leave, m.leaveKeys, m.leaveArgs
	}
	reply, err := m.run(ctx, script, keys(c.lane), args(c)...)
	for try := 0; errors.Is(err, errPaused) && try < maxPauses; try++ {
		if err := m.prepare(ctx); err != nil {
			return outcome{}, err
		}
		reply, err = m.run(ctx, script, keys(c.lane), args(c)...)
	}
	if err != nil {
		return outcome{}, err
	}
	return parseOutcome(reply)
}

// run runs a script, counts it, and names what it refused.
func (m *Mover) run(ctx context.Context, s *redis.Script, keys []string, args ...any) (any, error) {
	m.scriptCalls.Add(1)
	reply, err := s.Run(ctx, m.client, keys, args...).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	return reply, scriptError(err)
}

func (m *Mover) laneKeys(l lane) []string {
	from, to := m.opts.From, m.opts.To
	flag, sourceFlag, index := "meta", "meta-paused", "prioritized"
	if to.Layout == Bull {
		flag, index = "meta-paused", "priority"
	}
	if from.Layout == BullMQ {
		sourceFlag = "meta"
	}
	return []string{
		from.Key(l.from), to.Key(l.to), to.Key("paused"), to.Key(flag), to.Key("marker"), to.Key(index),
		to.Key("pc"), to.Key("id"), to.Key("delayed"), from.Key("priority"), from.Key("repeat"),
		m.ledgerKey("counts"), m.ledgerKey("undo"), m.fenceKey(), from.Key(sourceFlag),
	}
}

func (m *Mover) chunkArgs(c *chunk) []any {
	from, to := m.opts.From, m.opts.To
	fields := fieldsOf(from.Layout, m.inPlace())
	idMin := ""
	if c.idMin > 0 {
		idMin = strconv.FormatInt(c.idMin, 10)
	}
	counter := m.counter(c.lane.state)
	if m.inPlace() {
		counter = "" // counted once, at the end
	}
	args := make([]any, 0, 16+len(fields)+len(c.shapes)+14*len(c.claims))
	args = append(args,
		m.opts.Fence.Token, from.Key(""), to.Key(""), counter, string(c.lane.how), string(c.lane.put),
		strconv.Itoa(to.major()), strconv.Itoa(c.skip), strconv.Itoa(c.want), idMin, flag(m.opts.Reverse),
		flag(from.Layout == Bull && to.Layout != Bull && c.lane.isList()),
		strconv.FormatInt(m.idKnown, 10), strconv.Itoa(len(c.shapes)), strconv.Itoa(len(fields)))
	for _, shape := range c.shapes {
		for _, s := range shape {
			args = append(args, s)
		}
	}
	for _, f := range fields {
		args = append(args, f.String())
	}
	args = append(args, strconv.Itoa(len(c.claims)))
	for i := range c.claims {
		k := &c.claims[i]
		args = append(args, k.id, k.newID, string(k.action), k.score, k.priority, k.dedupID, k.scheduler, k.seen,
			k.undo, strconv.Itoa(len(k.hset)), strconv.Itoa(len(k.hdel)), strconv.Itoa(k.losses))
		for _, s := range k.hset {
			args = append(args, s)
		}
		for _, s := range k.hdel {
			args = append(args, s)
		}
	}
	return args
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

var errReply = errors.New("a script answered in a form it never should")

func parseOutcome(reply any) (outcome, error) {
	rows, ok := reply.([]any)
	if !ok || len(rows) < 4 {
		return outcome{}, errReply
	}
	skip, okSkip := rows[0].(int64)
	status, okStatus := rows[1].(string)
	plain, okPlain := rows[2].(int64)
	clashes, okClashes := rows[3].(int64)
	rows = rows[4:]
	if !okSkip || !okStatus || !okPlain || !okClashes || int(clashes) > len(rows) || (len(rows)-int(clashes))%4 != 0 {
		return outcome{}, errReply
	}
	out := outcome{skip: int(skip), status: status, plain: int(plain), next: make([]entry, 0, len(rows)/4)}
	if letters, losses, found := strings.Cut(status, "+"); found {
		out.status = letters
		n, err := strconv.ParseInt(losses, 10, 64)
		if err != nil {
			return outcome{}, errReply
		}
		out.losses = n
	}
	for ; clashes > 0; clashes-- {
		id, ok := rows[0].(string)
		if !ok {
			return outcome{}, errReply
		}
		out.clash = append(out.clash, id)
		rows = rows[1:]
	}
	for i := 0; i < len(rows); i += 4 {
		var e entry
		for at, into := range []*string{&e.id, &e.score, &e.seen, &e.undo} {
			if *into, ok = rows[i+at].(string); !ok {
				return outcome{}, errReply
			}
		}
		out.next = append(out.next, e)
	}
	return out, nil
}
