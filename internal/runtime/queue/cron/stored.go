package cron

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

// Schema is the schema number of what this program reads and writes. Fields may be added to a schedule
// without raising it.
const Schema = 1

// The fields of the hash: the schema, the number of changes, and for each schedule what it is and the
// last tick that is known to be enqueued, in Unix seconds.
const (
	schemaField   = "schema"
	revisionField = "revision"
	scheduleField = "schedule:"
	markField     = "mark:"
)

// maxSchedules bounds the hash, which is read as a whole.
const maxSchedules = 1000

// A SchemaError means that a newer program wrote the schedules.
type SchemaError struct {
	Where string // key
	Got   int64
	Known int64
}

// Error says which schema was found and which is known.
func (e *SchemaError) Error() string {
	return fmt.Sprintf("the schedules in %s have schema %d, this program knows %d; use the newer program", e.Where, e.Got, e.Known)
}

// A DamagedError means that what is stored is no schedule. The others are not affected.
type DamagedError struct {
	Where string // key and field
	Why   string
}

// Error says where it is and what is wrong with it.
func (e *DamagedError) Error() string { return fmt.Sprintf("%s: %s", e.Where, e.Why) }

// A table is the hash as one reading found it.
type table struct {
	revision int64
	plans    map[string]*plan
	raw      map[string]string // schedules as they are stored
	marks    map[string]time.Time
	damaged  []error
}

// read reads the hash, 1 command.
func (c *Cron) read(ctx context.Context) (table, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	fields, err := c.opts.Client.HGetAll(ctx, c.opts.Key).Result()
	if err != nil {
		return table{}, fmt.Errorf("cron: read %s: %w", c.opts.Key, err)
	}
	return c.parse(fields)
}

func (c *Cron) parse(fields map[string]string) (table, error) {
	t := table{plans: map[string]*plan{}, raw: map[string]string{}, marks: map[string]time.Time{}}
	if fields[schemaField] == "" && fields[revisionField] == "" {
		return t, nil // never written, or gone but for a mark that came after
	}
	if err := c.checkSchema(fields[schemaField]); err != nil {
		return table{}, err
	}
	var err error
	if t.revision, err = strconv.ParseInt(fields[revisionField], 10, 64); err != nil {
		return table{}, &DamagedError{c.opts.Key, "it has no revision"}
	}
	for field, text := range fields {
		if name, ok := strings.CutPrefix(field, markField); ok {
			if unix, err := strconv.ParseInt(text, 10, 64); err == nil {
				t.marks[name] = time.Unix(unix, 0)
			}
			continue
		}
		name, ok := strings.CutPrefix(field, scheduleField)
		if !ok {
			continue // of the same schema, and not known here
		}
		t.raw[name] = text
		p, err := parseSchedule(name, text)
		if err != nil {
			t.damaged = append(t.damaged, &DamagedError{c.opts.Key + " " + field, err.Error()})
			continue
		}
		t.plans[name] = p
	}
	return t, nil
}

func (c *Cron) checkSchema(text string) error {
	n, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil || n < 1:
		return &DamagedError{c.opts.Key, "it has no schema number"}
	case n > Schema:
		return &SchemaError{c.opts.Key, n, Schema}
	}
	return nil
}

func parseSchedule(name, text string) (*plan, error) {
	var s Schedule
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		return nil, errors.New("not the JSON of a schedule")
	}
	if s.Name != name {
		return nil, fmt.Errorf("it has the name %q", s.Name)
	}
	table, err := s.Timetable()
	if err != nil {
		return nil, errors.New(strings.ReplaceAll(err.Error(), "\n", "; "))
	}
	return &plan{s.withDefaults(), table}, nil
}

// lookup asks whether something changed, 1 command.
func (c *Cron) lookup(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	got, err := c.opts.Client.HMGet(ctx, c.opts.Key, schemaField, revisionField).Result()
	if err != nil {
		return 0, fmt.Errorf("cron: read %s: %w", c.opts.Key, err)
	}
	if len(got) != 2 || got[1] == nil {
		return 0, nil
	}
	text, _ := got[0].(string)
	if err := c.checkSchema(text); err != nil {
		return 0, err
	}
	text, _ = got[1].(string)
	return strconv.ParseInt(text, 10, 64)
}

// mark notes the last ticks that were enqueued, 1 command. It may put a mark back by as much as replicas
// are apart, so it is for ticks that are not late.
func (c *Cron) mark(ctx context.Context, marks map[string]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	values := make([]any, 0, 2*len(marks))
	for name, at := range marks {
		values = append(values, markField+name, at.Unix())
	}
	if err := c.opts.Client.HSet(ctx, c.opts.Key, values...).Err(); err != nil {
		return fmt.Errorf("cron: mark %d ticks in %s: %w", len(marks), c.opts.Key, err)
	}
	return nil
}

