package tend

import (
	"context"
	"crypto/rand"
	_ "embed" // the scripts are compiled in
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/redis/go-redis/v9"

	"github.com/redisopt/redisopt/internal/migrate/mover"
)

var (
	//go:embed enqueue_bull.lua
	enqueueBullLua string
	//go:embed enqueue_bullmq.lua
	enqueueBullMQLua string
	//go:embed enqueue_asynq.lua
	enqueueAsynqLua string
)

const (
	maxData       = 16 << 20
	maxIDBytes    = 512
	maxPriority   = 2097151             // the largest whose score BullMQ can keep exactly
	asynqAttempts = 26                  // asynq's own default: the first and 25 retries
	asynqTimeout  = 30 * 60             // seconds; asynq's own default
	uniqueLife    = 30 * 24 * time.Hour // asynq's locks must end; as long as those of redisopt's own queues
	maxDelay      = 10 * 365 * 24 * time.Hour
)

// A NewJob is a job to add.
type NewJob struct {
	// Name is the job's name, which asynq calls its type. Default "__default__" for Bull, which calls an
	// unnamed job so; required otherwise.
	Name string

	// Data is the payload: JSON, kept byte for byte. Default {}. At most 16 MiB.
	Data []byte

	// Delay is how long to wait before it may run, At the time; at most one of them. asynq counts whole
	// seconds, and rounds up.
	Delay time.Duration
	At    time.Time

	// Priority is a number from 1, the most urgent; 0 is none. Bull runs jobs with one before those
	// without, BullMQ after. asynq has none.
	Priority int64

	// Band is asynq's: high or low; empty is the queue itself.
	Band string

	// ID is the job's id; empty takes the next number, or a random one of asynq's. Ids that a library
	// takes for something else are refused.
	ID string

	// Attempts is how often the job may be tried; 0 is the library's own default: once, for asynq 26
	// times.
	Attempts int

	// Unique keeps the job out while another with the same value has not ended: Bull's debounce, BullMQ's
	// deduplication, asynq's unique lock, which is that of redisopt's own queues and holds over all bands.
	// With UniqueTTL it does so for that long instead, for asynq at most that long; asynq's locks end after
	// 30 days at the latest unless it says otherwise.
	Unique    string
	UniqueTTL time.Duration

	// Now is the time it is added. Default time.Now.
	Now time.Time
}

// An Added is a job that was added.
type Added struct {
	ID    string      `json:"id"`
	State mover.State `json:"state"`
	Band  string      `json:"band,omitempty"`
	DueMS int64       `json:"due_ms,omitempty"`
}

// A TakenError reports that a job was not added, since its id or its unique value belongs to another.
type TakenError struct {
	ID     string // the other job
	Unique string // the value; empty where it is the id
}

func (e *TakenError) Error() string {
	if e.Unique != "" {
		return fmt.Sprintf("job %q, which has not ended, is unique by %q; nothing was added", e.ID, e.Unique)
	}
	return fmt.Sprintf("there is a job %q already; nothing was added", e.ID)
}

// A JobError reports what is wrong with a job that shall be added.
type JobError struct{ Err error }

func (e *JobError) Error() string { return e.Err.Error() }
func (e *JobError) Unwrap() error { return e.Err }

func (q *Queue) withDefaults(j NewJob) NewJob {
	if j.Name == "" && q.at.Layout == mover.Bull {
		j.Name = "__default__"
	}
	if len(j.Data) == 0 {
		j.Data = []byte("{}")
	}
	if j.Now.IsZero() {
		j.Now = time.Now()
	}
	if !j.At.IsZero() && j.Delay == 0 {
		j.Delay = max(0, j.At.Sub(j.Now))
	}
	return j
}

func (q *Queue) validate(given, j NewJob) error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if j.Name == "" {
		bad("name: got none; %s has no unnamed jobs", q.at.Layout)
	}
	if !utf8.ValidString(j.Name) {
		bad("name: want valid UTF-8")
	}
	if len(j.Data) > maxData {
		bad("data: got %d bytes, want at most %d", len(j.Data), maxData)
	} else if !json.Valid(j.Data) {
		bad("data: want JSON, as in {\"to\": \"ann\"}")
	}
	if given.Delay != 0 && !given.At.IsZero() {
		bad("delay and at: want at most one of them")
	}
	if j.Delay < 0 || j.Delay > maxDelay {
		bad("delay: got %s, want 0 to ten years", j.Delay)
	}
	if j.Attempts < 0 || j.Attempts > 1000000 {
		bad("attempts: got %d, want 1 to 1000000, or 0 for the library's default", j.Attempts)
	}
	if j.UniqueTTL < 0 || (j.UniqueTTL > 0 && j.Unique == "") {
		bad("unique ttl: got %s, want 0 or more, and a unique value", j.UniqueTTL)
	}
	if j.UniqueTTL > 0 && q.at.Layout == Asynq && j.UniqueTTL < time.Second {
		bad("unique ttl: got %s, want at least 1s; asynq counts seconds", j.UniqueTTL)
	}
	switch {
	case q.at.Layout == Asynq && j.Priority != 0:
		bad("priority: asynq has bands instead: high or low")
	case q.at.Layout != Asynq && j.Band != "":
		bad("band: %s has priorities instead, 1 is the most urgent", q.at.Layout)
	case j.Priority < 0 || j.Priority > maxPriority:
		bad("priority: got %d, want 0 to %d", j.Priority, maxPriority)
	case q.at.Layout == Asynq && !slices.Contains(q.bands, j.Band):
		bad("band: no worker is known to serve %q; asynq:queues has %s", q.bandName(j.Band), strings.Join(q.bandList(), ", "))
	}
	if err := q.checkID(j.ID); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func (q *Queue) bandList() []string {
	names := make([]string, len(q.bands))
	for i, b := range q.bands {
		names[i] = q.bandName(b)
	}
	return names
}

// checkID refuses ids that the library would take for something else.
func (q *Queue) checkID(id string) error {
	switch {
	case id == "":
		return nil
	case len(id) > maxIDBytes || !utf8.ValidString(id):
		return fmt.Errorf("id: want valid UTF-8 of at most %d bytes", maxIDBytes)
	case q.at.Layout == Asynq:
		return nil
	}
	reserved := []string{
		"wait", "paused", "active", "delayed", "completed", "failed", "id", "meta", "meta-paused", "priority", "prioritized",
		"pc", "marker", "events", "repeat", "stalled", "stalled-check", "limiter", "waiting-children", "drained", "de", "dn",
	}
	switch {
	case slices.Contains(reserved, id):
		return fmt.Errorf("id: %q is the name of one of the queue's own keys", id)
	case q.at.Layout == mover.Bull && (strings.HasPrefix(id, "repeat:") || strings.HasPrefix(id, "de:") ||
		strings.HasSuffix(id, ":lock") || strings.HasSuffix(id, ":logs")):
		return fmt.Errorf("id: %q is what the library calls one of its own keys", id)
	case q.at.Layout == mover.Bull:
		return nil
	}
	if n, err := strconv.Atoi(id); err == nil && strconv.Itoa(n) == id {
		return fmt.Errorf("id: %q is a number, which BullMQ keeps for its own", id)
	}
	if strings.ContainsRune(id, ':') {
		return fmt.Errorf("id: %q has a colon, which BullMQ refuses", id)
	}
	return nil
}