// forward sets marks that are not further already: KEYS[1] the hash, ARGV fields and Unix seconds. It
// answers with the number of commands that it ran.
const forward = `
local n = 0
for i = 1, #ARGV, 2 do
  local there = tonumber(redis.call('HGET', KEYS[1], ARGV[i]) or '0') or 0
  n = n + 1
  if there < tonumber(ARGV[i + 1]) then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    n = n + 1
  end
end
return n
`

// raise is mark for ticks that are late, which others may have left far behind: 1 command, and 1 or 2
// for each mark.
func (c *Cron) raise(ctx context.Context, marks map[string]time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	args := make([]any, 0, 2*len(marks))
	for name, at := range marks {
		args = append(args, markField+name, at.Unix())
	}
	n, err := redis.NewScript(forward).Run(ctx, c.opts.Client, []string{c.opts.Key}, args...).Int64()
	if err != nil {
		return fmt.Errorf("cron: mark %d ticks in %s: %w", len(marks), c.opts.Key, err)
	}
	c.opts.InScript("evalsha", n)
	return nil
}

// change sets and deletes fields if the revision is the expected one, and rings the bell:
//
//	KEYS[1] the hash    ARGV 1 expected revision, 2 schema, 3 channel, 4 number of words to set,
//	                         then fields and values to set, then fields to delete
//
// It answers {1, revision} when it did, {0, revision} when the revision is another, {-1, schema} when
// the schema is a newer one.
const change = `
local head = redis.call('HMGET', KEYS[1], 'schema', 'revision')
if head[1] and (tonumber(head[1]) or 0) > tonumber(ARGV[2]) then
  return {-1, tonumber(head[1])}
end
if (head[2] or '0') ~= ARGV[1] then
  return {0, tonumber(head[2]) or 0}
end
local words = tonumber(ARGV[4])
redis.call('HSET', KEYS[1], 'schema', ARGV[2], unpack(ARGV, 5, 4 + words))
if #ARGV > 4 + words then
  redis.call('HDEL', KEYS[1], unpack(ARGV, 5 + words))
end
local revision = redis.call('HINCRBY', KEYS[1], 'revision', 1)
redis.call('PUBLISH', ARGV[3], revision)
return {1, revision}
`

// attempts bounds how often a change is tried when others change the schedules meanwhile.
const attempts = 10

// ErrContended means that others changed the schedules each time a change was tried.
var ErrContended = errors.New("the schedules were changed by others at each of 10 attempts; try again")

// An edit is what one change does to the hash.
type edit struct {
	set map[string]string
	del []string
}

// write makes the change that f asks for, against what is stored. An edit that is empty writes nothing.
func (c *Cron) write(ctx context.Context, f func(table) (edit, error)) error {
	for range attempts {
		t, err := c.read(ctx)
		if err != nil {
			return err
		}
		e, err := f(t)
		if err != nil {
			return err
		}
		if len(e.set) == 0 && len(e.del) == 0 {
			return nil
		}
		code, err := c.swap(ctx, t.revision, e)
		if err != nil {
			return fmt.Errorf("cron: change %s: %w", c.opts.Key, err)
		}
		if code == 1 {
			select {
			case c.changed <- struct{}{}:
			default: // Run has not read since the last one
			}
			return nil
		}
	}
	return ErrContended
}

func (c *Cron) swap(ctx context.Context, revision int64, e edit) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	args := []any{strconv.FormatInt(revision, 10), Schema, c.channel(), 2 * len(e.set)}
	for field, text := range e.set {
		args = append(args, field, text)
	}
	for _, field := range e.del {
		args = append(args, field)
	}
	reply, err := redis.NewScript(change).Run(ctx, c.opts.Client, []string{c.opts.Key}, args...).Int64Slice()
	if err != nil {
		return 0, err
	}
	if len(reply) != 2 {
		return 0, fmt.Errorf("the script answered with %d numbers, want 2", len(reply))
	}
	switch {
	case reply[0] == -1:
		c.opts.InScript("evalsha", 1)
		return 0, &SchemaError{c.opts.Key, reply[1], Schema}
	case reply[0] == 0:
		c.opts.InScript("evalsha", 1)
	case len(e.del) > 0:
		c.opts.InScript("evalsha", 5)
	default:
		c.opts.InScript("evalsha", 4)
	}
	return reply[0], nil
}