// Enqueue adds one job as the library's own add does, so that its workers run it. It returns a
// *JobError for a job that cannot be, and a *TakenError where the id or the unique value is another's.
// An error of the network leaves open whether the job was added: with an ID it can be tried again, since
// then the second finds the first. Price: one script of 9 to 20 commands; for asynq of 4, and one
// command.
func (q *Queue) Enqueue(ctx context.Context, given NewJob) (Added, error) {
	j := q.withDefaults(given)
	if err := q.validate(given, j); err != nil {
		return Added{}, &JobError{err}
	}
	if q.at.Layout == Asynq {
		return q.addTask(ctx, j)
	}
	now := j.Now.UnixMilli()
	added := Added{State: mover.Waiting}
	delay := (j.Delay + time.Millisecond - 1).Milliseconds()
	if delay > 0 {
		added.State, added.DueMS = mover.Delayed, now+delay
	}
	opts, err := q.newOpts(j, now, delay)
	if err != nil {
		return Added{}, err
	}
	ttl := ""
	if j.UniqueTTL > 0 {
		ttl = strconv.FormatInt(j.UniqueTTL.Milliseconds(), 10)
	}
	script, names := redis.NewScript(enqueueBullMQLua), []string{
		"wait", "paused", "meta", "id", "delayed", "active", "marker", "prioritized", "pc", "events",
	}
	last := strconv.Itoa(q.at.Major)
	if q.at.Layout == mover.Bull {
		script, names, last = redis.NewScript(enqueueBullLua), []string{"wait", "paused", "meta-paused", "id", "delayed", "priority"}, rand.Text()
	}
	for i := range names {
		names[i] = q.at.Key(names[i])
	}
	added.ID, err = q.add(ctx, script, names, j,
		q.at.Key(""), j.ID, j.Name, j.Data, opts, now, delay, added.DueMS, j.Priority, "LPUSH", last, j.Unique, ttl)
	return added, err
}

// Check says what Enqueue would answer now, and writes nothing. The state and the time are those that the
// job would have; its id is empty where the library chooses it. Price: at most three commands.
func (q *Queue) Check(ctx context.Context, given NewJob) (Added, error) {
	j := q.withDefaults(given)
	if err := q.validate(given, j); err != nil {
		return Added{}, &JobError{err}
	}
	added := Added{ID: j.ID, State: mover.Waiting, Band: j.Band}
	if j.Delay > 0 {
		added.State, added.DueMS = mover.Delayed, j.Now.Add(j.Delay).UnixMilli()
	}
	if j.ID != "" {
		keys := []string{q.jobBase(j.Band) + j.ID}
		if q.at.Layout == Asynq {
			keys = keys[:0]
			for _, band := range q.together(j.Band) {
				keys = append(keys, q.jobBase(band)+j.ID)
			}
		}
		n, err := q.client.Exists(ctx, keys...).Result()
		if err != nil {
			return added, fmt.Errorf("look for job %q: %w", j.ID, err)
		}
		if n > 0 {
			return added, &TakenError{ID: j.ID}
		}
	}
	if j.Unique == "" {
		return added, nil
	}
	return added, q.checkUnique(ctx, j)
}

// checkUnique says whether another job has the unique value of j.
func (q *Queue) checkUnique(ctx context.Context, j NewJob) error {
	lock := q.base("") + "de:" + j.Unique
	if q.at.Layout == Asynq {
		lock = q.uniqueLock(j)
	}
	holder, err := q.client.Get(ctx, lock).Result()
	if errors.Is(err, redis.Nil) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read %q: %w", lock, wrongType(err, lock))
	}
	taken := &TakenError{ID: holder, Unique: j.Unique}
	if q.at.Layout != Asynq {
		n, err := q.client.Exists(ctx, q.jobBase("")+holder).Result()
		if err != nil {
			return fmt.Errorf("look for job %q: %w", holder, err)
		}
		if n > 0 || q.client.PTTL(ctx, lock).Val() >= 0 {
			return taken
		}
		return nil
	}
	for _, band := range q.together(j.Band) {
		state, err := q.client.HGet(ctx, q.jobBase(band)+holder, "state").Result()
		if err != nil && !errors.Is(err, redis.Nil) {
			return fmt.Errorf("look for job %q: %w", holder, err)
		}
		if state != "" && state != "archived" && state != "completed" {
			return taken
		}
	}
	return nil
}

// newOpts are the options of a job, as the library keeps them.
func (q *Queue) newOpts(j NewJob, now, delay int64) (string, error) {
	opts := map[string]any{"attempts": j.Attempts}
	if q.at.Layout == mover.Bull {
		opts["attempts"], opts["timestamp"], opts["delay"] = max(1, j.Attempts), now, delay
	} else if delay > 0 {
		opts["delay"] = delay
	}
	if j.Priority > 0 {
		opts["priority"] = j.Priority
	}
	if j.ID != "" {
		opts["jobId"] = j.ID
	}
	if j.Unique != "" {
		unique := map[string]any{"id": j.Unique}
		if j.UniqueTTL > 0 {
			unique["ttl"] = j.UniqueTTL.Milliseconds()
		}
		opts[map[mover.Layout]string{mover.Bull: "debounce", mover.BullMQ: "de"}[q.at.Layout]] = unique
	}
	raw, err := json.Marshal(opts)
	return string(raw), err
}

// addTask adds a task of asynq's.
func (q *Queue) addTask(ctx context.Context, j NewJob) (Added, error) {
	attempts := j.Attempts
	if attempts == 0 {
		attempts = asynqAttempts
	}
	added := Added{State: mover.Waiting, Band: j.Band}
	if j.ID == "" {
		j.ID = newTaskID()
	}
	m := message{kind: j.Name, payload: j.Data, id: j.ID, queue: q.bandName(j.Band), retry: int64(attempts - 1), timeout: asynqTimeout}
	base, due := q.base(j.Band), int64(0)
	target := base + "pending"
	if j.Delay > 0 {
		due = j.Now.Add(j.Delay + time.Second - 1).Unix()
		target = base + "scheduled"
		added.State, added.DueMS = mover.Delayed, due*1000
	}
	keys, life := []string{q.jobBase(j.Band) + j.ID, target, q.jobBase(j.Band) + j.ID}, int64(0)
	for _, band := range q.together(j.Band) {
		if band != j.Band {
			keys = append(keys, q.jobBase(band)+j.ID)
		}
	}
	if j.Unique != "" {
		m.uniqueKey = q.uniqueLock(j)
		keys[2] = m.uniqueKey
		ttl := j.UniqueTTL
		if ttl == 0 {
			ttl = uniqueLife + j.Delay
		}
		life = int64((ttl + time.Second - 1) / time.Second)
	}
	// Before the task: a queue that is named and empty does no harm, a task of no queue is not seen.
	if err := q.client.SAdd(ctx, asynqQueues, q.bandName(j.Band)).Err(); err != nil {
		return Added{}, fmt.Errorf("name the queue in %q: %w", asynqQueues, wrongType(err, asynqQueues))
	}
	var err error
	added.ID, err = q.add(ctx, redis.NewScript(enqueueAsynqLua), keys, j, j.ID, m.encode(), j.Now.UnixNano(), due, life)
	if err == nil {
		q.ring(ctx, due, j.Band)
	}
	return added, err
}

// together are the bands that one script can look at: on a cluster each is on a node of its own.
func (q *Queue) together(band string) []string {
	if _, cluster := q.client.(*redis.ClusterClient); cluster {
		return []string{band}
	}
	return bandNames()
}

// uniqueLock is the key that keeps others like j out of asynq's queue: the one that redisopt's own queues use.
func (q *Queue) uniqueLock(j NewJob) string {
	band := ""
	if len(q.together(j.Band)) == 1 {
		band = j.Band
	}
	return q.base(band) + "unique:redisopt:" + j.Unique
}

// add runs a script that adds a job.
func (q *Queue) add(ctx context.Context, script *redis.Script, keys []string, j NewJob, args ...any) (string, error) {
	reply, err := script.Run(ctx, q.client, keys, args...).Slice()
	if err != nil {
		return "", fmt.Errorf("add a job: %w", scriptError(err))
	}
	if len(reply) != 3 {
		return "", errReply
	}
	became, okBecame := reply[0].(string)
	id, okID := reply[1].(string)
	calls, okCalls := reply[2].(int64)
	if !okBecame || !okID || !okCalls {
		return "", errReply
	}
	if q.InScript != nil {
		q.InScript(calls)
	}
	switch became {
	case "d":
		return id, nil
	case "x":
		return "", &TakenError{ID: id}
	case "u":
		return "", &TakenError{ID: id, Unique: j.Unique}
	case "n":
		return "", fmt.Errorf("the counter of ids, %s, is behind the jobs there are; name the job with an id", id)
	}
	return "", errReply
}

// newTaskID is a random id of the form asynq gives its tasks.
func newTaskID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[0:4], b[4:6], b[6:8], b[8:10], b[10:16])
}
